"""What a sweep decides by, tried on arms of real slices: the floor, paired errors, thresholds, the confirmed best.

KID is ×1000. Rates come as counts, so that whoever prints them can say how sure they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial
from slice_arms import Arm, Bank, Floats, Positions, Seeds, World

from latentsweep.metrics import KID, STEPS
from latentsweep.search import confirmation, confirmed, pairing
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from trainables.measures.distances import bootstrap_kid, interval, kernel_distance
from trainables.space import THRESHOLD

IMAGES = 200
"""Generated slices of a score."""
SUBJECTS = 10
"""Held-out subjects of a sweep's validation split."""
WITHIN = 1.96
"""Paired errors up to which a configuration is "≈"."""


class Floor(NamedTuple):
    """Distances of real slices of some subjects to those of others, one for each split, and whether 0 is inside."""

    distances: Floats
    errors: Floats
    """The error that was told of each."""
    held: int
    """Splits in which the 95 % interval holds 0."""


class Pairs(NamedTuple):
    """How well the error of a difference of two configurations was told."""

    single: float
    """The true standard deviation of one of the two KIDs between draws of subjects and of images."""
    true: float
    """The true one of the difference."""
    told: float
    """The root mean square of the paired errors."""
    alike: int
    """Draws in which the difference is within :data:`WITHIN` paired errors."""
    draws: int


class Thresholds(NamedTuple):
    """Which threshold of a trained denoiser is exported."""

    worse: int
    """Draws in which it scored worse than the best by more than one paired error."""
    loss: Floats
    """How far its true KID is above the lowest one, in per cent, of each draw."""


class Curse(NamedTuple):
    """The best of a sweep's configurations, of each simulated sweep."""

    bias: Floats
    """Its score over what its seeds score on average against the same real slices, less 1."""
    regret: Floats
    """Its true KID over the lowest one of the sweep, less 1."""
    best: int
    """Sweeps in which it is truly the best."""


def floors(bank: Bank, splits: int, *, seed: int = 0, resamples: int = 200) -> dict[str, Floor]:
    """Splits of all subjects into halves, :data:`IMAGES` slices on each side, by what became of a subject's pairs."""
    generator = np.random.default_rng(seed)
    subjects = int(bank.subjects.max()) + 1
    found: dict[str, list[tuple[float, float, bool]]] = {"left out": [], "counted": []}
    for split in range(splits):
        first = np.isin(bank.subjects, generator.permutation(subjects)[: subjects // 2])
        sides = [generator.choice(np.flatnonzero(side), IMAGES, replace=False) for side in (first, ~first)]
        x, y = (bank.real[side] for side in sides)
        groups = dict(
            zip(("groups_x", "groups_y"), (list(map(str, bank.subjects[side])) for side in sides), strict=True)
        )
        draws = bootstrap_kid(x, y, resamples=resamples, seed=split, **groups)
        for name, distance in (("left out", kernel_distance(x, y, **groups)), ("counted", kernel_distance(x, y))):
            low, high = interval(distance, draws)
            found[name].append((1000 * distance, 1000 * float(draws.std(ddof=1)), low <= 0 <= high))
    columns = {name: np.array(each).T for name, each in found.items()}
    return {name: Floor(distances, errors, int(held.sum())) for name, (distances, errors, held) in columns.items()}


class Trained:
    """One training of an arm: draws of its images, measured against draws of subjects, as the store keeps them."""

    def __init__(self, world: World, seeds: Seeds) -> None:
        self.world, self.seeds = world, seeds
        self.alike, cross = world.kernels(seeds)
        self.sums = np.stack(
            [cross[:, world.held_subjects == g].sum(axis=1) for g in range(len(world.sizes))], axis=1
        )
        self.truth = float(world.truth(seeds)[0])

    def measure(self, noise: Floats, drawn: Positions) -> tuple[float, pairing.Pairing]:
        """KID of the images of ``noise`` (N,) against the subjects ``drawn`` (g,), and what pairing needs."""
        found = self.world.images(self.seeds, noise[None])[0]
        count, sizes = len(found), self.world.sizes[drawn]
        alike = (self.alike[np.ix_(found, found)].sum(axis=1) - self.alike[found, found]) / (count - 1)
        cross = self.sums[np.ix_(found, drawn)]
        by_image, by_subject = alike - cross.sum(axis=1) / sizes.sum(), cross.mean(axis=0)
        sums = self.sums[found].mean(axis=0)
        kid = self.world.kid(np.array(alike.mean()), sums, drawn)
        return float(kid), pairing.Pairing(1000 * by_image, 1000 * by_subject, sizes)


def pairs(
    world: World, levels: tuple[float, float], *, draws: int, trainings: int, subjects: int = SUBJECTS, seed: int = 0
) -> Pairs:
    """Two configurations whose true KIDs are ``levels``, trained once each, measured on ``draws`` draws of the rest.

    Done for ``trainings`` pairs of trainings; standard deviations are root mean squares over these.
    """
    generator = np.random.default_rng(seed)
    arm = world.tune(levels[:1], 0.06)[0]
    single, true, told, alike = [], [], [], 0
    for _ in range(trainings):
        both = [Trained(world, world.fit(world.seeds(arm, 1, generator), level)) for level in levels]
        kids, errors = np.empty((draws, 2)), np.empty(draws)
        for draw in range(draws):
            noise, drawn = generator.random(IMAGES), generator.integers(0, len(world.sizes), subjects)
            (kids[draw, 0], first), (kids[draw, 1], second) = (each.measure(noise, drawn) for each in both)
            errors[draw] = pairing.paired_error(first, second)
        difference = kids[:, 1] - kids[:, 0]
        single.append(kids[:, 1].var(ddof=1))
        true.append(difference.var(ddof=1))
        told.append(np.mean(errors**2))
        alike += int(np.sum(np.abs(difference) <= WITHIN * errors))
    spreads = (float(np.sqrt(np.mean(each))) for each in (single, true, told))
    return Pairs(*spreads, alike, draws * trainings)


class Measured(Search):
    """A search without a study: trials that were measured."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self.config, self.trials = SearchConfig(), list(trials)

    def measured(self) -> list[FrozenTrial]:
        return sorted(self.trials, key=lambda trial: trial.values[0])


def thresholds(world: World, levels: Sequence[float], *, draws: int, trainings: int, seed: int = 0) -> Thresholds:
    """A denoiser whose thresholds have the true KIDs ``levels``, each cheaper than the last, and what is exported.

    Each threshold moves the images by a shift of its own, half as large as those of trainings.
    """
    generator = np.random.default_rng(seed)
    arm = world.tune(levels[:1], 0.06)[0]
    worse, loss = 0, []
    for _ in range(trainings):
        seeds = world.seeds(arm, 1, generator)
        curve = []
        for level in levels:
            own = world.seeds(Arm(0.0, arm.spread / 2), 1, generator).shifts
            curve.append(Trained(world, world.fit(seeds._replace(shifts=seeds.shifts + own), level)))
        for _ in range(draws):
            noise, drawn = generator.random(IMAGES), generator.integers(0, len(world.sizes), SUBJECTS)
            trials = [_point(place, *each.measure(noise, drawn)) for place, each in enumerate(curve)]
            search = Measured(trials)
            best, taken = search.measured()[0], search.best()[0]
            error = search.paired_error(taken, best) or 0.0
            worse += int(taken.values[0] - best.values[0] > error)
            loss.append(100 * (curve[int(taken.params[THRESHOLD])].truth / min(levels) - 1))
    return Thresholds(worse, np.array(loss))


def _point(place: int, kid: float, paired: pairing.Pairing) -> FrozenTrial:
    metrics = {KID.name: kid, STEPS.name: 50.0 - place}
    trial = create_trial(
        params={THRESHOLD: float(place)},
        distributions={THRESHOLD: FloatDistribution(0, 100)},
        values=[kid],
        user_attrs={"of": 0, "metrics": metrics, pairing.PAIRING: paired.to_plain()},
    )
    trial.number = place
    return trial


def winners(
    world: World, *, sweeps: int, configurations: int = 24, collapses: float = 0.0, seed: int = 0
) -> dict[str, Curse]:
    """Sweeps of configurations whose true log KID varies by 8 %, all measured on one draw of subjects.

    A seed's true log KID varies by 6.5 % more, and a share ``collapses`` of all seeds collapses. "selected" has the
    lowest score of one seed each, and that score. "confirmed" is the choice of ``latentsweep.search.confirmation`` by
    default, with the mean of its fresh scores; "expected" is the same choice with the score that it is said to have.
    """
    shape, fresh = (sweeps, configurations), confirmation.SEEDS
    generator = np.random.default_rng(seed)
    levels = 60 * np.exp(np.linspace(-0.32, 0.32, 33))
    tuned = world.tune([60.0, *levels[::4]], 0.065)[1:]
    strengths = np.interp(np.log(levels), np.log(levels[::4]), [arm.strength for arm in tuned])
    arms = [Arm(float(strength), tuned[0].spread) for strength in strengths]
    chosen = np.clip(np.rint(16 + 4 * generator.standard_normal(shape)), 0, 32).astype(int)
    true = levels[chosen]
    common = world.seeds(Arm(0.0, arms[0].spread), 500, generator)
    average = [
        [each.mean(axis=0) for each in world.expected(common._replace(strengths=np.full(500, arm.strength)))]
        for arm in arms
    ]
    scores, here = np.empty((*shape, 1 + fresh)), np.empty(shape)
    for sweep in range(sweeps):
        drawn = generator.integers(0, len(world.sizes), SUBJECTS)
        noise = generator.random((1 + fresh, IMAGES))
        strengths = np.repeat([arms[place].strength for place in chosen[sweep]], 1 + fresh)
        seeds = world.seeds(Arm(1.0, arms[0].spread, collapses), len(strengths), generator)
        seeds = seeds._replace(strengths=strengths * seeds.strengths)
        measured = world.measure(seeds, world.images(seeds, np.tile(noise, (configurations, 1))))
        scores[sweep] = world.kid(*measured, drawn).reshape(configurations, 1 + fresh)
        here[sweep] = [world.kid(*average[place], drawn) for place in chosen[sweep]]
    found: dict[str, list[tuple[int, float]]] = {"selected": [], "confirmed": [], "expected": []}
    for each in scores:
        found["selected"].append((int(each[:, 0].argmin()), float(each[:, 0].min())))
        chosen, mean, expected = _confirm(each[:, 0], each[:, 1:])
        found["confirmed"].append((chosen, mean))
        found["expected"].append((chosen, expected))
    rows, result = np.arange(sweeps), {}
    for name, choices in found.items():
        places, stated = np.array([place for place, _ in choices]), np.array([score for _, score in choices])
        bias, regret = stated / here[rows, places] - 1, true[rows, places] / true.min(axis=1) - 1
        result[name] = Curse(bias, regret, int((regret == 0).sum()))
    return result


def _confirm(selection: Floats, fresh: Floats) -> tuple[int, float, float]:
    """The place of the confirmed best, the mean of its fresh scores, and the score that is stated for it."""
    top = np.argsort(selection)[: confirmation.CONFIGURATIONS]
    order, logs = confirmed.order_by_standing(list(selection[top]), [list(each) for each in fresh[top]])
    place = int(top[order[0]])
    expected = confirmed.expectation(list(selection[top]), [list(each) for each in fresh[top]], logs)
    mean = confirmed.centre(list(fresh[place]), logs)
    return place, mean, mean if expected is None else expected

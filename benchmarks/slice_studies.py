"""What a study decides by, tried on arms of real slices whose true KIDs are known: errors, power, coverage.

Every arm has a library of seeds, each measured against every held-out subject. A study draws seeds and subjects from
it with replacement; so the library is the population, and what it scores on average is the truth. Image i of an arm
begins with the same noise in all arms, as it does in a study. KID is ×1000.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from slice_arms import Arm, Bank, Floats, Positions, World

from latentsweep.ablation.statistics.effect import Contrast, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.metrics import KID
from trainables.measures.distances import WithinKernel

IMAGES = 200
LEVEL = 60.0
"""The reference's true KID."""
DEVIATION = 0.035
"""Of log KID between the seeds of an arm, which the noise of its images makes about 0.05."""
FACTORS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.2, 1 / 1.2, 1.1, 1 / 1.1)
"""Each arm's true KID over that of the first, the reference."""
NULL = (0, 1, 2, 3, 4, 5, 6, 7)
MIXED = (0, 8, 10, 9, 11, 1, 2, 3)
"""Places in :data:`FACTORS` of the arms of a study without effects, of one with some; smaller ones have the first."""
RESAMPLES = 400
"""Of subjects, in place of 2,000, to save time."""
CLAIMS = ("helps", "hurts", "differs")
"""Verdicts that say there is an effect."""


@dataclass(frozen=True)
class Variant:
    """How the data of a study differ from the plain case."""

    name: str
    arms: int = 8
    subjects: int = 30
    """Held-out ones."""
    skewed: bool = False
    """Whether few of them have most slices."""
    uneven: float = 1.0
    """The deviation between seeds of every second arm, over that of the others."""
    collapses: float = 0.0
    """The share of seeds that collapse, in all arms."""
    sound_reference: bool = False
    """Whether those of the reference don't."""
    deviation: float = DEVIATION
    """Of log KID between the seeds of an arm, without the noise of its images."""
    studies: int = 200
    """How many without effects are simulated for each number of seeds; half as many with some."""

    @property
    def population(self) -> tuple[object, ...]:
        """What the library depends on."""
        return self.skewed, self.uneven, self.collapses, self.sound_reference, self.deviation


VARIANTS = (
    Variant("equal spread", studies=600),
    Variant("two arms", arms=2, studies=300),
    Variant("four arms", arms=4, studies=300),
    Variant("equal spread, twice as large", deviation=2 * DEVIATION),
    Variant("ten held-out subjects", subjects=10),
    Variant("ten held-out subjects, two with most slices", subjects=10, skewed=True),
    Variant("twofold spread", uneven=2.7, studies=600),
    Variant("one seed in ten collapses", collapses=0.1),
    Variant("one seed in ten collapses, of the arms alone", collapses=0.1, sound_reference=True),
)


class Library(NamedTuple):
    """Measured seeds of all arms."""

    world: World
    alike: Floats
    """(A, R), the mean kernel over pairs of a seed's images."""
    sums: Floats
    """(A, R, G), its kernel with each held-out subject's slices, summed over these."""
    kids: Floats
    """(A, R), the KID against the whole population of subjects."""
    collapsed: npt.NDArray[np.bool_]
    """(A, R)."""

    def noise(self, arm: int) -> float:
        """Deviation of an arm's log KID between its sound seeds, less what it shares with those of other arms."""
        logs = np.where(self.collapsed, np.nan, np.log(np.maximum(self.kids, 1e-3)))
        return float(np.nanstd(logs[arm] - np.nanmean(np.delete(logs, arm, axis=0), axis=0)))


class Study(NamedTuple):
    """One simulated study, as the statistics are given it."""

    runs: list[Run]
    real: WithinKernel
    collapsed: npt.NDArray[np.bool_]
    """(arms, seeds)."""


def library(bank: Bank, variant: Variant, *, seeds: int, world: int) -> Library:
    """``seeds`` seeds of each arm of :data:`FACTORS`, in the ``world``-th split of the subjects."""
    place = bank.world(world, skewed=variant.skewed)
    generator = np.random.default_rng(world)
    noise = generator.random((seeds, IMAGES))
    spreads = [variant.uneven if arm % 2 else 1.0 for arm in range(len(FACTORS))]
    levels = [LEVEL, *(LEVEL * factor for factor in FACTORS)]
    arms = {spread: place.tune(levels, variant.deviation * spread)[1:] for spread in set(spreads)}
    found = []
    for arm, spread in enumerate(spreads):
        tuned = arms[spread][arm]
        collapses = 0.0 if variant.sound_reference and arm == 0 else variant.collapses
        drawn = place.seeds(Arm(tuned.strength, tuned.spread, collapses), seeds, generator)
        alike, sums = place.measure(drawn, place.images(drawn, noise))
        kids = place.kid_of_all(alike, sums)
        found.append((alike, sums, kids, drawn.collapsed))
    return Library(place, *(np.stack(each) for each in zip(*found, strict=True)))


def studies(
    given: Library, variant: Variant, arms: Sequence[int], *, seeds: int, count: int, seed: int = 0
) -> Iterator[Study]:
    """``count`` studies of ``arms``, the first of them the reference, with ``seeds`` seeds each."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        drawn = generator.integers(0, len(given.world.sizes), variant.subjects)
        own = generator.integers(0, given.alike.shape[1], seeds)
        runs = [
            _run(given, arm, place, number, int(which), drawn)
            for place, arm in enumerate(arms)
            for number, which in enumerate(own)
        ]
        yield Study(runs, given.world.within(drawn), given.collapsed[np.ix_(arms, own)])


def _run(given: Library, arm: int, place: int, seed: int, which: int, drawn: Positions) -> Run:
    alike, sums = given.alike[arm, which], given.sums[arm, which]
    kid = float(given.world.kid(alike, sums, drawn))
    sizes = given.world.sizes
    cross = {str(i): (1000 * float(sums[g]), int(sizes[g])) for i, g in enumerate(drawn)}
    return Run(str(place), seed, {KID.name: kid}, f"{place}/{seed}", cross)


def contrasts(arms: Sequence[int]) -> list[Contrast]:
    """Every arm less the first."""
    return [Contrast(str(place), {str(place): 1.0, "0": -1.0}) for place in range(1, len(arms))]


class Tally(NamedTuple):
    """What so many studies said, against the truth."""

    studies: int
    family: int
    """Studies in which an arm without an effect was said to help or to hurt."""
    verdicts: dict[float, Counter[str]]
    """How often each verdict was given, by the arm's true KID over the reference's."""
    covered: int
    """Intervals of the relative difference that hold the truth, of all :attr:`intervals`."""
    intervals: int
    differences: int
    """Intervals of the difference in KID that hold the truth, of as many as there are contrasts."""
    contrasts: int
    false_help: int
    """Contrasts called "helps" though the arm collapsed in more seeds of the study than the reference."""

    def said(self, factor: float, *verdicts: str) -> tuple[int, int]:
        """How often one of the verdicts was given of arms with this factor, and of how many."""
        found = self.verdicts.get(factor, Counter())
        return sum(found[each] for each in verdicts), found.total()


def tally(given: Library, variant: Variant, arms: Sequence[int], *, seeds: int, count: int, seed: int = 0) -> Tally:
    """Judges ``count`` studies as a study's page does."""
    names = contrasts(arms)
    logs, means = np.log(np.maximum(given.kids, 1e-3)).mean(axis=1), given.kids.mean(axis=1)
    verdicts: dict[float, Counter[str]] = {FACTORS[arm]: Counter() for arm in arms[1:]}
    family = covered = intervals = differences = false_help = 0
    for study in studies(given, variant, arms, seeds=seeds, count=count, seed=seed):
        found = effects(study.runs, names, KID.name, seeds=range(seeds), real=study.real, resamples=RESAMPLES)
        fell = study.collapsed.sum(axis=1)
        wrong = False
        for place, (arm, effect) in enumerate(zip(arms[1:], found, strict=True), start=1):
            verdicts[FACTORS[arm]][effect.verdict] += 1
            wrong |= FACTORS[arm] == 1 and effect.verdict in CLAIMS
            false_help += int(effect.verdict == "helps" and fell[place] > fell[0])
            differences += _holds(effect.low, effect.high, means[arm] - means[arms[0]])
            if effect.relative is not None:
                intervals += 1
                covered += _holds(effect.relative.low, effect.relative.high, np.expm1(logs[arm] - logs[arms[0]]))
        family += wrong
    return Tally(count, family, verdicts, covered, intervals, differences, count * len(names), false_help)


def joined(tallies: Sequence[Tally]) -> Tally:
    """The same of all their studies together."""
    verdicts = {factor: sum((each.verdicts[factor] for each in tallies), Counter()) for factor in tallies[0].verdicts}
    counts = {name: sum(getattr(each, name) for each in tallies) for name in Tally._fields if name != "verdicts"}
    return Tally(verdicts=verdicts, **counts)


def _holds(low: float | None, high: float | None, value: float) -> bool:
    return low is not None and high is not None and bool(low <= value <= high)

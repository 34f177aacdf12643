"""Ratios of KID: simulated studies with a known truth, what becomes of values near 0, and agreement with differences.

Legend: n seeds, G subjects. A study with subjects has features of d dimensions and the linear kernel, so that KID is
the squared distance of the means, whose truth is known in closed form.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from latentsweep.ablation.statistics.effect import Contrast, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.ablation.statistics.inference import judge
from latentsweep.ablation.statistics.ratio import Ratio, fieller, ratios
from trainables.measures.distances import WithinKernel, kernel_by_group, kernel_distance, kernel_within_groups

Floats = npt.NDArray[np.float64]

KID = "gen/kid"
SEEDS = [3, 5, 8]
BETTER = Contrast("better", {"better": 1.0, "full": -1.0})
SIZES = np.array([5, 8, 12, 14, 16, 18, 20, 22, 24, 25])
"""Slices of the held-out subjects."""
D = 6


def runs_of(arm: Floats | list[float], reference: Floats | list[float]) -> list[Run]:
    return [
        Run(name, seed, {KID: float(value)}, f"{name}/{seed}")
        for name, values in (("better", arm), ("full", reference))
        for seed, value in enumerate(values)
    ]


def ratio_of(arm: Floats | list[float], reference: Floats | list[float]) -> Ratio:
    return ratios(runs_of(arm, reference), [BETTER], seeds=range(len(reference)))[0]


def ends(ratio: Ratio) -> tuple[float, float]:
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.low, ratio.high


class Population:
    """Subjects that lie around 0, and two arms whose generated slices lie ``far`` and ``near`` from it."""

    def __init__(self, far: float, near: float, between: float, noise: float) -> None:
        self.far, self.near, self.between, self.noise = far, near, between, noise

    @property
    def truth(self) -> float:
        """The ratio of the expected KIDs: pairs within a subject are left out, of seeds the noise is in both arms."""
        noise = self.noise**2 * D
        return (self.near**2 + noise) / (self.far**2 + noise)

    def study(self, generator: np.random.Generator, n: int) -> tuple[list[Run], WithinKernel]:
        """The runs of n seeds of both arms, and the kernels of the real slices with each other."""
        names = tuple(f"s{g}" for g in range(len(SIZES)))
        totals = SIZES[:, None] * self.between * generator.normal(size=(len(SIZES), D))
        totals += np.sqrt(SIZES)[:, None] * generator.normal(size=totals.shape)
        sums, pairs = totals @ totals.T, np.outer(SIZES, SIZES)
        for each in (sums, pairs):
            np.fill_diagonal(each, 0)
        real = WithinKernel(names, tuple(int(size) for size in SIZES), sums, pairs.astype(float))
        found = []
        for arm, distance in (("better", self.near), ("full", self.far)):
            for seed in range(n):
                mean = distance * np.eye(D)[0] + self.noise * generator.normal(size=D)
                by_subject = totals @ mean
                kid = mean @ mean + real.sums.sum() / real.pairs.sum() - 2 * by_subject.sum() / SIZES.sum()
                cross = {g: (1000 * float(s), int(c)) for g, s, c in zip(names, by_subject, SIZES, strict=True)}
                found.append(Run(arm, seed, {KID: 1000 * float(kid)}, f"{arm}/{seed}", cross))
        return found, real


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(
    ("arm", "reference", "shared"),
    [((40, 4), (100, 8), 0), ((40, 4), (100, 4), 8), ((5, 4), (100, 8), 0), ((2, 4), (20, 6), 0)],
    ids=["apart", "paired", "near 0", "both near 0"],
)
def test_95_percent_intervals_cover_the_true_ratio_in_95_percent(
    n: int, arm: tuple[float, float], reference: tuple[float, float], shared: float
) -> None:
    generator = np.random.default_rng(n)
    inside, bounded, studies = 0, 0, 2000
    for _ in range(studies):
        by_seed = shared * generator.normal(size=n)
        a = arm[0] + arm[0] / reference[0] * by_seed + arm[1] * generator.normal(size=n)
        r = reference[0] + by_seed + reference[1] * generator.normal(size=n)
        found = fieller((float(a.mean()), float(r.mean())), np.cov(a, r) / n, n - 1)
        if found:
            bounded += 1
            inside += found[0] <= arm[0] / reference[0] <= found[1]
    assert 0.935 < inside / bounded < 0.965
    assert bounded > 0.75 * studies


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(
    ("near", "between", "noise", "most"),
    [(2.0, 0.3, 0.15, 0.985), (2.0, 0.6, 0.15, 0.995), (2.0, 0.3, 0.03, 0.995), (0.3, 0.3, 0.15, 1.0)],
)
def test_intervals_that_cover_subjects_are_right_or_a_little_wide(
    n: int, near: float, between: float, noise: float, most: float
) -> None:
    population, generator = Population(3.0, near, between, noise), np.random.default_rng(n)
    inside, studies = 0, 700
    for _ in range(studies):
        runs, real = population.study(generator, n)
        low, high = ends(ratios(runs, [BETTER], seeds=range(n), real=real, resamples=300)[0])
        inside += low <= population.truth <= high
    assert 0.94 < inside / studies <= most


def test_an_interval_of_seeds_alone_would_miss_what_other_subjects_change() -> None:
    population, generator = Population(3.0, 2.0, 0.6, 0.03), np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = ends(ratios(population.study(generator, 5)[0], [BETTER], seeds=range(5))[0])
        inside += low <= population.truth <= high
    assert inside < 200


def test_at_the_ends_the_test_that_judges_differences_is_just_significant() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        a, r = 40 + 6 * generator.normal(size=4), 100 + 9 * generator.normal(size=4)
        roots = generator.normal(size=(2, 2))
        between = 6 * roots @ roots.T
        means, over_seeds = (float(a.mean()), float(r.mean())), np.cov(a, r) / 4
        for rho in fieller(means, over_seeds, 3, between, 8.5) or ():
            weights = np.array([1.0, -rho])
            errors = [float(np.sqrt(weights @ each @ weights)) for each in (over_seeds, between)]
            judged = judge(means[0] - rho * means[1], errors[0], 3, errors[1], 8.5)
            assert judged.p == pytest.approx(0.05, abs=1e-6)
        low, high = ends(ratio_of(a, r))
        for rho in (low, high):
            assert scipy.stats.ttest_1samp(a - rho * r, 0).pvalue == pytest.approx(0.05)


def test_1_is_left_out_where_the_difference_leaves_out_0() -> None:
    population, generator = Population(3.0, 2.7, 0.3, 0.1), np.random.default_rng(0)
    outside = []
    for _ in range(100):
        runs, real = population.study(generator, 4)
        effect = effects(runs, [BETTER], KID, seeds=range(4))[0]
        ratio = ratios(runs, [BETTER], seeds=range(4), real=real)[0]
        assert effect.high is not None
        assert ratio.high is not None
        assert (ratio.high < 1) == (effect.high < 0)
        outside.append(ratio.high < 1)
    assert 10 < sum(outside) < 90


def test_the_order_of_the_subjects_changes_nothing_but_rounding() -> None:
    runs, real = Population(3.0, 2.0, 0.3, 0.1).study(np.random.default_rng(0), 3)
    turned = WithinKernel(real.groups[::-1], real.sizes[::-1], real.sums[::-1, ::-1], real.pairs[::-1, ::-1])
    first, second = (ratios(runs, [BETTER], seeds=range(3), real=each)[0] for each in (real, turned))
    assert ends(first) == pytest.approx(ends(second))


def test_subjects_are_covered_as_features_say_and_not_without_them() -> None:
    generator = np.random.default_rng(0)
    subjects = [f"s{g}" for g in range(8) for _ in range(4)]
    real = generator.normal(size=(32, 5)) + np.repeat(generator.normal(size=(8, 5)), 4, axis=0)
    runs = []
    for arm, shift in (("better", 1.0), ("full", 2.0)):
        for seed in range(3):
            made = generator.normal(size=(40, 5)) + shift
            cross = {g: (1000 * s, n) for g, (s, n) in kernel_by_group(made, real, subjects).items()}
            runs.append(
                Run(arm, seed, {KID: 1000 * kernel_distance(made, real, groups_y=subjects)}, f"{arm}/{seed}", cross)
            )
    kernel = kernel_within_groups(real, subjects)
    both = ratios(runs, [BETTER], seeds=range(3), real=kernel)[0]
    alone = ratios(runs, [BETTER], seeds=range(3))[0]
    assert both.subjects
    assert not alone.subjects
    assert both.value == alone.value
    assert both.value == pytest.approx(
        np.mean([run.metrics[KID] for run in runs[:3]]) / np.mean([run.metrics[KID] for run in runs[3:]])
    )
    assert np.diff(ends(both)) > np.diff(ends(alone))
    fewer = kernel_within_groups(real[1:], subjects[1:])
    assert not ratios(runs, [BETTER], seeds=range(3), real=fewer)[0].subjects, "the runs were measured on others"


def test_a_ratio_and_its_interval_are_said_in_words() -> None:
    found = ratio_of([38.0, 42.0, 40.5], [100.0, 96.0, 103.0])
    low, high = ends(found)
    assert found.words == f"0.40 times the reference's [{low:.2f}, {high:.2f}]"
    assert found.text == f"0.40 [{low:.2f}, {high:.2f}]"
    assert found.runs == ("better/0", "better/1", "better/2", "full/0", "full/1", "full/2")


def test_the_other_way_round_gives_the_reciprocal_interval() -> None:
    arm, reference = [38.0, 42.0, 40.5, 47.0], [100.0, 96.0, 103.0, 91.0]
    low, high = ends(ratio_of(arm, reference))
    assert ends(ratio_of(reference, arm)) == pytest.approx((1 / high, 1 / low))


@pytest.mark.parametrize(
    ("arm", "reference", "text", "words"),
    [
        ([40.0], [100.0], "0.40", "0.40 times the reference's in the only seed"),
        ([4.0, 6.0, 2.0], [1.0, 9.0, -2.0], "1.50 [unbounded]", "itself can't be told from 0"),
        ([4.0, 6.0, 2.0], [1.0, -9.0, -2.0], "–", "no ratio: the reference's mean isn't above 0"),
        ([40.0, 40.0], [80.0, 80.0], "0.50", "in each seed, without a spread to judge by"),
        ([40.0, 50.0], [40.0, 50.0], "1.00 [1.00, 1.00]", "1.00 times the reference's [1.00, 1.00]"),
        ([], [], "–", "no ratio: no seed has both runs"),
        ([-2.0, -1.0, -1.5], [100.0, 101.0, 99.0], "−0.01", "below 0 by chance"),
    ],
)
def test_what_has_no_interval_says_why(arm: list[float], reference: list[float], text: str, words: str) -> None:
    found = ratio_of(arm, reference)
    assert found.text.startswith(text)
    assert words in found.words


def test_only_an_arm_less_another_has_a_ratio_and_only_of_seeds_that_both_have() -> None:
    runs = runs_of([40.0, 42.0, 39.0], [100.0, 90.0, 95.0])
    others = [
        Contrast("x", {"better": 1.0, "full": -1.0}, "main effect"),
        Contrast("y", {"better": 2.0, "full": -2.0}),
    ]
    assert ratios(runs, others, seeds=range(3)) == []
    lost = [run for run in runs if run.key != "better/1"]
    assert ratios(lost, [BETTER], seeds=range(3))[0].seeds == (0, 2)

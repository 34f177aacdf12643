"""Simulated studies with a known truth: how often the statistics claim an effect, find one, and cover the truth.

Legend: B simulated studies, n seeds, m contrasts, G subjects. Where B is large the formulas are applied to all of
them at once; the tests with :func:`effects` put the same formulas to the test as a study calls them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from latentsweep.ablation.statistics.effect import Contrast, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.ablation.statistics.inference import Judged, holm, judge, subject_error
from latentsweep.ablation.statistics.power import detectable

Floats = npt.NDArray[np.float64]

SEEDS = [3, 5, 8]
ARMS = ["full", "a", "b", "c", "d", "e"]
CONTRASTS = [Contrast(arm, {arm: 1.0, "full": -1.0}) for arm in ARMS[1:]]
KID = "gen/kid"
SUBJECTS = 10
PAIRED_SD = 14.0
"""Standard deviation of the difference of two arms with one seed."""


def many(n: int, *, contrasts: int = 1, studies: int = 20_000, skewed: bool = False) -> Floats:
    """Contrasts of independent arms with one shared reference, unit noise, no effect: (B, m, n)."""
    generator = np.random.default_rng(n)
    shape = (studies, contrasts + 1, n)
    runs = generator.exponential(size=shape) if skewed else generator.normal(size=shape)
    return runs[:, 1:] - runs[:, :1]


def with_subjects(
    n: int, *, between: float, shared: float, own: float = 0.0, studies: int = 10_000
) -> tuple[Floats, Floats, Floats]:
    """Contrasts (B, n) whose mean over all subjects there are is 0, on ten with 4 to 25 slices each.

    With the standard deviations ``between`` subjects, ``shared`` by the subjects between seeds, and ``own`` of a
    subject in a seed. Returns the contrasts, and the standard error between the subjects (B,) with its degrees of
    freedom.
    """
    generator = np.random.default_rng(n)
    sizes = generator.integers(4, 26, size=(studies, SUBJECTS)).astype(np.float64)
    subject = between * generator.normal(size=(studies, 1, SUBJECTS)) + own * generator.normal(
        size=(studies, n, SUBJECTS)
    )
    values = (
        shared * generator.normal(size=(studies, n)) + np.sum(sizes[:, None] * subject, -1) / sizes.sum(1)[:, None]
    )
    error, df = subject_error(sizes * subject.mean(axis=1), sizes, resamples=400, seed=0)
    return values, error, df


def student(values: Floats, error: Any = 0.0, df: Any = 1.0, *, alpha: float = 0.05) -> Judged:
    n = values.shape[-1]
    return judge(values.mean(-1), values.std(-1, ddof=1) / np.sqrt(n), n - 1, error, df, alpha=alpha)


def coverage(values: Floats, error: Any = 0.0, df: Any = 1.0, *, truth: float = 0.0) -> float:
    return float(np.mean(np.abs(values.mean(-1) - truth) <= student(values, error, df).reach))


def study(generator: np.random.Generator, n: int, *, subjects: bool = False, effect: float = 0.0) -> list[Run]:
    """Six arms, KID = A + B − 2 Σ S_g / Σ n_g, with noise in A by run and by seed; ``effect`` is that of arm a."""
    sizes = generator.integers(4, 26, size=SUBJECTS)
    by_seed = generator.normal(scale=5, size=n)
    runs = []
    for arm in ARMS:
        of_subjects = 300 + generator.normal(scale=4.0 * subjects, size=SUBJECTS)
        cross = {f"s{g}": (float(sizes[g] * of_subjects[g]), int(sizes[g])) for g in range(SUBJECTS)}
        level = 850 + effect * (arm == "a") - 2 * float(sizes @ of_subjects) / int(sizes.sum())
        for seed in range(n):
            kid = level + by_seed[seed] + generator.normal(scale=PAIRED_SD / np.sqrt(2))
            runs.append(Run(arm, seed, {KID: float(kid)}, f"{arm}-{seed}", cross if subjects else {}))
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("subjects", [False, True], ids=["seeds alone", "seeds and subjects"])
def test_at_most_6_percent_of_1000_studies_without_an_effect_declare_one(n: int, subjects: bool) -> None:
    generator = np.random.default_rng(n)
    wrong = 0
    for _ in range(1000):
        runs = study(generator, n, subjects=subjects)
        found = effects(runs, CONTRASTS, KID, seeds=range(n), resamples=200)
        wrong += any(effect.verdict in ("helps", "hurts") for effect in found)
    assert 0 < wrong <= 60


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("contrasts", [1, 5, 20])
def test_holm_over_arms_that_share_their_reference_errs_in_at_most_5_percent_of_studies(
    n: int, contrasts: int
) -> None:
    share = np.mean(holm(student(many(n, contrasts=contrasts)).p).min(axis=-1) < 0.05)
    assert 0.035 < share < 0.053


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize("contrasts", [1, 5])
@pytest.mark.parametrize(("between", "shared"), [(1.0, 0.0), (1.0, 1.0), (1.0, 3.0), (0.2, 1.0)])
def test_with_subjects_tests_at_bonferronis_level_err_in_at_most_6_percent(
    n: int, contrasts: int, between: float, shared: float
) -> None:
    p = student(*with_subjects(n, between=between, shared=shared)).p
    assert contrasts * np.mean(p < 0.05 / contrasts) < 0.06


def test_satterthwaites_degrees_of_freedom_would_err_twice_as_often_as_they_say_with_3_seeds() -> None:
    values, error, df = with_subjects(3, between=1.0, shared=2.0, studies=20_000)
    of_seeds, of_subjects = values.var(-1, ddof=1) / 3, error**2
    both = of_seeds + of_subjects
    welch = both**2 / (of_seeds**2 / 2 + of_subjects**2 / df)
    t = np.abs(values.mean(-1)) / np.sqrt(both)
    level = 0.05 / 6
    assert np.mean(2 * scipy.stats.t.sf(t, welch) < level) > 2 * level
    assert np.mean(student(values, error, df).p < level) < 1.2 * level


@pytest.mark.slow
def test_an_effect_of_one_and_a_half_standard_deviations_is_found_with_8_seeds_in_85_percent() -> None:
    generator = np.random.default_rng(1)
    planted = 1.5 * PAIRED_SD
    verdicts = []
    for _ in range(1000):
        runs = study(generator, 8, effect=planted)
        verdicts.append(effects(runs, CONTRASTS[:1], KID, seeds=range(8))[0].verdict)
    assert verdicts.count("hurts") >= 850
    assert verdicts.count("helps") == 0


@pytest.mark.parametrize(("n", "contrasts"), [(3, 1), (5, 1), (5, 5), (8, 5)])
def test_the_detectable_effect_is_found_in_four_studies_of_five(n: int, contrasts: int) -> None:
    values = detectable(n, contrasts) + np.random.default_rng(n).normal(size=(40_000, n))
    assert np.mean(student(values).p < 0.05 / contrasts) == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
def test_the_detectable_effect_is_found_as_often_where_subjects_are_sampled_too() -> None:
    generator = np.random.default_rng(0)
    error = 0.3 * np.sqrt(generator.chisquare(9, size=40_000) / 9)
    delta = detectable(8, 3, se_subjects=0.3, df_subjects=9)
    values = delta + generator.normal(scale=0.3, size=(40_000, 1)) + generator.normal(size=(40_000, 8))
    assert np.mean(student(values, error, 9.0).p < 0.05 / 3) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("n", SEEDS)
def test_95_percent_intervals_cover_the_truth_in_95_percent(n: int) -> None:
    assert 0.945 < coverage(2.5 + many(n)[:, 0], truth=2.5) < 0.955


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
def test_the_intervals_of_1000_whole_studies_cover_the_truth_in_93_to_97_percent(n: int) -> None:
    generator = np.random.default_rng(n)
    inside = 0
    for _ in range(1000):
        effect = effects(study(generator, n, effect=20.0), CONTRASTS[:1], KID, seeds=range(n))[0]
        assert effect.low is not None
        assert effect.high is not None
        inside += effect.low <= 20 <= effect.high
    assert 930 <= inside <= 970


@pytest.mark.slow
@pytest.mark.parametrize("n", SEEDS)
@pytest.mark.parametrize(
    ("between", "shared", "own", "least", "most"),
    [
        (1.0, 0.0, 0.0, 0.935, 0.955),
        (1.0, 0.3, 0.0, 0.94, 0.98),
        (1.0, 1.0, 0.0, 0.94, 0.98),
        (1.0, 3.0, 0.0, 0.94, 0.965),
        (1.0, 1.0, 0.5, 0.94, 0.98),
        (0.0, 0.0, 1.0, 0.97, 1.0),
    ],
)
def test_intervals_that_cover_ten_unequal_subjects_are_right_or_a_little_wide(
    n: int, between: float, shared: float, own: float, least: float, most: float
) -> None:
    share = coverage(*with_subjects(n, between=between, shared=shared, own=own))
    assert least < share < most


@pytest.mark.parametrize("n", SEEDS)
def test_skew_that_both_arms_have_widens_coverage_and_skew_of_one_alone_costs_it(n: int) -> None:
    assert 0.95 < coverage(many(n, skewed=True)[:, 0]) < 0.975
    alone = np.random.default_rng(n).exponential(size=(20_000, n))
    assert 0.87 < coverage(alone, truth=1.0) < 0.91

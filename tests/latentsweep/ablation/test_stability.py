"""Failures as outcomes: which seeds count as failed, what is said of them, and rates of rare things."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from latentsweep.ablation.statistics.effect import Contrast, Effect, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.ablation.statistics.proportions import equal_rates_p, exact_interval, missed_rate
from latentsweep.ablation.statistics.replicate import Replicate
from latentsweep.ablation.statistics.stability import collapses

KID, COPIES, MADE = "gen/kid", "gen/near_copies", "gen/samples"
ARM = Contrast("arm", {"arm": 1.0, "full": -1.0})


def runs_of(arm: list[float], reference: list[float]) -> list[Run]:
    return [
        Run(name, seed, {KID: value}, f"{name}/{seed}")
        for name, values in (("arm", arm), ("full", reference))
        for seed, value in enumerate(values)
        if math.isfinite(value)
    ]


def effect_of(arm: list[float], reference: list[float], *diverged: tuple[str, int]) -> Effect:
    return effects(runs_of(arm, reference), [ARM], KID, seeds=range(len(reference)), diverged=diverged)[0]


LOST = math.nan
FULL = [60.0, 62.0, 58.0, 61.0, 59.5]
BETTER = [40.0, 41.0, 39.0, 40.5, 39.8]


def test_an_arm_that_diverged_in_two_of_five_seeds_is_unstable_however_good_the_others_are() -> None:
    found = effect_of([40.0, LOST, 39.0, LOST, 39.8], FULL, ("arm", 1), ("arm", 3))
    assert found.verdict == "unstable"
    assert found.words.startswith(
        "unstable: arm failed in 2 of 5 seeds (95 % interval of the rate 5.3 to 85 %; diverged with seeds 1, 3; its "
        "worst score is 40, of seed 0), full in none, though 5 seeds miss a failure rate of up to 45 % in 5 % of "
        "cases; in the seeds measured: "
    )
    assert "which is better" in found.words, "what the others say is still told"
    assert found.failed == (2, 0)


def test_one_failure_more_than_the_reference_is_enough_and_as_many_are_not() -> None:
    assert effect_of([40.0, LOST, 39.0, 40.5, 39.8], FULL, ("arm", 1)).verdict == "unstable"
    both = effect_of([40.0, LOST, 39.0, 40.5, 39.8], [60.0, 62.0, LOST, 61.0, 59.5], ("arm", 1), ("full", 2))
    assert both.verdict == "helps"
    assert both.words.endswith("arm failed in 1 of 5 seeds; full failed in 1 of 5 seeds")


def test_where_the_reference_failed_more_often_the_arm_may_help_but_not_hurt() -> None:
    lost = [60.0, LOST, 58.0, 61.0, 59.5]
    assert effect_of(BETTER, lost, ("full", 1)).verdict == "helps"
    assert effect_of([1.5 * value for value in reversed(FULL)], lost, ("full", 1)).verdict == "unstable"


def test_runs_that_the_infrastructure_lost_are_no_failures() -> None:
    found = effect_of([40.0, LOST, 39.0, LOST, 39.8], FULL)
    assert found.verdict == "helps"
    assert [each.tried for each in found.stability] == [3, 5]


def test_an_arm_all_of_whose_seeds_diverged_is_unstable_without_a_number() -> None:
    found = effect_of([LOST] * 5, FULL, *(("arm", seed) for seed in range(5)))
    assert (found.verdict, found.mean) == ("unstable", None)
    assert "failed in 5 of 5 seeds" in found.words


def test_an_arm_of_a_factorial_that_failed_is_named_in_main_effects_and_makes_no_interaction_unstable() -> None:
    generator, arms = np.random.default_rng(0), ("none", "a", "b", "a + b")
    runs = [
        Run(arm, seed, {KID: 50 + generator.normal()}, f"{arm}/{seed}")
        for arm in arms
        for seed in range(5)
        if (arm, seed) != ("a + b", 1)
    ]
    contrasts = [
        Contrast("a", {"none": -0.5, "a": 0.5, "b": -0.5, "a + b": 0.5}, "main effect"),
        Contrast("a × b", {"none": 0.5, "a": -0.5, "b": -0.5, "a + b": 0.5}, "interaction"),
    ]
    main, both = effects(runs, contrasts, KID, seeds=range(5), diverged=[("a + b", 1)])
    assert main.verdict == "unstable"
    assert main.words.startswith("unstable: a + b failed in 1 of 5 seeds (")
    assert "; by which of their components, this doesn't tell; in the seeds measured: " in main.words
    assert both.verdict != "unstable"
    assert both.words.endswith("; a + b failed in 1 of 5 seeds")


def test_a_score_far_above_its_arms_others_is_a_collapse_and_takes_no_power_from_other_arms() -> None:
    runs = runs_of([40.0, 41.0, 160.0, 40.5, 39.8], FULL)
    others = [Run("other", seed, {KID: value}, f"other/{seed}") for seed, value in enumerate(BETTER)]
    contrasts = [ARM, Contrast("other", {"other": 1.0, "full": -1.0})]
    fallen, other = effects([*runs, *others], contrasts, KID, seeds=range(5))
    assert fallen.verdict == "unstable"
    assert "collapsed with seed 2; its worst score is 160, of seed 2" in fallen.words
    assert other.verdict == "helps"
    alone = effects([*runs_of([], FULL), *others], contrasts[1:], KID, seeds=range(5))[0]
    assert other.p == pytest.approx(alone.p)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize(("arms", "n"), [(2, 3), (2, 8), (5, 5), (8, 3)])
def test_lognormal_noise_alone_has_a_collapse_in_at_most_1_percent_of_studies(
    spread: float, arms: int, n: int
) -> None:
    generator = np.random.default_rng([arms, n])
    wrong, studies = 0, 1500
    for _ in range(studies):
        values = np.exp(spread * generator.normal(size=(arms, n)))
        scores = {str(arm): dict(enumerate(row.tolist())) for arm, row in enumerate(values)}
        wrong += any(collapses(scores).values())
    assert wrong / studies < 0.01


def test_a_collapse_to_twice_the_score_is_seen_where_seeds_vary_by_5_percent() -> None:
    generator = np.random.default_rng(0)
    seen = 0
    for _ in range(300):
        values = np.exp(0.05 * generator.normal(size=(4, 5)))
        values[2, 1] *= 2
        seen += collapses({str(arm): dict(enumerate(row)) for arm, row in enumerate(values)})["2"] == (1,)
    assert seen > 270


def test_too_few_seeds_and_scores_below_0_have_no_collapse() -> None:
    assert collapses({"a": {0: 10.0, 1: 500.0}, "b": {0: -1.0, 1: 0.5, 2: 90.0}}) == {"a": (), "b": ()}


def in_folds(values: np.ndarray) -> dict[str, dict[int, float]]:
    """Scores (arms, folds, seeds) by arm and replicate."""
    return {
        str(arm): {Replicate.of(seed, fold): float(each) for (fold, seed), each in np.ndenumerate(own)}
        for arm, own in enumerate(values)
    }


@pytest.mark.slow
@pytest.mark.parametrize("harder", [1.55, 1.7, 2.0, 4.0])
@pytest.mark.parametrize(("arms", "folds", "seeds"), [(2, 3, 3), (4, 3, 3), (2, 3, 2), (4, 3, 1), (4, 5, 1)])
def test_a_harder_fold_is_no_collapse(harder: float, arms: int, folds: int, seeds: int) -> None:
    generator = np.random.default_rng([arms, folds, seeds])
    wrong = 0
    for _ in range(200):
        values = np.exp(0.03 * generator.normal(size=(arms, folds, seeds)))
        values[:, -1] *= harder
        wrong += any(collapses(in_folds(values)).values())
    assert wrong <= 2


@pytest.mark.parametrize(("arms", "folds", "seeds"), [(2, 3, 3), (4, 3, 2), (4, 3, 1)])
def test_a_collapse_in_one_fold_is_seen_though_another_fold_is_harder(arms: int, folds: int, seeds: int) -> None:
    generator = np.random.default_rng([arms, folds, seeds])
    seen = 0
    for _ in range(200):
        values = np.exp(0.05 * generator.normal(size=(arms, folds, seeds)))
        values[:, -1] *= 2
        values[0, 1, 0] *= 3
        seen += collapses(in_folds(values))["0"] == (Replicate.of(0, 1),)
    assert seen > 180


# Rates.


@pytest.mark.parametrize(("found", "tried"), [(0, 5), (2, 5), (5, 5), (3, 320)])
def test_exact_intervals_are_scipys(found: int, tried: int) -> None:
    known = scipy.stats.binomtest(found, tried).proportion_ci(0.95, "exact")
    assert exact_interval(found, tried) == pytest.approx((known.low, known.high))


def test_so_many_seeds_miss_the_stated_rate_in_5_percent_of_cases() -> None:
    assert missed_rate(5) == pytest.approx(0.45, abs=0.005)
    assert (1 - missed_rate(8)) ** 8 == pytest.approx(0.05)
    assert missed_rate(0) == 1


def test_equal_rates_are_rejected_in_at_most_5_percent() -> None:
    generator = np.random.default_rng(0)
    pairs = generator.binomial(320, 0.02, size=(400, 2))
    assert np.mean([equal_rates_p((int(a), 320), (int(b), 320)) < 0.05 for a, b in pairs]) < 0.05


def copies(arm: list[int], reference: list[int], made: int = 64) -> Effect:
    runs = [
        Run(name, seed, {KID: 40.0 + seed, COPIES: count / made, MADE: float(made)}, f"{name}/{seed}")
        for name, counts in (("arm", arm), ("full", reference))
        for seed, count in enumerate(counts)
    ]
    return effects(runs, [ARM], COPIES, seeds=range(len(arm)))[0]


def test_no_copies_among_all_slices_bound_the_rates_and_are_no_proof_of_none() -> None:
    found = copies([0] * 5, [0] * 5)
    assert (found.verdict, found.words) == ("cannot tell", "0 of 320 in both: each rate is below 1.1 %")
    assert found.counts is not None
    assert found.counts.made == (320, 320)


def test_copies_are_pooled_over_seeds_and_compared_exactly() -> None:
    found = copies([3, 4, 2, 5, 3], [0, 1, 0, 0, 0])
    assert found.p == pytest.approx(scipy.stats.fisher_exact([[17, 303], [1, 319]]).pvalue)
    assert found.verdict == "hurts"
    assert found.words == (
        "17 of 320 (95 % interval 3.1 to 8.4 %) against 1 of 320 (95 % interval 0.0079 to 1.7 %), which is worse"
    )


def test_without_the_number_of_slices_copies_are_compared_in_pairs() -> None:
    runs = [
        dataclasses.replace(run, metrics={COPIES: 0.01 * run.seed * (run.arm == "arm")})
        for run in runs_of([1.0] * 4, [1.0] * 4)
    ]
    assert effects(runs, [ARM], COPIES, seeds=range(4))[0].counts is None

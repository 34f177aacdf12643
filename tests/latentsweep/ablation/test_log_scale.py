"""Changes on the log scale: simulated studies with a known truth, what isn't there, and what the scale can't do.

Legend: B simulated studies, A arms, n seeds, m contrasts. A spread is the standard deviation of log KID between the
seeds of an arm, "twofold" half of 2 : 1. Where B is large, the formula of a study is applied to all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from latentsweep.ablation.statistics.additive import compare
from latentsweep.ablation.statistics.effect import Contrast, Effect, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.ablation.statistics.inference import holm, judge
from latentsweep.ablation.statistics.power import detectable
from latentsweep.ablation.statistics.replicate import Replicate
from trainables.measures.distances import WithinKernel

Floats = npt.NDArray[np.float64]

KID = "gen/kid"
SPREAD = 0.05
ARMS = ["full", "a", "b", "c", "d", "e", "f", "g"]
CONTRASTS = [Contrast(arm, {arm: 1.0, "full": -1.0}) for arm in ARMS[1:]]


def noise(generator: np.random.Generator, shape: tuple[int, ...], kind: str) -> Floats:
    """Of mean 0 and variance 1; "heavy" is Student's t of 5 degrees of freedom, "skewed" the exponential."""
    if kind == "heavy":
        return generator.standard_t(5, size=shape) / math.sqrt(5 / 3)
    return generator.exponential(size=shape) - 1 if kind == "skewed" else generator.normal(size=shape)


def spreads_of(pattern: str, arms: int) -> list[float]:
    """Relative spreads of arms, the reference first."""
    half = arms // 2
    return {
        "equal": [1.0] * arms,
        "reference twofold": [2.0] + [1.0] * (arms - 1),
        "reference and some twofold": [2.0] * half + [1.0] * (arms - half),
        "half twofold": [1.0] * (arms - half) + [2.0] * half,
        "one twofold": [1.0] * (arms - 1) + [2.0],
        "falling": list(np.linspace(2, 1, arms)),
    }[pattern]


def simulated(
    arms: int,
    n: int,
    *,
    pattern: str = "equal",
    kind: str = "normal",
    change: float = 0.0,
    there: Floats | None = None,
    studies: int = 6000,
) -> tuple[Floats, Floats]:
    """Whether 0 is within each contrast's 95 % interval about the truth, and p after Holm: both (B, m).

    The last arm's score is changed by the share ``change``; all have the seeds' own part in common.
    """
    generator = np.random.default_rng([arms, n, len(pattern), len(kind)])
    values = SPREAD * np.array(spreads_of(pattern, arms))[:, None] * noise(generator, (studies, arms, n), kind)
    values += SPREAD * generator.normal(size=(studies, 1, n))
    values[:, -1] += math.log1p(change)
    weights = np.concatenate([-np.ones((arms - 1, 1)), np.eye(arms - 1)], axis=1)
    found = compare(values, np.ones((arms, n)) if there is None else there, weights)
    judged = judge(found.mean, found.error, found.df)
    truth = np.zeros(arms - 1)
    truth[-1] = math.log1p(change)
    return np.abs(found.mean - truth) <= judged.reach, holm(judged.p)


def study(generator: np.random.Generator, arms: Sequence[str], n: int, logs: Mapping[str, float]) -> list[Run]:
    """Runs whose KID is 50 times e to their arm's log and lognormal noise."""
    return [
        Run(arm, seed, {KID: 50 * math.exp(logs.get(arm, 0.0) + SPREAD * generator.normal())}, f"{arm}/{seed}")
        for arm in arms
        for seed in range(n)
    ]


@pytest.mark.parametrize("arms", [3, 4, 5, 6, 8])
def test_a_fall_of_a_fifth_is_found_with_three_seeds_in_nine_studies_of_ten(arms: int) -> None:
    _, p = simulated(arms, 3, change=-0.2, studies=20_000)
    assert np.mean(p[:, -1] < 0.05) > (0.895 if arms == 3 else 0.92)


def test_two_arms_have_no_spread_to_share_and_take_four_seeds_for_it() -> None:
    assert 0.74 < np.mean(simulated(2, 3, change=-0.2)[1] < 0.05) < 0.82
    assert np.mean(simulated(2, 4, change=-0.2)[1] < 0.05) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("arms", [2, 4, 8])
@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed"])
def test_with_equal_spread_at_most_6_percent_of_studies_claim_an_effect(arms: int, n: int, kind: str) -> None:
    _, p = simulated(arms, n, kind=kind)
    assert np.mean(p.min(axis=1) < 0.05) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("arms", [3, 5, 6, 8])
@pytest.mark.parametrize(
    "pattern", ["reference twofold", "reference and some twofold", "half twofold", "one twofold", "falling"]
)
def test_with_twofold_spread_at_most_7_percent_of_studies_claim_an_effect(arms: int, n: int, pattern: str) -> None:
    _, p = simulated(arms, n, pattern=pattern)
    assert np.mean(p.min(axis=1) < 0.05) < 0.07 + 0.006, "7 %, and two errors of the simulation"


def test_pooling_alone_would_claim_an_effect_too_often_where_the_reference_varies_more() -> None:
    generator = np.random.default_rng(0)
    values = np.array(spreads_of("reference twofold", 8))[:, None] * generator.normal(size=(20_000, 8, 3))
    residuals = (
        values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)
    )
    error = np.sqrt(2 * (residuals**2).sum((1, 2)) / 14 / 3)
    t = np.abs(values[:, 1:].mean(2) - values[:, :1].mean(2)) / error[:, None]
    assert np.mean(holm(2 * scipy.stats.t.sf(t, 14)).min(axis=1) < 0.05) > 0.10


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize(
    ("arms", "pattern", "least"), [(2, "equal", 0.945), (8, "equal", 0.95), (8, "falling", 0.92)]
)
def test_intervals_hold_the_true_change(arms: int, n: int, pattern: str, least: float) -> None:
    within, _ = simulated(arms, n, pattern=pattern, change=0.3)
    assert within[:, -1].mean() > least


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_runs_that_are_missing_cost_some_power_and_no_errors(kind: str) -> None:
    there = np.ones((8, 3))
    there[0, 1] = there[3, 2] = there[7, 0] = 0
    assert np.mean(simulated(8, 3, kind=kind, there=there)[1].min(axis=1) < 0.05) < 0.06
    assert np.mean(simulated(8, 3, change=-0.3, there=there)[1][:, -1] < 0.05) > 0.9


def test_without_gaps_estimates_are_means_and_with_them_least_squares() -> None:
    generator = np.random.default_rng(0)
    y, weights = generator.normal(size=(4, 5)), np.array([[-1.0, 0, 0, 1], [-0.5, 0.5, -0.5, 0.5]])
    whole = compare(y, np.ones((4, 5)), weights)
    assert whole.mean == pytest.approx(weights @ y.mean(axis=1))
    there = np.ones((4, 5), dtype=bool)
    there[0, 0] = there[3, 2] = False
    arm, seed = np.nonzero(there)
    design = np.concatenate([np.eye(4)[arm], np.eye(5)[seed]], axis=1)
    solved = np.linalg.lstsq(design, y[there], rcond=None)[0]
    assert compare(y, there, weights).mean == pytest.approx(weights @ solved[:4])


def test_two_arms_are_compared_by_students_paired_t() -> None:
    y = np.random.default_rng(0).normal(size=(2, 4))
    found = compare(y, np.ones((2, 4)), [[-1.0, 1.0]])
    known = scipy.stats.ttest_rel(y[1], y[0])
    assert found.mean[0] / found.error[0] == pytest.approx(known.statistic)
    assert found.df == 3


def test_what_the_layout_leaves_open_has_no_estimate() -> None:
    apart = np.array([[1, 0], [0, 1]])
    assert np.isnan(compare(np.ones((2, 2)), apart, [[-1.0, 1.0]]).mean).all()
    assert np.isnan(compare(np.ones((2, 1)), np.ones((2, 1)), [[-1.0, 1.0]]).error).all()


def test_a_study_says_the_difference_and_the_change_that_the_verdict_rests_on() -> None:
    runs = study(np.random.default_rng(0), ARMS, 3, {"a": math.log(0.8)})
    found = effects(runs, CONTRASTS, KID, seeds=range(3))
    first = found[0]
    assert (first.scale, first.verdict) == ("log", "helps")
    assert first.relative is not None
    logs = np.log([[run.metrics[KID] for run in runs if run.arm == arm] for arm in ARMS])
    expected = compare(logs, np.ones((8, 3)), [[-1.0, 1, 0, 0, 0, 0, 0, 0]])
    judged = judge(expected.mean[0], expected.error[0], expected.df)
    assert math.log1p(first.relative.change) == pytest.approx(expected.mean[0])
    assert math.log1p(first.relative.low) == pytest.approx(expected.mean[0] - judged.reach)
    assert first.p == pytest.approx(float(judged.p))
    assert first.relative.df == expected.df == 12
    change = -100 * first.relative.change
    assert first.words.startswith(f"{-(first.mean or 0):.1f} or {change:.0f} % lower (95 % interval ")
    assert first.words.endswith("%), which is better")
    assert first.df == 2, "the difference's own interval is that of its pairs"


def test_a_study_with_a_lost_run_is_judged_by_all_that_were_measured() -> None:
    runs = [run for run in study(np.random.default_rng(0), ARMS, 3, {"a": -0.4}) if run.key != "a/1"]
    first = effects(runs, CONTRASTS, KID, seeds=range(3))[0]
    assert (first.scale, first.verdict, first.seeds) == ("log", "helps", (0, 2))
    assert first.words.endswith("; 1 of 3 seeds lack a run")


def test_arms_that_share_their_samples_count_once() -> None:
    runs = study(np.random.default_rng(0), ARMS[:3], 3, {})
    twins = [Run("twin", run.seed, run.metrics, f"twin/{run.seed}") for run in runs if run.arm == "b"]
    contrasts = [*CONTRASTS[:2], Contrast("twin", {"twin": 1.0, "full": -1.0})]
    alone, both = (
        effects(runs, CONTRASTS[:2], KID, seeds=range(3)),
        effects([*runs, *twins], contrasts, KID, seeds=range(3)),
    )
    assert [effect.p for effect in both[:2]] == pytest.approx([effect.p for effect in alone])
    assert both[2].p == pytest.approx(both[1].p)


@pytest.mark.parametrize(
    ("arm", "reference"), [([3.0, 1.0, 5.0], [50.0, 52.0, 49.0]), ([-1.0, 1.0, 0.5], [50.0, 52.0, 49.0])]
)
def test_a_score_that_is_not_well_above_0_is_judged_by_its_differences(
    arm: list[float], reference: list[float]
) -> None:
    runs = [
        Run(name, seed, {KID: value}, f"{name}/{seed}")
        for name, values in (("a", arm), ("full", reference))
        for seed, value in enumerate(values)
    ]
    found = effects(runs, CONTRASTS[:1], KID, seeds=range(3))[0]
    assert (found.scale, found.relative, found.verdict) == ("raw", None, "helps")
    assert found.p == pytest.approx(scipy.stats.ttest_rel(arm, reference).pvalue)
    assert found.words.endswith("; judged by paired differences, as a score isn't well above 0")


def test_another_arm_near_0_leaves_the_scale_to_the_others() -> None:
    runs = study(np.random.default_rng(0), ARMS[:3], 3, {})
    near = [Run("c", seed, {KID: value}, f"c/{seed}") for seed, value in enumerate((0.3, -0.5, 1.0))]
    alone = effects(runs, CONTRASTS[:2], KID, seeds=range(3))
    both = effects([*runs, *near], CONTRASTS[:3], KID, seeds=range(3))
    assert [effect.scale for effect in both] == ["log", "log", "raw"]
    assert [effect.p for effect in both[:2]] == [effect.p for effect in alone]


def test_metrics_other_than_distances_have_no_log_scale() -> None:
    runs = [
        Run(arm, seed, {"gen/recall": 0.5 + 0.01 * seed * len(arm)}, f"{arm}/{seed}")
        for arm in ("full", "a")
        for seed in range(3)
    ]
    found = effects(runs, CONTRASTS[:1], "gen/recall", seeds=range(3))[0]
    assert (found.scale, found.why_raw) == ("raw", "")


# The margin.


def verdicts(
    generator: np.random.Generator, n: int, change: float, *, arms: int = 2, studies: int = 200
) -> list[Effect]:
    """The first contrasts of studies whose arm a has that change."""
    return [
        effects(
            study(generator, ARMS[:arms], n, {"a": math.log1p(change)}), CONTRASTS[: arms - 1], KID, seeds=range(n)
        )[0]
        for _ in range(studies)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "arms"), [(5, 2), (8, 4)])
@pytest.mark.parametrize("change", [0.1, 1 / 1.1 - 1])
def test_a_true_tenth_is_called_no_difference_in_at_most_5_percent(n: int, arms: int, change: float) -> None:
    found = verdicts(np.random.default_rng(n), n, change, arms=arms)
    assert sum(effect.verdict == "no difference" for effect in found) / len(found) < 0.05 + 0.03, "and two errors"


def test_no_change_is_shown_to_be_none_by_enough_seeds() -> None:
    found = verdicts(np.random.default_rng(0), 8, 0.0, studies=100)
    assert sum(effect.verdict == "no difference" for effect in found) > 85
    equal = next(effect for effect in found if effect.verdict == "no difference")
    assert equal.words.startswith("no difference larger than 10 %: ")


def test_a_noisier_arm_never_makes_another_one_equal() -> None:
    """The margin was the noise over all arms; so an arm that varied more made others "no different"."""
    runs = study(np.random.default_rng(1), ARMS[:2], 5, {"a": 0.2})
    wild = [Run("b", seed, {KID: value}, f"b/{seed}") for seed, value in enumerate((20.0, 90.0, 95.0, 35.0, 60.0))]
    alone = effects(runs, CONTRASTS[:1], KID, seeds=range(5))[0]
    beside = effects([*runs, *wild], CONTRASTS[:2], KID, seeds=range(5))[0]
    assert (alone.verdict, beside.verdict) == ("hurts", "hurts")
    assert beside.p == pytest.approx(alone.p), "its spread is far from theirs, and isn't shared"


def test_claims_of_no_difference_are_corrected_for_their_number() -> None:
    found = effects(study(np.random.default_rng(0), ARMS, 5, {}), CONTRASTS, KID, seeds=range(5))
    p = [effect.p_equal or 0 for effect in found]
    assert [effect.p_equal_holm for effect in found] == pytest.approx(holm(p))
    assert max(p) < 0.05 < max(effect.p_equal_holm or 0 for effect in found) or min(p) < 0.05


def test_without_a_log_scale_the_margin_is_tested_in_pairs_against_the_reference() -> None:
    generator = np.random.default_rng(0)
    reference, arm = 0.5 + 0.01 * generator.normal(size=6), 0.51 + 0.01 * generator.normal(size=6)
    runs = [
        Run(name, seed, {"gen/recall": float(value)}, f"{name}/{seed}")
        for name, values in (("a", arm), ("full", reference))
        for seed, value in enumerate(values)
    ]
    found = effects(runs, CONTRASTS[:1], "gen/recall", seeds=range(6), margin=0.08)[0]
    above = scipy.stats.ttest_1samp(arm - 1.08 * reference, 0, alternative="less").pvalue
    below = scipy.stats.ttest_1samp(arm - reference / 1.08, 0, alternative="greater").pvalue
    assert found.p_equal == pytest.approx(max(above, below))


# What could have been seen.


def test_the_change_that_is_said_to_show_is_found_in_four_studies_of_five() -> None:
    least = math.expm1(math.sqrt(2) * SPREAD * detectable(5, 3, df_a_seed=3))
    _, p = simulated(4, 5, change=least)
    weights_alone = np.mean(p[:, -1] < 0.05)
    assert 0.72 < weights_alone < 0.86, "the rule of the spread costs a little, Holm's later steps give a little"


def test_an_effect_says_the_smallest_change_that_its_own_errors_show() -> None:
    found = effects(study(np.random.default_rng(3), ARMS[:4], 5, {}), CONTRASTS[:3], KID, seeds=range(5))
    for effect in found:
        assert effect.relative is not None
        assert effect.detectable_change is not None
        one = effect.relative.se_seeds * math.sqrt(5)
        expected = math.expm1(one * detectable(5, 3, df_a_seed=effect.relative.df_seeds / 4))
        assert effect.detectable_change == pytest.approx(expected)
        assert effect.detectable == pytest.approx(expected * 50, rel=0.1)


# Other held-out subjects.

SIZES = np.array([5, 8, 12, 14, 16, 18, 20, 22, 24, 25])
"""Slices of the held-out subjects."""
D = 6


def study_of_subjects(
    generator: np.random.Generator, n: int, between: float, *, skewed: bool = False
) -> tuple[list[Run], WithinKernel]:
    """Two arms whose slices lie 3 and 2.7 from the subjects' middle; KID, by the linear kernel, is distance squared.

    Subjects lie ``between`` about the middle; each seed's slices about its arm's place.
    """
    drawn = noise(generator, (len(SIZES), D), "skewed" if skewed else "normal")
    totals = SIZES[:, None] * between * drawn + np.sqrt(SIZES)[:, None] * generator.normal(size=(len(SIZES), D))
    sums, pairs = totals @ totals.T, np.outer(SIZES, SIZES).astype(np.float64)
    np.fill_diagonal(sums, 0)
    np.fill_diagonal(pairs, 0)
    names = tuple(f"s{g}" for g in range(len(SIZES)))
    runs = []
    for arm, far in (("a", 2.7), ("full", 3.0)):
        for seed in range(n):
            mean = far * np.eye(D)[0] + 0.05 * generator.normal(size=D)
            cross = totals @ mean
            kid = mean @ mean + sums.sum() / pairs.sum() - 2 * cross.sum() / SIZES.sum()
            by_subject = {g: (1000 * float(c), int(k)) for g, c, k in zip(names, cross, SIZES, strict=True)}
            runs.append(Run(arm, seed, {KID: 1000 * float(kid)}, f"{arm}/{seed}", by_subject))
    return runs, WithinKernel(names, tuple(int(size) for size in SIZES), sums, pairs)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize(("between", "skewed"), [(0.3, False), (0.6, False), (0.3, True)])
def test_intervals_hold_the_change_that_other_subjects_would_show(n: int, between: float, skewed: bool) -> None:
    generator, inside, alone, studies = np.random.default_rng(n), 0, 0, 250
    truth = 2.7**2 / 3.0**2 - 1
    for _ in range(studies):
        runs, real = study_of_subjects(generator, n, between, skewed=skewed)
        found = effects(runs, CONTRASTS[:1], KID, seeds=range(n), real=real, resamples=200)[0].relative
        assert found is not None
        assert found.se_subjects is not None
        inside += found.low <= truth <= found.high
        bare = [Run(run.arm, run.seed, run.metrics, run.key) for run in runs]
        seeds_alone = effects(bare, CONTRASTS[:1], KID, seeds=range(n))[0].relative
        assert seeds_alone is not None
        alone += seeds_alone.low <= truth <= seeds_alone.high
    assert inside / studies > 0.92
    assert alone < inside, "an interval of seeds alone holds less"


def test_without_the_real_slices_kernels_verdicts_stay_with_the_differences_that_cover_subjects() -> None:
    runs, real = study_of_subjects(np.random.default_rng(0), 3, 0.3)
    with_real, without = (effects(runs, CONTRASTS[:1], KID, seeds=range(3), real=each)[0] for each in (real, None))
    assert (with_real.scale, without.scale) == ("log", "raw")
    assert without.se_subjects is not None
    assert without.words.endswith("as only so the error covers other held-out subjects here")


def test_seeds_of_one_fold_count_as_one_by_their_mean() -> None:
    """A fold's seeds share its patients."""
    runs = study(np.random.default_rng(0), ARMS[:3], 9, {})
    folded = [Run(run.arm, Replicate.of(run.seed % 3, run.seed // 3), run.metrics, run.key) for run in runs]
    means = [
        Run(
            arm,
            fold,
            {KID: math.exp(np.mean([math.log(run.metrics[KID]) for run in folded if own(run, arm, fold)]))},
            "",
        )
        for arm in ARMS[:3]
        for fold in range(3)
    ]
    found = effects(folded, CONTRASTS[:2], KID, seeds=[run.seed for run in folded[:9]])
    expected = effects(means, CONTRASTS[:2], KID, seeds=range(3))
    assert [effect.p for effect in found] == pytest.approx([effect.p for effect in expected])


def in_folds(logs: Mapping[str, Floats], seeds: int = 3, *, within: float = 0.001) -> list[Run]:
    """Runs of ``seeds`` a fold whose KID is e to the arm's log of that fold, and a little noise ``within`` it."""
    generator = np.random.default_rng(0)
    return [
        Run(arm, Replicate.of(s, fold), {KID: math.exp(log + within * generator.normal())}, f"{arm}/{s}/{fold}")
        for arm, own in logs.items()
        for fold, log in enumerate(own)
        for s in range(seeds)
    ]


def test_a_score_is_well_above_0_by_its_folds_and_not_by_their_seeds() -> None:
    logs = np.log([10.0, 60.0, 110.0])
    runs = in_folds({"full": logs, "a": logs + np.array([0.1, 0.12, 0.11])})
    (found,) = effects(runs, CONTRASTS[:1], KID, seeds=sorted({run.seed for run in runs}))
    assert found.why_raw == "a score isn't well above 0"


def test_an_arm_shares_its_spread_by_its_folds_and_not_by_their_seeds() -> None:
    drawn = np.random.default_rng(1).normal(size=(4, 3))
    drawn = (drawn - drawn.mean(axis=1, keepdims=True)) / drawn.std(axis=1, keepdims=True)
    means, spreads = np.array([[4.0], [4.05], [4.1], [4.15]]), np.array([[0.03], [0.03], [0.03], [0.12]])
    logs = dict(zip(ARMS[:4], means + spreads * drawn, strict=True))
    one, three = (in_folds(logs, seeds, within=1e-6) for seeds in (1, 3))
    p = [
        [each.p for each in effects(runs, CONTRASTS[:3], KID, seeds=sorted({run.seed for run in runs}))]
        for runs in (one, three)
    ]
    assert p[1] == pytest.approx(p[0], rel=1e-3)


@pytest.mark.parametrize("arms", [2, 4])
def test_a_run_lost_in_a_fold_leaves_arms_compared_by_the_seeds_that_they_share(arms: int) -> None:
    generator = np.random.default_rng(0)
    runs = []
    for fold in range(3):
        for seed, log in enumerate((3.5, 4.0, 4.5)):
            for arm in ARMS[:arms]:
                change = 0.01 * generator.normal() + (0.1 if arm == "a" else 0.0)
                runs.append(Run(arm, Replicate.of(seed, fold), {KID: math.exp(log + change)}, f"{arm}/{seed}/{fold}"))
    planned = sorted({run.seed for run in runs})
    kept = [run for run in runs if run.key not in ("a/0/1", f"{ARMS[arms - 1]}/2/2")]
    whole, found = (effects(each, CONTRASTS[:1], KID, seeds=planned)[0] for each in (runs, kept))
    assert (whole.scale, found.scale) == ("log", "log")
    assert found.relative is not None
    assert found.relative.change == pytest.approx(math.expm1(0.1), abs=0.02)
    assert found.verdict == whole.verdict == "hurts"


def own(run: Run, arm: str, fold: int) -> bool:
    """Whether a run is of that arm and fold."""
    return (run.arm, run.fold) == (arm, fold)


def test_arms_that_share_their_training_are_judged_by_their_own_small_spread() -> None:
    draw = np.random.default_rng(4)
    runs = study(draw, ARMS[:6], 5, {})
    near = [
        Run("near", run.seed, {KID: run.metrics[KID] * 1.03 * math.exp(0.003 * draw.normal())}, "")
        for run in runs
        if run.arm == ARMS[0]
    ]
    contrasts = [*CONTRASTS[:5], Contrast("near", {"near": 1.0, ARMS[0]: -1.0})]
    *others, found = effects([*runs, *near], contrasts, KID, seeds=range(5))
    assert (found.scale, found.verdict) == ("log", "hurts")
    assert found.relative is not None
    assert (found.relative.df_seeds, found.relative.low > 0.02, found.relative.high < 0.04) == (4, True, True)
    assert all(each.relative and each.relative.df_seeds > 4 for each in others), "the others share one spread"

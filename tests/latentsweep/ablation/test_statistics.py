"""Effects against scipy and hand computation, and what becomes of few, missing and unvarying seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from latentsweep.ablation.statistics.effect import Contrast, Effect, Run
from latentsweep.ablation.statistics.effects import effects, summaries
from latentsweep.ablation.statistics.inference import hedges_correction, holm, judge, sign_flip_p
from latentsweep.ablation.statistics.power import detectable, seeds_needed, smallest_p
from trainables.errors import ConfigError, DataError
from trainables.measures.distances import kernel_distance, kernel_within_groups

KID = "gen/kid"
PAIRED = "gen/swd"
"""A metric that is judged by its paired differences, as it has no log scale."""
WITHOUT = Contrast("without cutmix", {"without cutmix": 1.0, "full": -1.0})

FULL = [251.3, 262.9, 248.0, 255.1, 259.7]
WORSE = [301.2, 299.5, 311.9, 305.4, 322.8]


def runs_of(values: Mapping[str, Sequence[float]], metric: str = PAIRED) -> list[Run]:
    return [
        Run(arm, seed, {metric: value}, f"{arm}/{seed}")
        for arm, series in values.items()
        for seed, value in enumerate(series)
    ]


def effect_of(
    arm: Sequence[float],
    reference: Sequence[float],
    metric: str = PAIRED,
    margin: float = 0.1,
    seeds: Sequence[int] | None = None,
) -> Effect:
    runs = runs_of({"without cutmix": arm, "full": reference}, metric)
    return effects(runs, [WITHOUT], metric, seeds=seeds or range(len(reference)), margin=margin)[0]


def bounds(effect: Effect) -> tuple[float, float]:
    assert effect.low is not None
    assert effect.high is not None
    return effect.low, effect.high


@pytest.mark.parametrize("n", [2, 3, 5, 8, 30])
def test_without_subjects_p_interval_and_df_are_those_of_scipys_paired_t_test(n: int) -> None:
    generator = np.random.default_rng(n)
    arm, reference = generator.normal(5, 10, n), generator.normal(0, 10, n)
    effect = effect_of(arm, reference)
    known = scipy.stats.ttest_rel(arm, reference)
    assert effect.p == pytest.approx(known.pvalue, rel=1e-12)
    assert effect.df == known.df == n - 1
    assert bounds(effect) == pytest.approx(tuple(known.confidence_interval(0.95)), rel=1e-9)
    error = scipy.stats.sem(arm - reference)
    assert bounds(effect) == pytest.approx(scipy.stats.t.interval(0.95, n - 1, (arm - reference).mean(), error))
    assert effect.se_seeds == pytest.approx(error)
    assert effect.se_subjects is None


@pytest.mark.parametrize(
    "values", [[1.0, 2.5, -0.5], [3.0, 1, 2, 5], [1.0, -1, 2, -2, 3, 0], [0.3, 0.1, 0.2, -0.6, 0.4]]
)
def test_the_sign_flip_test_is_scipys_permutation_test(values: list[float]) -> None:
    known = scipy.stats.permutation_test(
        (np.array(values),),
        lambda x: abs(x.mean()),
        permutation_type="samples",
        alternative="greater",
        n_resamples=1e6,
    )
    assert len(known.null_distribution) == 2 ** len(values)
    assert sign_flip_p(values) == pytest.approx(known.pvalue, abs=1e-12)


def test_the_sign_flip_test_counts_all_patterns_of_twelve_seeds() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, 12)
    signs = 1 - 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1)
    assert sign_flip_p(list(values)) == np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9)


def test_the_sign_flip_test_has_no_p_for_one_value_or_more_than_it_can_count() -> None:
    assert sign_flip_p([1.0]) is None
    assert sign_flip_p([1.0] * 41) is None
    assert sign_flip_p([1.0] * 5) == smallest_p(5) == 0.0625
    assert smallest_p(6) == 0.03125
    assert smallest_p(1) == 1


def test_holms_correction_is_that_computed_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.4]) == pytest.approx([0.9, 0.8])
    assert holm([0.7, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([[0.2, 0.01], [0.01, 0.2]]) == pytest.approx(np.array([[0.2, 0.02], [0.02, 0.2]]))


@pytest.mark.parametrize(("effect", "known"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_are_the_pairs_in_tables_of_the_paired_t_test(effect: float, known: int) -> None:
    assert seeds_needed(effect, 1) == known


@pytest.mark.parametrize("seeds", [2, 3, 5, 8, 100])
@pytest.mark.parametrize("contrasts", [1, 6])
def test_a_detectable_effect_has_the_power_asked_for_by_scipys_noncentral_t(seeds: int, contrasts: int) -> None:
    delta = detectable(seeds, contrasts, power=0.9)
    quantile = scipy.stats.t.isf(0.025 / contrasts, seeds - 1)
    assert scipy.stats.nct.sf(quantile, seeds - 1, delta * math.sqrt(seeds)) == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize("effect", [0.3, 1.0, 2.0, 50.0])
def test_one_seed_fewer_than_needed_does_not_show_the_effect(effect: float) -> None:
    needed = seeds_needed(effect, 5)
    assert needed is not None
    assert detectable(needed, 5) <= effect < detectable(needed - 1, 5)


def test_a_plan_says_what_cannot_be() -> None:
    assert detectable(1, 5) == math.inf
    assert seeds_needed(0.0, 1) is None
    assert seeds_needed(0.05, 5, most=100) is None
    assert seeds_needed(1.0, 5, se_subjects=0.5, df_subjects=9) is None, "more seeds don't bring more subjects"
    with pytest.raises(ConfigError, match="a contrast or more"):
        detectable(5, 0)


def test_the_effect_size_is_hedges_corrected() -> None:
    difference = np.subtract(WORSE, FULL)
    assert hedges_correction(4) == pytest.approx(math.sqrt(2 / math.pi))
    assert hedges_correction(50) == pytest.approx(1 - 3 / (4 * 50 - 1), rel=1e-4)
    size = effect_of(WORSE, FULL).size
    assert size == pytest.approx(difference.mean() / difference.std(ddof=1) * math.sqrt(2 / math.pi))
    assert effect_of(WORSE[:2], FULL[:2]).size is None, "two seeds leave the correction undefined"


def test_the_p_with_subjects_is_the_level_whose_interval_ends_at_zero() -> None:
    for mean in (0.1, 3.0, 30.0):
        p = float(judge(mean, 1.0, 2, 0.7, 8.0).p)
        assert judge(mean, 1.0, 2, 0.7, 8.0, alpha=p).reach == pytest.approx(mean)
    found = judge(5.0, 1.0, 4, 0.5, 9.0)
    seeds, subjects = scipy.stats.t.isf(0.025, 4), scipy.stats.t.isf(0.025, 9)
    assert found.reach == pytest.approx((1.0 * seeds + 0.25 * subjects) / 1.25 * math.sqrt(1.25))
    assert 4 < found.df < 9
    assert scipy.stats.t.isf(0.025, found.df) * math.sqrt(1.25) == pytest.approx(found.reach)


def test_a_worse_arm_hurts_and_a_better_one_helps_each_with_its_numbers() -> None:
    worse, better = effect_of(WORSE, FULL), effect_of(FULL, WORSE)
    assert (worse.verdict, better.verdict) == ("hurts", "helps")
    assert worse.words == "52.8 higher (95 % interval 38.8 to 66.7), which is worse"
    assert better.words == "52.8 lower (95 % interval 38.8 to 66.7), which is better"
    assert worse.runs[0] == "without cutmix/0"
    assert len(worse.runs) == 10


def test_a_higher_psnr_helps_in_decibels_and_a_metric_without_a_direction_only_differs() -> None:
    psnr = effect_of([31.0, 31.2, 31.1, 30.9], [30.0, 30.1, 30.2, 29.9], "recon/psnr")
    assert (psnr.verdict, psnr.words) == ("helps", "1.00 dB higher (95 % interval 0.87 to 1.13 dB), which is better")
    other = effect_of([31.0, 31.2, 31.1, 30.9], [30.0, 30.1, 30.2, 29.9], "gen/diversity", margin=0.01)
    assert (other.verdict, other.words) == ("differs", "1.00 higher (95 % interval 0.87 to 1.13)")


def test_a_sure_difference_below_the_margin_is_called_small() -> None:
    reference = np.array([200.0, 260, 310, 240, 280])
    effect = effect_of(reference + np.array([5.0, 5.2, 4.9, 5.1, 4.8]), reference)
    assert effect.verdict == "hurts"
    assert effect.words.endswith("which is worse, though by less than 10 %")


def test_a_difference_shown_to_be_within_the_margin_is_no_difference() -> None:
    reference = np.array([200.0, 260, 310, 240, 280])
    arm = reference + np.array([3.0, -4, 2, -2, 0.5])
    effect = effect_of(arm, reference)
    assert (effect.verdict, effect.words) == (
        "no difference",
        "no difference larger than 10 %: 3.68 lower to 3.48 higher",
    )
    narrow = effect_of(arm, reference, margin=0.01)
    assert narrow.verdict == "cannot tell", "the interval reaches beyond the margin"


def test_cannot_tell_says_what_would_have_shown() -> None:
    effect = effect_of([251.0, 270.0, 262.0], [260.0, 255.0, 251.0])
    assert effect.verdict == "cannot tell"
    assert effect.sd is not None
    least = detectable(3, 1) * effect.sd
    share = 100 * least / np.mean([260.0, 255.0, 251.0])
    assert effect.detectable == pytest.approx(least)
    assert effect.words == (
        "cannot tell with 3 seeds: 26.3 lower to 37.6 higher; "
        f"a difference of {least:.1f} or {share:.0f} % would show"
    )


def test_a_difference_that_the_correction_takes_back_says_so() -> None:
    arms = {"full": FULL, **dict.fromkeys("bcdef", FULL), "a": np.add(FULL, [4.0, 9, 1, 8, 3])}
    contrasts = [Contrast(name, {name: 1.0, "full": -1.0}) for name in "abcdef"]
    first = effects(runs_of(arms), contrasts, PAIRED, seeds=range(5), margin=0.01)[0]
    assert first.p is not None
    assert first.p < 0.05 < (first.p_holm or 0)
    assert first.words.startswith(
        "cannot tell with 5 seeds: 0.79 to 9.21 higher, which is not enough among 6 comparisons"
    )


def test_one_seed_never_tells() -> None:
    effect = effect_of([300.0], [250.0])
    assert effect.verdict == "cannot tell"
    assert effect.words == "cannot tell with one seed: 50.0 higher there, which may be chance"
    assert effect.mean == 50
    numbers = (effect.sd, effect.se_seeds, effect.df, effect.low, effect.high, effect.size, effect.p, effect.p_holm)
    assert set(numbers) == {None}
    assert effect.p_sign_flip is None


def test_seeds_that_an_arm_lacks_are_left_out_and_named() -> None:
    runs = [run for run in runs_of({"without cutmix": WORSE, "full": FULL}) if run.key != "without cutmix/2"]
    broken = [
        replace(run, metrics={PAIRED: math.nan}) if run.key == "full/4" else run
        for run in runs
        if run.key != "full/0"
    ]
    effect = effects(broken, [WITHOUT], PAIRED, seeds=range(5))[0]
    assert effect.seeds == (1, 3)
    assert effect.values == pytest.approx((WORSE[1] - FULL[1], WORSE[3] - FULL[3]))
    assert effect.missing == ("without cutmix, seed 2", "full, seed 0", "full, seed 4")
    assert effect.words.endswith("; 3 of 5 seeds left out, where a run is missing")
    assert set(effect.runs) == {"without cutmix/1", "without cutmix/3", "full/1", "full/3"}


def test_an_arm_without_any_run_cannot_be_told_and_does_not_weigh_on_the_others() -> None:
    runs = runs_of({"a": WORSE, "full": FULL})
    contrasts = [Contrast(name, {name: 1.0, "full": -1.0}) for name in ("a", "gone")]
    present, gone = effects(runs, contrasts, PAIRED, seeds=range(5))
    assert (gone.verdict, gone.words) == ("cannot tell", "cannot tell: no seed has all the runs that it takes")
    assert gone.mean is None
    assert len(gone.missing) == 5
    assert present.p_holm == present.p
    assert present.verdict == "hurts"


def test_a_metric_that_no_run_has_is_missing_from_all() -> None:
    effect = effects(runs_of({"without cutmix": WORSE, "full": FULL}), [WITHOUT], "gen/fid", seeds=range(5))[0]
    assert effect.verdict == "cannot tell"
    assert len(effect.missing) == 10


def test_seeds_that_were_not_planned_are_not_used() -> None:
    assert effect_of(WORSE, FULL, seeds=[1, 3]).seeds == (1, 3)


def test_the_same_in_every_seed_is_no_difference_with_p_1() -> None:
    effect = effect_of(FULL, FULL)
    assert (effect.verdict, effect.words) == (
        "no difference",
        "no difference at all: the same in each of 5 seeds",
    )
    assert (effect.p, effect.p_holm, effect.p_sign_flip, effect.size) == (1, 1, 1, None)
    assert bounds(effect) == (0, 0)


def test_the_same_difference_in_every_seed_has_the_p_of_its_signs_alone() -> None:
    five = effect_of([25.0] * 5, [50.0] * 5, "gen/steps_mean")
    assert five.p == 0.0625
    assert five.low is None
    assert five.verdict == "cannot tell"
    assert five.words == (
        "cannot tell with 5 seeds: 25.0 steps lower in each, without a spread to judge by; "
        "6 seeds that agree would show it"
    )
    six = effect_of([25.0] * 6, [50.0] * 6, "gen/steps_mean")
    assert (six.p, six.verdict) == (0.03125, "helps")
    assert six.words == "25.0 steps lower in each of 6 seeds, which is better"
    fifty = effect_of([25.0] * 50, [50.0] * 50, "gen/steps_mean")
    assert (fifty.verdict, fifty.p_sign_flip) == ("helps", None)


def test_what_rounding_leaves_is_no_spread() -> None:
    arm = [0.1 + 0.2, 0.3, 0.1 + 0.2]
    assert effect_of(arm, [0.3, 0.3, 0.3]).words == "no difference at all: the same in each of 3 seeds"
    assert effect_of([value + 1 for value in arm], [0.3, 0.3, 0.3]).sd == 0


def test_main_effects_and_interactions_are_one_family_and_arms_another() -> None:
    runs = runs_of({"both": [9.0, 8.1, 10.2], "a": [4.0, 5.5, 4.9], "b": [6.1, 5.2, 7.7], "none": [1.0, 0.4, 2.5]})
    contrasts = [
        Contrast("a", {"both": 0.5, "a": 0.5, "b": -0.5, "none": -0.5}, "main effect"),
        Contrast("b", {"both": 0.5, "b": 0.5, "a": -0.5, "none": -0.5}, "main effect"),
        Contrast("a × b", {"both": 0.5, "none": 0.5, "a": -0.5, "b": -0.5}, "interaction"),
        Contrast("both", {"both": 1.0, "none": -1.0}),
    ]
    found = effects(runs, contrasts, PAIRED, seeds=range(3))
    p = [effect.p or 0 for effect in found]
    assert [effect.p_holm for effect in found[:3]] == pytest.approx(holm(p[:3]))
    assert found[3].p_holm == p[3]
    assert found[0].values == pytest.approx(
        [(9 + 4 - 6.1 - 1) / 2, (8.1 + 5.5 - 5.2 - 0.4) / 2, (10.2 + 4.9 - 7.7 - 2.5) / 2]
    )


def test_the_words_of_an_interaction_say_that_it_is_one() -> None:
    runs = runs_of({"both": [9.0, 9.1, 9.2], "a": [4.0, 4.1, 4.1], "b": [4.0, 3.9, 4.1], "none": [4.0, 4.1, 3.9]})
    contrast = Contrast("a × b", {"both": 0.5, "none": 0.5, "a": -0.5, "b": -0.5}, "interaction")
    assert effects(runs, [contrast], PAIRED, seeds=range(3))[0].words.startswith(
        "interaction 2.52 higher (95 % interval"
    )


def test_summaries_are_by_seed_and_leave_out_what_is_not_finite() -> None:
    runs = [*reversed(runs_of({"a": [1.0, math.nan, 4.0, math.inf]})), Run("b", 7, {PAIRED: 2.0}, "b/7")]
    first, second, third = summaries(runs, ["a", "b", "none"], PAIRED)
    assert (first.values, first.seeds, first.runs) == ((1.0, 4.0), (0, 2), ("a/0", "a/2"))
    assert (first.mean, first.sd) == (2.5, pytest.approx(math.sqrt(4.5)))
    assert (second.mean, second.sd) == (2.0, None)
    assert (third.values, third.mean) == ((), None)


def test_two_runs_of_an_arm_and_seed_are_an_error() -> None:
    runs = runs_of({"without cutmix": WORSE, "full": FULL})
    with pytest.raises(DataError, match="'full' with seed 0"):
        effects([*runs, replace(runs[5], key="again")], [WITHOUT], PAIRED, seeds=range(5))


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": -0.5}, {"a": 0.0, "b": 0.0}, {"a": math.nan, "b": 1.0}, {}])
def test_weights_that_do_not_sum_to_zero_over_two_arms_are_an_error(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sum to 0 over two arms"):
        Contrast("x", weights)


def measured(arm: str, seed: int, generated: np.ndarray, real: np.ndarray, subjects: np.ndarray) -> Run:
    """KID ×1000 and its cross sums, from features (N, d) and (n, d)."""
    kernel = 1000 * (generated @ real.T / real.shape[1] + 1) ** 3
    by_slice = kernel.mean(axis=0)
    cross = {
        f"s{code}": (float(by_slice[subjects == code].sum()), int((subjects == code).sum()))
        for code in dict.fromkeys(subjects.tolist())
    }
    return Run(arm, seed, {KID: 1000 * kernel_distance(generated, real)}, f"{arm}/{seed}", cross)


def study_with_subjects() -> tuple[list[Run], dict[tuple[str, int], np.ndarray], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), [3, 8, 5, 4, 9, 6])
    real = generator.normal(size=(6, 4))[subjects] + generator.normal(size=(len(subjects), 4))
    images = {
        (arm, seed): generator.normal(shift, 1.2, size=(20, 4))
        for arm, shift in (("without cutmix", 0.4), ("full", 0.0))
        for seed in range(3)
    }
    return [measured(*key, each, real, subjects) for key, each in images.items()], images, real, subjects


def test_the_error_between_subjects_is_that_of_kernel_distances_to_resampled_subjects() -> None:
    runs, images, real, subjects = study_with_subjects()
    effect = effects(runs, [WITHOUT], KID, seeds=range(3), resamples=200, seed=3)[0]
    drawn = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=200)
    drawn = drawn[:, [0, 4, 2, 1, 5, 3]]  # the subjects by their number of slices
    direct = []
    for weights in drawn:
        resampled = np.concatenate([np.tile(real[subjects == g], (count, 1)) for g, count in enumerate(weights)])
        kid = {key: 1000 * kernel_distance(each, resampled) for key, each in images.items()}
        direct.append(np.mean([kid["without cutmix", seed] - kid["full", seed] for seed in range(3)]))
    effective = 35**2 / (9 + 64 + 25 + 16 + 81 + 36)
    correction = math.sqrt(effective / (effective - 1))
    assert effect.se_subjects == pytest.approx(np.std(direct, ddof=1) * correction, rel=1e-9)
    assert effect.se_seeds is not None
    assert effect.df_subjects == pytest.approx(effective - 1)
    assert effect.mean is not None
    reach = judge(effect.mean, effect.se_seeds, 2, effect.se_subjects, effect.df_subjects).reach
    assert bounds(effect) == pytest.approx((effect.mean - reach, effect.mean + reach))
    alone = effects([replace(run, cross={}) for run in runs], [WITHOUT], KID, seeds=range(3))[0]
    assert alone.se_subjects is None
    assert alone.se_seeds == effect.se_seeds
    assert alone.p_sign_flip == effect.p_sign_flip


def test_the_error_between_subjects_does_not_depend_on_their_names_or_order() -> None:
    runs, *_ = study_with_subjects()
    renamed = [
        replace(
            run, cross={f"pseudonym {99 - place}": each for place, each in enumerate(reversed(run.cross.values()))}
        )
        for run in runs
    ]
    first, second = (effects(each, [WITHOUT], KID, seeds=range(3))[0] for each in (runs, renamed))
    assert first.se_subjects == second.se_subjects


def test_runs_that_do_not_share_their_real_slices_have_no_error_between_subjects() -> None:
    runs, *_ = study_with_subjects()
    sums, count = runs[0].cross["s2"]
    other = replace(runs[0], cross={**runs[0].cross, "s2": (sums, count + 1)})
    single = [replace(run, cross={"s0": run.cross["s0"]}) for run in runs]
    for changed in ([other, *runs[1:]], [replace(runs[0], cross={}), *runs[1:]], single):
        effect = effects(changed, [WITHOUT], KID, seeds=range(3))[0]
        assert effect.se_subjects is None
        assert effect.p is not None


def test_arms_with_the_same_images_are_the_same_for_all_subjects() -> None:
    runs, *_ = study_with_subjects()
    twins = [run for run in runs if run.arm == "full"]
    twins += [replace(run, arm="without cutmix") for run in twins]
    effect = effects(twins, [WITHOUT], KID, seeds=range(3))[0]
    assert (effect.se_subjects, effect.verdict, effect.p) == (0, "no difference", 1)


def test_where_subjects_are_the_limit_more_seeds_are_not_promised() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(6), 6)
    real = 0.6 * generator.normal(size=(6, 4))[subjects] + 0.3 * generator.normal(size=(36, 4))
    directions = {"without cutmix": np.eye(4)[0], "full": np.eye(4)[1]}
    runs = [
        measured(arm, seed, 2 * way + 0.2 * generator.normal(size=(60, 4)), real, subjects)
        for arm, way in directions.items()
        for seed in range(3)
    ]
    kernel = kernel_within_groups(real, [f"s{code}" for code in subjects])
    effect = effects(runs, [WITHOUT], KID, seeds=range(3), real=kernel)[0]
    assert (effect.scale, effect.verdict) == ("log", "cannot tell")
    assert effect.words.endswith("; to show 10 % takes more held-out subjects, not more seeds")
    alone = effects(runs, [WITHOUT], KID, seeds=range(3))[0]
    assert alone.words.endswith(
        "; judged by paired differences, as only so the error covers other held-out subjects here"
    )


def test_a_margin_that_is_not_above_zero_is_an_error() -> None:
    with pytest.raises(ConfigError, match="a share above 0, got -1"):
        effect_of(WORSE, FULL, margin=-1)


def test_a_missing_metric_asks_for_no_scale() -> None:
    assert effects([], [WITHOUT], KID, seeds=range(3))[0].scale == "raw"

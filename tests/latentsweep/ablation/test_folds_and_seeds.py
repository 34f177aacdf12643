"""Studies in folds, and the seeds that a study may have: what runs, what is paired, what is told."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from small_dataset import plant

from latentsweep.ablation.design.arms import WHOLE, given_arms
from latentsweep.ablation.design.plan import AblationPlan, plan_of
from latentsweep.ablation.page.certainty import interval_covers
from latentsweep.ablation.statistics.effect import Contrast, Run
from latentsweep.ablation.statistics.effects import effects
from latentsweep.ablation.statistics.ratio import ratios
from latentsweep.ablation.statistics.replicate import Replicate, counted_seeds, listed_seeds, unit_words
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.jobs import ablation_results
from latentsweep.records.ablation import AblationRecord
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ConfigError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import PAPER, SMOKE, Recipe

PLAN = AblationPlan("demo", "f" * 16, "smoke", SMOKE, "leave-one-out", ("cutmix",), 0, "test", "w" * 64)
FOLDED = replace(PLAN, folds=3)
WITHOUT = Contrast("without", {"without": 1.0, "full": -1.0})
KID = "gen/kid"


def test_every_arm_runs_with_every_seed_in_every_fold_and_each_run_has_results_of_its_own() -> None:
    jobs = FOLDED.jobs(FOLDED.seeds(2))
    assert [job.name for job in jobs[:4]] == [
        "full, seed 0, fold 0",
        "without cutmix, seed 0, fold 0",
        "full, seed 0, fold 1",
        "without cutmix, seed 0, fold 1",
    ]
    assert [(job.recipe.data.fold, job.recipe.data.folds) for job in jobs[:6:2]] == [(0, 3), (1, 3), (2, 3)]
    assert len({job.keys.denoiser.name for job in jobs}) == len(jobs) == 12
    assert len({job.keys.vae.name for job in jobs}) == 6
    assert [int(each) for each in FOLDED.replicates(2)] == sorted({int(job.replicate) for job in jobs})


def test_a_study_without_folds_is_known_as_before_and_one_with_folds_comes_back_from_its_file(tmp_path: Path) -> None:
    assert not {"folds", "avoided"} & set(PLAN.to_plain())
    assert len({PLAN.name, FOLDED.name, replace(PLAN, folds=5).name}) == 3
    (tmp_path / "ablation.json").write_text(json.dumps({"plan": FOLDED.to_plain()}))
    assert AblationPlan.read(tmp_path) == FOLDED
    words = shlex.split(ablation_results.command_of(FOLDED, 2))
    assert words[words.index("--folds") + 1] == "3"
    assert [job.name for job in PLAN.jobs(PLAN.seeds(1))] == ["full, seed 0", "without cutmix, seed 0"]


def test_more_seeds_later_leave_the_runs_that_there_are() -> None:
    few, more = ({job.name: job.keys.names() for job in FOLDED.jobs(FOLDED.seeds(count))} for count in (1, 3))
    assert few.items() <= more.items()
    assert set(FOLDED.replicates(1)) <= set(FOLDED.replicates(3))


def planned(home: Home, recipe: Recipe = SMOKE, **given: Any) -> AblationPlan:
    weights = InceptionWeights(Path("weights"), "w" * 64)
    given = {"seeds": 2, "tune": 0, "most": 200, "folds": 3} | given
    return plan_of(
        plant(home), "smoke", recipe, "leave-one-out", given.pop("names", ["cutmix"]), weights=weights, **given
    )


def test_what_folds_can_not_go_with_is_refused_with_a_next_step(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert planned(home).folds == 3
    for given, message in [
        ({"tune": 2}, "--tune-per-arm would tune on patients that a fold then tests"),
        ({"recipe": PAPER.replace(**{"data.image_size": 64})}, "--set data.split=subject"),
        ({"names": ["subject-split"]}, "leave out --folds or the component subject-split"),
        ({"recipe": SMOKE.replace(**{"data.folds": 3})}, "leave out --folds, or data.folds"),
        ({"recipe": SMOKE.replace(**{"sampling.after_steps": 1})}, "must be 0 in a search or a study, got 1"),
        ({"most": 11}, "2 arms with 2 seeds in 3 folds are above --max-runs 11"),
    ]:
        with pytest.raises(ConfigError, match=message):
            planned(Home(tmp_path / str(len(message))), **given)


def test_a_replicate_reads_as_seed_and_fold_and_sorts_fold_by_fold() -> None:
    made = [Replicate.of(seed, fold) for fold in (0, 1) for seed in (0, 7)]
    assert sorted([made[2], made[3], made[0], made[1]]) == made
    assert f"without, seed {made[3]}" == "without, seed 7, fold 1"
    assert listed_seeds(made) == "0, fold 0; 7, fold 0; 0, fold 1; 7, fold 1"
    assert listed_seeds([0, 2]) == "0, 2"
    assert [unit_words(each) for each in (made, [0, 2], [3])] == ["2 folds", "2 seeds", "1 seed"]
    assert [counted_seeds(each) for each in (made, [0, 2], [3])] == [
        "2 seeds in each of 2 folds",
        "2 seeds",
        "1 seed",
    ]
    assert ablation_results.as_plain(made[3]) == {"seed": 7, "fold": 1}
    assert ablation_results.as_plain(7) == 7


def folded_runs(
    seeds: int = 2, folds: int = 3, *, difference: float = 2.0, noise: np.random.Generator | None = None
) -> list[Run]:
    """Runs of two arms in folds that differ much more than the arms; subjects of a fold are its own."""
    draw = noise or np.random.default_rng(0)
    found = []
    for fold in range(folds):
        counts = {f"s{fold}-{g}": 4 + g for g in range(5)}
        for seed in range(seeds):
            for arm, shift in (("full", 0.0), ("without", difference)):
                kid = 100.0 * fold + 3.0 * seed + shift + 0.1 * draw.normal()
                cross = {name: ((-kid / 2 + draw.normal()) * count, count) for name, count in counts.items()}
                found.append(Run(arm, Replicate.of(seed, fold), {KID: kid}, f"{arm}/{seed}/{fold}", cross))
    return found


def test_arms_are_compared_within_a_fold_and_a_seed() -> None:
    runs = folded_runs()
    planned = replace(PLAN, folds=3).replicates(2)
    (effect,) = effects(runs, [WITHOUT], KID, seeds=planned)
    assert len(effect.values) == 6
    assert effect.values == pytest.approx([2.0] * 6, abs=0.6)
    assert effect.sd is not None
    assert effect.sd < 1, "folds differ by 100, pairs within a fold don't"
    assert [run.fold for run in runs[::4]] == [0, 1, 2]
    (lost,) = effects(runs[:-1], [WITHOUT], KID, seeds=planned)
    assert lost.missing == ("without, seed 1, fold 2",)


def test_an_interval_rests_on_the_means_of_folds_since_seeds_of_a_fold_share_its_patients() -> None:
    runs = folded_runs(noise=np.random.default_rng(3))
    planned = replace(PLAN, folds=3).replicates(2)
    (effect,) = effects(runs, [WITHOUT], KID, seeds=planned)
    means = np.array(effect.values).reshape(3, 2).mean(axis=1)
    t = stats.ttest_1samp(means, 0)
    ends = t.confidence_interval()
    assert (effect.mean, effect.df) == (pytest.approx(means.mean()), 2)
    assert (effect.low, effect.high, effect.p) == pytest.approx((ends.low, ends.high, t.pvalue))
    assert effect.p_sign_flip == 0.25, "of three folds, not of six pairs"
    assert effect.se_subjects is None, "the test patients vary with the fold"
    (ratio,) = ratios(runs, [WITHOUT], seeds=planned)
    assert not ratio.subjects
    assert ratio.value == pytest.approx(
        np.mean([run.metrics[KID] for run in runs if run.arm == "without"]) / 101.5, rel=0.01
    )


def test_intervals_hold_the_truth_where_folds_differ_more_than_seeds() -> None:
    draw, held = np.random.default_rng(0), 0
    planned = replace(PLAN, folds=3).replicates(3)
    for _ in range(400):
        runs = []
        for fold in range(3):
            of_fold = draw.normal()
            for seed in range(3):
                values = {"full": 10.0, "without": 10.0 + of_fold + 0.3 * draw.normal()}
                runs += [
                    Run(arm, Replicate.of(seed, fold), {KID: kid}, f"{arm}/{fold}/{seed}")
                    for arm, kid in values.items()
                ]
        (effect,) = effects(runs, [WITHOUT], KID, seeds=planned)
        assert effect.low is not None
        assert effect.high is not None
        held += effect.low <= 0 <= effect.high
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_what_intervals_of_folds_cover_is_told() -> None:
    runs = folded_runs()
    found = effects(runs, [WITHOUT], KID, seeds=replace(PLAN, folds=3).replicates(2))
    assert interval_covers(found) == (
        "A 95 % interval covers what other seeds, other training subjects and other held-out subjects would change, "
        "not another dataset or another recipe."
    )


def test_what_only_one_fold_has_is_said_of_one_fold() -> None:
    runs, planned = [run for run in folded_runs(3) if run.fold == 1], FOLDED.replicates(3)
    (effect,) = effects(runs, [WITHOUT], KID, seeds=planned)
    assert effect.words.startswith("cannot tell with one fold: ")
    (ratio,) = ratios(runs, [WITHOUT], seeds=planned)
    assert ratio.words.endswith("times the reference's in the only fold")


def test_failures_in_folds_are_told_by_seed_and_fold() -> None:
    lost = [Replicate.of(0, 1), Replicate.of(1, 1)]
    runs = [run for run in folded_runs() if (run.arm, run.seed) not in [("without", each) for each in lost]]
    diverged = [("without", each) for each in lost]
    (effect,) = effects(runs, [WITHOUT], KID, seeds=FOLDED.replicates(2), diverged=diverged)
    assert "diverged with seeds 0, fold 1; 1, fold 1; its worst score" in effect.words
    (stability, whole) = ablation_results.plain(effect)["stability"]
    assert stability["diverged"] == [{"seed": 0, "fold": 1}, {"seed": 1, "fold": 1}]
    assert stability["worst"][0] == {"seed": 1, "fold": 2}
    assert whole["diverged"] == whole["collapsed"] == []


def test_a_study_in_folds_is_recorded_and_forecast_fold_by_fold(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    record = AblationRecord(MemoryRecorder(), FOLDED, store)
    keys = [record.key(job) for job in FOLDED.jobs([0])]
    assert keys[2] == f"{FOLDED.name}/full/seed-0-fold-1"
    assert len(set(keys)) == 6
    told = ablation_results.forecast(FOLDED, store, 2)
    assert (told["runs"], told["folds"], told["needed"]["denoiser"]) == (12, 3, 12)
    assert "12 runs with 2 seeds in each of 3 folds" in ablation_results.as_text(told)
    once = ablation_results.as_text(ablation_results.forecast(FOLDED, store, 1))
    assert "6 runs with 1 seed in each of 3 folds" in once
    assert told["power"].startswith("3 folds show")
    ((_, text),) = ablation_results.folds_facts(FOLDED)
    assert text.startswith("3 folds: intervals cover other training patients too, as far as folds differ")
    assert ablation_results.folds_facts(PLAN) == []


def exported(folder: Path, name: str, seed: int, origin: dict[str, Any]) -> Path:
    path = folder / name
    Configuration("demo", seed, SMOKE.replace(**{"diffusion.steps": 70 + seed}), origin=origin).write(path)
    return path


@pytest.mark.parametrize(
    ("seed", "origin", "chosen"),
    [
        (3, {}, ()),
        (3, {"sweep": "demo-smoke-1"}, (3,)),
        (3, {"sweep": "demo-smoke-1", "selection": {"seed": 0}}, (0,)),
        (0, {"sweep": "demo-smoke-1", "selection": {"seed": 0}, "confirmed": {"seeds": [1, 2]}}, (0, 1, 2)),
        (0, {"sweep": "demo-smoke-1", "confirmed": False}, (0,)),
    ],
)
def test_a_file_of_export_says_with_which_seeds_it_was_chosen(
    tmp_path: Path, seed: int, origin: dict[str, Any], chosen: tuple[int, ...]
) -> None:
    assert read_configuration(exported(tmp_path, "best.yaml", seed, origin)).chosen_with == chosen


@pytest.mark.parametrize("confirmed", [{"seeds": ["one"]}, {"seeds": [-1]}, {"seeds": True}, {"seeds": 1.5}])
def test_seeds_of_an_origin_that_are_none_are_refused(tmp_path: Path, confirmed: dict[str, Any]) -> None:
    path = exported(tmp_path, "best.yaml", 0, {"sweep": "demo-smoke-1", "confirmed": confirmed})
    with pytest.raises(ConfigError, match="export it again"):
        given_arms(("smoke", str(path)), ())


def study_of(tmp_path: Path, *texts: str, **given: Any) -> AblationPlan:
    arms = given_arms(texts, ())
    weights = InceptionWeights(Path("weights"), "w" * 64)
    given = {"seeds": 2, "tune": 0, "most": 200} | given
    return plan_of(
        plant(Home(tmp_path)), arms[0].source, arms[0].recipe, WHOLE, (), weights=weights, arms=arms, **given
    )


def test_a_study_leaves_out_the_seeds_that_any_of_its_arms_was_chosen_with(tmp_path: Path) -> None:
    first = exported(tmp_path, "a.yaml", 1, {"sweep": "demo-smoke-1"})
    second = exported(tmp_path, "b.yaml", 0, {"sweep": "demo-smoke-2", "confirmed": {"seeds": [3, 9]}})
    made = study_of(tmp_path, str(first), f"other = {second}")
    assert made.avoided == (0, 1, 3, 9)
    assert made.seeds(4) == [2, 4, 5, 6]
    assert made.seeds(2) == made.seeds(6)[:2]
    assert not {job.seed for job in made.jobs(made.seeds(9))} & {0, 1, 3, 9}
    told = ablation_results.forecast(made, Store(tmp_path / "store"), 2)
    assert told["seeds_used"] == [2, 4]
    assert "seeds 2, 4; 0, 1, 3, 9 left out, since an arm was chosen by its score with one of them" in (
        ablation_results.as_text(told)
    )


def test_the_plan_keeps_them_so_that_the_study_goes_on_with_the_same_when_the_file_has_changed(
    tmp_path: Path,
) -> None:
    made = study_of(tmp_path, "smoke", str(exported(tmp_path, "a.yaml", 0, {"sweep": "demo-smoke-1"})))
    (tmp_path / "ablation.json").write_text(json.dumps({"plan": made.to_plain()}))
    kept = AblationPlan.read(tmp_path)
    assert (kept.avoided, kept.seeds(2), kept.name) == ((0,), [1, 2], made.name)
    assert replace(made, avoided=()).name != made.name, "other seeds are another study"


def test_a_study_of_recipes_by_name_keeps_the_seeds_from_0_on(tmp_path: Path) -> None:
    made = study_of(tmp_path, "smoke", "smoke diffusion.steps=70")
    assert (made.avoided, made.seeds(3), made.replicates(3)) == ((), [0, 1, 2], [0, 1, 2])
    assert "seeds_used" not in ablation_results.forecast(made, Store(tmp_path / "store"), 2)

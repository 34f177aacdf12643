"""Generated slices as training data of segmentation networks: the stage, its keys, its numbers, the objective."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from command_line import THIN, cli
from disc_dataset import plant_discs

from latentsweep.configuration import Configuration
from latentsweep.datasets.slices import JOINT
from latentsweep.execution.worker import points_of
from latentsweep.metrics import DICE_LOSS, DOWNSTREAM
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan, planned
from latentsweep.stages.keys import keys_of
from latentsweep.stages.pipeline import Pipeline, scores_of
from latentsweep.stages.results import DICE_BY_PATIENTS
from latentsweep.storage.home import Home
from trainables.errors import ConfigError
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.space import THRESHOLD, Choice, SearchSpace

from .test_joint import JOINTLY, SLICES, pipeline_of

RECIPE = JOINTLY.replace(
    **{
        "downstream.measured": True,
        "downstream.widths": (8, 16),
        "downstream.steps": 25,
        "downstream.learning_rate": 5e-3,
        "vae.max_steps": 40,
    }
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Everything of a small configuration that is measured downstream, on three patients a split."""
    home = Home(tmp_path_factory.mktemp("downstream") / "runs")
    plant_discs(home, each=24, patients=3)
    pipeline = pipeline_of(home, RECIPE)
    pipeline.finish()
    return pipeline


@pytest.mark.slow
def test_a_run_has_the_downstream_metrics_beside_its_others_and_a_picture(measured: Pipeline) -> None:
    scores = scores_of(measured.store, measured.keys, measured.recipe)
    assert scores is not None
    assert {metric.name for metric in DOWNSTREAM} - {"gen/downstream_ratio"} <= scores.keys()
    assert "gen/kid" in scores
    assert scores["gen/downstream_dice"] == pytest.approx(1 - scores[DICE_LOSS.name])
    assert scores["gen/downstream_dice_real"] > 0.3
    assert (measured.downstream().folder / "figures" / f"{DICE_BY_PATIENTS}.png").is_file()


@pytest.mark.slow
def test_as_many_slices_are_drawn_as_are_real_and_each_patient_has_a_score(measured: Pipeline) -> None:
    summary = measured.downstream().summary
    assert (summary["drawn"], summary["patients"]) == (24, 3)
    assert all(len(row["dice"]) == len(row["hausdorff"]) == 3 for row in summary["rows"])
    patients = {(row["fraction"], row["slices"]) for row in summary["rows"] if row["arm"] == "real"}
    assert patients == {(0.25, 8), (1.0, 24)}, "a quarter of three patients is one"


@pytest.mark.slow
def test_networks_of_real_slices_are_shared_by_all_runs_of_a_dataset(measured: Pipeline) -> None:
    other = dataclasses.replace(measured, seed=5, recipe=RECIPE.replace(**{"diffusion.steps": 9}))
    assert other.keys.segmentation == measured.keys.segmentation
    assert other.keys.downstream != measured.keys.downstream
    test = dataclasses.replace(measured, split="test")
    assert test.keys.segmentation != measured.keys.segmentation


def test_only_the_stage_itself_has_the_budget_of_its_networks_in_its_key() -> None:
    def keys(**changes: object) -> dict[str, object]:
        return dict(keys_of(RECIPE.replace(**changes), f"slices{JOINT}masks", 0, "weights"))

    before, after = keys(), keys(**{"downstream.steps": 26})
    changed = {stage for stage in before if before[stage] != after[stage]}
    assert changed == {"segmentation", "downstream"}
    never = keys_of(JOINTLY.replace(**{"vae.max_steps": 40}), f"slices{JOINT}masks", 0, "weights")
    assert dict(never) == {stage: key for stage, key in before.items() if stage not in changed}
    assert keys(**{"sampling.threshold_grid": (0.0, 0.1)})["downstream"] == before["downstream"]


@pytest.mark.slow
def test_only_a_trials_own_threshold_has_the_downstream_metrics(measured: Pipeline) -> None:
    recipe = RECIPE.replace(**{"sampling.threshold_grid": (0.0, 0.3)})
    pipeline = dataclasses.replace(measured, recipe=recipe)
    points = points_of(pipeline, {"sampling.early_stop_threshold": 0.0}, pipeline.evaluation())
    having = [
        point["params"]["sampling.early_stop_threshold"] for point in points if DICE_LOSS.name in point["metrics"]
    ]
    assert (len(points), having) == (2, [0.0])


@pytest.mark.slow
def test_a_lacking_downstream_measurement_counts_as_none(measured: Pipeline) -> None:
    other = dataclasses.replace(measured, recipe=RECIPE.replace(**{"downstream.steps": 27}))
    assert scores_of(other.store, other.keys, other.recipe) is None


def test_a_search_for_dice_measures_downstream_and_others_do_not(tmp_path: Path) -> None:
    dataset, weights = plant_discs(Home(tmp_path / "runs")), InceptionWeights(Path("not-needed"), "0" * 64)
    space = SearchSpace({"diffusion.learning_rate": Choice([1e-3, 1e-4]), THRESHOLD: Choice([0.0, 0.1])})

    def plan_of(recipe: Recipe, objective: str) -> SweepPlan:
        search = SearchConfig(objectives=(objective,))
        return planned(dataset, "smoke", recipe, space, search, 0, weights)

    def recipe_of(recipe: Recipe, objective: str) -> Recipe:
        return plan_of(recipe, objective).recipe.replace(**{"sampling.threshold_grid": ()})

    assert list(plan_of(JOINTLY, "kid").space.dimensions) == ["diffusion.learning_rate", THRESHOLD]
    assert list(plan_of(JOINTLY, "dice").space.dimensions) == ["diffusion.learning_rate"], "the own threshold alone"
    assert recipe_of(JOINTLY, "dice").downstream.measured
    assert recipe_of(JOINTLY, "kid") == JOINTLY
    with pytest.raises(ConfigError, match=r"dice as an objective .* needs data\.mask"):
        recipe_of(SLICES, "dice")


def test_the_budget_of_the_networks_cannot_be_searched() -> None:
    with pytest.raises(ConfigError, match=r"downstream\.steps can't be searched, since scores measured differently"):
        SearchSpace({"downstream.steps": Choice([10, 20])}).check(RECIPE)


@pytest.mark.slow
def test_evaluate_says_what_generated_slices_are_good_for(measured: Pipeline, tmp_path: Path) -> None:
    home = measured.dataset.folder.parents[1]
    config = tmp_path / "run.yaml"
    untold = RECIPE.replace(**{"downstream.measured": False})
    Configuration("discs", 0, untold, Execution(device="cpu", threads=1)).write(config)
    asked = ("evaluate", str(config), "--downstream", "--split", "validation", *THIN)
    text = " ".join(cli(home, *asked).stdout.split())
    assert "real and generated slices" in text
    assert "of the Dice of real ones" in text
    assert "near copies and were left out" in text
    found = json.loads(cli(home, *asked, "--json").stdout)
    assert found["downstream"]["patients"] == 3
    assert "gen/downstream_dice" in found


@pytest.mark.slow
def test_evaluate_refuses_downstream_without_masks(measured: Pipeline, tmp_path: Path) -> None:
    home, config = measured.dataset.folder.parents[1], tmp_path / "run.yaml"
    Configuration("discs", 0, SLICES, Execution(device="cpu", threads=1)).write(config)
    ended = cli(home, "evaluate", str(config), "--downstream", *THIN, code=2)
    assert "needs data.mask, since segmentation is learned of lesion masks" in ended.stderr

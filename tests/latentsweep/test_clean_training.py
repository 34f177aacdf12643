"""Where a training copies at its end, ``train`` and ``evaluate`` take what it was before, or say why they can't."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_dataset import plant

from latentsweep.configuration import Configuration
from latentsweep.jobs import trained
from latentsweep.jobs.train import Retraining, Training
from latentsweep.records.results import guard_tags
from latentsweep.stages.denoiser import rung_score, scored_with
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.stage import Identity
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.loop import execution
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE, Recipe

WEIGHTS = InceptionWeights(Path("not-needed"), "0" * 64)
RECIPE = SMOKE.replace(**{"diffusion.steps": 30, "evaluation.rungs": 2})
HONEST = {"gen/kid": 20.0, "gen/samples": 64.0, "gen/near_copies": 0.0, "gen/near_copies_bound": 2 / 64}
COPYIST = HONEST | {"gen/near_copies": 0.5}
CLEAN = RECIPE.replace(**{"sampling.after_steps": 10})


def entry(**summary: Any) -> Entry:
    return Entry("denoiser/0123", Path("unused"), {"summary": summary})


def measured(metrics: Mapping[str, float]) -> Entry:
    return entry(points=[{"threshold": RECIPE.sampling.early_stop_threshold, "metrics": dict(metrics)}])


def ended(
    folder: Path, validation: Mapping[str, float], test: Mapping[str, float], recipe: Recipe = RECIPE, **summary: Any
) -> Training:
    """A training with these measurements, whose denoiser has this summary."""
    home = Home(folder / "runs")
    job = Retraining(home, Configuration("tiny", 0, recipe), plant(home), WEIGHTS)
    evaluations = {"validation": measured(validation), "test": measured(test)}
    return Training(job, evaluations, {"denoiser": entry(**summary)}, True, [])


def rungs_of(recipe: Recipe) -> str:
    return scored_with(Identity(recipe, "of tiny", 0, WEIGHTS.sha256))


def test_what_is_refused_on_any_held_out_split_is_refused(tmp_path: Path) -> None:
    assert not ended(tmp_path, HONEST, HONEST).refused
    for splits in ((COPYIST, HONEST), (HONEST, COPYIST), (COPYIST, COPYIST)):
        training = ended(tmp_path, *splits)
        assert training.refused == "copies 32 of 64 (bound 2)"
        assert guard_tags(training.judged) == {"latentsweep.guards": training.refused}


def test_a_training_that_copies_is_taken_as_it_was_before(tmp_path: Path) -> None:
    training = ended(tmp_path, COPYIST, HONEST, copied_at=20, clean_until=10, rungs=rungs_of(RECIPE))
    clean = training.job.before_copying(training)
    assert clean is not None
    assert clean.configuration.recipe == CLEAN
    assert training.job.before_copying(ended(tmp_path, HONEST, COPYIST, clean_until=10)) is None


def test_the_rungs_of_a_search_count_for_each_threshold_of_its_passes() -> None:
    early = {"sampling.early_stop_threshold": 0.3, "sampling.threshold_grid": (0.1,)}
    assert rungs_of(RECIPE) == rungs_of(RECIPE.replace(**early, **{"sampling.early_stop_rule": "x0_change"}))
    assert rungs_of(RECIPE) != rungs_of(RECIPE.replace(**{"sampling.steps": 7}))


@pytest.mark.parametrize("rungs", [None, rungs_of(RECIPE.replace(**{"sampling.steps": 7}))])
def test_what_was_clean_by_no_rung_or_those_of_another_sampler_is_not_taken_and_that_is_said(
    rungs: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = ended(tmp_path, COPYIST, HONEST, copied_at=20, clean_until=10, rungs=rungs)
    with caplog.at_level(logging.WARNING):
        assert training.job.before_copying(training) is None
    assert "kept no earlier weights" in caplog.text
    assert "move denoiser/0123 out of the store, then run: python cli.py train" in caplog.text


@pytest.mark.parametrize(
    ("steps", "found", "error", "said"),
    [
        (10, entry(), DataError, "only those of its end.*move denoiser/0123 out of the store"),
        (20, entry(clean_until=10), DataError, "those after 10 steps"),
        (15, None, ConfigError, r"one of its rungs \(10, 20\).*got 15"),
    ],
)
def test_weights_that_no_training_keeps_are_refused_before_anything_is_trained(
    steps: int,
    found: Entry | None,
    error: type[Exception],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = ended(tmp_path, HONEST, HONEST, RECIPE.replace(**{"sampling.after_steps": steps})).job
    monkeypatch.setattr(Store, "find", lambda *_: found)
    with pytest.raises(error, match=said):
        job.run(None)  # type: ignore[arg-type]


def test_a_folder_is_measured_by_itself_where_the_store_has_other_weights_than_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model:
        def images(self, seeds: list[int], execution: Execution) -> np.ndarray:
            return np.zeros((len(seeds), 8, 8), np.uint8)

    home = Home(tmp_path / "runs")
    dataset, folder = plant(home), tmp_path / "model"
    folder.mkdir()
    Configuration("tiny", 0, CLEAN).write(folder / "config.yaml")
    monkeypatch.setattr(Store, "find", lambda *_: entry())
    monkeypatch.setattr(trained, "read_model", lambda _: Model())
    monkeypatch.setattr(trained, "compare", lambda images, *_, **__: {"gen/samples": float(len(images))})
    found = trained.evaluated_run(home, str(folder), lambda _: dataset, WEIGHTS, "validation")
    assert found.metrics == {"gen/samples": CLEAN.evaluation.samples}
    with pytest.raises(DataError, match="move denoiser/0123"):
        trained.evaluated_run(home, str(folder / "config.yaml"), lambda _: dataset, WEIGHTS, "validation")


def test_a_worker_that_measures_nothing_reads_nothing_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "runs")
    pipeline = Pipeline(Store.of(home), plant(home), RECIPE, 0, Execution(), WEIGHTS)

    def obtain(*_: Any, **__: Any) -> Entry:
        raise AssertionError("it reads a result")

    monkeypatch.setattr(Pipeline, "obtain", obtain)
    monkeypatch.setattr(execution, "rank", lambda: 1)
    assert rung_score(pipeline, entry()).identity == scored_with(pipeline.identity)

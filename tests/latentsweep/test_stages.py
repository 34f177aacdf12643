"""What follows from the table of stages, and how a result is obtained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_dataset import plant

from latentsweep.execution.worker import train_together
from latentsweep.stages.context import Context, save_figure
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.pipeline import Pipeline, scores_of
from latentsweep.stages.stage import Stage
from latentsweep.stages.table import DOWNSTREAM, LAST, SHARED, STAGES, TABLE, TRAININGS
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.figures.style import label, new_figure
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE


def written(name: str, heard: list[str], *inputs: Stage, **rest: Any) -> Stage:
    """A stage that notes that it runs."""

    def run(context: Context, folder: Path) -> dict[str, Any]:
        heard.append(name)
        context.report([{"step": 1}])
        return {"read": [context.obtain(each).name for each in inputs]}

    return Stage(name=name, version=1, title=name, fields=lambda identity: {}, run=run, inputs=inputs, **rest)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    home = Home(tmp_path / "runs")
    weights = InceptionWeights(Path("not-needed"), "0" * 64)
    return Pipeline(Store.of(home), plant(home), SMOKE, 0, Execution(), weights)


def test_a_stage_stands_in_the_table_after_all_that_it_reads() -> None:
    for place, stage in enumerate(TABLE):
        assert all(TABLE.index(each) < place for each in stage.inputs), stage.name
    assert len(STAGES) == len(TABLE)


def test_what_follows_from_the_table() -> None:
    assert [stage.name for stage in SHARED] == ["vae", "latents", "reference", "reconstruction", "segmentation"]
    assert [stage.name for stage in TRAININGS] == ["vae", "denoiser"]
    assert [stage.name for stage in LAST] == ["evaluation", "downstream"]


def test_scores_are_asked_for_also_where_a_further_stage_reads_the_evaluation(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    further = written("further", [], STAGES["evaluation"])
    monkeypatch.setattr("latentsweep.stages.pipeline.LAST", (DOWNSTREAM, further))
    assert scores_of(pipeline.store, pipeline.keys, SMOKE) is None


def test_a_key_names_the_inputs_that_no_other_input_follows() -> None:
    keys = keys_of(SMOKE, "dataset", 0, "weights")
    upstream = {stage: [each.stage for each in key.upstream] for stage, key in keys.items()}
    assert upstream == {
        "vae": [],
        "latents": ["vae"],
        "reference": [],
        "reconstruction": ["latents", "reference"],
        "denoiser": ["latents"],
        "samples": ["denoiser"],
        "evaluation": ["samples", "reconstruction"],
    }
    assert {key.name for key in keys.evaluation.lineage()} == set(keys.names())


def test_a_result_is_computed_once_after_its_inputs(pipeline: Pipeline) -> None:
    heard: list[str] = []
    first = written("first", heard)
    second = written("second", heard, first)
    third = written("third", heard, first, second)
    entry = pipeline.obtain(third)
    assert heard == ["first", "second", "third"]
    assert [name.split("/")[0] for name in entry.summary["read"]] == ["first", "second"]
    pipeline.store.remove(pipeline.obtain(first).name)
    assert pipeline.obtain(third).name == entry.name
    assert heard == ["first", "second", "third"], "what is there does not ask for its inputs"


def test_a_finished_training_tells_its_records_again(pipeline: Pipeline) -> None:
    ran: list[str] = []
    told: list[float] = []
    training = written("training", ran, replay=lambda context, entry: [{"step": 2}])
    for _ in range(2):
        pipeline.obtain(training, lambda records: told.extend(record["step"] for record in records))
    assert (ran, told) == (["training"], [1, 2])


def test_a_stage_that_is_not_in_the_table_has_no_method_and_no_key(pipeline: Pipeline) -> None:
    assert pipeline.keys.vae.stage == "vae"
    with pytest.raises(AttributeError, match="there is no stage 'vea'"):
        _ = pipeline.keys.vea
    with pytest.raises(AttributeError, match="there is no stage 'vea'"):
        pipeline.vea()


def test_a_training_that_is_there_gets_the_inputs_that_are_missing(pipeline: Pipeline) -> None:
    heard: list[str] = []
    first = written("first", heard)
    training = written("training", heard, first, replay=lambda context, entry: [{"step": 1}])
    train_together(pipeline, training)
    assert heard == ["first", "training"]
    pipeline.store.remove(first.key(pipeline.identity).name)
    train_together(pipeline, training)
    assert heard == ["first", "training", "first"]


def test_no_stage_has_the_name_of_what_a_pipeline_and_its_keys_have_already() -> None:
    assert not set(STAGES) & {*dir(Context), *dir(Keys), "store", "dataset", "recipe", "seed", "execution", "weights"}


def test_a_figure_is_written_as_matplotlib_writes_it(tmp_path: Path) -> None:
    for written in ("ours", "matplotlibs"):
        figure = new_figure(3)
        for place, axes in enumerate(figure.subplots(1, 2)):
            axes.plot([1, 10, 100], [3e-5, 2e5, 7])
            label(axes, "loss", "step", "a label that takes its room")
            axes.set_yscale("log" if place else "linear")
        if written == "ours":
            save_figure(tmp_path, written, figure)
        else:
            figure.savefig(tmp_path / "figures" / f"{written}.png", dpi=100, metadata={"Software": "latentsweep"})
    ours, matplotlibs = ((tmp_path / "figures" / f"{name}.png").read_bytes() for name in ("ours", "matplotlibs"))
    assert ours == matplotlibs

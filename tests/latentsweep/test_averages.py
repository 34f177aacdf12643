"""One training keeps several averages: the store shares it, and what samples is the average that was chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from small_dataset import plant

from latentsweep.api.trainings import before_copying_words
from latentsweep.configuration import Configuration
from latentsweep.jobs.trained import trained_model
from latentsweep.stages import denoiser
from latentsweep.stages.context import WEIGHTS
from latentsweep.stages.denoiser import GUIDE, average_file
from latentsweep.stages.guards import rung_constraint
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.model_folder import from_store, read_model, write_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.samples import IMAGES
from latentsweep.stages.table import DENOISER
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.denoiser.averages import Averages, combine
from trainables.denoiser.training import Scorer
from trainables.errors import DataError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE, Recipe

LENGTHS = (0.0, 0.05, 0.25)
RECIPE = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.batch_size": 4,
        "vae.max_steps": 4,
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
        "diffusion.steps": 30,
        "diffusion.ema_lengths": LENGTHS[1:],
        "sampling.steps": 3,
        "evaluation.samples": 2,
        "evaluation.rungs": 0,
    }
)
"""Nothing of it is measured, so that no Inception network is needed."""


def of_length(length: float) -> Recipe:
    return RECIPE.replace(**{"sampling.ema_length": length})


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Pipeline]:
    """The samples of every average, each asked for as a trial of its own would."""
    home = Home(tmp_path_factory.mktemp("averages") / "runs")
    dataset = plant(home, side=16, each=8)
    weights = InceptionWeights(Path("not-needed"), "0" * 64)
    pipelines = {
        length: Pipeline(Store.of(home), dataset, of_length(length), 0, Execution(), weights) for length in LENGTHS
    }
    for pipeline in pipelines.values():
        pipeline.samples()
    return pipelines


def test_one_denoiser_is_trained_for_all_of_them(sampled: Mapping[float, Pipeline]) -> None:
    store = sampled[0.0].store
    stages = [entry.manifest["stage"] for entry in store.entries()]
    assert (stages.count("vae"), stages.count("denoiser"), stages.count("samples")) == (1, 1, len(LENGTHS))
    (denoiser,) = (entry for entry in store.entries() if entry.manifest["stage"] == "denoiser")
    kept = {path.name for path in denoiser.folder.glob("*.safetensors")}
    assert kept == {WEIGHTS, "weights-ema-0.05.safetensors", "weights-ema-0.25.safetensors"}
    assert kept <= set(denoiser.manifest["files"]), "the files of the averages are checked like all others"


def test_each_samples_with_its_own_weights(sampled: Mapping[float, Pipeline]) -> None:
    drawn = [load_tensors(pipeline.samples().file(IMAGES))[0]["latents"] for pipeline in sampled.values()]
    for index, latents in enumerate(drawn):
        assert all(not torch.equal(latents, other) for other in drawn[:index])


def test_a_length_between_is_made_of_those_that_are_kept_and_asks_for_no_other_training(
    sampled: Mapping[float, Pipeline], tmp_path: Path
) -> None:
    kept = RECIPE.replace(**{"diffusion.ema_lengths": (0.05, 0.1)})
    recipe = kept.replace(**{"sampling.ema_length": 0.07})
    pipeline = dataclasses.replace(sampled[0.0], recipe=recipe)
    pipeline.samples()
    assert pipeline.keys.denoiser == dataclasses.replace(pipeline, recipe=kept).keys.denoiser
    states = {length: load_tensors(pipeline.denoiser().file(average_file(length)))[0] for length in (0.05, 0.1)}
    model = read_model(
        write_model(tmp_path / "model", pipeline.store, pipeline.keys, Configuration("tiny", 0, recipe))
    )
    for name, value in combine(states, 0.07).items():
        assert torch.equal(model.denoiser.state_dict()[name], value)
    inside = from_store(pipeline.store, pipeline.keys, recipe)
    assert inside is not None
    assert (inside.images([1, 2]) == model.images([1, 2])).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_a_models_folder_holds_the_chosen_average(
    sampled: Mapping[float, Pipeline], length: float, tmp_path: Path
) -> None:
    pipeline = sampled[length]
    configuration = Configuration("tiny", 0, pipeline.recipe)
    model = read_model(write_model(tmp_path / "model", pipeline.store, pipeline.keys, configuration))
    expected, _ = load_tensors(pipeline.denoiser().file(average_file(length)))
    weights = model.denoiser.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
    inside = from_store(pipeline.store, pipeline.keys, pipeline.recipe)
    assert inside is not None
    assert (inside.images([1, 2]) == model.images([1, 2])).all()


def keys(**changes: Any) -> Keys:
    return keys_of(SMOKE.replace(**changes), "dataset", 0, "weights")


def test_the_choice_is_part_of_the_samples_key_and_the_lengths_of_the_denoisers() -> None:
    kept = {"diffusion.ema_lengths": (0.05,)}
    own, short = keys(**kept), keys(**kept, **{"sampling.ema_length": 0.05})
    assert own.denoiser == short.denoiser != keys().denoiser
    assert own.samples != short.samples
    assert own.evaluation != short.evaluation


SHARES = {10: 0.0, 20: 0.5}
"""The near copies at the rungs of a training."""


@pytest.fixture
def copying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], Pipeline]:
    """Pipelines whose denoisers copy from the second of two rungs on."""
    shares = iter(SHARES.values())

    def measure(averages: Averages) -> dict[str, float]:
        return {"rung/kid": 1.0, "rung/near_copies": next(shares), "rung/near_copies_bound": 0.1}

    scorer = Scorer(measure, "made up", lambda record: bool(rung_constraint(record)))
    monkeypatch.setattr(denoiser, "rung_score", lambda *_: scorer)
    home = Home(tmp_path / "runs")
    dataset, weights = plant(home, side=16, each=8), InceptionWeights(Path("not-needed"), "0" * 64)

    def pipeline(recipe: Recipe) -> Pipeline:
        recipe = recipe.replace(**{"evaluation.rungs": len(SHARES)})
        return Pipeline(Store.of(home), dataset, recipe, 0, Execution(), weights)

    return pipeline


@pytest.mark.slow
def test_what_a_denoiser_was_before_it_copied_can_be_sampled_and_taken_out(
    copying: Callable[[Recipe], Pipeline], tmp_path: Path
) -> None:
    ending, before = (copying(of_length(0.05).replace(**{"sampling.after_steps": steps})) for steps in (0, 10))
    trained = ending.obtain(DENOISER, rungs=True)
    assert {name: trained.summary[name] for name in ("copied_at", "clean_until")} == {
        "copied_at": 20,
        "clean_until": 10,
    }
    assert "step-10-weights-ema-0.05.safetensors" in trained.manifest["files"]
    assert (ending.keys.denoiser, ending.keys.samples) == (
        before.keys.denoiser,
        copying(of_length(0.05)).keys.samples,
    )
    assert before.keys.samples != ending.keys.samples
    drawn, earlier = (load_tensors(each.samples().file(IMAGES))[0]["latents"] for each in (ending, before))
    assert not torch.equal(drawn, earlier)
    model = read_model(
        write_model(tmp_path / "m", before.store, before.keys, Configuration("tiny", 0, before.recipe))
    )
    kept, _ = load_tensors(trained.file(average_file(0.05, 10)))
    assert all(torch.equal(model.denoiser.state_dict()[key], value) for key, value in kept.items())
    other = copying(RECIPE.replace(**{"sampling.after_steps": 20}))
    with pytest.raises(DataError, match=r"got 20, and it kept those after 10 steps and of its end"):
        other.samples()


@pytest.mark.slow
def test_who_draws_the_end_of_a_training_that_copies_is_told_of_what_it_was_before(
    copying: Callable[[Recipe], Pipeline], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ending, before = (copying(RECIPE.replace(**{"sampling.after_steps": steps})) for steps in (0, 10))
    ending.obtain(DENOISER, rungs=True)
    home = Home(tmp_path / "runs")
    for pipeline, told in ((ending, 1), (before, 0)):
        file = tmp_path / "best.yaml"
        Configuration("tiny", 0, pipeline.recipe).write(file)
        caplog.clear()
        trained_model(home, str(file), lambda _, dataset=pipeline.dataset: dataset)
        assert len(caplog.messages) == told
        if told:
            assert f"{file} draws by the end of its training" in caplog.messages[0]
            assert "copies 50 % (bound 10 %) at its last rung; set sampling.after_steps to 10" in caplog.messages[0]


def test_what_a_training_falls_back_to_is_drawn_from_its_folder_and_not_from_its_file(tmp_path: Path) -> None:
    copied = {"gen/near_copies": 0.5, "gen/near_copies_bound": 0.1}
    training = SimpleNamespace(evaluations={"validation": None}, metrics=lambda split: copied)
    configuration = Configuration("tiny", 0, RECIPE.replace(**{"sampling.after_steps": 10}))
    clean = SimpleNamespace(folder=tmp_path / "tiny-1234", configuration=configuration)
    said = before_copying_words(Path("best.yaml"), cast(Any, training), cast(Any, clean))
    assert said.endswith(f"as it was after 10 steps: draw from {tmp_path / 'tiny-1234'}, not from best.yaml")
    assert "copies 50 % (bound 10 %)" in said


@pytest.mark.slow
@pytest.mark.parametrize(("share", "taken"), [(0.5, "step-10-weights.safetensors"), (0.2, GUIDE)])
def test_what_is_drawn_before_it_copied_is_guided_by_no_later_state(
    copying: Callable[[Recipe], Pipeline], tmp_path: Path, share: float, taken: str
) -> None:
    guided = RECIPE.replace(**{"diffusion.guide_share": share, "sampling.autoguidance": 2.0})
    ending, before = (copying(guided.replace(**{"sampling.after_steps": steps})) for steps in (0, 10))
    trained = ending.obtain(DENOISER, rungs=True)
    expected, _ = load_tensors(trained.file(taken))
    inside = from_store(before.store, before.keys, before.recipe)
    configuration = Configuration("tiny", 0, before.recipe)
    outside = read_model(write_model(tmp_path / "m", before.store, before.keys, configuration))
    assert inside is not None
    for guide in (inside.guide, outside.guide):
        assert guide is not None
        assert all(torch.equal(guide.state_dict()[key], value) for key, value in expected.items())
    last = from_store(ending.store, ending.keys, ending.recipe)
    assert last is not None
    assert last.guide is not None
    late, _ = load_tensors(trained.file(GUIDE))
    assert all(torch.equal(last.guide.state_dict()[key], value) for key, value in late.items())


@pytest.mark.slow
def test_who_asks_for_what_a_training_was_has_it_measured_on_its_way(copying: Callable[[Recipe], Pipeline]) -> None:
    before = copying(RECIPE.replace(**{"sampling.after_steps": 10}))
    assert before.samples().file(IMAGES).exists()
    assert before.denoiser().summary["clean_until"] == 10


def test_a_denoiser_that_never_copied_kept_only_its_end(sampled: Mapping[float, Pipeline]) -> None:
    pipeline = sampled[0.0]
    recipe = RECIPE.replace(**{"sampling.after_steps": 10})
    with pytest.raises(DataError, match="kept only those of its end"):
        from_store(pipeline.store, pipeline.keys, recipe)

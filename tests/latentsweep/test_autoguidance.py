"""A training keeps its guide of an early step: samples, rungs and a model's folder draw with it, and ask for no other
training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_dataset import plant

from latentsweep.configuration import Configuration
from latentsweep.stages.denoiser import GUIDE
from latentsweep.stages.model_folder import GUIDE as GUIDE_IN_FOLDER
from latentsweep.stages.model_folder import from_store, read_model, write_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.samples import IMAGES
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

KEPT = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.batch_size": 4,
        "vae.max_steps": 4,
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
        "diffusion.warmup_steps": 2,
        "diffusion.steps": 30,
        "diffusion.guide_share": 0.2,
        "sampling.steps": 6,
        "sampling.early_stop_threshold": 1.0,
        "evaluation.samples": 3,
        "evaluation.rungs": 0,
    }
)
"""Nothing of it is measured, so that no Inception network is needed."""
GUIDED = KEPT.replace(**{"sampling.autoguidance": 3.0})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A sampling without the guide."""
    home = Home(tmp_path_factory.mktemp("guide") / "runs")
    weights = InceptionWeights(Path("not-needed"), "0" * 64)
    pipeline = Pipeline(Store.of(home), plant(home, side=16, each=8), KEPT, 0, Execution(), weights)
    pipeline.samples()
    return pipeline


@pytest.fixture(scope="module")
def guided(plain: Pipeline) -> Pipeline:
    """One with it, of the same training."""
    pipeline = dataclasses.replace(plain, recipe=GUIDED)
    pipeline.samples()
    return pipeline


def test_one_training_serves_both_and_keeps_its_guide(plain: Pipeline, guided: Pipeline) -> None:
    assert plain.keys.denoiser == guided.keys.denoiser
    stages = [entry.manifest["stage"] for entry in plain.store.entries()]
    assert (stages.count("denoiser"), stages.count("samples")) == (1, 2)
    assert GUIDE in guided.denoiser().manifest["files"]


def test_the_guide_changes_what_is_drawn(plain: Pipeline, guided: Pipeline) -> None:
    one, other = (load_tensors(pipeline.samples().file(IMAGES))[0]["latents"] for pipeline in (plain, guided))
    assert one.shape == other.shape
    assert not torch.equal(one, other)


def test_the_samples_say_how_far_from_its_end_each_stopped(plain: Pipeline) -> None:
    tensors = load_tensors(plain.samples().file(IMAGES))[0]
    stopped = tensors["steps"][0] < KEPT.sampling.steps
    assert plain.samples().summary["thresholds"] == [1.0]
    assert tensors["remaining"].shape == (1, 3)
    assert stopped.all()
    assert (tensors["remaining"][0] > 0).all()


def test_a_models_folder_holds_the_guide_and_draws_as_the_store_does(guided: Pipeline, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", guided.store, guided.keys, Configuration("tiny", 0, GUIDED))
    inside = from_store(guided.store, guided.keys, GUIDED)
    assert inside is not None
    assert inside.guide is not None
    images = inside.images([1, 2])
    assert (read_model(folder).images([1, 2]) == images).all()
    alone = dataclasses.replace(inside, recipe=KEPT).images([1, 2])
    assert not (alone == images).all()
    (folder / GUIDE_IN_FOLDER).unlink()
    with pytest.raises(DataError, match=r"is not a trained model: it has no guide\.safetensors"):
        read_model(folder)


def test_a_model_that_samples_alone_holds_no_guide(plain: Pipeline, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", plain.store, plain.keys, Configuration("tiny", 0, KEPT))
    assert not (folder / GUIDE_IN_FOLDER).exists()
    assert read_model(folder).guide is None

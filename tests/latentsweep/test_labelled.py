"""Labels of patients, from the prepared dataset through the denoiser to what is drawn."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from command_line import THIN
from disc_dataset import plant_discs

import latentsweep
from latentsweep.configuration import Configuration
from latentsweep.search.plan import check_fit
from latentsweep.stages.conditions import read_categories
from latentsweep.stages.latents import CATEGORIES
from latentsweep.stages.model_folder import from_store, read_model, write_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.training_latents import read_training
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

PLAIN = SMOKE.replace(
    **{
        "data.image_size": 32,
        "vae.widths": (8, 16),
        "vae.max_steps": 40,
        "vae.validations": 1,
        "diffusion.widths": (8, 16),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.steps": 20,
        "diffusion.validations": 1,
        "diffusion.batch_size": 8,
        "diffusion.warmup_steps": 2,
        "diffusion.ema_warmup": True,
        "sampling.steps": 2,
        "evaluation.samples": 6,
        "evaluation.rungs": 0,
    }
)
TOLD = PLAIN.replace(**{"diffusion.label_condition": ["grade"], "sampling.guidance": 8.0})


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The trainings and samples of a small configuration that is told the grade."""
    home = Home(tmp_path_factory.mktemp("labelled") / "runs")
    dataset = plant_discs(home, each=12, labelled=True)
    weights = InceptionWeights(Path(THIN[1]), hashlib.sha256(Path(THIN[1]).read_bytes()).hexdigest())
    pipeline = Pipeline(Store.of(home), dataset, TOLD, 0, Execution(device="cpu", threads=1), weights)
    pipeline.samples()
    return pipeline


@pytest.mark.slow
def test_each_latent_has_the_label_of_its_slices_subject(told: Pipeline) -> None:
    latents = told.latents()
    for split in ("train", "validation", "test"):
        expected = [[float(subject[-1])] for subject in told.dataset.load(split).subjects]
        categories, names = read_categories(latents.folder, split, ["grade"])
        assert categories.tolist() == expected
        assert names == {"grade": ["HGG", "LGG"]}
    training = read_training(TOLD.diffusion, latents.folder, dict(latents.summary))
    assert training.categories is not None
    assert len(training.categories) == len(training.mean) == 24, "as they are, and mirrored"
    assert np.array_equal(training.categories[:12], training.categories[12:])


@pytest.mark.slow
def test_samples_are_told_the_labels_of_training_slices(told: Pipeline) -> None:
    tensors = load_tensors(told.samples().file("samples.safetensors"))[0]
    assert tensors["categories"].shape == (6, 1)
    assert set(tensors["categories"].flatten().tolist()) <= {0.0, 1.0}


@pytest.mark.slow
def test_a_model_draws_the_label_that_is_asked_for_also_from_its_folder(told: Pipeline, tmp_path: Path) -> None:
    model = from_store(told.store, told.keys, told.recipe)
    assert model is not None
    high, low = (model.drawn([5], labels={"grade": grade}).images for grade in ("HGG", "LGG"))
    assert not np.array_equal(high, low), "the same noise, told otherwise"
    write_model(tmp_path, told.store, told.keys, Configuration("discs", 0, told.recipe))
    assert np.array_equal(read_model(tmp_path).drawn([5], labels={"grade": "LGG"}).images, low)
    loaded = latentsweep.load(tmp_path)
    assert np.array_equal(loaded.draw(1, seed=5, labels={"grade": "HGG"}).images, high)
    with pytest.raises(ConfigError, match="grade must be one of HGG, LGG, got III"):
        loaded.draw(1, labels={"grade": "III"})


@pytest.mark.slow
def test_a_recipe_that_is_told_nothing_shares_autoencoder_and_latents(told: Pipeline) -> None:
    plain = dataclasses.replace(told, recipe=PLAIN).keys
    assert plain.latents == told.keys.latents
    assert plain.denoiser != told.keys.denoiser


@pytest.mark.slow
def test_a_dataset_without_labels_leaves_no_trace_of_them(told: Pipeline, tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    plain = dataclasses.replace(told, dataset=plant_discs(home, each=12), recipe=PLAIN, store=Store.of(home))
    assert not (plain.latents().folder / CATEGORIES).exists()
    with pytest.raises(DataError, match=r"must name labels that discs has \(none\), got grade"):
        check_fit(TOLD, plain.dataset)
    check_fit(TOLD, told.dataset)

"""A denoiser that is told positions and its estimates goes through the stages and out of the store as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_dataset import brief_on

from latentsweep.configuration import Configuration
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import check_fit, planned
from latentsweep.stages.model_folder import SCALING, from_store, read_model, sample_images, write_model
from latentsweep.storage.home import Home
from trainables.errors import DataError
from trainables.loop.checkpoint import load_tensors
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE, Recipe
from trainables.space import Choice, SearchSpace

RECIPE = SMOKE.replace(
    **{
        "data.image_size": 32,
        "vae.widths": (8, 16),
        "vae.max_steps": 4,
        "vae.validations": 1,
        "diffusion.widths": (8, 16),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.steps": 6,
        "diffusion.validations": 2,
        "diffusion.batch_size": 4,
        "sampling.steps": 3,
        "evaluation.samples": 6,
        "evaluation.rung_samples": 4,
        "evaluation.bootstrap": 10,
    }
)
GUIDED = RECIPE.replace(
    **{
        "diffusion.position_condition": True,
        "diffusion.condition_dropout": 0.3,
        "diffusion.self_conditioning": 0.5,
        "sampling.guidance": 2.0,
    }
)


@pytest.mark.slow
def test_it_is_trained_sampled_measured_and_taken_elsewhere(tmp_path: Path) -> None:
    brief = brief_on(Home(tmp_path / "runs"), each=6)
    pipeline = brief.pipeline(GUIDED)
    pipeline.denoiser(rungs=True)
    scores = pipeline.evaluation().summary["points"][0]["metrics"]
    assert scores["gen/steps_mean"] == 3
    samples = load_tensors(pipeline.samples().file("samples.safetensors"))[0]
    assert len(samples["positions"]) == 6

    configuration = Configuration("tiny", 0, GUIDED)
    folder = write_model(tmp_path / "model", pipeline.store, pipeline.keys, configuration)
    assert load_tensors(folder / SCALING)[0]["positions"].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    stored = from_store(pipeline.store, pipeline.keys, GUIDED)
    assert stored is not None
    images = stored.images([5, 6, 7])
    assert np.array_equal(sample_images(folder, [5, 6, 7]), images)
    assert np.array_equal(read_model(folder).images([6])[0], images[1])


def test_another_guidance_is_another_sampling_of_the_same_denoiser(tmp_path: Path) -> None:
    brief = brief_on(Home(tmp_path / "runs"))

    def keys(recipe: Recipe) -> tuple[str, str]:
        found = brief.pipeline(recipe).keys
        return found.denoiser.name, found.samples.name

    plain = GUIDED.replace(**{"sampling.guidance": 1.0})
    assert keys(GUIDED)[0] == keys(plain)[0]
    assert keys(GUIDED)[1] != keys(plain)[1]
    assert keys(plain)[0] != keys(RECIPE)[0]


def test_a_model_without_the_condition_holds_no_positions(tmp_path: Path) -> None:
    pipeline = brief_on(Home(tmp_path / "runs")).pipeline(RECIPE)
    pipeline.denoiser()
    folder = write_model(tmp_path / "model", pipeline.store, pipeline.keys, Configuration("tiny", 0, RECIPE))
    assert set(load_tensors(folder / SCALING)[0]) == {"mean", "deviation"}
    assert read_model(folder).positions is None


def test_a_dataset_of_single_pictures_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    dataset = brief_on(Home(tmp_path / "runs")).pipeline(RECIPE).dataset
    dataset.manifest["counts"]["volumes"] = dataset.manifest["counts"]["slices"]
    check_fit(RECIPE, dataset)
    with pytest.raises(DataError, match="every volume of this data is a single picture"):
        check_fit(GUIDED, dataset)
    space = SearchSpace({"diffusion.position_condition": Choice((False, True))})
    with pytest.raises(DataError, match="every volume of this data is a single picture"):
        planned(dataset, "smoke", RECIPE, space, SearchConfig(), 0, find_weights())

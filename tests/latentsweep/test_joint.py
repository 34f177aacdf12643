"""Slices and lesion masks together, from the dataset to what is drawn and measured."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import THIN
from disc_dataset import plant_discs
from small_dataset import plant

from latentsweep.configuration import Configuration
from latentsweep.datasets.slices import JOINT, check_fingerprint, check_prepared, open_dataset
from latentsweep.jobs.comparison import measuring
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan, check_fit, planned
from latentsweep.stages.conditions import read_lesions
from latentsweep.stages.dataset import open_published, publish
from latentsweep.stages.keys import keys_of
from latentsweep.stages.model_folder import from_store, read_model, sample_images, write_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ChangedDataError, ConfigError, DataError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE, Recipe
from trainables.space import Choice, SearchSpace

FAST = {
    "data.image_size": 32,
    "vae.widths": (8, 16),
    "vae.latent_channels": 4,
    "vae.max_steps": 150,
    "diffusion.widths": (8, 16),
    "diffusion.embedding_channels": 16,
    "diffusion.steps": 20,
    "diffusion.batch_size": 8,
    "diffusion.warmup_steps": 2,
    "diffusion.ema_warmup": True,
    "sampling.steps": 3,
    "evaluation.samples": 6,
    "evaluation.rungs": 1,
    "evaluation.rung_samples": 4,
    "evaluation.bootstrap": 10,
}
SLICES = SMOKE.replace(**FAST)
JOINTLY = SLICES.replace(**{"data.mask": True, "vae.mask_weight": 1.0})


def pipeline_of(home: Home, recipe: Recipe) -> Pipeline:
    weights = InceptionWeights(Path(THIN[1]), hashlib.sha256(Path(THIN[1]).read_bytes()).hexdigest())
    dataset = open_dataset(home.datasets, "discs")
    return Pipeline(Store.of(home), dataset, recipe, 0, Execution(device="cpu", threads=1), weights)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Everything of a small configuration that learns masks."""
    home = Home(tmp_path_factory.mktemp("joint") / "runs")
    plant_discs(home, each=24)
    pipeline = pipeline_of(home, JOINTLY)
    pipeline.finish()
    return pipeline


@pytest.mark.slow
def test_every_stage_is_computed_with_masks_and_their_reconstruction_has_a_score(trained: Pipeline) -> None:
    metrics = trained.reconstruction().summary["metrics"]
    assert metrics["recon/mask_dice"] > 0.8
    assert 0 <= metrics["recon/mask_invented"] <= 0.5
    point = trained.evaluation().summary["points"][0]["metrics"]
    assert point["recon/mask_dice"] == metrics["recon/mask_dice"]
    assert {"gen/fid", "gen/kid"} <= point.keys()


@pytest.mark.slow
def test_samples_keep_a_mask_beside_each_image(trained: Pipeline) -> None:
    tensors = load_tensors(trained.samples().file("samples.safetensors"))[0]
    assert tensors["images"].shape == tensors["masks"].shape
    assert set(tensors["masks"].unique().tolist()) <= {0, 255}


@pytest.mark.slow
def test_a_trained_model_draws_slices_and_masks_from_its_folder_as_from_the_store(
    trained: Pipeline, tmp_path: Path
) -> None:
    model = from_store(trained.store, trained.keys, trained.recipe)
    assert model is not None
    images, masks = model.drawn([3, 4])
    assert masks is not None
    assert images.shape == masks.shape == (2, 32, 32)
    write_model(tmp_path, trained.store, trained.keys, Configuration("discs", 0, trained.recipe))
    assert np.array_equal(sample_images(tmp_path, [3, 4]), np.stack([images, masks], axis=1))


@pytest.fixture(scope="module")
def told(trained: Pipeline) -> Pipeline:
    """The same with a denoiser that is told how much of each slice is lesion."""
    recipe = trained.recipe.replace(**{"diffusion.lesion_condition": True, "sampling.guidance": 1.5})
    return dataclasses.replace(trained, recipe=recipe)


@pytest.mark.slow
def test_slices_are_parted_by_the_median_lesion_of_the_training_split(told: Pipeline) -> None:
    latents = told.latents()
    for split in ("train", "validation", "test"):
        masks = told.slices(split).masks
        assert masks is not None
        shares, border = (masks > 0).mean(axis=(1, 2)), latents.summary["lesion_border"]
        expected = np.select([shares == 0, shares <= border], [0, 1], 2)
        assert read_lesions(latents.folder, split).tolist() == expected.tolist()
    sizes = read_lesions(latents.folder, "train").tolist()
    assert [sizes.count(size) for size in (1, 2)] == [10, 9]
    assert told.keys.latents == dataclasses.replace(told, recipe=JOINTLY).keys.latents, "what is told is there anyway"


@pytest.mark.slow
def test_a_denoiser_is_told_lesions_and_draws_the_one_that_is_asked_for(told: Pipeline, tmp_path: Path) -> None:
    tensors = load_tensors(told.samples().file("samples.safetensors"))[0]
    assert set(tensors["lesions"].tolist()) <= {0.0, 1.0, 2.0}
    model = from_store(told.store, told.keys, told.recipe)
    assert model is not None
    small, large = (model.drawn([5], lesion=size).images for size in ("small", "large"))
    assert not np.array_equal(small, large), "the same noise, told otherwise"
    write_model(tmp_path, told.store, told.keys, Configuration("discs", 0, told.recipe))
    assert np.array_equal(read_model(tmp_path).drawn([5], lesion="large").images, large)


@pytest.mark.slow
def test_a_lesion_that_a_model_did_not_learn_is_refused(trained: Pipeline, told: Pipeline) -> None:
    for pipeline, asked, words in (
        (trained, "large", "this model was not told of lesions, so it can't draw by lesion, got large"),
        (told, "huge", "lesion must be one of none, small, large, got 'huge'"),
    ):
        model = from_store(pipeline.store, pipeline.keys, pipeline.recipe)
        assert model is not None
        with pytest.raises(ConfigError, match=words):
            model.drawn([1], lesion=asked)
    assert model.lesions is not None
    alone = dataclasses.replace(model, lesions=model.lesions.clamp(min=1))
    with pytest.raises(ConfigError, match="which is small, large, got none; take one"):
        alone.draw([1], lesion="none")


@pytest.mark.slow
def test_scores_are_of_the_slices_alone(trained: Pipeline) -> None:
    alone = dataclasses.replace(trained, recipe=SLICES)
    assert trained.keys.reference == alone.keys.reference, "real slices are measured once for both"
    assert trained.reference().summary["sha"]


@pytest.mark.slow
def test_copies_and_mirror_images_of_slices_are_encoded_with_their_masks(trained: Pipeline) -> None:
    recipe = JOINTLY.replace(**{"diffusion.augmented_copies": 1, "diffusion.augmentation_probability": 0.5})
    again = dataclasses.replace(trained, recipe=recipe)
    assert {"train mirrored", "train copy 1"} <= again.latents().summary["splits"].keys()


def test_keys_of_recipes_without_masks_are_those_of_before() -> None:
    """``tests/golden`` pins them; here they are the same whatever masks the dataset has."""
    assert keys_of(SLICES, f"slices{JOINT}masks", 0, "weights") == keys_of(SLICES, "slices", 0, "weights")
    joint = keys_of(JOINTLY, f"slices{JOINT}masks", 0, "weights")
    for name in ("vae", "latents", "reconstruction", "denoiser", "samples", "evaluation"):
        assert joint[name] != keys_of(SLICES, "slices", 0, "weights")[name]
    assert "mask" not in SLICES.data.identity()
    assert "mask_weight" not in SLICES.vae.identity()
    assert "mask_label" not in SLICES.replace(**{"data.mask_label": 3}).data.identity(), "nobody reads it"


def test_a_plan_depends_on_masks_only_where_one_of_its_configurations_learns_them(tmp_path: Path) -> None:
    home, search = Home(tmp_path / "runs"), SearchConfig()
    dataset, weights = plant_discs(home), InceptionWeights(Path("not-needed"), "0" * 64)

    def plan(**dimensions: Choice) -> SweepPlan:
        return planned(dataset, "smoke", SLICES, SearchSpace(dimensions), search, 0, weights)

    rates = Choice([1e-3, 1e-4])
    alone, both = plan(**{"diffusion.learning_rate": rates}), plan(**{"data.mask": Choice([False, True])})
    assert alone.fingerprint == dataset.fingerprint
    assert both.fingerprint == dataset.fingerprint_of(masks=True)
    assert both.keys_of(SLICES) == alone.keys_of(SLICES), "what has no masks is shared"
    assert len(both.autoencoders()) == 2
    workers = dataclasses.replace(pipeline_of(home, JOINTLY), weights=weights)
    assert both.keys_of(JOINTLY) == workers.keys, "a worker finds what its driver asks for"


def test_other_masks_of_the_same_slices_have_other_keys(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    before = plant_discs(home)
    plain, joint = before.fingerprint_of(masks=False), before.fingerprint_of(masks=True)
    assert plain == before.fingerprint
    after = plant_discs(home, without=1)
    assert after.fingerprint == plain
    assert after.fingerprint_of(masks=True) != joint
    assert open_dataset(home.datasets, "discs", plain).name == "discs"
    for check in (open_dataset, check_prepared):
        with pytest.raises(ChangedDataError, match="discs whose masks have the fingerprint"):
            check(home.datasets, "discs", joint)
    with pytest.raises(ChangedDataError, match=r"discs whose masks have the fingerprint .* now has no masks"):
        check_fingerprint("discs", plain, joint)


def test_workers_of_another_machine_find_the_masks_of_a_published_dataset(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    dataset, store = plant_discs(home), Store.of(home)
    joint = dataset.fingerprint_of(masks=True)
    publish(store, home.datasets, "discs", joint)
    found = open_published(store, "discs", joint)
    assert np.array_equal(found.load("train", masks=True).masks, dataset.load("train", masks=True).masks)


def test_one_label_is_lesion_or_all_together(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    plant_discs(home)
    together = pipeline_of(home, JOINTLY).slices("train").masks
    first = pipeline_of(home, JOINTLY.replace(**{"data.mask_label": 1})).slices("train").masks
    second = pipeline_of(home, JOINTLY.replace(**{"data.mask_label": 2})).slices("train").masks
    assert together is not None
    assert first is not None
    assert second is not None
    assert np.array_equal(together, first | second)
    assert not (first & second).any()
    assert set(np.unique(together)) == {0, 255}
    with pytest.raises(ConfigError, match="which have 1, 2, got 4; choose one"):
        pipeline_of(home, JOINTLY.replace(**{"data.mask_label": 4})).slices("train")


def test_masks_that_cannot_be_learned_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    check_fit(JOINTLY, plant_discs(home))
    with pytest.raises(DataError, match="3 of the 24 slices of discs have none; prepare it"):
        check_fit(JOINTLY, plant_discs(home, without=3))
    with pytest.raises(DataError, match="all masks of discs are empty"):
        check_fit(JOINTLY, plant_discs(home, empty=True))
    with pytest.raises(DataError, match=r"data\.mask=true needs lesion masks, and tiny has none"):
        check_fit(JOINTLY, plant(home))
    labelled = JOINTLY.replace(**{"data.mask_label": 4})
    with pytest.raises(ConfigError, match="which have 1, 2, got 4; choose one of these, or 0"):
        check_fit(labelled, plant_discs(home))
    check_fit(labelled.replace(**{"data.mask_label": 2}), plant_discs(home))
    check_fit(labelled.replace(**{"data.mask": False}), plant_discs(home))
    check_fit(SLICES, plant_discs(home, without=3))


def test_the_refusal_says_why_a_preparation_left_masks_out(tmp_path: Path) -> None:
    home = Home(tmp_path / "runs")
    dataset = plant_discs(home, without=3)
    path = dataset.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["notes"] = ["masks left out: 1 × a mask of other voxels than its image's"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"have none \(masks left out: 1 × a mask of other voxels than its image's\)"):
        check_fit(JOINTLY, open_dataset(home.datasets, "discs"))


@pytest.mark.slow
def test_slices_of_a_model_that_was_told_of_lesions_are_measured_without_masks(told: Pipeline) -> None:
    recipe = measuring(told.recipe, 64)
    assert (recipe.data.image_size, recipe.data.mask, recipe.evaluation) == (64, False, told.recipe.evaluation)
    assert recipe.data.split == told.recipe.data.split

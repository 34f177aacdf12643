"""The versions of the training slices that a denoiser draws from: encoded once, shared, and each in its place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_dataset import plant

from latentsweep.datasets.slices import Slices
from latentsweep.stages.context import Context
from latentsweep.stages.keys import keys_of
from latentsweep.stages.latents import MIRRORED, Encoded, read_latents, write_latents
from latentsweep.stages.stage import Identity
from latentsweep.stages.table import LATENTS, VAE
from latentsweep.stages.training_latents import read_training
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.autoencoder.training import encode_slices
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.batch import draw_step
from trainables.denoiser.copies import draw_alterations
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.loop.draws import generator
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE
from trainables.resources.memory import predict_memory

SHAPE = (4, 2, 2)
FLIPPED = DiffusionConfig(flip_probability=0.5, whiten=True, position_condition=True)


def part(split: str, count: int, seed: int, version: str = "") -> Encoded:
    random = torch.Generator().manual_seed(seed)
    slices = Slices(np.zeros((count, 8, 8), np.uint8), ["s"] * count, ["v"] * count, np.arange(count, dtype=np.int32))
    mean, log_variance = torch.randn(2, count, *SHAPE, generator=random)
    return Encoded(split, slices, mean * 3 + seed, log_variance - 2, version)


@pytest.fixture
def parts() -> list[Encoded]:
    return [part("train", 20, 1), part("validation", 3, 2), part("test", 4, 3), part("train", 20, 4, MIRRORED)]


def latents_key(**changes: object) -> str:
    recipe = SMOKE.replace(**{f"diffusion.{name}": value for name, value in changes.items()})
    return keys_of(recipe, "dataset", 0, "weights").latents.name


def test_denoisers_that_draw_mirror_images_share_their_latents_and_others_keep_theirs() -> None:
    assert latents_key(flip_probability=0.5) == latents_key(flip_probability=0.1)
    assert latents_key(flip_probability=0.0) != latents_key(flip_probability=0.1)
    plain = SMOKE.replace(**{"diffusion.flip_probability": 0.0})
    assert LATENTS.fields(Identity(plain, "dataset", 0, "weights")) == {}, "as they were before there were versions"


def test_the_versions_follow_the_slices_and_whitening_is_by_all_that_is_drawn(
    tmp_path: Path, parts: list[Encoded]
) -> None:
    summary = json.loads(json.dumps(write_latents(tmp_path, parts)))
    assert summary["rows"] == 27, "slices, each once"
    training = read_training(FLIPPED, tmp_path, summary)
    assert (len(training), training.versions, training.labels) == (20, 2, None)
    assert torch.equal(training.mean, torch.cat([parts[0].mean, parts[3].mean]).half())
    assert training.positions is not None
    assert torch.equal(training.positions[:20], training.positions[20:])
    both = ChannelStatistics.of(training.mean, training.log_variance)
    torch.testing.assert_close(training.statistics.mean, both.mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(training.statistics.deviation, both.deviation, rtol=1e-3, atol=1e-3)
    plain = read_training(FLIPPED.replace(flip_probability=0.0), tmp_path, summary)
    assert torch.equal(plain.mean, read_latents(tmp_path, summary, "train", whiten=True).mean)


def test_a_sample_is_its_slice_or_the_mirror_image_as_the_probability_says() -> None:
    mean = torch.zeros(200, *SHAPE)
    data = Latents(mean, mean, ChannelStatistics.of(mean, mean), versions=2)
    config = FLIPPED.replace(batch_size=100, position_condition=False)
    slices = draw_step(config.replace(flip_probability=0.0), data, 3, 1)
    for probability in (0.0, 0.3, 1.0):
        draws = draw_step(config.replace(flip_probability=probability), data, 3, 1)
        assert torch.equal(draws.indices % 100, slices.indices), "the same slices"
        assert (draws.indices >= 100).float().mean().item() == pytest.approx(probability, abs=0.15)
        assert torch.equal(draws.noise, slices.noise)
        assert torch.equal(draws.indices, draw_step(config.replace(flip_probability=probability), data, 3, 1).indices)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    home = Home(tmp_path / "runs")
    recipe = SMOKE.replace(**{"data.image_size": 16, "vae.widths": (8, 8), "vae.precision": "fp32"})
    weights = InceptionWeights(Path("not-needed"), "0" * 64)
    return Context(Store.of(home), plant(home, side=16), recipe, 0, Execution(device="cpu"), weights)


def test_the_stage_encodes_the_mirrored_slices_and_not_the_mirrored_latents(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Autoencoder(context.recipe.vae).eval()
    images = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8).numpy()
    monkeypatch.setattr("latentsweep.stages.latents.load_vae", lambda *_: model)
    monkeypatch.setattr(Context, "obtain", lambda self, stage: _Trained() if stage is VAE else None)
    monkeypatch.setattr(
        Context,
        "slices",
        lambda self, split, size=0: Slices(images, ["s"] * 3, ["v"] * 3, np.arange(3, dtype=np.int32)),
    )
    summary = LATENTS.run(context, tmp_path)
    training = read_training(context.recipe.diffusion, tmp_path, summary)
    flipped, _ = encode_slices(model, torch.from_numpy(images).flip(2), torch.device("cpu"))
    torch.testing.assert_close(training.mean[3:], flipped.half())
    assert not torch.allclose(training.mean[3:], training.mean[:3].flip(3), atol=1e-2), "it isn't equivariant"


class _Trained:
    name = "vae/made-up"

    def file(self, name: str) -> Path:
        return Path(name)


@pytest.mark.slow
def test_the_versions_count_in_the_memory_that_a_training_takes() -> None:
    once, twice = (
        predict_memory(
            SMOKE.replace(**{"diffusion.flip_probability": p}), "diffusion", Execution(), device="cpu", slices=9
        )
        for p in (0.0, 0.5)
    )
    per_slice = 2 * 2 * SMOKE.vae.latent_channels * SMOKE.latent_size**2
    assert twice.data - once.data == 9 * per_slice


COPIED = {"flip_probability": 0.0, "augmented_copies": 2, "augmentation_probability": 0.2}


def test_copies_are_made_where_they_are_drawn_from_and_belong_to_a_seed() -> None:
    assert latents_key(**COPIED) == latents_key(**COPIED | {"augmentation_probability": 0.4})
    assert latents_key(**COPIED) != latents_key(**COPIED | {"augmented_copies": 3})
    assert latents_key(**COPIED | {"augmentation_probability": 0.0}) == latents_key(flip_probability=0.0)
    recipe = SMOKE.replace(**{f"diffusion.{name}": value for name, value in COPIED.items()})
    assert LATENTS.fields(Identity(recipe, "dataset", 7, "weights")) == {"copies": 2, "seed": 7}


def test_the_stage_encodes_altered_slices_with_their_labels(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Autoencoder(context.recipe.vae).eval()
    images = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    monkeypatch.setattr("latentsweep.stages.latents.load_vae", lambda *_: model)
    monkeypatch.setattr(Context, "obtain", lambda self, stage: _Trained() if stage is VAE else None)
    monkeypatch.setattr(
        Context,
        "slices",
        lambda self, split, size=0: Slices(images.numpy(), ["s"] * 3, ["v"] * 3, np.arange(3, dtype=np.int32)),
    )
    recipe = context.recipe.replace(**{f"diffusion.{name}": value for name, value in COPIED.items()})
    summary = LATENTS.run(dataclasses.replace(context, recipe=recipe), tmp_path)
    assert summary["rows"] == 9
    training = read_training(recipe.diffusion, tmp_path, summary)
    assert training.labels is not None
    assert not training.labels[:3].any()
    for number in (0, 1):
        copy, rows = draw_alterations(3, generator(0, "copy", number)), slice(3 + 3 * number, 6 + 3 * number)
        expected, _ = encode_slices(model, copy.apply(images, 16), torch.device("cpu"))
        torch.testing.assert_close(training.mean[rows], expected.half())
        assert torch.equal(training.labels[rows], copy.labels)
    plain = ChannelStatistics.of(training.mean[:3].float(), training.log_variance[:3].float())
    torch.testing.assert_close(training.statistics.mean, plain.mean, rtol=1e-2, atol=1e-3)


def test_the_slices_of_a_denoiser_that_asks_are_weighed_by_their_neighbours_in_the_volume(tmp_path: Path) -> None:
    count = 12
    slices = Slices(
        np.zeros((count, 8, 8), np.uint8), ["s", "t"] * 6, ["v"] * count, np.arange(count, dtype=np.int32)
    )
    mean = torch.randn(count, *SHAPE, generator=generator(0, "latents"))
    mean[2] = mean[0] + 0.05  # of the same subject
    mean[3] = mean[0] + 0.05  # of another
    summary = write_latents(tmp_path, [Encoded("train", slices, mean, mean * 0 - 9), part("validation", 3, 2)])
    config = FLIPPED.replace(flip_probability=0.0, novelty_weighting=1.0)
    weights = read_training(config, tmp_path, summary).weights
    assert weights is not None
    assert weights.sum().item() == pytest.approx(count)
    assert weights[[0, 2]].max() < 0.5 * weights[3]
    assert read_training(config.replace(novelty_weighting=0.0), tmp_path, summary).weights is None

"""The whole job, from slices to generated slices, at 4× and 8× compression and with few and many latent channels."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_dataset import plant

from latentsweep.stages.latents import posteriors
from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.samples import IMAGES
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

TINY = SMOKE.replace(
    **{
        "vae.max_steps": 2,
        "diffusion.widths": (4, 8),
        "diffusion.embedding_channels": 8,
        "diffusion.attention_levels": (),
        "diffusion.steps": 2,
        "sampling.steps": 2,
        "evaluation.samples": 2,
    }
)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "small"), [(64, 16), (128, 32)])
@pytest.mark.parametrize("channels", [2, 16])
@pytest.mark.parametrize("widths", ["[4, 4, 8]", "[4, 4, 4, 8]"])
def test_slices_are_encoded_denoised_and_decoded(
    tmp_path: Path, side: int, small: int, channels: int, widths: str
) -> None:
    """As in a trial, whose widths are a text."""
    halvings = widths.count(",")
    small = small * 4 // 2**halvings
    changes = {"data.image_size": side, "vae.widths": widths, "vae.latent_channels": channels}
    recipe, home = TINY.replace(**changes), Home(tmp_path)
    weights = InceptionWeights(tmp_path / "none", "not read")
    pipeline = Pipeline(Store.of(home), plant(home, side=side), recipe, 0, Execution(), weights)
    assert recipe.vae.compression == 2**halvings
    mean, log_variance = posteriors(pipeline.latents(), "train")
    assert mean.shape == log_variance.shape == (3, channels, small, small)
    tensors, _ = load_tensors(pipeline.samples().file(IMAGES))
    assert tensors["latents"].shape == (2, channels, small, small)
    assert tensors["images"].shape == (2, side, side)

"""Trainings for the parts: made-up data, and the product's own loops over it for a few steps."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.autoencoder.training import train_vae
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.training import train_denoiser
from trainables.loop.machine import cores
from trainables.loop.records import Record, Report, ignore_report
from trainables.loop.settings import GIB, Execution
from trainables.recipes import RECIPES, Recipe

RECIPE = RECIPES["improved"]
SECTIONS = {"diffusion": "unet", "vae": "autoencoder"}
"""The trainings by their section of a recipe, and what they train."""

Network = TypeVar("Network", bound=nn.Module)

SAMPLES, HELD_OUT = 64, 2
MEMORY_DISK = Path("/dev/shm")


def execution(*, tf32: bool = False, **fields: Any) -> Execution:
    """An execution on the card in which fp32 is fp32, unless ``tf32``."""
    return Execution(**{"threads": threads(), **fields, "tf32": tf32})


def threads() -> int:
    """CPU threads of a part: half the cores, which may be two of one, and no more than eight."""
    return min(8, max(1, cores() // 2))


def in_precision(precision: str, **changes: Any) -> Recipe:
    """The recipe with both trainings in ``precision``, and ``changes`` by their dotted names."""
    return RECIPE.replace(**{"diffusion.precision": precision, "vae.precision": precision, **changes})


def train(
    recipe: Recipe, section: str, steps: int, how: Execution, folder: Path, report: Report = ignore_report
) -> list[Record]:
    """The records of a training of ``steps`` optimiser steps, with one validation, at their end."""
    return _train(recipe, section, steps, 1, how, folder, report)


class EnoughError(Exception):
    """Raised by a report to end a training."""


def stretch(recipe: Recipe, section: str, steps: int, every: int, how: Execution) -> list[Record]:
    """The records of the losses of the first ``steps`` steps of a long training, each ``every`` steps.

    Between them a step is as in a long training: nothing is reported, so that nothing waits for the card.
    """
    total = 200 * every
    records: list[Record] = []

    def end(fresh: Sequence[Record]) -> None:
        records.extend(record for record in fresh if "train/loss" in record)
        raise EnoughError

    with scratch() as folder, contextlib.suppress(EnoughError):
        _train(recipe, section, total, total // steps, how, folder, end)
    return records


def _train(
    recipe: Recipe, section: str, steps: int, validations: int, how: Execution, folder: Path, report: Report
) -> list[Record]:
    if section == "vae":
        vae = recipe.vae.replace(max_steps=steps, epochs=steps, validations=validations)
        images = slices(recipe, SAMPLES)
        return train_vae(vae, images, images[:HELD_OUT], seed=0, folder=folder, execution=how, report=report)[1]
    diffusion = recipe.diffusion.replace(steps=steps, validations=validations)
    training, held_out = latents(recipe, SAMPLES), latents(recipe, HELD_OUT)
    return train_denoiser(diffusion, training, held_out, seed=0, folder=folder, execution=how, report=report)[1]


def losses(records: Sequence[Record]) -> list[float]:
    """The training losses among records, in their order."""
    return [record["train/loss"] for record in records if "train/loss" in record]


def latents(recipe: Recipe, count: int) -> Latents:
    """Made-up posteriors, the same at each call."""
    shape = (count, recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size)
    mean = torch.randn(shape, generator=torch.Generator().manual_seed(1)).half()
    log_variance = torch.full(shape, -3.0).half()
    return Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))


def slices(recipe: Recipe, count: int) -> Tensor:
    """Made-up slices uint8 (count, H, W), smooth, so that there is something to learn; the same at each call."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    side = recipe.data.image_size
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return (smooth.clamp(0, 1) * 255).round().to(torch.uint8).squeeze(1)


def awake(network: Network, seed: int) -> Network:
    """``network`` with small random values wherever its weights begin as zero, so that every branch counts."""
    random = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02, generator=random)
    return network


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for checkpoints, in memory where there is room, for a disk's speed is not what is measured."""
    roomy = MEMORY_DISK.is_dir() and shutil.disk_usage(MEMORY_DISK).free > GIB
    with tempfile.TemporaryDirectory(prefix="gpu-check-", dir=MEMORY_DISK if roomy else None) as folder:
        yield Path(folder)

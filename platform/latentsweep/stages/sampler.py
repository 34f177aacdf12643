"""Draws slices from the model in a folder: as ``sampler.py`` in that folder, with torch, numpy and safetensors alone.

    python sampler.py --count 16 --seed 0 --to images

    import sampler                              # in Python
    images = sampler.open_model().draw(range(16))  # uint8 (16, H, W), 0 is black; with masks (16, 2, H, W)

A seed gives the same slice whatever else is drawn with it. On the CPU its bits are those that latentsweep draws, at
equal versions of torch and as many threads; elsewhere they are equal up to rounding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch

from latentsweep.configuration import CONFIG
from latentsweep.stages.denoiser import draw, load_denoiser
from latentsweep.stages.vae import load_vae
from trainables.autoencoder.training import decode_to_bytes
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.condition import LESIONS
from trainables.denoiser.latents import NO_WHITENING, ChannelStatistics
from trainables.denoiser.samplers import SAMPLERS
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError, DataError, LatentsweepError
from trainables.loop.checkpoint import load_tensors
from trainables.loop.machine import cores
from trainables.recipes import Recipe

SETTINGS = "config.json"
"""What the sampler reads, which is made of the configuration."""
VAE, DENOISER, GUIDE = "vae.safetensors", "denoiser.safetensors", "guide.safetensors"
SCALING = "scaling.safetensors"
NETWORKS = ("unet",)
"""The denoisers that the file holds."""
MASKS = "masks"
"""The folder of the pictures of masks, in that of the slices."""


class Section(SimpleNamespace):
    """A section of a recipe, or all of it, as ``config.json`` says it: fields, and what follows from them."""

    def chosen_plugins(self, field: str) -> dict[str, Any]:
        """The things of other packages that a field names: none, since the file holds what is built in."""
        return {}


@dataclass(frozen=True)
class Model:
    """An autoencoder, a denoiser and its guide, how latents are scaled, and the positions that images draw from."""

    recipe: Recipe
    autoencoder: Autoencoder
    denoiser: UNet
    scaling: ChannelStatistics
    positions: torch.Tensor | None = None
    guide: UNet | None = None
    lesions: torch.Tensor | None = None
    """Beside the positions, where the denoiser is told how much of a slice is lesion."""
    categories: torch.Tensor | None = None
    """(N, K), beside them, where the denoiser is told labels: the number of each label's category."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The names of each label's categories, in the order of the numbers."""

    @classmethod
    def read(cls, folder: Path, recipe: Recipe) -> Self:
        """The weights in a folder; raises :class:`DataError` where one is missing or isn't of this recipe."""
        guided = recipe.sampling.autoguidance != 1
        require(folder, VAE, DENOISER, SCALING, *([GUIDE] if guided else []))
        try:
            autoencoder = load_vae(folder / VAE, recipe)
            denoiser = load_denoiser(folder / DENOISER, recipe)
            guide = load_denoiser(folder / GUIDE, recipe) if guided else None
            tensors, named = load_tensors(folder / SCALING)
            whitening = ChannelStatistics(tensors["mean"], tensors["deviation"])
            positions = tensors["positions"] if recipe.diffusion.position_condition else None
            lesions = tensors["lesions"] if recipe.diffusion.lesion_condition else None
            categories, names = (tensors["categories"], named) if recipe.diffusion.label_condition else (None, {})
        except (RuntimeError, KeyError, MemoryError) as error:
            raise DataError(
                f"the weights in {folder} are not those of its {CONFIG} ({type(error).__name__}); put back the files "
                "that were written together"
            ) from error
        scaling = whitening if recipe.diffusion.whiten else NO_WHITENING
        return cls(recipe, autoencoder, denoiser, scaling, positions, guide, lesions, categories, names)

    def draw(
        self,
        seeds: Sequence[int],
        device: str | torch.device = "cpu",
        lesion: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> np.ndarray:
        """Slices uint8 (N, H, W), one a seed, computed on ``device``; of a model that draws masks (N, 2, H, W).

        There the second channel is the lesion mask, 255 for lesion and 0 elsewhere. With ``lesion``, none, small or
        large, all are told that size, and with ``labels``, such as ``{"grade": "HGG"}``, these categories; else each
        seed is told what a training slice is. Raises :class:`ConfigError` where the denoiser learned no such slices,
        and for a seed below 0 or of 2⁶⁴ and more.
        """
        beyond = [seed for seed in seeds if not 0 <= seed < 2**64]
        if beyond:
            raise ConfigError(f"a seed must be at least 0 and below 2⁶⁴, got {beyond[0]}; take a smaller one")
        chosen = self._chosen(lesion, labels or {})
        positions, lesions, categories = (
            each if each is None else each[chosen] for each in (self.positions, self.lesions, self.categories)
        )
        device = torch.device(device)
        trace = draw(
            self.denoiser,
            self.recipe,
            seeds,
            device,
            guide=self.guide,
            thresholds=(self.recipe.sampling.early_stop_threshold,),
            positions=positions,
            lesions=lesions,
            categories=categories,
        )
        latents = self.scaling.unwhiten(trace.latents[0].cpu())
        images: np.ndarray = decode_to_bytes(self.autoencoder, latents, device).numpy()
        return images

    def _chosen(self, lesion: str, labels: Mapping[str, str]) -> torch.Tensor | slice:
        """Which of the training slices have this lesion and these labels, (N,) bool: images draw from these."""
        chosen: list[torch.Tensor] = []
        if lesion:
            if lesion not in LESIONS:
                raise ConfigError(f"lesion must be one of {', '.join(LESIONS)}, got {lesion!r}; take one of these")
            if self.lesions is None:
                raise ConfigError(
                    f"this model was not told of lesions, so it can't draw by lesion, got {lesion}; leave lesion "
                    "out, or draw from a model of lesion_condition"
                )
            chosen.append(self.lesions == LESIONS.index(lesion))
            if not chosen[0].any():
                learned = ", ".join(size for number, size in enumerate(LESIONS) if (self.lesions == number).any())
                raise ConfigError(
                    f"lesion must be a size that the training slices have, which is {learned}, got {lesion}; take "
                    "one of these"
                )
        for label, category in labels.items():
            names = self.names.get(label)
            if self.categories is None or names is None:
                known = ", ".join(self.names) or "none"
                raise ConfigError(
                    f"label must be one that the model was told ({known}), got {label}; take one of these"
                )
            if category not in names:
                raise ConfigError(f"{label} must be one of {', '.join(names)}, got {category}; take one of these")
            chosen.append(self.categories[:, list(self.names).index(label)] == names.index(category))
        together = torch.stack(chosen).all(dim=0) if chosen else None
        if together is not None and not together.any():
            asked = ", ".join(
                [*([f"lesion {lesion}"] if lesion else []), *(" ".join(each) for each in labels.items())]
            )
            raise ConfigError(f"the training slices must have what is asked for, and none has {asked}; ask for less")
        return slice(None) if together is None else together


def require(folder: Path, *names: str) -> None:
    """Raises :class:`DataError` where a folder lacks one of these files."""
    for name in names:
        if not (folder / name).exists():
            raise DataError(f"{folder} is not a trained model: it has no {name}")


def open_model(folder: Path | None = None) -> Model:
    """The model in ``folder``, by default this file's; raises :class:`DataError` for one that isn't whole."""
    folder = folder or Path(__file__).parent
    return Model.read(folder, read_settings(folder).recipe)


def read_settings(folder: Path) -> Any:
    """What ``config.json`` says, by attributes; raises :class:`DataError` where ``config.yaml`` was edited since."""
    require_settings(folder)
    settings = json.loads((folder / SETTINGS).read_text("utf-8"), object_hook=lambda values: Section(**values))
    for what, named, known in (
        ("sampler", settings.recipe.sampling.sampler, SAMPLERS),
        ("denoiser", settings.recipe.diffusion.denoiser, NETWORKS),
    ):
        if named not in known:
            raise DataError(
                f"{SETTINGS} names the {what} {named}, which comes from another package: draw with latentsweep where "
                "that package is installed"
            )
    path = folder / CONFIG
    if path.exists() and digest_of(path) != settings.made_from:
        raise DataError(
            f"{SETTINGS} says how to draw and must be made from {CONFIG}, which was edited since: put back what it "
            f"was, draw with latentsweep, or take {CONFIG} away to draw as {SETTINGS} says"
        )
    return settings


def require_settings(folder: Path) -> None:
    """Raises :class:`DataError` where a folder has no ``config.json``, or a damaged one."""
    require(folder, SETTINGS)
    try:
        said = json.loads((folder / SETTINGS).read_text("utf-8"))
        lacks = {"recipe", "threads", "tf32", "made_from"} - {*said} or {"sampling", "diffusion"} - {*said["recipe"]}
    except (ValueError, TypeError, KeyError):
        lacks = {"JSON"}
    if lacks:
        raise DataError(f"{SETTINGS} is damaged, it lacks {', '.join(sorted(lacks))}: put back what it was")


def labels_of(texts: Sequence[str]) -> dict[str, str]:
    """The labels of texts such as ``grade=HGG``; raises :class:`ConfigError` for another text."""
    pairs = [text.partition("=") for text in texts]
    for label, sign, category in pairs:
        if not (label and sign and category):
            raise ConfigError(f"--label must be label=category, as grade=HGG, got {label}{sign}{category}; give both")
    labels = {label: category for label, _, category in pairs}
    if len(labels) < len(pairs):
        raise ConfigError(f"--label takes each label once, got {', '.join(texts)}; leave the repeated one out")
    return labels


def usable(device: str) -> bool:
    """Whether this machine computes on a device of that name, with this torch."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return device.partition(":")[0] in ("cpu", "cuda")


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def png(image: np.ndarray) -> bytes:
    """A slice (H, W) uint8 as an 8-bit grey PNG."""
    height, width = image.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0
    rows[:, 1:] = image
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main() -> int:
    """Draws slices into a folder, as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draws slices from the model in this folder: a PNG for each seed.")
    parser.add_argument("--count", type=int, default=16, help="how many slices")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first slice; the next has the next")
    parser.add_argument("--to", type=Path, default=Path("images"), help="folder for the slices")
    parser.add_argument("--lesion", default="", help="none, small or large, of a model that was told of lesions")
    parser.add_argument(
        "--label", action="append", default=[], help="label=category, of a model that was told labels"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    words = parser.parse_args()
    if words.count < 1 or words.seed < 0:
        parser.error("--count must be at least 1 and --seed at least 0")
    if not usable(words.device):
        parser.error(f"--device must be cpu, or cuda where torch finds a card; got {words.device}: leave it out")
    folder = Path(__file__).parent
    try:
        settings = read_settings(folder)
        torch.set_num_threads(min(settings.threads, cores()))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.tf32
        seeds = range(words.seed, words.seed + words.count)
        images = Model.read(folder, settings.recipe).draw(seeds, words.device, words.lesion, labels_of(words.label))
    except LatentsweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parts = {"": images} if images.ndim == 3 else {"": images[:, 0], MASKS: images[:, 1]}
    for part, pictures in parts.items():
        (words.to / part).mkdir(parents=True, exist_ok=True)
        for seed, picture in zip(seeds, pictures, strict=True):
            (words.to / part / f"seed-{seed:06d}.png").write_bytes(png(picture))
    print(f"{len(images)} slices in {words.to}{f', their masks in {words.to / MASKS}' if MASKS in parts else ''}")
    return 0


def run_command() -> int:
    """The same, with what the disk refuses in one line."""
    try:
        return main()
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run_command())

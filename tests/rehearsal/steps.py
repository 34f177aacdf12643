"""What one step of each training, and one evaluation of each sampler, asks of a card; and how much it may ask.

``python -m rehearsal.steps`` over the null card prints a table, the lines of code at which the host waits, and what
is out of bounds; it then ends with 1. ``--precisions fp16 --kernels 30`` says which kernels PyTorch launched most.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from rehearsal import counters
from trainables.autoencoder import training as vae_training
from trainables.denoiser import training as diffusion_training
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.samplers import SAMPLERS
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.unet import UNet
from trainables.loop import progress
from trainables.loop.settings import Execution
from trainables.recipes import IMPROVED, Recipe

RECIPE = IMPROVED.replace(**{"vae.epochs": 10_000, "sampling.threshold_grid": (0.0, 0.05, 0.1)})
"""Long enough that none of the steps looked at reports, with the thresholds of a sweep."""

BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    # launches and waits, at most       in fp16 and bf16      in fp32
    "UNet step": {"half": (1350, 0), "fp32": (1347, 0)},
    "autoencoder step": {"half": (760, 0), "fp32": (731, 0)},
    "ddim evaluation of 64": {"half": (460, 1), "fp32": (460, 1)},
    "ddim evaluation of 200": {"half": (4 * 460, 1), "fp32": (4 * 460, 1)},
    "dpmpp_2m evaluation of 64": {"half": (460, 1), "fp32": (460, 1)},
    "dpmpp_2m evaluation of 200": {"half": (4 * 460, 1), "fp32": (4 * 460, 1)},
}
"""The most that each may launch, and how often the host may wait for the card. A step that takes more is bound by its
launches on the cards that people have. In fp32 a training's step takes what it took in November 2026."""

FIRST, LAST = 3, 8
"""The steps of a training that are looked at, from 1: the optimiser's state is there, and none of them reports."""

SHORT_PASS, LONG_PASS = 4, 14
"""Evaluations of two sampling passes; their difference is what an evaluation takes."""

SLICES = 64
PRECISIONS = ("fp16", "bf16", "fp32")


class EnoughError(Exception):
    """Ends a training after the steps that are looked at."""


@dataclass(frozen=True)
class Asked:
    """What a step, an evaluation or a pass asked of the card."""

    counts: collections.Counter[str]
    kernels: collections.Counter[str]
    lines: collections.Counter[str]
    """The lines of code at which the host waited."""

    def __sub__(self, other: Asked) -> Asked:
        return Asked(*(collections.Counter(mine) for mine in map(difference, self.parts, other.parts)))

    def __mul__(self, number: float) -> Asked:
        return Asked(*(collections.Counter({k: v * number for k, v in part.items()}) for part in self.parts))

    @property
    def parts(self) -> tuple[collections.Counter[str], ...]:
        """All of it."""
        return self.counts, self.kernels, self.lines

    @property
    def casts(self) -> float:
        """Launches that only change a dtype."""
        return counters.casts(self.kernels)

    @property
    def waits(self) -> float:
        """How often the host waited."""
        return sum(self.counts[name] for name in counters.WAITS)


def difference(more: collections.Counter[str], less: collections.Counter[str]) -> dict[str, float]:
    """What is in the one beside the other."""
    return {name: number - less[name] for name, number in more.items() if number - less[name]}


@contextlib.contextmanager
def looked_at() -> Iterator[Callable[[], Asked]]:
    """While this lasts, a function that says what was asked since it was called before."""
    before = counters.total()
    counters.reset_kernels()
    with counters.waiting_lines() as lines:

        def take() -> Asked:
            nonlocal before
            now = counters.total()
            asked = Asked(now - before, counters.kernels(), collections.Counter(lines))
            before = now
            lines.clear()
            counters.reset_kernels()
            return asked

        yield take


def training_step(section: str, precision: str) -> Asked:
    """The step that asks the most among those that are looked at, of the autoencoder (vae) or the denoiser."""
    recipe = RECIPE.replace(**{f"{section}.precision": precision})
    steps = first_steps(recipe, section, Execution(device="cuda:0"), LAST)
    return max(steps[FIRST - 1 :], key=lambda step: (step.waits, step.counts["launches"]))


def first_steps(recipe: Recipe, section: str, execution: Execution, number: int) -> list[Asked]:
    """What each of the first steps of a training asks, from the end of the one before to its own."""
    steps: list[Asked] = []
    with tempfile.TemporaryDirectory() as folder, looked_at() as take:

        def beat() -> None:
            """In place of the loop's sign of life, once a step."""
            steps.append(take())
            if len(steps) == number:
                raise EnoughError

        with mock.patch.object(progress, "beat", beat), contextlib.suppress(EnoughError):
            train(recipe, section, execution, Path(folder))
    if len(steps) < number:
        raise ValueError(f"the training ended after {len(steps)} steps of {number}")
    return steps


def train(recipe: Recipe, section: str, execution: Execution, folder: Path) -> None:
    """Trains the autoencoder or the denoiser on made-up data."""
    if section == "vae":
        side = recipe.data.image_size
        slices = torch.randint(0, 256, (SLICES, side, side), dtype=torch.uint8)
        vae_training.train_vae(recipe.vae, slices, slices[:4], seed=0, folder=folder, execution=execution)
    else:
        mean = torch.randn(SLICES, *latent_shape(recipe)).half()
        log_variance = torch.full_like(mean, -3.0)
        latents = Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))
        held_out = Latents(mean[:4], log_variance[:4], latents.statistics)
        diffusion_training.train_denoiser(
            recipe.diffusion, latents, held_out, seed=0, folder=folder, execution=execution
        )


def latent_shape(recipe: Recipe) -> tuple[int, int, int]:
    """(C, h, w) of the recipe's latents."""
    return recipe.vae.latent_channels, recipe.latent_size, recipe.latent_size


def sampling(sampler: str, count: int, precision: str) -> tuple[Asked, Asked]:
    """One of a pass's evaluations of ``count`` images in the middle of it, and a whole pass of :data:`LONG_PASS`."""
    short, long = (sampling_pass(sampler, count, precision, evaluations) for evaluations in (SHORT_PASS, LONG_PASS))
    return (long - short) * (1 / (LONG_PASS - SHORT_PASS)), long


def sampling_pass(sampler: str, count: int, precision: str, evaluations: int) -> Asked:
    """A pass of so many evaluations, which threshold 0 never ends."""
    recipe = RECIPE.replace(
        **{"sampling.sampler": sampler, "sampling.steps": evaluations, "sampling.precision": precision}
    )
    model = UNet(recipe.vae.latent_channels, recipe.diffusion).eval().requires_grad_(False).to("cuda:0")
    noise = initial_noise(range(count), latent_shape(recipe)).to("cuda:0")
    with looked_at() as take:
        sample(
            model,
            noise,
            seeds=range(count),
            diffusion=recipe.diffusion,
            config=recipe.sampling,
            thresholds=recipe.sampling.thresholds,
        )
        return take()


def asked_in(precision: str) -> Iterator[tuple[str, Asked]]:
    """Everything that is looked at, by its name, in a precision."""
    yield "UNet step", training_step("diffusion", precision)
    yield "autoencoder step", training_step("vae", precision)
    for sampler in SAMPLERS:
        for count in (64, 200):
            each, whole = sampling(sampler, count, precision)
            yield f"{sampler} evaluation of {count}", each
            yield f"{sampler}, {LONG_PASS} of these", whole


COLUMNS = ("launches", "bound", "casts", "waits", "bound", "to card", "from it", "pageable")
HEAD = f"{'':<32}" + "".join(f"{column:>9}" for column in COLUMNS)


def row(name: str, precision: str, asked: Asked) -> str:
    """A line of the table."""
    launches, waits = bounds(name, precision) or ("", "")
    counts = asked.counts
    values = (counts["launches"], launches, asked.casts, asked.waits, waits)
    copies = (counts[name] for name in ("to_card", "from_card", "pageable"))
    return f"{f'{name}, {precision}':<32}" + "".join(f"{value:>9.5}" for value in map(plain, (*values, *copies)))


def plain(value: float | str) -> str:
    """A number without needless digits."""
    return value if isinstance(value, str) else f"{round(value, 1):g}"


def bounds(name: str, precision: str) -> tuple[float, float] | None:
    """Launches and waits, at most; None where nothing is bound."""
    return BOUNDS[name]["fp32" if precision == "fp32" else "half"] if name in BOUNDS else None


def out_of_bounds(name: str, precision: str, asked: Asked) -> Iterator[str]:
    """A line for each bound that doesn't hold."""
    found = (asked.counts["launches"], asked.waits)
    for what, number, bound in zip(("launches", "waits"), found, bounds(name, precision) or (), strict=False):
        if round(number, 6) > bound:
            yield f"{name}, {precision}: {what} at most {plain(bound)}, got {plain(number)}"


def waits(found: Mapping[tuple[str, str], Asked]) -> Iterator[str]:
    """The lines of code at which the host waits, and how often, below what they belong to."""
    where: dict[tuple[tuple[str, float], ...], dict[str, list[str]]] = {}
    for (name, precision), asked in found.items():
        if name in BOUNDS and asked.lines:
            lines = tuple(sorted(asked.lines.items(), key=lambda pair: (-pair[1], pair[0])))
            where.setdefault(lines, {}).setdefault(name, []).append(precision)
    for lines, names in where.items():
        yield "  " + "; ".join(f"{name}, {' and '.join(precisions)}" for name, precisions in names.items())
        yield from (f"    {times:6.3g}  {line}" for line, times in lines)
    if not where:
        yield "  no line"


def main() -> int:
    """Prints what was found; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--kernels", type=int, default=0, help="so many of the kernels launched most, for each line")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(HEAD, flush=True)
    found = {}
    for precision in options.precisions.split(","):
        for name, asked in asked_in(precision):
            found[name, precision] = asked
            print(row(name, precision, asked), flush=True)
    print("\nA real cuDNN may launch several kernels for a convolution. The host waits at", *waits(found), sep="\n")
    for (name, precision), asked in found.items() if options.kernels else ():
        print(f"\n{name}, {precision}:")
        for kernel, launches in asked.kernels.most_common(options.kernels):
            print(f"  {launches:6.3g}  {kernel[:200]}")
    broken = [line for (name, precision), asked in found.items() for line in out_of_bounds(name, precision, asked)]
    print("\nOut of bounds:" if broken else "\nAll within bounds.", *broken, sep="\n  ")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())

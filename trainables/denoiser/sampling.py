"""Sampling: from noise to latents, for all early-stop thresholds in one pass.

Symbols: z_t the noisy latents (B, C, h, w), x̂₀ and ε̂ the denoiser's estimates, ᾱ_t the schedule; K thresholds; an
*evaluation* is one call of the denoiser for a sample, and their number its NFE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trainables.config import named_by
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.guidance import guided, guides_at
from trainables.denoiser.process import to_x0_and_noise
from trainables.denoiser.samplers import SAMPLERS, Step
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.stopping import STOP_MEASURES, Stops, norms
from trainables.errors import ConfigError
from trainables.loop.execution import computing_dtype, in_chunks, send
from trainables.loop.precision import convert

Denoise = Callable[..., Tensor]
"""A denoiser: z_t (B, C, h, w) and timesteps (B,) int64 in 0 … T − 1 → the model's output, of the shape of z_t.

Where the samples have positions, lesions or labels, or diffusion.self_conditioning asks for estimates, it takes them
as the keyword ``condition``.
"""

CHUNK_ON_CPU, CHUNK_ON_ACCELERATOR = 32, 64
"""The most latents in a call of the denoiser; on the CPU, more gain nothing (see :func:`in_chunks`)."""


def even_chunk(count: int, device: torch.device) -> int:
    """Latents in each of the equal calls of the denoiser for ``count`` latents: with them hardly any is padding."""
    largest = CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_ACCELERATOR
    return math.ceil(count / math.ceil(count / largest))


def usual_chunk(count: int, device: torch.device) -> int:
    """Latents in a call of the denoiser for a pass over ``count``.

    On the CPU the size is fixed, so a seed's image has the same bits in every batch. On a card all calls have one
    size, and the bits depend on ``count``.
    """
    return CHUNK_ON_CPU if device.type == "cpu" else even_chunk(count, device)


@dataclass(frozen=True)
class SamplingTrace:
    """The results of one pass of :func:`sample`."""

    thresholds: tuple[float, ...]
    """The K thresholds."""
    latents: Tensor
    """(K, B, C, h, w) float32: the result of each sample under each threshold."""
    steps_used: Tensor
    """(K, B) int64 on the CPU: the evaluations that the result took."""
    measures: Tensor
    """(B, steps) float32 on the CPU: the stop measure after each evaluation; NaN where it is undefined or the sample
    had stopped before under every threshold."""
    snapshots: list[tuple[int, Tensor, Tensor]]
    """(t, z_t, x̂₀) of the first sample at the evaluations asked for, each latent (1, C, h, w)."""
    positions: Tensor | None = None
    """(B,), the positions that the denoiser got; None where it got none."""
    lesions: Tensor | None = None
    """(B,), the same of the lesions."""
    categories: Tensor | None = None
    """(B, K), the same of the labels."""

    def remaining(self) -> Tensor:
        """How far each result is from where its sampler ends, ‖x̂₀ − end‖/‖end‖, (K, B) on the CPU; 0 at the end.

        Raises ``ValueError`` where no threshold is 0, so that the ends aren't known.
        """
        end = self.latents[self.thresholds.index(0.0)]
        return torch.stack([norms(latents - end) / norms(end) for latents in self.latents]).cpu()


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Standard normal noise (B, C, h, w), by a CPU generator for each image seed."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def sampling_timesteps(timesteps: int, steps: int) -> list[int]:
    """The timesteps evaluated, from T − 1 down at equal distances (Lin et al. 2024, 'trailing').

    Raises :class:`ConfigError` where there are more steps than timesteps.
    """
    if steps > timesteps:
        raise ConfigError(
            f"sampling.steps must be at most diffusion.timesteps ({timesteps}), got {steps}; lower sampling.steps"
        )
    return [round(timesteps - index * timesteps / steps) - 1 for index in range(steps)]


@torch.no_grad()
def sample(
    denoise: Denoise,
    noise: Tensor,
    *,
    guide: Denoise | None = None,
    seeds: Sequence[int],
    diffusion: DiffusionConfig,
    config: SamplingConfig,
    thresholds: Sequence[float] | None = None,
    snapshots: Sequence[int] = (),
    positions: Tensor | None = None,
    lesions: Tensor | None = None,
    categories: Tensor | None = None,
    chunk: int | None = None,
) -> SamplingTrace:
    """Latents from ``noise`` (B, C, h, w) float32, one pass for all ``thresholds``.

    A sample stops under a threshold at the first evaluation of SNR above 1 whose measure (``config.early_stop_rule``)
    is below it, and its result is that evaluation's x̂₀; one that never stops has the last x̂₀, so threshold 0 is the
    sampler without stopping. ``thresholds`` default to the configuration's. A sample that has stopped under all of
    them takes no more evaluations. ``seeds`` give each image its own noise where η > 0, continuing the stream of
    :func:`initial_noise`. ``snapshots`` are the evaluations, from 0, to keep. ``positions`` and ``lesions`` (B,)
    and ``categories`` (B, K) are for a denoiser that is conditioned on them, with ``config.guidance``; ``guide`` is
    the inferior denoiser of ``config.autoguidance``. A call of the denoiser takes ``chunk`` latents, by default
    :func:`usual_chunk`. A network computes in ``config.precision``; any other denoiser as it is. Raises
    :class:`ConfigError` where ``config.steps`` exceeds ``diffusion.timesteps``.
    """
    if len(seeds) != len(noise):
        raise ValueError(f"sample needs a seed for each of the {len(noise)} latents, got {len(seeds)}")
    if config.autoguidance != 1 and guide is None:
        raise ValueError(f"sample needs a guide for autoguidance {config.autoguidance:g}, got none")
    thresholds = (config.early_stop_threshold,) if thresholds is None else tuple(thresholds)
    sampler = named_by(config, "sampler", SAMPLERS)
    measure_stop = STOP_MEASURES[config.early_stop_rule]
    schedule = alphas_cumprod(diffusion)
    timesteps = sampling_timesteps(diffusion.timesteps, config.steps)
    alpha_bars: list[float] = schedule[timesteps].tolist()
    batch, shape, device = len(noise), noise.shape[1:], noise.device
    chunk = chunk or usual_chunk(batch, device)
    dtype = computing_dtype(config.precision, device)
    denoise, guide = _converted(denoise, dtype), _converted(guide, dtype) if guide else None
    of_slices = {"position": positions, "lesion": lesions, "categories": categories}
    known = {part: send(values, device) for part, values in of_slices.items() if values is not None}
    weight = config.guidance if known else 1.0
    parts = [*known, *(["estimate"] if diffusion.self_conditioning else [])]
    alone = guided(denoise, parts)
    together = guided(denoise, parts, guide, weight=weight, autoguidance=config.autoguidance)
    told = list(known.values())
    alpha_bar_t = send(schedule[timesteps], device)

    stops = Stops(thresholds, noise, alpha_bars)
    kept: list[tuple[int, Tensor, Tensor]] = []
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for generator in generators:
        torch.randn(shape, generator=generator)  # what :func:`initial_noise` has drawn
    z_t = noise.float()
    previous: tuple[float, Tensor] | None = None
    for evaluation, t in enumerate(timesteps):
        before = [previous[1] if previous else torch.zeros_like(z_t)] if diffusion.self_conditioning else []
        now = alpha_bars[evaluation]
        evaluate = together if guides_at(now, config.guidance_low, config.guidance_high) else alone
        output = in_chunks(evaluate, chunk, z_t, torch.full((len(z_t),), t, device=device), *told, *before)
        x0, noise_hat = to_x0_and_noise(output, z_t, alpha_bar_t[evaluation : evaluation + 1], diffusion.prediction)
        if evaluation in snapshots and stops.active[0] == 0:
            kept.append((t, z_t[:1].clone(), x0[:1].clone()))

        stay = stops.note(evaluation, x0, measure_stop(x0, noise_hat, now, previous))
        if not stay.any():
            break
        if not stay.all():
            rows = send(stay.nonzero().flatten(), device)
            z_t, x0, noise_hat, *told = (each.index_select(0, rows) for each in (z_t, x0, noise_hat, *told))
            if previous is not None:
                previous = (previous[0], previous[1].index_select(0, rows))
        draw = partial(_draw, [generators[index] for index in stops.active.tolist()], z_t)
        z_t = sampler(Step(z_t, x0, noise_hat, now, alpha_bars[evaluation + 1], previous, config.eta, draw))
        previous = (now, x0)
    results = stops.latents, stops.steps_used, stops.measures
    return SamplingTrace(thresholds, *results, kept, positions, lesions, categories)


def _converted(denoise: Denoise, dtype: torch.dtype) -> Denoise:
    return convert(denoise, dtype) if isinstance(denoise, nn.Module) else denoise


def _draw(generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    noise = torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators])
    return send(noise, like.device).to(like)

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

from trainables.config import Config, setting
from trainables.denoiser.condition import guide
from trainables.denoiser.diffusion import DiffusionConfig, to_x0_and_noise
from trainables.denoiser.schedules import alphas_cumprod
from trainables.errors import ConfigError
from trainables.loop.cards import AUTO
from trainables.loop.execution import computing_dtype, in_chunks, send
from trainables.loop.precision import convert


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a trained denoiser is sampled; the defaults are the paper's."""

    sampler: str = setting("ddim", "the sampler", choices=("ddim", "dpmpp_2m"))
    steps: int = setting(50, "denoiser evaluations (NFE) when nothing stops early", low=1, high=1000)
    eta: float = setting(0.0, "η of DDIM: 0 is deterministic, 1 is ancestral", low=0, high=1)
    early_stop_rule: str = setting(
        "noise_norm",
        "what must fall below the threshold: 'noise_norm' is ‖ε̂‖/√d, the root mean square over the d = C·h·w values "
        "of a latent (the paper's ‖ε̂‖ so read; the plain norm is √d times as large, 45 for 8×16×16), 'x0_change' is "
        "the relative change of x̂₀ between steps",
        choices=("noise_norm", "x0_change"),
    )
    early_stop_threshold: float = setting(0.05, "a sample stops below it and returns x̂₀; 0 never stops", low=0)
    threshold_grid: tuple[float, ...] = setting(
        (), "further thresholds whose results the same sampling pass gives; a sweep fills in what it searches", low=0
    )
    precision: str = setting(
        "auto",
        f"of the denoiser's evaluations; {AUTO}; the sampler's own arithmetic and the decoding stay in fp32 "
        "(see execution.tf32)",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    guidance: float = setting(
        1.0,
        "weight w of classifier-free guidance on the position: null + w·(cond − null) (Ho & Salimans 2022, whose w "
        "is one less); 1 is the conditional denoiser alone; any other calls the network twice in each evaluation, "
        "which takes twice the time and counts as one of sampling.steps",
        later=True,
        low=0,
    )
    ema_length: float = setting(
        0.0,
        "which average of the weights samples: one of diffusion.ema_lengths, or 0, the training's own (ema_decay)",
        low=0,
        later=True,
    )
    after_steps: int = setting(
        0,
        "draws by the weights after so many steps of the training, where it kept them: those of the last rung before "
        "one that copied training slices; 0 draws by those of its end",
        low=0,
        later=True,
    )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Every threshold that a pass measures, ascending: the grid and the configuration's own."""
        return tuple(sorted({*self.threshold_grid, self.early_stop_threshold}))


Denoise = Callable[..., Tensor]
"""A denoiser: z_t (B, C, h, w) and timesteps (B,) int64 in 0 … T − 1 → the model's output, of the shape of z_t.

Where the samples have positions, it takes them as the keyword ``condition``.
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


@dataclass(frozen=True)
class Step:
    """What a sampler knows after an evaluation."""

    z_t: Tensor
    x0: Tensor
    noise: Tensor
    alpha_bar: float
    """ᾱ_t; below, that of the next evaluation, which is larger."""
    next_alpha_bar: float
    previous: tuple[float, Tensor] | None
    """ᾱ and x̂₀ of the previous evaluation."""
    eta: float
    draw: Callable[[], Tensor]
    """Fresh standard normal noise of the shape of ``z_t``, from each image's own generator."""


def ddim(step: Step) -> Tensor:
    """The next z of DDIM (Song et al. 2021, eq. 12 and 16); η = 1 is ancestral."""
    now, then = step.alpha_bar, step.next_alpha_bar
    sigma = step.eta * math.sqrt((1 - then) / (1 - now) * (1 - now / then))
    # Rounding can leave the difference below 0 for η = 1.
    direction = math.sqrt(max(0.0, 1 - then - sigma**2))
    z = math.sqrt(then) * step.x0 + direction * step.noise
    return z + sigma * step.draw() if sigma > 0 else z


def dpmpp_2m(step: Step) -> Tensor:
    """The next z of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), whose first step is of order 1; no η.

    From ᾱ = 0, where λ = −∞, the formula has limits: h = ∞ in the first step, which is then DDIM's, and a ratio of ∞
    in the second, which is then of order 1, too.
    """
    now, then = step.alpha_bar, step.next_alpha_bar
    h = _half_log_snr(then) - _half_log_snr(now)
    data = step.x0
    if step.previous is not None:
        before, x0_before = step.previous
        ratio = (_half_log_snr(now) - _half_log_snr(before)) / h
        data = data + (step.x0 - x0_before) / (2 * ratio)
    return math.sqrt((1 - then) / (1 - now)) * step.z_t - math.sqrt(then) * math.expm1(-h) * data


SAMPLERS: dict[str, Callable[[Step], Tensor]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m}
"""Samplers by name, each from the state after an evaluation to the z of the next one."""


def noise_norm(x0: Tensor, noise: Tensor, previous: tuple[float, Tensor] | None) -> Tensor:
    """‖ε̂‖/√d of each sample, (B,), d = C·h·w: the paper's ‖ε̂‖ for one value of a latent, near 1 by construction."""
    return _norms(noise) / math.sqrt(noise[0].numel())


def x0_change(x0: Tensor, noise: Tensor, previous: tuple[float, Tensor] | None) -> Tensor:
    """‖x̂₀ − x̂₀ before‖/‖x̂₀ before‖ of each sample, (B,); NaN at the first evaluation."""
    if previous is None:
        return torch.full((len(x0),), math.nan, device=x0.device)
    return _norms(x0 - previous[1]) / _norms(previous[1])


STOP_MEASURES = {"noise_norm": noise_norm, "x0_change": x0_change}
"""What ``early_stop_rule`` compares with the threshold: (x̂₀, ε̂, ᾱ and x̂₀ before) → (B,)."""


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
    seeds: Sequence[int],
    diffusion: DiffusionConfig,
    config: SamplingConfig,
    thresholds: Sequence[float] | None = None,
    snapshots: Sequence[int] = (),
    positions: Tensor | None = None,
    chunk: int | None = None,
) -> SamplingTrace:
    """Latents from ``noise`` (B, C, h, w) float32, one pass for all ``thresholds``.

    A sample stops under a threshold at the first evaluation whose measure (``config.early_stop_rule``) is below it,
    and its result is that evaluation's x̂₀; one that never stops has the last x̂₀, so threshold 0 is the sampler
    without stopping. ``thresholds`` default to the configuration's. A sample that has stopped under all of them takes
    no more evaluations. ``seeds`` give each image its own noise where η > 0, continuing the stream of
    :func:`initial_noise`. ``snapshots`` are the evaluations, from 0, to keep. ``positions`` (B,) are for a denoiser
    that is conditioned on them, with ``config.guidance``. A call of the denoiser takes ``chunk`` latents, by default
    :func:`usual_chunk`. A network computes in ``config.precision``; any other denoiser as it is. Raises
    :class:`ConfigError` where ``config.steps`` exceeds ``diffusion.timesteps``.
    """
    if len(seeds) != len(noise):
        raise ValueError(f"sample needs a seed for each of the {len(noise)} latents, got {len(seeds)}")
    thresholds = (config.early_stop_threshold,) if thresholds is None else tuple(thresholds)
    sampler, measure_stop = SAMPLERS[config.sampler], STOP_MEASURES[config.early_stop_rule]
    schedule = alphas_cumprod(diffusion)
    timesteps = sampling_timesteps(diffusion.timesteps, config.steps)
    alpha_bars: list[float] = schedule[timesteps].tolist()
    batch, shape, device = len(noise), noise.shape[1:], noise.device
    chunk = chunk or usual_chunk(batch, device)
    if isinstance(denoise, nn.Module):
        denoise = convert(denoise, computing_dtype(config.precision, device))
    evaluate = denoise if positions is None else guide(denoise, config.guidance)
    told = [] if positions is None else [send(positions, device)]
    alpha_bar_t = send(schedule[timesteps], device)

    limits = torch.tensor(thresholds, dtype=torch.float32)[:, None]
    latents = noise.new_empty((len(thresholds), *noise.shape), dtype=torch.float32)
    steps_used = torch.full((len(thresholds), batch), config.steps)
    measures = torch.full((batch, config.steps), math.nan)
    kept: list[tuple[int, Tensor, Tensor]] = []

    running = torch.ones((len(thresholds), batch), dtype=torch.bool)
    active = torch.arange(batch)  # the samples that z_t, x0 and previous hold
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for generator in generators:
        torch.randn(shape, generator=generator)  # what :func:`initial_noise` has drawn
    z_t = noise.float()
    previous: tuple[float, Tensor] | None = None
    for evaluation, t in enumerate(timesteps):
        output = in_chunks(evaluate, chunk, z_t, torch.full((len(active),), t, device=device), *told).float()
        x0, noise_hat = to_x0_and_noise(output, z_t, alpha_bar_t[evaluation : evaluation + 1], diffusion.prediction)
        if evaluation in snapshots and active[0] == 0:
            kept.append((t, z_t[:1].clone(), x0[:1].clone()))

        measure = measure_stop(x0, noise_hat, previous).cpu()
        measures[active, evaluation] = measure
        ends = running[:, active]
        if evaluation < config.steps - 1:
            ends = ends & (measure < limits)
        for threshold in ends.any(dim=1).nonzero().flatten().tolist():
            rows = ends[threshold].nonzero().flatten()
            steps_used[threshold, active[rows]] = evaluation + 1
            where, rows = send((active[rows], rows), device)
            latents[threshold].index_copy_(0, where, x0.index_select(0, rows))
        running[:, active] &= ~ends

        stay = running[:, active].any(dim=0)
        if not stay.any():
            break
        if not stay.all():
            active, rows = active[stay], send(stay.nonzero().flatten(), device)
            z_t, x0, noise_hat, *told = (each.index_select(0, rows) for each in (z_t, x0, noise_hat, *told))
            if previous is not None:
                previous = (previous[0], previous[1].index_select(0, rows))
        now, then = alpha_bars[evaluation : evaluation + 2]
        draw = partial(_draw, [generators[index] for index in active.tolist()], z_t)
        z_t = sampler(Step(z_t, x0, noise_hat, now, then, previous, config.eta, draw))
        previous = (now, x0)
    return SamplingTrace(thresholds, latents, steps_used, measures, kept, positions)


def _draw(generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    noise = torch.stack([torch.randn(like.shape[1:], generator=generator) for generator in generators])
    return send(noise, like.device).to(like)


def _half_log_snr(alpha_bar: float) -> float:
    """λ = log(√ᾱ/√(1 − ᾱ)); −∞ where ᾱ is 0."""
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar)) if alpha_bar else -math.inf


def _norms(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms

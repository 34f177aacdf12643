"""Lints of a recipe, before anything was trained. Legend: latents (B, C, h, w); ᾱ_t as in schedules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from latentsweep.lints.finding import Finding, finding
from latentsweep.lints.frequency import biased, inert

if TYPE_CHECKING:
    from trainables.recipes import Recipe

FEWEST_SAMPLES = 200
"""Generated images behind a FID. Between two draws of one distribution FID was 45 at 25 images, 33 at 50, 23 at 100
and 16 at 200: with fewer than the paper's 200, what is measured is largely their number."""
INITIAL_SHARE = 0.01
"""The largest share of the initial weights that an average may still hold at the end."""
SHORTEST_HORIZON, SHORTEST_SHARE = 10.0, 1e-3
"""The least steps, and the least share of a training's steps, that an average should span."""
AT_ONCE = 1.05
"""No ideal denoiser's ‖ε̂‖/√d is larger than 1 on average; this leaves room for a sample's own deviation."""
PROBE_LATENTS = 512


def configuration_lints(recipe: Recipe) -> list[Finding]:
    """What in ``recipe`` would mislead: frequency-inert and -biased, ema-length, cutmix-target and -leaks,
    threshold-never and -early, few-samples. Takes some hundredths of a second."""
    checks = (inert, biased, _average, _cutmix, _collages, _threshold, _samples)
    return [found for check in checks if (found := check(recipe))]


def initial_share(steps: int, decay: float, warmup: bool) -> float:
    """The share of the initial weights in the average after ``steps`` of ``denoiser.averages.update_ema``."""
    return float(np.prod(_decays(steps, decay, warmup)))


def smallest_noise_norm(recipe: Recipe) -> tuple[float, int]:
    """The least ‖ε̂‖/√d, in the mean, at any evaluation that can stop a sample, and that evaluation (from 1).

    E‖ε̂‖²/d of the best denoiser, ε̂ = E[ε | z_t], is 1 minus its error, which for a given spread is largest for
    white Gaussian latents, where ε̂ = √(1 − ᾱ_t)·z_t at unit spread. So √(1 − ᾱ_t) bounds every latent of that
    spread. Infinite where no evaluation can stop a sample.
    """
    norms = {evaluation: math.sqrt(1 - alpha_bar) for evaluation, alpha_bar in _stoppable(recipe).items()}
    evaluation = min(norms, key=lambda each: norms[each], default=0)
    return norms.get(evaluation, math.inf), evaluation


def cutmix_error(recipe: Recipe) -> tuple[float, float]:
    """What CutMix does to the targets of a seeded batch of white latents: the share of cells that are another's,
    and the mean squared error, over all cells, between the target and what those cells truly hold."""
    import torch

    from trainables.denoiser.augmentation import cutmix, draw_rectangles
    from trainables.denoiser.process import target
    from trainables.denoiser.schedules import alphas_cumprod
    from trainables.loop.draws import generator

    config, side = recipe.diffusion, recipe.latent_size
    random = generator(0, "lint", "cutmix")
    shape = (PROBE_LATENTS, 1, side, side)
    z0, noise = torch.randn(shape, generator=random), torch.randn(shape, generator=random)
    t = torch.randint(config.timesteps, (PROBE_LATENTS,), generator=random)
    mask, partners = draw_rectangles(PROBE_LATENTS, (side, side), config.cutmix_probability, random)
    given = target(z0, noise, alphas_cumprod(config).float()[t], config.prediction)
    true = cutmix(given, partners, mask)
    return float(mask.float().mean()), float((given - true).square().mean())


def _decays(steps: int, decay: float, warmup: bool) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    n = np.arange(steps, dtype=np.float64)
    return np.minimum(decay, (1 + n) / (10 + n)) if warmup else np.full(steps, decay)


def _average(recipe: Recipe) -> Finding | None:
    if recipe.sampling.ema_length:  # a share of the training, whatever its length
        return None
    config = recipe.diffusion
    left = initial_share(config.steps, config.ema_decay, config.ema_warmup)
    if left > INITIAL_SHARE:
        return finding(
            "ema-length",
            f"{left:.1%} of the averaged weights are still the initial ones after {config.steps} steps at decay "
            f"{config.ema_decay:g}",
        )
    last = float(_decays(config.steps, config.ema_decay, config.ema_warmup)[-1])
    horizon = 1 / (1 - last) if last < 1 else math.inf
    # A run too short for the least horizon is not to blame for a warm-up that spans a tenth of it.
    if horizon < max(SHORTEST_SHARE * config.steps, min(SHORTEST_HORIZON, config.steps / 10)) * (1 - 1e-9):
        return finding(
            "ema-length",
            f"the average spans the last {horizon:.3g} of {config.steps} steps (decay {last:g}), so it averages "
            "next to nothing",
            "note",
        )
    return None


def _cutmix(recipe: Recipe) -> Finding | None:
    config = recipe.diffusion
    if config.cutmix_form != "zt" or not config.cutmix_probability:
        return None
    share, error = cutmix_error(recipe)
    return finding(
        "cutmix-target",
        f"in {PROBE_LATENTS} random latents {share:.1%} of the cells come from another latent, with another ε and t, "
        f"while the target stays: a mean squared error of {error:.3g} that no denoiser can learn away (a target's "
        "own mean square is 1)",
    )


def _collages(recipe: Recipe) -> Finding | None:
    """Of clean latents: what noisy ones of different t do is said by :func:`_cutmix`."""
    config = recipe.diffusion
    if config.cutmix_form != "z0" or not config.cutmix_probability or config.cutmix_labelled:
        return None
    from trainables.denoiser.augmentation import draw_rectangles
    from trainables.loop.draws import generator

    side = recipe.latent_size
    random = generator(0, "lint", "cutmix")
    mask, _ = draw_rectangles(PROBE_LATENTS, (side, side), config.cutmix_probability, random)
    return finding(
        "cutmix-leaks",
        f"{mask.flatten(1).any(dim=1).float().mean():.1%} of {PROBE_LATENTS} random latents get another's rectangle, "
        f"{mask.float().mean():.1%} of all cells, and the denoiser isn't told; real slices of which 25 % were "
        "collages had the KID of real slices",
    )


def _stoppable(recipe: Recipe) -> dict[int, float]:
    """ᾱ by the evaluations (from 1) at which the early stop may end a sample and its measure is defined."""
    from trainables.denoiser.sampling import sampling_timesteps
    from trainables.denoiser.schedules import alphas_cumprod
    from trainables.denoiser.stopping import stoppable

    timesteps = sampling_timesteps(recipe.diffusion.timesteps, recipe.sampling.steps)
    alpha_bars = alphas_cumprod(recipe.diffusion)[timesteps].tolist()
    first = 1 if recipe.sampling.early_stop_rule == "noise_norm" else 2
    may = enumerate(zip(alpha_bars, stoppable(alpha_bars), strict=True), start=1)
    return {number: alpha_bar for number, (alpha_bar, there) in may if there and number >= first}


def _threshold(recipe: Recipe) -> Finding | None:
    config = recipe.sampling
    if not config.early_stop_threshold:
        return None
    evaluations = _stoppable(recipe)
    if not evaluations:
        return finding(
            "threshold-never",
            f"with sampling.steps={config.steps} {config.early_stop_rule} has nothing to cut short: a sample stops "
            "where there is more signal than noise, and before the last evaluation",
        )
    if config.early_stop_rule != "noise_norm":
        return None
    smallest, evaluation = smallest_noise_norm(recipe)
    threshold = config.early_stop_threshold
    if threshold < smallest:
        return finding(
            "threshold-never",
            f"‖ε̂‖/√d is near 1 by construction and at least {smallest:.3g} at evaluation {evaluation} of "
            f"{config.steps}, the last that could stop, for any latents of unit spread; the threshold is "
            f"{threshold:g}",
        )
    if threshold > AT_ONCE:
        return finding(
            "threshold-early",
            f"‖ε̂‖/√d is at most 1 on average, so that a threshold of {threshold:g} stops at evaluation "
            f"{min(evaluations)} of {config.steps}, the first that has more signal than noise",
        )
    return None


def _samples(recipe: Recipe) -> Finding | None:
    count = recipe.evaluation.samples
    if count >= FEWEST_SAMPLES:
        return None
    return finding(
        "few-samples",
        f"evaluation.samples is {count}, fewer than {FEWEST_SAMPLES}; two draws of one distribution were 45 FID "
        "apart at 25 images, 33 at 50, 23 at 100 and 16 at 200",
        "note",
    )

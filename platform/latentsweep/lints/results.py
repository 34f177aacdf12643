"""Lints of a finished run: its latents, its losses and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latentsweep.lints.configuration import FEWEST_SAMPLES
from latentsweep.lints.finding import Finding, finding
from latentsweep.metrics import (
    FID,
    KID,
    MEMORISATION,
    METRICS,
    NEAR_COPIES,
    REFERENCE_SAMPLES,
    SAMPLES,
    STEPS,
    STOPPED,
    UNFINISHED,
)

if TYPE_CHECKING:
    from trainables.recipes import Recipe

Floats = npt.NDArray[np.float64]
Record = Mapping[str, float]

UNIT_SPREAD, ZERO_MEAN = (0.8, 1.25), 0.25
"""Channel deviations and means that still pass for the schedule's unit normal latents."""
UNFINISHED_SHARE = 0.05
"""The largest share of samples that an early stop may leave unfinished: one grey image in twenty moves a score."""
FEWEST_REFERENCES = 100
"""Real slices behind a FID: below it the floor passes 23 (see ``FEWEST_SAMPLES``)."""
OVERFIT = 0.10
"""How far the last two validations must be above the best one. The validation is of the same images, timesteps and
noise each time, so that it moves with the weights alone."""
COPIED_SHARE, CHANCE = 0.05, 0.01
"""The share of near copies, and how probable it may be where nothing is copied, where no bound is recorded."""
VAE_SHARE, VAE_ERRORS = 0.5, 2.0
"""The autoencoder's share of a score's distance to its floor, and by how many standard errors it must exceed it."""


def result_lints(
    recipe: Recipe,
    *,
    latents: Mapping[str, Any],
    vae_records: Sequence[Record],
    denoiser_records: Sequence[Record],
    metrics: Mapping[str, float],
) -> list[Finding]:
    """What in a finished run would mislead: latent-scale, collapsed-channels, overfit, threshold-never and -early,
    few-samples, near-copies, vae-limits.

    ``latents`` is the summary of the run's latents, the records those of its two trainings, ``metrics`` the
    ``gen/*`` and ``recon/*`` of its own early-stop threshold. A lint whose numbers are missing stays silent.
    """
    findings = [
        _scale(recipe, latents),
        _collapsed(latents),
        _autoencoder_overfit(recipe, vae_records),
        _denoiser_overfit(denoiser_records),
        _threshold(recipe, metrics),
        _samples(metrics),
        _near_copies(metrics),
        _autoencoder_limits(metrics),
    ]
    return [found for found in findings if found]


def rise_after_best(steps: Floats, validation: Floats, train_steps: Floats, training: Floats) -> float | None:
    """By which share the validation loss has risen above its best while the training loss kept falling, or None.

    Each of the last two of ``validation`` (n,) must be OVERFIT above the best, which lies before both. And
    ``training`` (m,) must be lower after the best than in equally many records before it, by two standard errors.
    """
    if not len(validation) or validation[-2:].min() <= (1 + OVERFIT) * validation.min():
        return None
    best = int(validation.argmin())
    after = training[train_steps > steps[best]]
    before = training[train_steps <= steps[best]][-len(after) :]
    if min(len(after), len(before)) < 2:
        return None
    error = np.hypot(after.std(ddof=1) / np.sqrt(len(after)), before.std(ddof=1) / np.sqrt(len(before)))
    if not before.mean() - after.mean() > 2 * error:
        return None
    return float(validation[-1] / validation[best] - 1)


def _scale(recipe: Recipe, latents: Mapping[str, Any]) -> Finding | None:
    if recipe.diffusion.whiten or not latents.get("channel_deviation"):
        return None
    deviation = np.asarray(latents["channel_deviation"], dtype=np.float64)
    mean = np.asarray(latents["channel_mean"], dtype=np.float64)
    low, high = UNIT_SPREAD
    off = (deviation < low) | (deviation > high) | (np.abs(mean) > ZERO_MEAN)
    if not off.any():
        return None
    return finding(
        "latent-scale",
        f"{off.sum()} of {len(off)} channels are off: deviations {deviation.min():.2f} to {deviation.max():.2f} "
        f"(wanted {low:g} to {high:g}), means {mean.min():.2f} to {mean.max():.2f} (wanted within ±{ZERO_MEAN:g}), "
        "and they are not whitened",
    )


def _collapsed(latents: Mapping[str, Any]) -> Finding | None:
    active = latents.get("channel_active")
    if not active or all(active):
        return None
    dead = [channel for channel, alive in enumerate(active) if not alive]
    evidence = f"{len(dead)} of {len(active)} channels ({', '.join(map(str, dead))}) do not vary with the image"
    if latents.get("channel_kl"):
        divergence = np.asarray(latents["channel_kl"], dtype=np.float64)
        evidence += f"; they hold {divergence[dead].sum():.3g} of {divergence.sum():.4g} nats a latent"
    return finding("collapsed-channels", evidence)


def _denoiser_overfit(records: Sequence[Record]) -> Finding | None:
    steps, validation = _curve(records, "val/mse")
    train_steps, training = _curve(records, "train/mse")
    return _overfit("the denoiser's val/mse", steps, validation, train_steps, training)


def _autoencoder_overfit(recipe: Recipe, records: Sequence[Record]) -> Finding | None:
    train_steps, reconstruction = _curve(records, "train/reconstruction")
    _, fidelity = _curve(records, "train/fidelity")
    _, divergence = _curve(records, "train/kl")
    # The training's own loss rises with the annealed β; validation has the full one.
    trained = fidelity if len(fidelity) else reconstruction
    losses = {"val/reconstruction": reconstruction, "val/loss": trained + recipe.vae.kl_weight * divergence}
    for name, training in losses.items():
        steps, validation = _curve(records, name)
        label = f"the autoencoder's {name}"
        if found := _overfit(label, steps, validation, train_steps, training):
            kept = f"{found.evidence}; the weights of the best val/loss were kept"
            return finding(found.code, kept, "note")
    return None


def _overfit(label: str, steps: Floats, validation: Floats, train_steps: Floats, training: Floats) -> Finding | None:
    rise = rise_after_best(steps, validation, train_steps, training)
    if rise is None:
        return None
    best = int(validation.argmin())
    return finding(
        "overfit",
        f"{label} was best at step {steps[best]:.0f} ({validation[best]:.4g}) and has since risen by {rise:.0%} to "
        f"{validation[-1]:.4g}, while the training loss went on falling to "
        f"{training[train_steps > steps[best]].mean():.4g}",
    )


def _curve(records: Sequence[Record], name: str) -> tuple[Floats, Floats]:
    """The steps and values (n,) of the records that hold ``name``, by step, without the untrained network's."""
    points = sorted((record["step"], record[name]) for record in records if name in record and record["step"])
    columns = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def _threshold(recipe: Recipe, metrics: Mapping[str, float]) -> Finding | None:
    from trainables.measures.evaluation import UNFINISHED as LIMIT

    config = recipe.sampling
    if not config.early_stop_threshold or not {STOPPED.name, STEPS.name} <= metrics.keys():
        return None
    stopped, used = metrics[STOPPED.name], metrics[STEPS.name]
    evidence = (
        f"{config.early_stop_rule} < {config.early_stop_threshold:g} stopped {stopped:.0%} of the samples, after "
        f"{used:.1f} of {config.steps} evaluations in the mean"
    )
    if stopped == 0:
        return finding("threshold-never", evidence)
    early = metrics.get(UNFINISHED.name, 0.0)
    if early <= UNFINISHED_SHARE:
        return None
    distance = f"further than {LIMIT:.0%} of its norm from where the sampler ends"
    return finding("threshold-early", f"{evidence}; {early:.0%} stopped with a latent {distance}")


def _samples(metrics: Mapping[str, float]) -> Finding | None:
    if not {FID.name, SAMPLES.name, REFERENCE_SAMPLES.name} <= metrics.keys():
        return None
    count, references = int(metrics[SAMPLES.name]), int(metrics[REFERENCE_SAMPLES.name])
    if count >= FEWEST_SAMPLES and references >= FEWEST_REFERENCES:
        return None
    evidence = f"{FID.label} {FID.format(metrics[FID.name])} is of {count} generated and {references} real slices"
    if FID.floor in metrics:
        real = f"{SAMPLES.format(metrics[SAMPLES.floor])} " if SAMPLES.floor in metrics else ""
        evidence += f"; {real}real training slices in their place score {FID.format(metrics[FID.floor])}"
    return finding("few-samples", evidence, "note")


def _near_copies(metrics: Mapping[str, float]) -> Finding | None:
    if not {NEAR_COPIES.name, SAMPLES.name} <= metrics.keys():
        return None
    share, count, bound = metrics[NEAR_COPIES.name], int(metrics[SAMPLES.name]), metrics.get(NEAR_COPIES.bound)
    expected = _expected_copies(share, count) if bound is None else _bounded_copies(share, count, bound)
    if not expected:
        return None
    evidence = (
        f"{round(share * count)} of {count} generated images ({share:.0%}) are near copies of a training slice, "
        f"where {expected}"
    )
    if MEMORISATION.name in metrics:
        evidence += f"; their median distance is {metrics[MEMORISATION.name]:.2f} times that of held-out slices"
    return finding("near-copies", evidence)


def _bounded_copies(share: float, count: int, bound: float) -> str:
    """What share of copies the guard allows, in words; empty where ``share`` is no more."""
    return f"the guard's bound is {int(bound * count + 1e-9)}" if share > bound else ""


def _expected_copies(share: float, count: int) -> str:
    """The same for measurements of an older version, which have no bound: what chance explains."""
    from scipy.special import bdtrc

    from trainables.measures.memorisation import NEAR_COPY_QUANTILE

    chance = float(bdtrc(round(share * count) - 1, count, NEAR_COPY_QUANTILE))
    if share <= COPIED_SHARE or chance >= CHANCE:
        return ""
    return f"at most {NEAR_COPY_QUANTILE:.0%} are expected (chance of so many: {chance:.1g})"


def _autoencoder_limits(metrics: Mapping[str, float]) -> Finding | None:
    if not {KID.name, KID.reconstructed, KID.floor} <= metrics.keys():
        return None
    floor, error = metrics[KID.floor], metrics.get(METRICS[KID.reconstructed].error, 0.0)
    generated, reconstructed = metrics[KID.name] - floor, metrics[KID.reconstructed] - floor
    if generated <= 0 or reconstructed < VAE_SHARE * generated or reconstructed <= VAE_ERRORS * error:
        return None
    return finding(
        "vae-limits",
        f"reconstructions of real slices score {KID.label} {metrics[KID.reconstructed]:.1f} ± {error:.1f}, generated "
        f"images {metrics[KID.name]:.1f}, real slices {floor:.1f}: {min(1.0, reconstructed / generated):.0%} of the "
        "distance is the autoencoder's",
    )

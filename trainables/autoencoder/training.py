"""The training of the autoencoder, on one page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from trainables.autoencoder.discriminator import Adversary, adversary_of
from trainables.autoencoder.losses import fidelity, vae_loss, vae_loss_names
from trainables.autoencoder.vae import Autoencoder, VaeConfig, sample_posterior
from trainables.images import draw_maps, to_bytes, to_unit, warp
from trainables.loop import execution as ex
from trainables.loop.cards import visiting
from trainables.loop.checkpoint import TrainingState
from trainables.loop.chunks import in_chunks
from trainables.loop.dropout import LayerGenerators
from trainables.loop.execution import Execution, graphed, send
from trainables.loop.graphs import launcher
from trainables.loop.precision import WorkingCopy
from trainables.loop.seeds import batch_indices, derived_seed, generator
from trainables.loop.training import (
    CHECKPOINT,
    Record,
    Report,
    RunningMeans,
    adamw,
    check_finite,
    cosine_rate,
    evenly_spaced,
    ignore_report,
    record_at,
    set_learning_rate,
    update,
)
from trainables.loop.watchdog import beat

CHUNK = 64
"""Slices in a batch where no gradient is needed."""

DECODED_AT_ONCE = 8
"""Latents in every call of the decoder."""


class VaeDraws(NamedTuple):
    """What an optimiser step is given; drawing on the CPU gives every device the same numbers."""

    indices: torch.Tensor
    """(B,) int64, the samples."""
    maps: torch.Tensor
    """(B, 2, 3), the augmentation."""
    noise: torch.Tensor
    """(B, C, h, w) standard normal, the posterior's."""
    kl_weight: torch.Tensor
    """(), the β of this step."""


def steps_per_epoch(config: VaeConfig, slices: int) -> int:
    """Optimiser steps in which a training on so many slices sees each of them about once."""
    return max(1, slices // min(config.batch_size, slices))


def vae_steps(config: VaeConfig, slices: int) -> int:
    """Optimiser steps of a training on so many slices."""
    steps = config.epochs * steps_per_epoch(config, slices)
    return min(steps, config.max_steps) if config.max_steps else steps


def train_vae(
    config: VaeConfig,
    training: torch.Tensor,
    validation: torch.Tensor,
    *,
    seed: int,
    folder: Path,
    execution: Execution,
    report: Report = ignore_report,
) -> tuple[Autoencoder, list[Record]]:
    """Trains on slices uint8 (N, H, W) and returns the best autoencoder by validation, and all records.

    With an adversary it is the best since that began. Continues from the checkpoint in ``folder`` where there is
    one. Raises :class:`~trainables.errors.DivergenceError` when the loss leaves the finite numbers, and
    ``torch.OutOfMemoryError`` on every worker where one runs out of memory.
    """
    device = execution.prepare()
    dtype = ex.computing_dtype(config.precision, device)
    torch.manual_seed(derived_seed(seed, "vae"))
    model, best = Autoencoder(config).to(device), Autoencoder(config).to(device)
    model.checkpointing = execution.checkpoint_activations
    working, batch_size = WorkingCopy(model, dtype), min(config.batch_size, len(training))
    capturable = graphed(execution, device, batch_size)
    optimizer = adamw(model, config.learning_rate, config.weight_decay, capturable=capturable)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    total = vae_steps(config, len(training))
    adversary = adversary_of(config, steps=total, seed=seed, device=device, dtype=dtype, capturable=capturable)
    modules = {"model": model, "best": best, **adversary.modules}
    state = TrainingState(modules, optimizer, scaler, 0, [], {"best": None}, adversary.optimizers)
    if state.load(folder / CHECKPOINT) and ex.rank() == 0:
        report(state.records)

    training = training.to(device)
    validate_at, log_every = set(evenly_spaced(total, config.validations)), max(1, total // 200)
    means = RunningMeans([f"train/{name}" for name in vae_loss_names(fidelity(config))], device)

    def clear() -> None:
        optimizer.zero_grad()
        adversary.clear()

    def compute_step(draws: VaeDraws) -> torch.Tensor:
        with ex.all_or_none():
            draws = send(draws, device)
            images = warp(to_unit(training[draws.indices]), draws.maps)
            shares = ex.shares(batch_size, execution.micro_batch)
            values = accumulate(config, working, images, draws, shares, scaler, adversary)
        adversary.update(scaler)
        update(model, optimizer, scaler, config.gradient_clip)
        return values

    take_step = launcher(compute_step, clear, execution, device, batch_size, LayerGenerators())
    fresh: list[Record] = []
    last_good = state.step
    for step in range(state.step, total):
        model.train()
        rate = config.learning_rate * cosine_rate(step, total)
        set_learning_rate(optimizer, rate)
        adversary.begin(step, rate)
        draws = draw_step(config, training, step, seed)
        means.add(ex.sum_values(take_step(draws, adversary.active)))
        adversary.note()

        beat()
        state.step = step + 1
        if state.step % log_every == 0 or state.step in validate_at:
            losses = means.take(state.step, last_good=last_good) | adversary.take(state.step, last_good=last_good)
            fresh.append(record_at(state.step, {**losses, "train/kl_weight": kl_weight(config, len(training), step)}))
        if state.step in validate_at:
            metrics = validation_loss(model, validation, config, device)
            check_finite(metrics, state.step, last_good)
            fresh.append(record_at(state.step, metrics))
            if adversary.active and (state.extra["best"] is None or metrics["val/loss"] < state.extra["best"]):
                state.extra["best"] = metrics["val/loss"]
                best.load_state_dict(model.state_dict())
            state.records += fresh
            if ex.rank() == 0:
                state.save(folder / CHECKPOINT)
                report(fresh)
            ex.barrier()
            fresh, last_good = [], state.step
    return best, state.records


def kl_weight(config: VaeConfig, slices: int, step: int) -> float:
    """β at optimiser step ``step``, from 0, of a training on so many slices."""
    annealed = config.kl_anneal_epochs * steps_per_epoch(config, slices)
    return config.kl_weight * min(1.0, step / max(1, annealed))


def draw_step(config: VaeConfig, training: torch.Tensor, step: int, seed: int) -> VaeDraws:
    """The draws of optimiser step ``step``, from 0, for slices (N, H, W), on the CPU."""
    random = generator(seed, "vae", step)
    indices = batch_indices(len(training), config.batch_size, step, seed)
    maps = draw_maps(
        len(indices),
        random,
        flip_probability=config.flip_probability,
        rotation_degrees=config.rotation_degrees,
        translation=config.translation,
        scaling=config.scaling,
    )
    side = training.shape[-1] // config.compression
    noise = torch.randn(len(indices), config.latent_channels, side, side, generator=random)
    return VaeDraws(indices, maps, noise, torch.tensor(kl_weight(config, len(training), step)))


def accumulate(
    config: VaeConfig,
    working: WorkingCopy[Autoencoder],
    images: torch.Tensor,
    draws: VaeDraws,
    shares: Iterable[slice],
    scaler: torch.amp.GradScaler,
    adversary: Adversary,
) -> torch.Tensor:
    """Adds the gradients of the mean loss of ``shares`` of a batch; returns their parts of its values, (n,).

    They are in the order of :func:`~trainables.autoencoder.losses.vae_loss_names`, without what the ``adversary``
    adds; its own gradients are added, too. ``images`` (B, 1, H, W) in [-1, 1] are the batch of these ``draws``.
    """
    compare = fidelity(config)
    values = torch.zeros(len(vae_loss_names(compare)), device=images.device)
    working.refresh()
    adversary.refresh()
    for share in shares:
        mean, log_variance = working.network.encode(images[share])
        decoded = working.network.decode(sample_posterior(mean, log_variance, draws.noise[share]))
        losses = vae_loss(
            images[share],
            decoded,
            mean,
            log_variance,
            kl_weight=draws.kl_weight,
            kl_reduction=config.kl_reduction,
            fidelity=compare,
        )
        part = len(mean) / len(images)
        loss = adversary.opposed(losses["loss"], decoded)
        scaler.scale(loss * part).backward()  # type: ignore[no-untyped-call]
        working.collect()
        adversary.learn(images[share], decoded, part, scaler)
        values += torch.stack(list(losses.values())).detach() * part
    return values


@torch.inference_mode()
def validation_loss(
    model: Autoencoder, slices: torch.Tensor, config: VaeConfig, device: torch.device
) -> dict[str, float]:
    """Losses of the posterior mean's reconstruction of slices uint8 (N, H, W), at the full KL weight.

    ``val/loss``, by which the best weights are chosen, has the terms of the training's loss, but no adversarial
    one, which says more of the discriminator; ``val/reconstruction`` is the MSE whatever was trained for, so that
    trainings with different losses can be compared.
    """
    model.eval()
    compare = fidelity(config)
    names = vae_loss_names(compare)
    sums = torch.zeros(len(names))
    for chunk in torch.split(slices, CHUNK):
        images = to_unit(chunk.to(device))
        mean, log_variance = model.encode(images)
        losses = vae_loss(
            images,
            model.decode(mean),
            mean,
            log_variance,
            kl_weight=config.kl_weight,
            kl_reduction=config.kl_reduction,
            fidelity=compare,
        )
        sums += torch.stack(list(losses.values())).cpu() * len(chunk)
    means = (sums / max(1, len(slices))).tolist()
    return {f"val/{name}": mean for name, mean in zip(names, means, strict=True)}


@torch.inference_mode()
def encoded(model: Autoencoder, slices: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and log-variance, float32 (N, C, h, w), of slices uint8 (N, H, W).

    Its weights are afterwards where they were.
    """
    with visiting(model.eval(), device):
        parts = [model.encode(to_unit(chunk.to(device))) for chunk in torch.split(slices, CHUNK)]
    return torch.cat([mean.cpu() for mean, _ in parts]), torch.cat([lv.cpu() for _, lv in parts])


@torch.inference_mode()
def decoded(model: Autoencoder, latents: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Slices float32 (N, 1, H, W) in [-1, 1] of latents (N, C, h, w), each the same in any batch.

    Its weights are afterwards where they were.
    """
    with visiting(model.eval(), device):
        return in_chunks(lambda chunk: model.decode(chunk.to(device)).float().cpu(), DECODED_AT_ONCE, latents)


def decoded_bytes(model: Autoencoder, latents: torch.Tensor, device: torch.device) -> torch.Tensor:
    """As :func:`decoded`, as uint8 (N, H, W)."""
    return to_bytes(decoded(model, latents, device))

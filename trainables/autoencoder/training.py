"""The training of the autoencoder, on one page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from trainables.autoencoder.batch import VaeDraws, augment, draw_step, kl_weight, steps_per_epoch
from trainables.autoencoder.discriminator import Adversary, adversary_of
from trainables.autoencoder.equivariance import transform
from trainables.autoencoder.losses import pixel_loss, trained_names, vae_loss, vae_loss_names
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.vae import Autoencoder, disturb, sample_posterior
from trainables.data.images import decided, slices_of, to_bytes, to_unit
from trainables.loop import execution as ex
from trainables.loop.cards import on_device
from trainables.loop.checkpoint import TrainingState
from trainables.loop.draws import LayerGenerators
from trainables.loop.execution import in_chunks, send, uses_graph
from trainables.loop.graphs import launcher
from trainables.loop.optimiser import adamw, cosine_rate, set_learning_rate, update
from trainables.loop.precision import WorkingCopy
from trainables.loop.progress import Progress, RunningMeans
from trainables.loop.records import Record, Report, even_steps, ignore_report
from trainables.loop.seeds import derived_seed
from trainables.loop.settings import Execution
from trainables.loop.watchdog import beat

CHUNK = 64
"""Slices in a batch where no gradient is needed."""

DECODED_AT_ONCE = 8
"""Latents in every call of the decoder."""


def vae_steps(config: VaeConfig, slices: int) -> int:
    """Optimiser steps of a training on that number of slices."""
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
    """Trains on slices uint8 (N, S, S) and returns the best autoencoder by validation, and all records.

    The ``validation`` slices (M, H, H) are of the size that the autoencoder is for; those of the ``training`` are
    warped at their own, H or larger, and then reduced. With their lesion masks, 255 for lesion and 0 elsewhere, both
    are (N, 2, S, S): the autoencoder then learns both. With an adversary it is the best since that began. Continues
    from the checkpoint in ``folder`` where there is one. Raises :class:`~trainables.errors.DivergenceError` when the
    loss is no longer finite, and ``torch.OutOfMemoryError`` on every worker where one runs out of memory.
    """
    device = execution.prepare()
    dtype = ex.computing_dtype(config.precision, device)
    torch.manual_seed(derived_seed(seed, "vae"))
    masks = training.dim() == 4
    model, best = Autoencoder(config, masks).to(device), Autoencoder(config, masks).to(device)
    model.checkpointing = execution.checkpoint_activations
    working, batch_size = WorkingCopy(model, dtype), min(config.batch_size, len(training))
    capturable = uses_graph(execution, device, batch_size)
    optimizer = adamw(model, config.learning_rate, config.weight_decay, capturable=capturable)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    total = vae_steps(config, len(training))
    adversary = adversary_of(config, steps=total, seed=seed, device=device, dtype=dtype, capturable=capturable)
    modules = {"model": model, "best": best, **adversary.modules}
    state = TrainingState(modules, {"optimizer": optimizer, **adversary.optimizers}, scaler, {"best": None})
    state.load(folder)
    progress = Progress(state, folder, report, total=total, validate_at=even_steps(total, config.validations))

    training, size = training.to(device), validation.shape[-1]
    means = RunningMeans([f"train/{name}" for name in trained_names(config, masks)], device)

    def clear() -> None:
        optimizer.zero_grad()
        adversary.clear()

    def compute_step(draws: VaeDraws) -> torch.Tensor:
        with ex.all_or_none():
            draws = send(draws, device)
            images = augment(training[draws.indices], draws.maps, size)
            shares = ex.shares(batch_size, execution.micro_batch)
            values = accumulate(config, working, images, draws, shares, scaler, adversary)
        adversary.update(scaler)
        update(model, optimizer, scaler, config.gradient_clip)
        return values

    def validate() -> Record:
        metrics = validation_loss(model, validation, config, device)
        progress.check(metrics)
        return metrics

    if not state.step:
        progress.record(validate())  # of the untrained network, which is never the best
    take_step = launcher(compute_step, clear, execution, device, batch_size, LayerGenerators())
    for step in progress.steps:
        model.train()
        rate = config.learning_rate * cosine_rate(step, total)
        set_learning_rate(optimizer, rate)
        adversary.begin(step, rate)
        draws = draw_step(config, len(training), size, step, seed)
        means.add(ex.sum_values(take_step(draws, adversary.active)))
        adversary.note()

        progress.finish(step)
        if progress.logs:
            losses = means.take() | adversary.take()
            progress.check(losses)
            progress.record({**losses, "train/kl_weight": kl_weight(config, len(training), step)})
        if progress.validates:
            metrics = validate()
            progress.record(metrics)
            if adversary.active and (state.extra["best"] is None or metrics["val/loss"] < state.extra["best"]):
                state.extra["best"] = metrics["val/loss"]
                best.load_state_dict(model.state_dict())
            progress.save()
    return best, state.records


def accumulate(
    config: VaeConfig,
    working: WorkingCopy[Autoencoder],
    images: torch.Tensor,
    draws: VaeDraws,
    shares: Iterable[slice],
    scaler: torch.amp.GradScaler,
    adversary: Adversary,
) -> torch.Tensor:
    """Adds the gradients of the mean loss of ``shares`` of a batch, and the adversary's own gradients.

    ``images`` (B, 1 or 2, H, W) in [-1, 1] are the batch of these ``draws``. Returns the shares' parts of the loss's
    values, (n,), in the order of :func:`~trainables.autoencoder.losses.trained_names`, without the adversary's.
    """
    values = torch.zeros(len(trained_names(config, images.shape[1] > 1)), device=images.device)
    working.refresh()
    adversary.refresh()
    for share in shares:
        mean, log_variance = working.network.encode(images[share])
        latents = sample_posterior(mean, log_variance, draws.noise[share])
        given = latents if draws.disturbance is None else disturb(latents, draws.disturbance[share])
        decoded = working.network.decode(given)
        losses = vae_loss(config, images[share], decoded, mean, log_variance, kl_weight=draws.kl_weight)
        shown, real = slices_of(decoded), slices_of(images[share])
        part = len(mean) / len(images)
        loss = adversary.oppose(losses["loss"], shown)
        if draws.turns is not None:
            small, wanted = (transform(each, draws.turns[share]) for each in (latents, real))
            turned = slices_of(working.network.decode(small).float())
            term = pixel_loss(config)(turned, wanted)
            loss, losses["equivariance"] = loss + config.equivariance_weight * term, term
        scaler.scale(loss * part).backward()  # type: ignore[no-untyped-call]
        working.collect()
        adversary.learn(real, shown, part, scaler)
        values += torch.stack(list(losses.values())).detach() * part
    return values


@torch.inference_mode()
def validation_loss(
    model: Autoencoder, slices: torch.Tensor, config: VaeConfig, device: torch.device
) -> dict[str, float]:
    """Losses of the posterior mean's reconstruction of slices uint8 (N, H, W), at the full KL weight; with
    their masks they are (N, 2, H, W).

    ``val/loss``, by which the best weights are chosen, has the terms of the training's loss, but not the adversarial
    one, which says more of the discriminator. ``val/reconstruction`` is always the MSE, so that trainings with
    different losses can be compared.
    """
    model.eval()
    names = vae_loss_names(config, slices.dim() == 4)
    sums = torch.zeros(len(names))
    for chunk in torch.split(slices, CHUNK):
        images = to_unit(chunk.to(device))
        mean, log_variance = model.encode(images)
        losses = vae_loss(config, images, model.decode(mean), mean, log_variance, kl_weight=config.kl_weight)
        sums += torch.stack(list(losses.values())).cpu() * len(chunk)
        beat()
    means = (sums / max(1, len(slices))).tolist()
    return {f"val/{name}": mean for name, mean in zip(names, means, strict=True)}


@torch.inference_mode()
def encode_slices(
    model: Autoencoder, slices: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior mean and log-variance, float32 (N, C, h, w), of slices uint8 (N, H, W), with masks (N, 2, H, W)."""
    with on_device(model.eval(), device):
        parts = []
        for chunk in torch.split(slices, CHUNK):
            parts.append(model.encode(to_unit(chunk.to(device))))
            beat()
    return torch.cat([mean.cpu() for mean, _ in parts]), torch.cat([lv.cpu() for _, lv in parts])


@torch.inference_mode()
def decode_latents(model: Autoencoder, latents: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Slices float32 (N, 1, H, W) in [-1, 1] of latents (N, C, h, w), each the same in any batch.

    Of an autoencoder with masks they are (N, 2, H, W), and the mask is 1 where lesion is likelier than not, else −1.
    """
    with on_device(model.eval(), device):
        decoded = in_chunks(lambda chunk: model.decode(chunk.to(device)).float().cpu(), DECODED_AT_ONCE, latents)
    return decided(decoded)


def decode_to_bytes(model: Autoencoder, latents: torch.Tensor, device: torch.device) -> torch.Tensor:
    """As :func:`decode_latents`, as uint8 (N, H, W), or with masks of 255 and 0 (N, 2, H, W)."""
    return to_bytes(decode_latents(model, latents, device))

"""The training of the denoiser, on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainables.denoiser.averages import Averages
from trainables.denoiser.batch import Draws, NoisyBatch, draw_step, noisy_batch
from trainables.denoiser.condition import (
    Condition,
    check_positions,
    estimated,
    known_categories,
    known_lesions,
    known_positions,
    with_estimates,
)
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import Latents
from trainables.denoiser.losses import sum_losses
from trainables.denoiser.process import add_noise, target
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.unet import UNet, denoiser_of
from trainables.loop import execution as ex
from trainables.loop.checkpoint import TrainingState
from trainables.loop.draws import LayerGenerators, Masks, generator
from trainables.loop.execution import send, uses_graph
from trainables.loop.graphs import launcher
from trainables.loop.optimiser import adamw, cosine_rate, set_learning_rate, update
from trainables.loop.precision import WorkingCopy
from trainables.loop.progress import Progress, RunningMeans
from trainables.loop.records import Record, Report, even_steps, ignore_report, without_scores
from trainables.loop.seeds import derived_seed
from trainables.loop.settings import Execution


@dataclass(frozen=True)
class Scorer:
    """Measures a denoiser in image space, for the pruner."""

    measure: Callable[[Averages], dict[str, float]]
    """Takes all averages, and returns metrics whose names begin with ``rung/``."""
    identity: str
    """What the metrics depend on beyond the training, such as the sampler."""
    copies: Callable[[Record], bool] = lambda record: False
    """Whether a record with such metrics shows that training slices are copied."""


def train_denoiser(
    config: DiffusionConfig,
    training: Latents,
    validation: Latents,
    *,
    seed: int,
    folder: Path,
    execution: Execution,
    report: Report = ignore_report,
    score: Scorer | None = None,
    rungs: int = 0,
) -> tuple[Averages, list[Record]]:
    """Trains on latents and returns the averaged (EMA) denoisers, and all records.

    ``score`` measures the averaged denoisers at ``rungs`` equally spaced steps before the end. Continues from
    the checkpoint in ``folder`` where there is one, without its scores where another ``score`` measured them. A
    training that copies goes on to its end, since its result doesn't depend on ``score``; what the averages were at
    the last rung before is :attr:`Averages.clean`. Raises
    :class:`~trainables.errors.DivergenceError` when the loss is no longer finite, and ``torch.OutOfMemoryError`` on
    every worker where one runs out of memory.
    """
    check_positions(config, training)
    device = execution.prepare()
    dtype = ex.computing_dtype(config.precision, device)
    torch.manual_seed(derived_seed(seed, "denoiser"))
    model = denoiser_of(training.shape[0], config).to(device)
    model.checkpointing = execution.checkpoint_activations
    averages, working = Averages(model, config), WorkingCopy(model, dtype)
    batch_size = min(config.batch_size, len(training))
    capturable = uses_graph(execution, device, batch_size)
    optimizer = adamw(model, config.learning_rate, config.weight_decay, capturable=capturable)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    state = TrainingState({"model": model, **averages.modules()}, {"optimizer": optimizer}, scaler)
    scored = score.identity if score else ""
    if state.load(folder) and state.extra.get("scored", scored) != scored:
        state.records, state.kept = without_scores(state.records), {}
    state.extra["scored"] = scored
    score_at = set(even_steps(config.steps, rungs + 1)[:-1])
    validate_at = score_at.union(even_steps(config.steps, config.validations))
    progress = Progress(state, folder, report, total=config.steps, validate_at=validate_at)

    training, validation = training.to(device), validation.to(device)
    schedule = alphas_cumprod(config).float().to(device)
    means = RunningMeans(("train/loss", "train/mse", "train/frequency"), device)
    dropout = LayerGenerators()

    def compute_step(draws: Draws) -> torch.Tensor:
        with ex.all_or_none():
            batch = noisy_batch(config, training, schedule, send(draws, device))
            shares = ex.shares(batch_size, execution.micro_batch)
            values = accumulate(config, working, batch, schedule, shares, scaler, dropout)
        update(model, optimizer, scaler, config.gradient_clip)
        return values

    def validate() -> Record:
        metrics = {"val/mse": validation_mse(config, averages.own, validation, schedule, seed)}
        progress.check(metrics)
        return metrics

    if not state.step:
        progress.record(validate())  # of the untrained network: where the reduction of the loss begins
    take_step = launcher(compute_step, optimizer.zero_grad, execution, device, batch_size, dropout)
    for step in progress.steps:
        set_learning_rate(optimizer, config.learning_rate * cosine_rate(step, config.steps, config.warmup_steps))
        dropout.reseed(derived_seed(seed, "dropout", step))
        values = take_step(draw_step(config, training, step, seed))
        averages.update(model, step)
        means.add(ex.sum_values(values))

        progress.finish(step)
        if progress.logs:
            logged = means.take()
            progress.check(logged)
            progress.record(logged)
        if progress.validates:
            metrics = validate()
            if score and state.step in score_at:
                with ex.all_or_none():  # the others wait for the first, which alone measures
                    metrics |= score.measure(averages) if ex.rank() == 0 else {}
                if ex.rank() == 0 and not any(map(score.copies, [*state.records, metrics])):
                    state.kept = averages.weights()
            progress.record(metrics)
            progress.save()
    if score and any(map(score.copies, state.records)):
        averages.keep_clean(state.kept)
    return averages, state.records


def accumulate(
    config: DiffusionConfig,
    working: WorkingCopy[UNet],
    batch: NoisyBatch,
    schedule: torch.Tensor,
    shares: Iterable[slice],
    scaler: torch.amp.GradScaler,
    dropout: LayerGenerators,
) -> torch.Tensor:
    """Adds the gradients of the mean loss of ``shares`` of a batch; returns their parts of ``sum_losses``, (3,)."""
    z_t, t, wanted, condition = batch
    values = torch.zeros(3, device=z_t.device)
    working.refresh()
    for share in shares:
        told, alphas_cumprod_t = condition[share], schedule[t[share]]
        if config.self_conditioning:
            count = estimated(config, len(z_t)) - share.start
            told = with_estimates(config, working.network, z_t[share], t[share], alphas_cumprod_t, told, count)
        output = working.network(z_t[share], t[share], Masks(dropout, len(z_t), share), told)
        parts = sum_losses(config, output.float(), wanted[share], alphas_cumprod_t) / len(z_t)
        scaler.scale(parts[0]).backward()  # type: ignore[no-untyped-call]
        working.collect()
        values += parts.detach()
    return values


@torch.inference_mode()
def validation_mse(
    config: DiffusionConfig, model: UNet, latents: Latents, schedule: torch.Tensor, seed: int, limit: int = 128
) -> float:
    """Plain MSE of the prediction on at most ``limit`` held-out latents, evenly spread; t and noise are fixed."""
    random = generator(seed, "validation")
    count = min(limit, len(latents))
    indices = torch.linspace(0, len(latents) - 1, count).round().long().to(latents.mean.device)
    z0 = latents.draw(indices, None)
    condition = Condition(
        known_positions(config, latents, indices),
        lesion=known_lesions(config, latents, indices),
        categories=known_categories(config, latents, indices),
    )
    noise = torch.randn(z0.shape, generator=random).to(z0.device)
    t = torch.randint(config.timesteps, (count,), generator=random).to(z0.device)
    z_t, wanted = add_noise(z0, noise, schedule[t]), target(z0, noise, schedule[t], config.prediction)
    error = 0.0
    for part in range(0, count, 32):
        share = slice(part, part + 32)
        output = model(z_t[share], t[share], condition=condition[share])
        error += float((output - wanted[share]).square().mean(dim=(1, 2, 3)).sum())
    return error / max(1, count)

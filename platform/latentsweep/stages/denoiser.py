"""The denoiser: its training, its scores on the way, and the latents that it draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from latentsweep.metrics import RUNG
from latentsweep.program.invocation import hint
from latentsweep.stages import guards
from latentsweep.stages.conditions import read_categories, read_lesions, training_conditions
from latentsweep.stages.context import WEIGHTS, Context, train_within_memory
from latentsweep.stages.latents import read_latents, scaling
from latentsweep.stages.real_features import extractor
from latentsweep.stages.results import records_of
from latentsweep.stages.stage import Identity
from latentsweep.stages.table import LATENTS, REAL_FEATURES, VAE
from latentsweep.stages.training_latents import read_training
from latentsweep.stages.vae import load_vae
from latentsweep.storage.entries import Entry
from trainables.autoencoder.training import decode_to_bytes
from trainables.config import fingerprint
from trainables.data.images import apart
from trainables.denoiser.averages import Averages, combine
from trainables.denoiser.condition import draw_positions
from trainables.denoiser.sampling import SamplingTrace, even_chunk, initial_noise, sample
from trainables.denoiser.training import Scorer, train_denoiser
from trainables.denoiser.unet import UNet, denoiser_of
from trainables.errors import ConfigError, DataError
from trainables.loop import execution as ex
from trainables.loop.checkpoint import load_tensors, save_tensors, with_weights
from trainables.loop.records import Record, even_steps
from trainables.loop.seeds import derived_seed
from trainables.loop.settings import Execution
from trainables.measures.memorisation import memorisation, nearest
from trainables.measures.reference import Reference, fid_and_kid
from trainables.recipes import Recipe

GUIDE = "weights-guide.safetensors"
"""The file of the weights of an early step, where ``diffusion.guide_share`` keeps them."""
COPIES_AT_RUNGS = 1
"""The version of what rungs measure beside KID and FID. Scores of another one are measured again."""


def train(context: Context, folder: Path) -> dict[str, Any]:
    """Trains the denoiser; leaves a file of weights for each of its averages and for the guide, and the records."""
    recipe, latents = context.recipe, context.obtain(LATENTS)
    whiten, positions = recipe.diffusion.whiten, recipe.diffusion.position_condition
    folder_and_summary = latents.folder, dict(latents.summary)
    training = read_training(recipe.diffusion, *folder_and_summary)
    held_out = read_latents(*folder_and_summary, "validation", whiten=whiten, positions=positions)
    if recipe.diffusion.lesion_condition:
        held_out = dataclasses.replace(held_out, lesions=read_lesions(latents.folder, "validation"))
    if labels := recipe.diffusion.label_condition:
        held_out = dataclasses.replace(held_out, categories=read_categories(latents.folder, "validation", labels)[0])
    wanted = context.scored or recipe.sampling.after_steps  # whose weights only rungs keep
    score = rung_score(context, latents) if wanted and recipe.evaluation.rungs else None

    def at_rung(rung: Execution) -> tuple[Averages, list[Record]]:
        return train_denoiser(
            recipe.diffusion,
            training,
            held_out,
            seed=context.seed,
            folder=folder,
            execution=rung,
            report=context.report,
            score=score,
            rungs=recipe.evaluation.rungs if score else 0,
        )

    averages, records, how = train_within_memory(context, folder, "diffusion", "denoiser", len(training), at_rung)
    if ex.rank() != 0:
        return {}
    copying = copying_span(records) if score else {}
    for length, model in averages.by_length.items():
        save_tensors(folder / average_file(length), model.state_dict())
    if averages.guide is not None:
        save_tensors(folder / GUIDE, averages.guide.state_dict())
    for length, weights in averages.clean.items():
        save_tensors(folder / average_file(length, copying["clean_until"]), weights)
    parameters = sum(p.numel() for p in averages.own.parameters())
    return {"parameters": parameters, **how, **copying, "rungs": score.identity if score else None}


def copying_span(records: Sequence[Record]) -> dict[str, int]:
    """The first rung at which a training copied, and the last before it, which was clean: ``copied_at`` and
    ``clean_until``, 0 for none. Empty where it never copied."""
    rungs = [record for record in records if guards.rung_words(record)]
    copied = next((place for place, record in enumerate(rungs) if guards.rung_constraint(record)), None)
    if copied is None:
        return {}
    clean = int(rungs[copied - 1]["step"]) if copied else 0
    return {"copied_at": int(rungs[copied]["step"]), "clean_until": clean}


def rung_score(context: Context, latents: Entry) -> Scorer:
    """Measures a denoiser in training: a few images without early stop, against the real features.

    Only the first worker measures; the others read nothing for it.
    """
    recipe, execution, identity = context.recipe, context.execution, scored_with(context.identity)
    if ex.rank():
        return Scorer(lambda _: {}, identity, copies)
    autoencoder, statistics = load_vae(context.obtain(VAE).file(WEIGHTS), recipe), scaling(recipe, latents)
    real = Reference.load(context.obtain(REAL_FEATURES).folder)
    training = context.slices("train").images
    seeds = image_seeds(context.seed, recipe.evaluation.rung_samples)
    conditions = training_conditions(recipe, latents)

    def measure(averages: Averages) -> dict[str, float]:
        device = execution.prepare()
        trace = draw(
            averages.of_length(recipe.sampling.ema_length),
            recipe,
            seeds,
            device,
            guide=averages.guide,
            thresholds=(0.0,),
            **conditions,
            chunk=even_chunk(len(seeds), device),  # its images are always drawn together
        )
        images = apart(decode_to_bytes(autoencoder, statistics.unwhiten(trace.latents[0].cpu()), device))[0].numpy()
        features = extractor(context.weights, str(device)).features(images)
        scores = fid_and_kid(features, real, bootstrap=recipe.evaluation.bootstrap)
        if len(real.null):
            scores |= memorisation(nearest(images, training).distances, real.null)
        return {RUNG + name: value for name, value in scores.items()}

    return Scorer(measure, identity, copies)


def copies(record: Record) -> bool:
    """Whether a rung shows that training slices are copied."""
    return bool(guards.rung_constraint(record))


def scored_with(identity: Identity) -> str:
    """A digest of what the scores at the rungs depend on beyond the training: not on the early stop, so that what a
    search has scored holds for the threshold that is taken from it."""
    recipe, real = identity.recipe, REAL_FEATURES.key(identity)
    never = {"early_stop_rule": "noise_norm", "early_stop_threshold": 0.0, "threshold_grid": ()}
    sampling = recipe.sampling.replace(after_steps=0, **never)
    rungs = recipe.evaluation.rungs, recipe.evaluation.rung_samples
    return fingerprint([sampling.identity(), *rungs, real.digest, COPIES_AT_RUNGS])


def replay(context: Context, entry: Entry) -> list[Record]:
    """The records of a finished training; with its scores only where the context would give the same ones."""
    return records_of(entry, rungs=entry.summary.get("rungs") == scored_with(context.identity))


def load_denoiser(weights: Path, recipe: Recipe) -> UNet:
    """The trained denoiser of a file of weights; raises ``RuntimeError`` where the recipe's is another."""
    return _with_weights(load_tensors(weights)[0], recipe)


def _with_weights(weights: Mapping[str, torch.Tensor], recipe: Recipe) -> UNet:
    return with_weights(lambda: denoiser_of(recipe.vae.latent_channels, recipe.diffusion), weights)


def load_average(denoiser: Entry, recipe: Recipe) -> UNet:
    """The average that samples, of the result of a training: one that it keeps, or one that is made of those.

    Raises what :func:`check_kept` raises.
    """
    length, kept, step = recipe.sampling.ema_length, recipe.diffusion.ema_lengths, recipe.sampling.after_steps
    check_kept(denoiser, recipe)
    if length in (0.0, *kept):
        return load_denoiser(denoiser.file(average_file(length, step)), recipe)
    states = {each: load_tensors(denoiser.file(average_file(each, step)))[0] for each in kept}
    return _with_weights(combine(states, length), recipe)


def keeps(denoiser: Entry, recipe: Recipe) -> bool:
    """Whether a training kept the weights of ``sampling.after_steps``, as it does of its end."""
    return recipe.sampling.after_steps in (0, denoiser.summary.get("clean_until", 0))


def check_kept(denoiser: Entry, recipe: Recipe) -> None:
    """Raises :class:`DataError` where the training kept no weights of ``sampling.after_steps``."""
    if keeps(denoiser, recipe):
        return
    clean = denoiser.summary.get("clean_until", 0)
    has = f"those after {clean} steps and of its end" if clean else "only those of its end"
    raise DataError(
        f"sampling.after_steps must be a step whose weights the training kept, got {recipe.sampling.after_steps}, "
        f"and it kept {has}; choose one of these, or {how_to_keep(denoiser)}"
    )


def check_rung(recipe: Recipe) -> None:
    """Raises :class:`ConfigError` where ``sampling.after_steps`` is no rung: no training keeps its weights."""
    rungs = even_steps(recipe.diffusion.steps, recipe.evaluation.rungs + 1)[:-1]
    if recipe.sampling.after_steps not in (0, *rungs):
        allowed = f"one of its rungs ({', '.join(map(str, rungs))})" if rungs else "0 without evaluation.rungs"
        raise ConfigError(
            f"sampling.after_steps must be {allowed}, since only there weights are kept, got "
            f"{recipe.sampling.after_steps}; choose one of these, or set 0 for the end"
        )


def how_to_keep(denoiser: Entry) -> str:
    """What a user does for weights of before a training copied, where the store has a training without them."""
    return f"move {denoiser.name} out of the store, then run: {hint('train')}"


def average_file(length: float, after_steps: int = 0) -> str:
    """The file of a denoiser's weights by their average of this length, 0 for the training's own.

    ``after_steps`` says at which step of the training, 0 at its end.
    """
    file = f"weights-ema-{length!r}.safetensors" if length else WEIGHTS
    return f"step-{after_steps}-{file}" if after_steps else file


def load_guide(denoiser: Entry, recipe: Recipe) -> UNet | None:
    """The guide of ``sampling.autoguidance`` from the result of a training; None where sampling takes none."""
    return load_denoiser(denoiser.file(guide_file(recipe)), recipe) if recipe.sampling.autoguidance != 1 else None


def guide_file(recipe: Recipe) -> str:
    """The file of the guide's weights, which are never of a later step than those that sample.

    Up to the guide's step it is the training's own average, so up to there ``sampling.after_steps`` takes that.
    """
    steps = recipe.sampling.after_steps
    return average_file(0.0, steps) if 0 < steps <= recipe.diffusion.guide_steps else GUIDE


def image_seeds(seed: int, count: int) -> list[int]:
    """The seeds of the images that a run is measured by."""
    return [derived_seed(seed, "image", number) for number in range(count)]


def draw(
    denoiser: UNet,
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    *,
    guide: UNet | None = None,
    thresholds: Sequence[float] | None = None,
    snapshots: Sequence[int] = (),
    positions: torch.Tensor | None = None,
    lesions: torch.Tensor | None = None,
    categories: torch.Tensor | None = None,
    chunk: int | None = None,
) -> SamplingTrace:
    """Latents of these image seeds, as the denoiser sees them (whitened, where it was trained so).

    ``guide`` is that of ``sampling.autoguidance``. ``positions`` are the training split's
    (:func:`~latentsweep.stages.conditions.training_positions`), and so are ``lesions`` and ``categories``;
    ``chunk`` is that of
    :func:`~trainables.denoiser.sampling.sample`.
    """
    size = recipe.latent_size
    denoiser.to(device)
    return sample(
        denoiser,
        initial_noise(seeds, (recipe.vae.latent_channels, size, size)).to(device),
        seeds=seeds,
        guide=None if guide is None else guide.to(device),
        diffusion=recipe.diffusion,
        config=recipe.sampling,
        thresholds=thresholds,
        snapshots=snapshots,
        positions=None if positions is None else draw_positions(seeds, positions),
        lesions=None if lesions is None else draw_positions(seeds, lesions),
        categories=None if categories is None else draw_positions(seeds, categories),
        chunk=chunk,
    )

"""The autoencoder: its training, and the trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentsweep.stages.context import WEIGHTS, Context, save_figure, train_within_memory
from trainables import figures
from trainables.autoencoder.training import train_vae
from trainables.autoencoder.vae import Autoencoder
from trainables.loop import execution as ex
from trainables.loop.checkpoint import load_tensors, save_tensors, with_weights
from trainables.loop.records import Record
from trainables.loop.settings import Execution
from trainables.recipes import Recipe


def train(context: Context, folder: Path) -> dict[str, Any]:
    """Trains the autoencoder; leaves its best weights and the records."""
    config, seed, report = context.recipe.vae, context.seed, context.report
    training = torch.from_numpy(context.slices("train", config.warp_size).learned)
    held_out = torch.from_numpy(context.slices("validation").learned)

    def at_rung(rung: Execution) -> tuple[Autoencoder, list[Record]]:
        return train_vae(config, training, held_out, seed=seed, folder=folder, execution=rung, report=report)

    model, records, how = train_within_memory(context, folder, "vae", "autoencoder", len(training), at_rung)
    if ex.rank() != 0:
        return {}
    save_tensors(folder / WEIGHTS, model.state_dict())
    save_figure(folder, "vae_training", figures.training_curves(records, stage="vae"))
    return {"parameters": sum(p.numel() for p in model.parameters()), **how}


def load_vae(weights: Path, recipe: Recipe) -> Autoencoder:
    """The trained autoencoder of a file of weights; raises ``RuntimeError`` where the recipe's is another."""
    return with_weights(lambda: Autoencoder(recipe.vae, recipe.data.mask), load_tensors(weights)[0])

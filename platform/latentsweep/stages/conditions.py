"""What a denoiser is told of the slices that were encoded: positions, sizes of lesions, labels of patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import torch

from latentsweep.stages.latents import CATEGORIES, LESIONS, read_positions
from latentsweep.storage.entries import Entry
from trainables.loop.checkpoint import load_tensors
from trainables.recipes import Recipe


class Conditions(TypedDict):
    """What a denoiser is told of slices: (N,) positions and lesions, (N, K) categories; None where it isn't told."""

    positions: torch.Tensor | None
    lesions: torch.Tensor | None
    categories: torch.Tensor | None


def training_positions(recipe: Recipe, latents: Entry) -> torch.Tensor | None:
    """The positions (N,) of the training split, from which images draw theirs; None where none are used."""
    if not recipe.diffusion.position_condition:
        return None
    return read_positions(latents.folder, dict(latents.summary), "train")


def training_lesions(recipe: Recipe, latents: Entry) -> torch.Tensor | None:
    """The lesions (N,) of the training split, from which images draw theirs; None where none are used."""
    return read_lesions(latents.folder, "train") if recipe.diffusion.lesion_condition else None


def read_lesions(folder: Path, split: str) -> torch.Tensor:
    """The size of the lesion of each slice of a split, (N,) float32, as
    :data:`trainables.denoiser.condition.LESIONS` counts it; of a version of the slices, those of the slices."""
    return load_tensors(folder / LESIONS)[0][split.split(" ")[0]]


def training_conditions(recipe: Recipe, latents: Entry) -> Conditions:
    """What the denoiser is told of the training slices, from which images draw."""
    told = training_categories(recipe, latents)
    return {
        "positions": training_positions(recipe, latents),
        "lesions": training_lesions(recipe, latents),
        "categories": told and told[0],
    }


def training_categories(recipe: Recipe, latents: Entry) -> tuple[torch.Tensor, dict[str, list[str]]] | None:
    """What :func:`read_categories` gives of the training split, from which images draw; None without labels."""
    labels = recipe.diffusion.label_condition
    return read_categories(latents.folder, "train", labels) if labels else None


def read_categories(folder: Path, split: str, labels: Sequence[str]) -> tuple[torch.Tensor, dict[str, list[str]]]:
    """The categories (N, K) float32 of a split's slices for these labels, and the names of the categories of each."""
    tensors, known = load_tensors(folder / CATEGORIES)
    columns = [list(known).index(label) for label in labels]
    return tensors[split][:, columns], {label: known[label] for label in labels}

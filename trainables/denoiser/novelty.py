"""How often each training slice is drawn: near-identical neighbours of one volume less often than what is new.

Legend: N slices, each with a latent (C, h, w), the posterior's mean, whitened.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 0.1
"""A slice counts as at least this share of the median distance from its neighbour, so that none is left out: of two
that are equal both are drawn, seldom."""


def distances_to_neighbours(latents: Tensor, volumes: Sequence[str]) -> Tensor:
    """Each latent's root mean square distance from the nearest other one of its volume, (N,) float64.

    A latent that is alone in its volume gets the largest distance of all; where all are alone, each gets 1.
    """
    flat = latents.flatten(1).double()
    nearest = torch.full((len(flat),), torch.nan, dtype=torch.float64)
    members: dict[str, list[int]] = {}
    for row, volume in enumerate(volumes):
        members.setdefault(volume, []).append(row)
    for rows in members.values():
        if len(rows) > 1:
            among = flat[rows]
            apart = torch.cdist(among, among, compute_mode="donot_use_mm_for_euclid_dist")
            nearest[rows] = apart.fill_diagonal_(torch.inf).amin(dim=1) / flat.shape[1] ** 0.5
    known = nearest[~nearest.isnan()]
    return nearest.nan_to_num(float(known.max()) if len(known) else 1.0)


def novelty_weights(distances: Tensor, power: float) -> Tensor:
    """How often each slice is drawn, (N,) float64 of mean 1: max(d, LEAST·median)^``power``, d its distance, scaled.

    Power 0 draws all equally often, 1 in proportion to the distance.
    """
    floor = LEAST * distances.median()
    weights = distances.clamp(min=max(float(floor), torch.finfo(torch.float64).tiny)) ** power
    return weights / weights.mean()

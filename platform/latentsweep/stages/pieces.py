"""Encodings in pieces, each kept as soon as it is there: an encoding that was ended goes on from those that it has.

A piece lies in the workspace of the latents, and is gone when they are complete. A bucket does not get it.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch

from trainables.autoencoder.training import CHUNK, encode_slices
from trainables.autoencoder.vae import Autoencoder
from trainables.errors import StoreError
from trainables.loop.checkpoint import load_tensors, save_tensors

ROWS_PER_PIECE = 16 * CHUNK
"""Slices of a piece: whole chunks, so that each slice is encoded beside the same others as without pieces."""

Posterior = tuple[torch.Tensor, torch.Tensor]
"""Mean and log-variance, float32 (N, C, h, w)."""

log = logging.getLogger(__name__)


def encode_in_pieces(
    model: Autoencoder, images: np.ndarray, device: torch.device, folder: Path, name: str
) -> Posterior:
    """As :func:`~trainables.autoencoder.training.encode_slices` of slices uint8 (N, H, W), bit for bit.

    Takes the pieces of these slices and this model that are in ``folder`` under ``name``, and leaves all others
    there. Raises :class:`StoreError` where they can't be written.
    """
    origin, found = digest_of(model), []
    for number, start in enumerate(range(0, max(1, len(images)), ROWS_PER_PIECE)):
        part = np.ascontiguousarray(images[start : start + ROWS_PER_PIECE])
        source = hashlib.sha256(origin.encode() + part.data).hexdigest()
        path = folder / f".{name.replace(' ', '-')}-{number:05d}.safetensors"  # no file of the result
        piece = _kept(path, source)
        if piece is None:
            piece = encode_slices(model, torch.from_numpy(part), device)
            save_tensors(path, {"mean": piece[0], "log_variance": piece[1]}, source)
        found.append(piece)
    means, log_variances = zip(*found, strict=True)
    return torch.cat(means), torch.cat(log_variances)


def digest_of(model: Autoencoder) -> str:
    """The SHA-256 of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _kept(path: Path, source: str) -> Posterior | None:
    """The piece at ``path``; None where there is none, a damaged one, or one of other slices or another model."""
    if not path.exists():
        return None
    try:
        tensors, of = load_tensors(path)
    except StoreError as error:
        log.warning("%s; it is encoded again", error)
        return None
    return (tensors["mean"], tensors["log_variance"]) if of == source else None

"""Weights and training state as safetensors files, written whole or not at all; no pickle anywhere."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from trainables.errors import StoreError, store_error, system_number
from trainables.loop.files import CHECKPOINT, previous

log = logging.getLogger(__name__)

KEPT = "kept/"
"""What the names of a loop's own tensors begin with in a checkpoint."""

_CONTENT = "latentsweep"

Network = TypeVar("Network", bound=torch.nn.Module)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], state: Any = None) -> None:
    """Writes ``tensors``, a JSON ``state`` and a digest of both to ``path``, under a temporary name, then renames it.

    The same content gives the same bytes. Raises a :class:`StoreError` where that fails, a
    :class:`~trainables.errors.DiskError` on a full or read-only disk, and leaves ``path`` as it was.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    detached = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    said = json.dumps(state)
    try:
        # One field, since safetensors writes several in any order.
        content = {"digest": _digest(detached, said), "state": said}
        save_file(detached, temporary, metadata={_CONTENT: json.dumps(content)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise store_error(
            f"{path.name} cannot be written ({error}); free some space and run the command again",
            system_number(error),
        ) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """The tensors and the state that :func:`save_tensors` wrote; raises :class:`StoreError` for any other file."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})[_CONTENT])
        digest, said = content["digest"], content["state"]
        state = json.loads(said)
    except (SafetensorError, OSError, json.JSONDecodeError, RecursionError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path.name} is not a whole safetensors file ({error}); move it away to build it again"
        ) from error
    if digest != _digest(tensors, said):
        raise StoreError(f"{path.name} has changed since it was written; move it away to build it again")
    return tensors, state


def with_weights(build: Callable[[], Network], weights: Mapping[str, torch.Tensor]) -> Network:
    """The network that ``build`` makes, with these weights, to be used and not trained.

    Raises ``RuntimeError`` for weights of another network, before memory is taken for one.
    """
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in build().state_dict().items()}
    if wanted != {name: value.shape for name, value in weights.items()}:
        raise RuntimeError("the weights are those of another network")
    network = build()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _digest(tensors: Mapping[str, torch.Tensor], state: str) -> str:
    """SHA-256 of names, shapes, types, values and state."""
    digest = hashlib.sha256(state.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class TrainingState:
    """What a loop continues from: networks, optimisers, scaler, and the records made so far."""

    modules: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    extra: dict[str, Any] = field(default_factory=dict)
    """What else a loop keeps, as JSON values."""
    step: int = 0
    records: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    """What else a loop keeps, as tensors."""

    def save(self, folder: Path) -> None:
        """Writes everything into ``folder``, or nothing; the previous checkpoint stays beside the new one."""
        path = folder / CHECKPOINT
        tensors = {f"{KEPT}{name}": tensor for name, tensor in self.kept.items()}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
        state = {"step": self.step, "records": self.records, "extra": self.extra, "scaler": self.scaler.state_dict()}
        if path.exists():
            os.replace(path, previous(path))
        save_tensors(path, tensors, state)

    def load(self, folder: Path) -> bool:
        """Restores the last checkpoint, or the previous one where that is damaged; False where there is neither."""
        path = folder / CHECKPOINT
        found = next(filter(None, map(_whole, (path, previous(path)))), None)
        if found is None:
            return False
        tensors, state = found
        self.kept = {k.removeprefix(KEPT): v for k, v in tensors.items() if k.startswith(KEPT)}
        for name, module in self.modules.items():
            prefix = f"{name}/"
            weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            module.load_state_dict(weights)
        for name, optimizer in self.optimizers.items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"{name}/"):
                    _, index, moment = key.split("/")
                    moments.setdefault(int(index), {})[moment] = value
            layout = optimizer.state_dict()
            optimizer.load_state_dict({"state": moments, "param_groups": layout["param_groups"]})
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.records, self.extra = state["step"], state["records"], state["extra"]
        return True


def _whole(path: Path) -> tuple[dict[str, torch.Tensor], Any] | None:
    """The content of a checkpoint; None where there is none, or a damaged one, which is removed."""
    if not path.exists():
        return None
    try:
        return load_tensors(path)
    except StoreError as error:
        log.warning("%s; the training goes on from an earlier one", error)
        path.unlink()
        return None

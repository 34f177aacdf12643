"""Weights and training state as safetensors files, written whole or not at all; no pickle anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from trainables.errors import StoreError


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], state: Any = None) -> None:
    """Writes ``tensors`` and a JSON ``state`` to ``path`` under a temporary name, then renames it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    detached = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_file(detached, temporary, metadata={"state": json.dumps(state)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """What :func:`save_tensors` wrote; raises :class:`StoreError` for a file that is cut or is none."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = json.loads(metadata.get("state", "null"))
    except (SafetensorError, OSError, json.JSONDecodeError, RecursionError) as error:
        raise StoreError(
            f"{path.name} is not a whole safetensors file ({error}); delete it to build it again"
        ) from error
    return tensors, state


@dataclass
class TrainingState:
    """All that a loop continues from: networks, optimiser, scaler, and the records made so far."""

    modules: dict[str, torch.nn.Module]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int
    records: list[dict[str, float]]
    extra: dict[str, Any]

    def save(self, path: Path) -> None:
        """Writes everything to ``path``, or nothing."""
        tensors: dict[str, torch.Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in moments.items()}
        state = {"step": self.step, "records": self.records, "extra": self.extra, "scaler": self.scaler.state_dict()}
        save_tensors(path, tensors, state)

    def load(self, path: Path) -> bool:
        """Restores what :meth:`save` wrote; False where there is no file, or a damaged one (then from step 0)."""
        if not path.exists():
            return False
        try:
            tensors, state = load_tensors(path)
        except StoreError:
            path.unlink(missing_ok=True)
            return False
        for name, module in self.modules.items():
            prefix = f"{name}/"
            weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            module.load_state_dict(weights)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, moment = key.split("/")
                moments.setdefault(int(index), {})[moment] = value
        layout = self.optimizer.state_dict()
        self.optimizer.load_state_dict({"state": moments, "param_groups": layout["param_groups"]})
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.records, self.extra = state["step"], state["records"], state["extra"]
        return True

"""The one folder under which everything that a user makes lies."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.errors import StoreError


@dataclass(frozen=True)
class Home:
    """Where things are; nothing is made before it is needed."""

    root: Path

    @property
    def datasets(self) -> Path:
        """Prepared datasets, a folder each."""
        return self.root / "datasets"

    @property
    def store(self) -> Path:
        """The stage store."""
        return self.root / "store"

    @property
    def sweeps(self) -> Path:
        """Sweeps, a folder each: the Optuna study, the settings, the log."""
        return self.root / "sweeps"

    @property
    def ablations(self) -> Path:
        """Ablation studies, a folder each: the plan, what failed, the tables."""
        return self.root / "ablations"

    @property
    def trained(self) -> Path:
        """Retrained configurations, a folder each."""
        return self.root / "trained"

    def writable(self, folder: Path) -> Path:
        """Makes ``folder`` if it must and returns it; raises :class:`StoreError` where it can't be written."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"the folder {folder} must be writable ({error.strerror}); choose another with --home"
            ) from error
        return folder


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under a temporary name, then renames it: a reader sees the old or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

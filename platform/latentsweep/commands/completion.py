"""What a shell completes: names of datasets, sweeps and recipes. Looks at names of folders, and imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from latentsweep.datasets.catalogue import BUILT_IN, KNOWN
from latentsweep.storage.home import Home

RECIPES = ("paper", "improved", "small", "smoke")
"""The names in :data:`trainables.recipes.RECIPES`, which imports torch."""


def recipes(incomplete: str) -> list[str]:
    """The recipes whose names begin with ``incomplete``."""
    return _fitting(RECIPES, incomplete)


def known(incomplete: str) -> list[str]:
    """The datasets that ``data prepare`` knows by name."""
    return _fitting(KNOWN, incomplete)


def datasets(ctx: typer.Context, incomplete: str) -> list[str]:
    """The prepared datasets of the home, and the built-in one, which is prepared where it is asked for."""
    return _fitting({BUILT_IN, *_names(_home(ctx).datasets, "manifest.json")}, incomplete)


def sweeps(ctx: typer.Context, incomplete: str) -> list[str]:
    """The sweeps of the home."""
    return _fitting(_names(_home(ctx).sweeps, "sweep.json"), incomplete)


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """What ``lint`` looks at: datasets and sweeps of the home."""
    home = _home(ctx)
    return _fitting({*_names(home.datasets, "manifest.json"), *_names(home.sweeps, "sweep.json")}, incomplete)


def _home(ctx: typer.Context) -> Home:
    """The home of a line that isn't finished: its option, else the environment's, else the default."""
    given: Any = ctx.params.get("home")
    return Home(Path(given or os.environ.get("LATENTSWEEP_HOME") or "runs"))


def _names(folder: Path, file: str) -> list[str]:
    """The folders right below ``folder`` that hold ``file``."""
    return [path.parent.name for path in folder.glob(f"*/{file}")]


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))

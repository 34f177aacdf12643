"""Packages with plug-ins, as an installation leaves them in a folder: a module, and what it says of itself."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path


def add_package(
    folder: Path, name: str, code: str, points: Mapping[str, Mapping[str, str]], version: str = "1.0"
) -> None:
    """Puts the package ``name`` with one module of ``code`` into a folder of packages.

    ``points`` are the names of its entry points by kind, each with what the module calls it.
    """
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for kind, named in points.items():
        lines += [f"[latentsweep.{kind}]", *(f"{point} = {module}:{target}" for point, target in named.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def entry_points_in(folder: Path) -> importlib.metadata.EntryPoints:
    """The entry points of the packages in a folder."""
    found = [point for each in importlib.metadata.distributions(path=[str(folder)]) for point in each.entry_points]
    return importlib.metadata.EntryPoints(found)

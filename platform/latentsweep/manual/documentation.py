"""Writes ``docs/configuration.md``, ``docs/lints.md`` and ``docs/commands/`` from the code, so that none lags."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from latentsweep.configuration import EXECUTION, scalar
from latentsweep.lints import catalogue
from latentsweep.manual.pages import command_pages
from latentsweep.pages.plugins import allowed
from latentsweep.search.choice import SearchConfig
from trainables.config import Config
from trainables.loop.settings import Execution
from trainables.recipes import RECIPES, Recipe

LINTS_HEAD = """# Lints

Where a setting, the data or a result would mislead, `python cli.py lint` says so, with what was measured and what to
do. Sweeps and trainings look by themselves, before and after. Each code that fired is a tag of the run in MLflow:
filter the table of runs by ``tags.`latentsweep.lints` LIKE '%near-copies%'``. This page is written by `make docs`.

"""

HEAD = """# Configuration

Every field of a recipe, what it means, what it may be, and its value in each recipe. A field is changed
by `--set section.field=value`, searched by naming it in a search space, and edited in an exported YAML file.
This page is written by `make docs`; a test fails where it lags.
"""


def pages() -> dict[str, str]:
    """The pages by their paths below ``docs/``."""
    commands = {f"commands/{name}": text for name, text in command_pages().items()}
    return {"configuration.md": configuration(), "lints.md": LINTS_HEAD + catalogue(), **commands}


def configuration() -> str:
    """Every field of a recipe, as Markdown."""
    parts = [HEAD]
    for section in dataclasses.fields(Recipe):
        values = {name: getattr(recipe, section.name) for name, recipe in RECIPES.items()}
        parts.append(f"\n## {section.name}: {section.metadata['doc']}\n")
        parts.append("| field | meaning | allowed | " + " | ".join(f"`{name}`" for name in RECIPES) + " |")
        parts.append("| --- | --- | --- |" + " --- |" * len(RECIPES))
        for field in builtin(next(iter(values.values()))):
            cells = [f"`{scalar(config.to_dict()[field.name])}`" for config in values.values()]
            parts.append(row(field, [f"`{section.name}.{field.name}`"], cells))
    for title, prefix, config in (("Execution", EXECUTION, Execution()), ("Search", "", SearchConfig())):
        parts.append(f"\n## {title}: {(type(config).__doc__ or '').splitlines()[0]}\n")
        parts.append("| field | meaning | allowed | default |\n| --- | --- | --- | --- |")
        for field in dataclasses.fields(config):
            parts.append(row(field, [f"`{prefix}{field.name}`"], [f"`{scalar(config.to_dict()[field.name])}`"]))
    return "\n".join(parts) + "\n"


def builtin(config: Config) -> list[dataclasses.Field[Any]]:
    """The fields that are there without a plug-in: a page must not depend on what else is installed."""
    return [field for field in dataclasses.fields(config) if "plugin" not in field.metadata]


def row(field: dataclasses.Field[Any], names: list[str], values: list[str]) -> str:
    """One field's row."""
    cells = [*names, field.metadata["doc"].replace("|", "\\|"), allowed(field) or "–", *values]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for name, text in pages().items():
        Path("docs", name).parent.mkdir(exist_ok=True)
        Path("docs", name).write_text(text)

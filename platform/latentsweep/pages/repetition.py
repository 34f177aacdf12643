"""What is needed to repeat a run: the fields that differ from a named recipe, packages and machine."""

from __future__ import annotations

import importlib.metadata

from latentsweep.configuration import scalar
from latentsweep.pages.numbers import number
from trainables.loop.machine import cores, has_card_driver
from trainables.recipes import Recipe
from trainables.space import Value

PACKAGES = ("latentsweep", "torch", "ray", "optuna", "mlflow", "numpy")
"""Those that decide what a run gives."""


def differences(reference: Recipe, recipe: Recipe) -> dict[str, Value]:
    """The dotted fields in which ``recipe`` differs from ``reference``, with its values."""
    theirs = flat(reference)
    return {field: value for field, value in flat(recipe).items() if value != theirs.get(field)}


def flat(recipe: Recipe) -> dict[str, Value]:
    """A recipe's values by dotted field."""
    return {
        f"{section}.{name}": value for section, values in recipe.to_dict().items() for name, value in values.items()
    }


def assignment(field: str, value: Value) -> list[str]:
    """The words of a command that set a field of the recipe."""
    return ["--set", f"{field}={scalar(value)}"]


def versions() -> str:
    """The installed versions of :data:`PACKAGES`."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def machine() -> str:
    """Cores and graphics cards, in words."""
    names = []
    if has_card_driver():
        from trainables.loop import cards  # imports torch, which takes two seconds

        names = cards.names()
    return f"{number(cores(), 'CPU core')}, {', '.join(names) or 'no CUDA card'}"

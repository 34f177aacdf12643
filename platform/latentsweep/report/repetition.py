"""Everything that is needed to repeat a sweep: its command, its space, and what it ran with."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from latentsweep.configuration import scalar
from latentsweep.report.source import Source
from latentsweep.search.plan import threads_of
from latentsweep.search.study import SearchConfig
from trainables.loop import cards
from trainables.loop.execution import cores
from trainables.recipes import RECIPES, Recipe
from trainables.space import THRESHOLD, SearchSpace

PACKAGES = ("latentsweep", "torch", "ray", "optuna", "mlflow", "numpy")
GRID = "sampling.threshold_grid"
SPACE_FILE = "space.yaml"


def differences(source: Source) -> list[tuple[str, Any, Any]]:
    """Every field of the recipe that isn't the named recipe's: field, the named value, the sweep's.

    The grid of thresholds is left out where it follows from the space, as is everything of a recipe without a name.
    """
    named = RECIPES.get(source.plan.recipe_name)
    if named is None:
        return []
    here, there = flat(source.plan.recipe), flat(named)
    follows = {GRID} if THRESHOLD in source.search.space.dimensions else set()
    return [
        (field, there[field], value)
        for field, value in here.items()
        if value != there[field] and field not in follows
    ]


def flat(recipe: Recipe) -> dict[str, Any]:
    """The recipe's values by dotted field."""
    return {
        f"{section}.{name}": value for section, values in recipe.to_dict().items() for name, value in values.items()
    }


def command(source: Source) -> str:
    """The command that makes the same sweep."""
    search, plan = source.search, source.plan
    usual = SearchConfig()
    words = ["python", "cli.py", "sweep", "--dataset", plan.dataset, "--recipe", source.plan.recipe_name]
    words += ["--trials", str(max(1, len(search.run_trials())))]
    if space_yaml(source):
        words += ["--space", SPACE_FILE]
    if search.config.objectives != usual.objectives:
        words += [word for name in search.config.objectives for word in ("--objective", name)]
    for option in ("sampler", "pruner"):
        if getattr(search.config, option) != getattr(usual, option):
            words += [f"--{option}", getattr(search.config, option)]
    if search.seed:
        words += ["--seed", str(search.seed)]
    for field, _, value in differences(source):
        words += ["--split", value] if field == "data.split" else ["--set", f"{field}={scalar(value)}"]
    return shlex.join(words)


def space_yaml(source: Source) -> str | None:
    """The search space as a file for ``--space``; None where it is the one that comes for the dataset."""
    plain = source.search.space.to_plain()
    own = own_space(source.plan.dataset).typed(source.plan.recipe).to_plain()
    if plain["dimensions"] == own["dimensions"]:
        return None
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def own_space(dataset: str) -> SearchSpace:
    """The space that comes for a dataset; kaggle's for one of a user's own."""
    name = f"search_spaces.{dataset}"
    module = importlib.import_module(name if importlib.util.find_spec(name) else "search_spaces.kaggle")
    space: SearchSpace = module.SPACE
    return space


def provenance(source: Source) -> list[tuple[str, str]]:
    """What the sweep ran with, as names and values."""
    plan = source.plan
    return [
        ("Dataset fingerprint", plan.fingerprint),
        ("Seed", str(plan.seed)),
        ("Inception weights, SHA-256", plan.weights),
        ("Threads of a training", str(threads_of(source.folder))),
        ("Results computed by", results_code(source) or "not recorded"),
        ("Packages when this report was written", ", ".join(f"{name} {found}" for name, found in versions().items())),
        ("Machine that wrote this report", machine()),
    ]


def results_code(source: Source) -> str:
    """The latentsweep versions that computed the measured results, as the store recorded them."""
    codes = {
        str(entry.manifest["code"])
        for trial in source.search.run_trials()
        if "metrics" in trial.user_attrs
        for entry in source.entries(trial).values()
    }
    return ", ".join(f"latentsweep {code}" for code in sorted(codes))


def versions() -> Mapping[str, str]:
    """The packages that decide what a sweep gives."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> str:
    """Cores and graphics cards, in words."""
    count = cores()
    cpu = "1 CPU core" if count == 1 else f"{count} CPU cores"
    return f"{cpu}, {', '.join(cards.names()) or 'no CUDA card'}"

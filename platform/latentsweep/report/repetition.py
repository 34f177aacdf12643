"""Everything that is needed to repeat a sweep: its command, its space, and what it ran with."""

from __future__ import annotations

import shlex

import yaml

from latentsweep.pages.numbers import UNKNOWN
from latentsweep.pages.repetition import assignment, differences, flat, machine, versions
from latentsweep.program.invocation import documented
from latentsweep.report.source import Source
from latentsweep.search.choice import SearchConfig
from latentsweep.search.confirmation import SEEDS, Extent, last_extent
from latentsweep.search.plan import threads_words
from latentsweep.search.spaces import own_space
from latentsweep.search.warm_start import most_configurations
from latentsweep.stages.guards import DESPITE
from trainables.recipes import RECIPES
from trainables.space import THRESHOLD, Value

GRID = "sampling.threshold_grid"
SPACE_FILE = "space.yaml"


def changes(source: Source) -> list[tuple[str, Value, Value]]:
    """Every field of the recipe that isn't the named recipe's: field, the named value, the sweep's.

    A field of a plug-in has a dash for a named value. The grid of thresholds is left out where it follows from
    the space, as is everything of a recipe without a name.
    """
    named = RECIPES.get(source.plan.recipe_name)
    if named is None:
        return []
    there, found = flat(named), differences(named, source.plan.recipe)
    if THRESHOLD in source.search.space.dimensions:
        found.pop(GRID, None)
    return [(field, there.get(field, UNKNOWN), value) for field, value in found.items()]


def command(source: Source) -> str:
    """The command that makes the same sweep."""
    search, plan, usual = source.search, source.plan, SearchConfig()
    words = ["--dataset", plan.dataset, "--recipe", plan.recipe_name]
    words += ["--trials", str(max(1, len(search.run_trials())))]
    words += confirm_words(source)
    if space_yaml(source):
        words += ["--space", SPACE_FILE]
    if search.config.objectives != usual.objectives:
        words += [word for name in search.config.objectives for word in ("--objective", name)]
    for option in ("sampler", "pruner"):
        if getattr(search.config, option) != getattr(usual, option):
            words += [f"--{option}", getattr(search.config, option)]
    if not search.config.guarded:
        words.append(DESPITE)
    if not search.warm_start and most_configurations(plan, len(search.run_trials())):
        words += ["--warm-start", "0"]
    if search.seed:
        words += ["--seed", str(search.seed)]
    for field, _, value in changes(source):
        words += ["--split", str(value)] if field == "data.split" else assignment(field, value)
    return documented(f"sweep {shlex.join(words)}")


def confirm_words(source: Source) -> list[str]:
    """The options that confirm what was confirmed, where the defaults don't."""
    then, usual = last_extent(source.search), Extent.of(None, SEEDS, source.plan, len(source.search.run_trials()))
    words = []
    if then.configurations != usual.configurations:
        words += ["--confirm", str(then.configurations)]
    if then.configurations and then.seeds != usual.seeds:
        words += ["--confirm-seeds", str(then.seeds)]
    return words


def space_yaml(source: Source) -> str | None:
    """The search space as a file for ``--space``; None where it is the one that comes for the dataset."""
    plain = source.search.space.to_plain()
    own = own_space(source.plan.dataset).with_field_types(source.plan.recipe).to_plain()
    if plain["dimensions"] == own["dimensions"]:
        return None
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def provenance(source: Source) -> list[tuple[str, str]]:
    """What the sweep ran with, as names and values."""
    trials = [trial for trial in source.search.run_trials() if "metrics" in trial.user_attrs]
    found = source.search.warm_start
    codes = {str(entry.manifest["code"]) for trial in trials for entry in source.entries(trial).values()}
    return [
        ("Dataset fingerprint", source.plan.fingerprint),
        ("Seed", str(source.plan.seed)),
        *([("Tried first", f"{', '.join(found)}: another home begins with its own")] if found else []),
        ("Inception weights, SHA-256", source.plan.weights),
        ("Threads of a training", threads_words(source.folder)),
        ("Results computed by", ", ".join(f"latentsweep {code}" for code in sorted(codes)) or "not recorded"),
        ("Packages when this report was written", versions()),
        ("Machine that wrote this report", machine()),
    ]

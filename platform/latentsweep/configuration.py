"""A configuration as a file: ``export`` writes it, a person edits it, and ``train`` and others read it."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from latentsweep.program.invocation import documented, hint
from trainables.config import Config, is_whole, shown
from trainables.errors import ConfigError
from trainables.loop.files import write_whole
from trainables.loop.settings import Execution
from trainables.recipes import Recipe

CONFIG = "config.yaml"
"""The file of a configuration in the folder of a model."""
VERSION = 1
DEEPEST = 32
"""Levels of lists and mappings in a file that is read."""
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
EXECUTION = "execution."
"""The beginning of the names of an execution's fields in ``--set``."""
BY_OPTION = {
    "threads": "--concurrent, and for train by its file",
    "workers": "--workers of train and plan",
    "memory_gib": "--card-gib",
}
"""The fields of an execution that a job sets itself, and the options that decide them."""
ORIGIN = {
    "sweep": ("a text", str),
    "trial": ("a whole number", int),
    "dataset_fingerprint": ("a text", str),
    "selection": ("a mapping", Mapping | None),
    "confirmed": ("a mapping, or false", Mapping | bool | None),
}
"""What the entries of an origin that are read must be."""
ENTRIES = ("version", "dataset", "trained_on", "seed", "execution", "recipe", "origin")


@dataclass(frozen=True)
class Configuration:
    """All that a training needs except the data: dataset name, seed, execution, recipe, and where it came from."""

    dataset: str
    seed: int
    recipe: Recipe
    execution: Execution = field(default_factory=Execution)
    origin: Mapping[str, Any] = field(default_factory=dict)
    trained_on: str = ""
    """The fingerprint of the dataset that a model was trained on; empty in a configuration that isn't a model's."""

    @property
    def fingerprint(self) -> str:
        """That of the dataset that it was trained on, or that the sweep had which it comes from.

        Empty where none is known, and where ``dataset`` names another than the sweep's.
        """
        if self.trained_on or not isinstance(self.origin, Mapping):
            return self.trained_on
        sweep = str(self.origin.get("sweep", "")).removeprefix(f"{self.dataset}-")
        if sweep.count("-") != 1:  # a recipe's name and a digest are left of a sweep's name
            return ""
        return str(self.origin.get("dataset_fingerprint", ""))

    @property
    def chosen_with(self) -> tuple[int, ...]:
        """The seeds by whose scores a sweep chose this configuration; none where it has no origin.

        They are ``selection.seed``, which older files state as their own alone, and ``confirmed.seeds``. Raises
        :class:`ConfigError` where one is no whole number of 0 or more.
        """
        if not self.origin:
            return ()
        selection, confirmed = (
            each if isinstance(each := self.origin.get(name), Mapping) else {} for name in ("selection", "confirmed")
        )
        seeds = confirmed.get("seeds", ())
        found = [selection.get("seed", self.seed), *(seeds if isinstance(seeds, list | tuple) else [seeds])]
        for seed in found:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise ConfigError(
                    "origin.selection.seed and origin.confirmed.seeds are the whole numbers from 0 on that a "
                    f"configuration was chosen with, got {seed!r}; export it again from its sweep"
                )
        return tuple(sorted(set(found)))

    def with_steps(self, steps: int | None) -> Configuration:
        """The same with that number of denoiser steps; None leaves it as it is."""
        if steps is None:
            return self
        return dataclasses.replace(self, recipe=self.recipe.replace(**{"diffusion.steps": steps}))

    def with_settings(self, settings: Sequence[str]) -> Configuration:
        """The same changed by ``field=value`` settings; raises :class:`ConfigError` for one that is refused."""
        of_recipe, execution = execution_of(settings, None, self.execution)
        return dataclasses.replace(self, recipe=overridden(self.recipe, of_recipe), execution=execution)

    def on_device(self, device: str | None) -> Configuration:
        """The same on another device; None leaves it as it is."""
        if device is None:
            return self
        return dataclasses.replace(self, execution=self.execution.replace(device=device))

    def write(self, path: Path) -> None:
        """Writes YAML, every field with its meaning behind it."""
        lines = [
            "# A latentsweep configuration. Edit what you like: an edited one is trained anew, an unchanged one",
            "# is answered from the store. Train it with:  " + documented(f"train --config {shlex.quote(path.name)}"),
            f"version: {VERSION}",
            f"dataset: {scalar(self.dataset)}",
            *([f"trained_on: {scalar(self.trained_on)}  # the dataset's fingerprint"] if self.trained_on else []),
            f"seed: {self.seed}",
            "",
            "execution:  # how it was run; on the CPU, the same bits need the same threads",
            *_lines(self.execution),
            "",
            "recipe:",
        ]
        for section in dataclasses.fields(self.recipe):
            lines += [
                f"  {section.name}:  # {section.metadata['doc']}",
                *_lines(getattr(self.recipe, section.name), "    "),
            ]
        if self.origin:
            text = yaml.safe_dump({"origin": dict(self.origin)}, sort_keys=False, allow_unicode=True, width=100)
            lines += ["", "# Where this came from; for the record only.", text.rstrip()]
        write_whole(path, "\n".join(lines) + "\n")


def read_configuration(path: Path) -> Configuration:
    """Reads what :meth:`Configuration.write` wrote; raises :class:`ConfigError` for anything else."""
    try:
        content = plain_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration {path}; write one with: {hint('export')}") from None
    except IsADirectoryError:
        raise ConfigError(f"a configuration is a YAML file, and {path} is a folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        problem = f": {error.problem}" if isinstance(error, ConstructorError) and error.problem else ""
        line = f" (line {where.line + 1}{problem})" if where else ""
        raise ConfigError(f"{path} is not YAML{line}; write it anew with: {hint('export')}") from error
    if not isinstance(content, dict) or "recipe" not in content:
        raise ConfigError(
            f"{path} is not a latentsweep configuration (no 'recipe'); write one with: {hint('export')}"
        )
    if content.get("version") != VERSION:
        raise ConfigError(
            f"{path} is of version {content.get('version')!r} and this latentsweep reads version {VERSION}; "
            "export it again from its sweep"
        )
    for entry in content:
        if entry not in ENTRIES:
            raise ConfigError(f"{path}: unknown entry {entry!r}; known entries: {', '.join(ENTRIES)}")
    dataset, seed, trained_on = content.get("dataset"), content.get("seed"), content.get("trained_on", "")
    if not isinstance(dataset, str) or not is_whole(seed):
        raise ConfigError(
            f"{path} must name a dataset and a whole number as seed, got {shown(dataset)} and {shown(seed)}"
        )
    if not isinstance(trained_on, str):
        raise ConfigError(
            f"{path}: trained_on is a dataset's fingerprint, a text, got {shown(trained_on)}; take it out"
        )
    recipe = Recipe.from_dict(content["recipe"], where="recipe")
    origin = content.get("origin") or {}
    check_origin(origin, recipe)
    return Configuration(
        dataset,
        seed,
        recipe,
        Execution.from_dict(content.get("execution") or {}, where="execution"),
        origin,
        trained_on,
    )


def check_origin(origin: Any, recipe: Recipe) -> None:
    """Raises :class:`ConfigError` where an origin isn't of the form that an export writes: it is read at the end."""
    fields = {
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(recipe)
        for field in dataclasses.fields(getattr(recipe, section.name))
    }
    parameters = origin.get("parameters", {}) if isinstance(origin, Mapping) else {}
    faults = {
        "origin must be a mapping": not isinstance(origin, Mapping),
        "origin.parameters must be a mapping of the recipe's fields": not isinstance(parameters, Mapping)
        or not all(isinstance(name, str) and name in fields for name in parameters),
        **{
            f"origin.{name} must be {words}": isinstance(origin, Mapping)
            and name in origin
            and not isinstance(origin[name], kind)
            for name, (words, kind) in ORIGIN.items()
        },
    }
    for rule, broken in faults.items():
        if broken:
            raise ConfigError(f"{rule}, got {shown(origin)}; export it again from its sweep, or remove all of origin")


def overridden(recipe: Recipe, settings: list[str]) -> Recipe:
    """The recipe changed by ``field=value`` settings; raises :class:`ConfigError` for one that it refuses."""
    return recipe.replace(**changes_of(settings))


def execution_of(
    settings: Sequence[str], device: str | None, execution: Execution | None = None
) -> tuple[list[str], Execution]:
    """The settings that are of a recipe; and ``execution`` changed by the others, on ``device`` where one is named.

    Raises :class:`ConfigError` for a setting that the execution refuses or that the job itself sets.
    """
    named = [text.strip() for text in settings if text.strip().startswith(EXECUTION)]
    changes = changes_of([text.removeprefix(EXECUTION) for text in named])
    for name, option in BY_OPTION.items():
        if name in changes:
            raise ConfigError(f"--set {EXECUTION}{name} must be left to the job, which sets it by {option}")
    if device is not None:
        changes["device"] = device
    return [text for text in settings if text.strip() not in named], (execution or Execution()).replace(**changes)


def changes_of(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """The values by field of ``field=value`` settings, each value read as YAML.

    1e-4 is read as a number, which YAML 1.1 takes for a text. Raises :class:`ConfigError`, which names the ``option``
    by which the settings were given.
    """
    changes = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} takes field=value, such as diffusion.steps=2000; got {text!r}")
        try:
            changes[name.strip()] = float(value) if EXPONENT.fullmatch(value.strip()) else plain_yaml(value)
        except yaml.YAMLError:
            raise ConfigError(f"{option} {name.strip()}: the value {value!r} is not YAML") from None
    return changes


def plain_yaml(text: str) -> Any:
    """The value of a YAML text; raises :class:`yaml.YAMLError`, also for an alias or more than ``DEEPEST`` levels.

    By aliases a few lines can stand for more than memory holds, and thousands of brackets take the parser minutes;
    nothing that is written here has either. Of a key that stands twice, one would count and nobody would know which.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise yaml.YAMLError("an alias, or too many levels")
        _refuse_twice(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (ValueError, RecursionError) as error:  # an impossible date, a number or a nesting beyond Python's limits
        raise yaml.YAMLError(str(error)) from error


def _refuse_twice(node: yaml.Node | None) -> None:
    """Raises :class:`ConstructorError` for a mapping in which a key stands twice."""
    if isinstance(node, yaml.SequenceNode):
        for member in node.value:
            _refuse_twice(member)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen and name is not None:
                raise ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(name)
            _refuse_twice(value)


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _lines(config: Config, indent: str = "  ") -> list[str]:
    values = config.to_dict()
    width = max(len(f"{name}: {scalar(value)}") for name, value in values.items())
    return [
        indent + f"{f.name}: {scalar(values[f.name])}".ljust(min(width, 40)) + f"  # {f.metadata['doc']}"
        for f in dataclasses.fields(config)
        if f.name in values
    ]

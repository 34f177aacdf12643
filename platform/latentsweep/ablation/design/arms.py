"""Arms that are whole configurations: a recipe or a file of ``export``, with changes, under a name for people."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentsweep.configuration import changes_of, read_configuration
from trainables.errors import ConfigError
from trainables.recipes import RECIPES, Recipe

WHOLE = "arms"
"""The design whose arms are whole configurations."""

SYNTAX = '--arm takes "[NAME = ]RECIPE [field=value …]", RECIPE one of {known} or a configuration file (.yaml)'
NAMED = re.compile(r"\s+=\s+")
CHANGE = re.compile(r"\s+(?=\w+(?:\.\w+)+=)")
"""Where the next field=value begins: values may hold spaces, as lists do."""


@dataclass(frozen=True)
class GivenArm:
    """One arm: its name, what stands for it on the command line, and its recipe with what all arms have in common."""

    name: str
    words: str
    recipe: Recipe
    chosen_with: tuple[int, ...] = dataclasses.field(default=(), compare=False)
    """The seeds by whose scores it was chosen, which the plan keeps."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> GivenArm:
        """The inverse of :meth:`to_plain`."""
        return cls(plain["name"], plain["words"], Recipe.from_dict(plain["recipe"]))

    def to_plain(self) -> dict[str, Any]:
        """As it is written to ``ablation.json``."""
        return {"name": self.name, "words": self.words, "recipe": self.recipe.to_dict()}

    def identity(self) -> dict[str, Any]:
        """What the study's name is made of; the words are not: a file may move."""
        return {"name": self.name, "recipe": self.recipe.identity()}

    @property
    def option(self) -> str:
        """The value of ``--arm`` that stands for it."""
        return f"{self.name} = {self.words}"

    @property
    def source(self) -> str:
        """The name of its recipe, or of its file, as it may stand in a study's name."""
        return slug(Path(CHANGE.split(self.words)[0]).stem)


def arms_of(
    design: str, texts: Sequence[str], settings: Sequence[str], others: Mapping[str, str | None]
) -> tuple[GivenArm, ...]:
    """The arms of a design by the options of ``ablate``, none where it makes them of components.

    ``others`` are the options by their names that say what those are made of. Raises :class:`ConfigError` for options
    that contradict each other, and as :func:`given_arms`.
    """
    if design != WHOLE:
        if texts:
            raise ConfigError(f"--arm goes with --design {WHOLE}, got --design {design}; leave one of them out")
        return ()
    for option, value in others.items():
        if value is not None:
            raise ConfigError(f"{option} says what arms are made of, and each --arm is whole; leave {option} out")
    return given_arms(texts, settings)


def given_arms(texts: Sequence[str], settings: Sequence[str]) -> tuple[GivenArm, ...]:
    """The arms of ``--arm`` options, the reference first; ``settings`` are the ``--set field=value`` of all of them.

    Raises :class:`ConfigError` for fewer than two, one named or made twice, a recipe that there isn't, and arms that
    can't be compared since they would be measured on other slices.
    """
    if len(texts) < 2:
        raise ConfigError(
            f"--design arms takes --arm twice or more, the reference first, got {len(texts)}; "
            "such as --arm improved --arm paper --set data.split=subject"
        )
    arms = tuple(_given(text, settings) for text in texts)
    reference, *others = arms
    names = [slug(arm.name) for arm in arms]
    for name, arm in zip(names, arms, strict=True):
        if not name or names.count(name) > 1:
            raise ConfigError(
                f"every --arm needs a name of its own, with a letter or digit in it, and {arm.name!r} has none; "
                'give it one: --arm "NAME = …"'
            )
    for arm in others:
        _check_comparable(reference, arm)
    made: dict[str, str] = {}
    for arm in arms:
        twin = made.setdefault(str(arm.recipe.identity()), arm.name)
        if twin != arm.name:
            raise ConfigError(
                f"the arms {twin!r} and {arm.name!r} are one configuration; leave one out, or change it"
            )
    return arms


def _given(text: str, settings: Sequence[str]) -> GivenArm:
    name, words = (NAMED.split(text, maxsplit=1) if NAMED.search(text) else ["", text])[:2]
    source, *own_settings = (part.strip() for part in CHANGE.split(words.strip()))
    name, words = name.strip() or ", ".join([source, *own_settings]), " ".join([source, *own_settings])
    common, own = changes_of(settings), changes_of(own_settings, "--arm")
    for field in own:
        if field in common:
            raise ConfigError(f"the arm {name!r} and --set both give {field}; leave one of them out")
    recipe, chosen_with = _recipe(source)
    recipe = recipe.replace(**common, **own)
    return GivenArm(name, words, recipe.replace(**{"sampling.threshold_grid": ()}), chosen_with)


def _recipe(source: str) -> tuple[Recipe, tuple[int, ...]]:
    """The recipe that ``source`` names, and the seeds that it was chosen with."""
    if source in RECIPES:
        return RECIPES[source], ()
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        configuration = read_configuration(path)
        return configuration.recipe, configuration.chosen_with
    raise ConfigError(f"{SYNTAX.format(known=', '.join(RECIPES))}; got {source!r}")


def _check_comparable(reference: GivenArm, arm: GivenArm) -> None:
    """Whether two arms see the same slices and are measured with the same number of images."""
    for section, fields in (("data", None), ("evaluation", ("samples", "bootstrap"))):
        ours, theirs = (each.recipe.to_dict()[section] for each in (arm, reference))
        for name in fields or ours:
            if ours[name] != theirs[name]:
                common = "subject" if name == "split" else theirs[name]
                raise ConfigError(
                    f"arms are compared on the same slices, and {section}.{name} is {ours[name]} in {arm.name!r} and "
                    f"{theirs[name]} in {reference.name!r}; give all arms one: --set {section}.{name}={common}"
                )


def slug(name: str) -> str:
    """A name as it may stand in a key: letters, digits, points, dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name.replace("×", "x")).strip("-")

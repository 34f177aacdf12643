"""Which arms a study has, and which contrasts of them answer its question."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentsweep.ablation.design.arms import WHOLE, GivenArm
from latentsweep.ablation.design.components import Component, with_components
from latentsweep.ablation.statistics.effect import Contrast
from latentsweep.pages.repetition import differences
from trainables.errors import ConfigError
from trainables.recipes import Recipe
from trainables.space import THRESHOLD, Value

DESIGNS = ("leave-one-out", "one-at-a-time", "factorial")
"""Those whose arms are made of components."""


@dataclass(frozen=True)
class Arm:
    """One configuration of a study; ``changes`` are the fields in which it differs from the reference."""

    name: str
    recipe: Recipe
    changes: Mapping[str, Value]


@dataclass(frozen=True)
class Design:
    """The arms, the first of which is the reference, and what is asked of them."""

    kind: str
    components: tuple[Component, ...]
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def reference(self) -> Arm:
        """The arm that all others are compared with."""
        return self.arms[0]

    @property
    def words(self) -> str:
        """What is compared with what."""
        if self.kind == WHOLE:
            others = "; ".join(arm.name for arm in self.arms[1:])
            return f"whole configurations, each against {self.reference.name}: {others}"
        names = ", ".join(component.name for component in self.components)
        return {
            "leave-one-out": f"the full recipe against itself with each of {names} taken out",
            "one-at-a-time": f"the bare recipe against itself with each of {names} put in",
            "factorial": f"every combination of {names}: main effects and interactions",
        }[self.kind]


def design_of(base: Recipe, components: Sequence[Component], kind: str) -> Design:
    """The design of that kind; raises :class:`ConfigError` for another, or a configuration that can't be.

    All arms get one grid of early-stop thresholds, so that arms which differ in the threshold alone share even
    their samples.
    """
    if kind not in DESIGNS:
        raise ConfigError(f"--design must be one of {', '.join((*DESIGNS, WHOLE))}; got {kind!r}")
    thresholds = sorted(
        {float(fields[THRESHOLD]) for each in components for fields in (each.on, each.off) if THRESHOLD in fields}
        | {base.sampling.early_stop_threshold}
    )
    base = base.replace(**{"sampling.threshold_grid": thresholds if len(thresholds) > 1 else ()})
    if kind == "factorial":
        if len(components) < 2:
            raise ConfigError("a factorial needs two components or more; name them with --components")
        named = _combinations(components)
    elif kind == "leave-one-out":
        named = {"full": list(components)} | {
            f"without {each.name}": [other for other in components if other is not each] for each in components
        }
    else:
        named = {"bare": []} | {f"with {each.name}": [each] for each in components}
    recipes = {name: with_components(base, components, present) for name, present in named.items()}
    arms = _arms(recipes)
    for arm in arms[1:]:
        if not arm.changes:
            raise ConfigError(f"the arm {arm.name!r} is the reference itself: choose another recipe or component")
    contrasts = _factorial(components, named) if kind == "factorial" else _against_reference(arms)
    return Design(kind, tuple(components), arms, contrasts)


def of_whole(given: Sequence[GivenArm]) -> Design:
    """The design of whole configurations, the reference first.

    Those that differ in the early-stop threshold alone get one grid, as in :func:`design_of`; no other has one.
    """
    alike: dict[str, set[float]] = {}
    bare = {arm.name: str(arm.recipe.replace(**{THRESHOLD: 0.0}).identity()) for arm in given}
    for arm in given:
        alike.setdefault(bare[arm.name], set()).add(arm.recipe.sampling.early_stop_threshold)
    recipes = {}
    for arm in given:
        grid = sorted(alike[bare[arm.name]])
        recipes[arm.name] = arm.recipe.replace(**{"sampling.threshold_grid": grid if len(grid) > 1 else ()})
    arms = _arms(recipes)
    return Design(WHOLE, (), arms, _against_reference(arms))


def _combinations(components: Sequence[Component]) -> dict[str, list[Component]]:
    """All combinations by name, the one with everything first."""
    found: dict[str, list[Component]] = {}
    for pattern in itertools.product((True, False), repeat=len(components)):
        present = [each for each, there in zip(components, pattern, strict=True) if there]
        found[" + ".join(each.name for each in present) or "none"] = present
    return found


def _arms(recipes: Mapping[str, Recipe]) -> tuple[Arm, ...]:
    """The arms by their recipes, the reference first."""
    reference = next(iter(recipes.values()))
    return tuple(Arm(name, recipe, differences(reference, recipe)) for name, recipe in recipes.items())


def _against_reference(arms: Sequence[Arm]) -> tuple[Contrast, ...]:
    reference, *others = (arm.name for arm in arms)
    return tuple(Contrast(name, {name: 1.0, reference: -1.0}, "arm") for name in others)


def _factorial(components: Sequence[Component], named: Mapping[str, Sequence[Component]]) -> tuple[Contrast, ...]:
    """Main effects and two-way interactions (Montgomery 2017, chapter 6): mean with less mean without."""
    half = len(named) / 2

    def sign(component: Component, present: Sequence[Component]) -> int:
        return 1 if component in present else -1

    found = []
    for each in components:
        weights = {name: sign(each, there) / half for name, there in named.items()}
        found.append(Contrast(each.name, weights, "main effect"))
    for a, b in itertools.combinations(components, 2):
        weights = {name: sign(a, there) * sign(b, there) / half for name, there in named.items()}
        found.append(Contrast(f"{a.name} × {b.name}", weights, "interaction"))
    return tuple(found)

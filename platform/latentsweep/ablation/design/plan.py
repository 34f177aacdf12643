"""What a study is, which runs it has, and what these share through the store."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from latentsweep.ablation.design.arms import WHOLE, GivenArm
from latentsweep.ablation.design.components import chosen
from latentsweep.ablation.design.contrasts import Arm, Design, design_of, of_whole
from latentsweep.ablation.statistics.effect import MARGIN
from latentsweep.ablation.statistics.replicate import Replicate
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan, check_end, check_fit, planned
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.table import STAGES
from trainables.config import fingerprint
from trainables.errors import ConfigError, DataError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.space import Range, SearchSpace, Value

TUNED = "diffusion.learning_rate"
"""What ``--tune-per-arm`` searches, within a factor of :data:`TUNING_FACTOR` either way."""
TUNING_FACTOR = 4.0
TUNING_SEED = 500_009
"""The seed of that search. A study counts its seeds from 0, so none measures what it was tuned by."""


@dataclass(frozen=True)
class ArmRun:
    """One run: an arm with one seed, its recipe as tuned, and the keys of its results.

    ``fold`` is that of ``data.fold``, None in a study without folds.
    """

    arm: Arm
    seed: int
    recipe: Recipe
    keys: Keys
    fold: int | None = None

    @property
    def replicate(self) -> int:
        """What runs are paired by: the seed, in one fold."""
        return self.seed if self.fold is None else Replicate.of(self.seed, self.fold)

    @property
    def name(self) -> str:
        """As it is told to people."""
        return f"{self.arm.name}, seed {self.replicate}"


@dataclass(frozen=True)
class AblationPlan:
    """A study, all of it part of its identity but the number of seeds, so that more can be added later."""

    dataset: str
    fingerprint: str
    recipe_name: str
    recipe: Recipe
    kind: str
    components: tuple[str, ...]
    tune: int
    split: str
    weights: str
    arms: tuple[GivenArm, ...] = ()
    """The arms where they are whole configurations, the reference first; its recipe is also ``recipe``."""
    settings: tuple[str, ...] = ()
    """The ``field=value`` that all of ``arms`` were given."""
    minutes: float | None = None
    """Wall time of each run's trainings, for which the numbers of steps are set; None leaves the recipes' own."""
    folds: int = 1
    """Every arm and seed runs in each of so many folds; 1 leaves the recipes' own split."""
    avoided: tuple[int, ...] = ()
    """The seeds by whose scores an arm was chosen: no run has one of them."""
    margin: float = MARGIN
    """The change that doesn't matter, as a share of the reference's score; never taken from what was measured."""

    @classmethod
    def read(cls, folder: Path) -> AblationPlan:
        """The plan of a study's folder; raises :class:`DataError` where its ``ablation.json`` is damaged."""
        try:
            plain = json.loads((folder / "ablation.json").read_text())["plan"]
            plain |= {"recipe": Recipe.from_dict(plain["recipe"]), "components": tuple(plain["components"])}
            arms = tuple(GivenArm.from_plain(arm) for arm in plain.get("arms", ()))
            lists = {name: tuple(plain.get(name, ())) for name in ("settings", "avoided")}
            return cls(**{**plain, **lists, "arms": arms})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{folder / 'ablation.json'} must hold the plan of a study and cannot be read "
                f"({type(error).__name__}); run the study again to write it"
            ) from error

    @property
    def name(self) -> str:
        """Dataset, recipe, design and a digest of the rest."""
        identity = {**self.to_plain(), "recipe": self.recipe.identity()}
        if self.arms:
            identity["arms"] = [arm.identity() for arm in self.arms]
            del identity["settings"]
        return f"{self.dataset}-{self.recipe_name}-{self.kind}-{fingerprint(identity, length=8)}"

    def to_plain(self) -> dict[str, Any]:
        """As it is written to ``ablation.json``."""
        whole = {"arms": [arm.to_plain() for arm in self.arms], "settings": list(self.settings)}
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "recipe_name": self.recipe_name,
            "recipe": self.recipe.to_dict(),
            "kind": self.kind,
            "components": list(self.components),
            "tune": self.tune,
            "split": self.split,
            "weights": self.weights,
            **(whole if self.arms else {}),
            **({"minutes": self.minutes} if self.minutes else {}),
            **({"folds": self.folds} if self.folds > 1 else {}),
            **({"avoided": list(self.avoided)} if self.avoided else {}),
            **({"margin": self.margin} if self.margin != MARGIN else {}),
        }

    @cached_property
    def design(self) -> Design:
        """The arms and contrasts."""
        if self.kind == WHOLE:
            return of_whole(self.arms)
        return design_of(self.recipe, chosen(self.components), self.kind)

    def seeds(self, count: int) -> list[int]:
        """The first ``count`` seeds from 0 on that no arm was chosen with; a larger ``count`` only adds some."""
        return list(itertools.islice((seed for seed in itertools.count() if seed not in self.avoided), count))

    def replicates(self, count: int) -> list[int]:
        """What runs are paired by: the seeds, or each seed in each fold, fold by fold."""
        seeds = self.seeds(count)
        if self.folds == 1:
            return seeds
        return [Replicate.of(seed, fold) for fold in range(self.folds) for seed in seeds]

    def in_folds(self, recipe: Recipe) -> list[Recipe]:
        """The recipe in each fold; itself alone in a study without."""
        if self.folds == 1:
            return [recipe]
        return [recipe.replace(**{"data.folds": self.folds, "data.fold": fold}) for fold in range(self.folds)]

    def jobs(self, seeds: Sequence[int], tuned: Mapping[str, Mapping[str, Value]] | None = None) -> list[ArmRun]:
        """Every arm with every seed in every fold, seed by seed, with what was ``tuned`` for each arm by name."""
        runs = []
        recipes = {
            arm.name: self.in_folds(arm.recipe.replace(**(tuned or {}).get(arm.name, {}))) for arm in self.design.arms
        }
        for seed in seeds:
            for place in range(self.folds):
                for arm in self.design.arms:
                    recipe = recipes[arm.name][place]
                    keys = keys_of(recipe, self.fingerprint, seed, self.weights, self.split)
                    runs.append(ArmRun(arm, seed, recipe, keys, place if self.folds > 1 else None))
        return runs

    def tuning(self, arm: Arm, dataset: PreparedDataset, weights: InceptionWeights) -> SweepPlan:
        """The arm's own small search, on the validation split and with :data:`TUNING_SEED`."""
        rate = arm.recipe.diffusion.learning_rate
        space = SearchSpace({TUNED: Range(rate / TUNING_FACTOR, rate * TUNING_FACTOR, log=True)}, self.recipe_name)
        search = SearchConfig(startup=max(1, self.tune // 2), pruner="none", warm_start=0)
        return planned(dataset, self.recipe_name, arm.recipe, space, search, TUNING_SEED, weights)


def plan_of(
    dataset: PreparedDataset,
    recipe_name: str,
    recipe: Recipe,
    kind: str,
    components: Sequence[str],
    *,
    seeds: int,
    tune: int,
    most: int,
    weights: InceptionWeights,
    arms: Sequence[GivenArm] = (),
    settings: Sequence[str] = (),
    minutes: float | None = None,
    folds: int = 1,
    margin: float = MARGIN,
) -> AblationPlan:
    """A checked plan, measured on the test split, or on validation where the dataset has no test split.

    ``arms`` are those of a design of whole configurations, in place of ``components``, and ``settings`` what all of
    them were given; ``recipe`` is then that of the first. ``minutes``, ``folds`` and ``margin`` are those of
    :class:`AblationPlan`. Raises :class:`ConfigError` for a design that can't be, and for more than ``most`` runs.
    """
    splits = dataset.splits(recipe.data.rule)
    avoided = {seed for arm in arms for seed in arm.chosen_with}
    plan = AblationPlan(
        dataset.name,
        dataset.fingerprint,
        recipe_name,
        recipe,
        kind,
        tuple(components),
        tune,
        "test" if folds > 1 or "test" in splits else "validation",
        weights.sha256,
        tuple(arms),
        tuple(settings),
        minutes,
        folds,
        tuple(sorted(avoided)),
        margin,
    )
    if any(arm.recipe.data.mask for arm in plan.design.arms):
        plan = replace(plan, fingerprint=dataset.fingerprint_of(masks=True))
    if not 0 < margin < 1:
        raise ConfigError(
            f"--margin is a change that doesn't matter, above 0 and below 100 % of the reference's score, got "
            f"{100 * margin:g}; take 10, say"
        )
    runs, each = 2 ** len(components) * seeds * folds, f"{seeds} seeds" + (f" in {folds} folds" if folds > 1 else "")
    if kind == "factorial" and runs > most:
        raise ConfigError(
            f"a factorial of {len(components)} components with {each} has {runs} runs, above --max-runs "
            f"{most}; take fewer components or seeds, or raise it"
        )
    count = len(plan.design.arms)
    if count * seeds * folds > most:
        raise ConfigError(f"{count} arms with {each} are above --max-runs {most}; take fewer, or raise it")
    if folds > 1:
        _check_folds(plan)
    for arm in plan.design.arms:
        check_end(arm.recipe)
        for recipe in plan.in_folds(arm.recipe):
            check_fit(recipe, dataset)
    if minutes is not None:
        _check_minutes(plan, minutes)
    return plan


def _check_folds(plan: AblationPlan) -> None:
    if plan.tune:
        raise ConfigError(
            "--tune-per-arm would tune on patients that a fold then tests; leave out --folds or --tune-per-arm"
        )
    for arm in plan.design.arms:
        if arm.recipe.data.folds > 1:
            raise ConfigError(
                f"--folds runs every fold, and {arm.name!r} is set to fold {arm.recipe.data.fold} of "
                f"{arm.recipe.data.folds}; leave out --folds, or data.folds"
            )
        if arm.recipe.data.split != "subject":
            raise ConfigError(
                f"--folds divides subjects, and {arm.name!r} has data.split={arm.recipe.data.split}; add "
                "--set data.split=subject, or leave out --folds or the component subject-split"
            )


def _check_minutes(plan: AblationPlan, minutes: float) -> None:
    if not 0 < minutes < math.inf:
        raise ConfigError(f"--minutes must be above 0, got {minutes:g}")
    if plan.tune:
        raise ConfigError("--minutes sets the numbers of steps, and --tune-per-arm would search at others; take one")
    seen: dict[str, str] = {}
    for arm in plan.design.arms:
        alike = seen.setdefault(fingerprint(arm.recipe.replace(**{"diffusion.steps": 1}).identity()), arm.name)
        if alike != arm.name:
            raise ConfigError(
                f"--minutes sets diffusion.steps, and {alike!r} and {arm.name!r} differ in that alone; leave one out"
            )


def needed(runs: Sequence[ArmRun]) -> dict[str, int]:
    """How many results of each stage the runs need together, each computed once."""
    names = {name for run in runs for name in run.keys.names()}
    return {stage: sum(name.startswith(f"{stage}/") for name in names) for stage in STAGES}


def sharing(design: Design, runs: Sequence[ArmRun]) -> dict[str, str]:
    """What each arm shares with the reference, in words, by the arm's name."""
    first = {run.arm.name: run.keys for run in runs if run.replicate == runs[0].replicate}
    reference = set(first[design.reference.name].names())
    words = {design.reference.name: "the reference"}
    for arm in design.arms[1:]:
        own = {name.split("/")[0] for name in first[arm.name].names() if name not in reference}
        samples = "" if "samples" in own else " and samples"
        words[arm.name] = f"trains nothing: it shares the reference's denoiser{samples}"
        if own & {"denoiser", "vae"}:
            words[arm.name] = "its own autoencoder and denoiser" if "vae" in own else "its own denoiser"
    return words

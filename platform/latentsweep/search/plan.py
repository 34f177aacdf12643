"""What a sweep is: its dataset, recipe, space and search. The sweep's name stands for all of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.configuration import overridden
from latentsweep.datasets.labels import check_labels
from latentsweep.datasets.lesions import check_masks
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.metrics import DICE_LOSS
from latentsweep.search.choice import SearchConfig
from latentsweep.search.schedule import Schedule
from latentsweep.search.study import Search
from latentsweep.search.trials import family_of
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.stages.table import LAST, VERSIONS_OF
from latentsweep.storage.home import Home, read_json
from trainables.config import fingerprint
from trainables.data.settings import check_size
from trainables.denoiser.diffusion import no_positions
from trainables.errors import ConfigError, DataError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe, recipe_named
from trainables.space import AFTER_STEPS, NO_STEP, THRESHOLD, SearchSpace

FEWER = "fewer_threads"
"""Beside the threads that a job began with: the numbers that it went on with where it could not have as many."""

FEWEST = 2
"""Slices that a split must hold for a training or a measurement."""


TODAY = "today"
"""How a trial was measured that today's code would measure in the same way."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is: everything here is part of its identity, and of its name."""

    dataset: str
    fingerprint: str
    recipe_name: str
    recipe: Recipe
    space: SearchSpace
    search: SearchConfig
    seed: int
    weights: str
    schedule: Schedule | None = None
    """What its hours became, where it was given hours; the recipe then has the sizes that it plans."""

    @classmethod
    def read(cls, folder: Path) -> SweepPlan:
        """The plan of a sweep's folder; raises :class:`DataError` where its ``sweep.json`` is damaged."""
        try:
            plain = json.loads((folder / "sweep.json").read_text())
            return cls(
                dataset=plain["dataset"],
                fingerprint=plain["fingerprint"],
                recipe_name=folder.name.removeprefix(f"{plain['dataset']}-").rpartition("-")[0],
                recipe=Recipe.from_dict(plain["recipe"]),
                space=SearchSpace.from_plain(plain["space"]),
                search=SearchConfig.from_dict(plain["search"]),
                seed=int(plain["seed"]),
                weights=plain["weights"],
                schedule=Schedule.from_plain(plain["schedule"]) if "schedule" in plain else None,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{folder / 'sweep.json'} must hold the plan of a sweep and cannot be read ({type(error).__name__}); "
                "run the sweep again to write it"
            ) from error

    @property
    def name(self) -> str:
        """Dataset, recipe and a digest of the rest: of a schedule the seconds alone, so that it is found again."""
        asked = self.recipe.replace(**self.schedule.own) if self.schedule else self.recipe
        identity = {**self.to_plain(), "recipe": asked.identity(), "search": self.search.identity()}
        identity |= {"schedule": self.schedule.seconds} if self.schedule else {}
        return f"{self.dataset}-{self.recipe_name}-{fingerprint(identity, length=8)}"

    def to_plain(self) -> dict[str, Any]:
        """As it is written to ``sweep.json``."""
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "recipe": self.recipe.to_dict(),
            "space": self.space.to_plain(),
            "search": self.search.to_dict(),
            "seed": self.seed,
            "weights": self.weights,
            **({"schedule": self.schedule.to_plain()} if self.schedule else {}),
        }

    def scheduled(self, schedule: Schedule) -> SweepPlan:
        """The same with what its hours became."""
        return dataclasses.replace(self, schedule=schedule, recipe=self.recipe.replace(**schedule.sizes))

    def keys_of(self, recipe: Recipe) -> Keys:
        """The keys of a configuration's results."""
        return keys_of(recipe, self.fingerprint, self.seed, self.weights)

    def recipe_of(self, params: Mapping[str, Any]) -> Recipe:
        """The configuration of a trial."""
        return self.recipe.replace(**params)

    def keys(self, params: Mapping[str, Any]) -> Keys:
        """The keys of a trial's results."""
        return self.keys_of(self.recipe_of(params))

    def reachable(self, trials: int) -> int:
        """How many of so many trials the space has denoisers for."""
        return int(min(trials, self.space.size / max(1, len(self.space.thresholds))))

    def results(self, search: Search, trial: FrozenTrial) -> dict[str, str]:
        """The names of a trial's results in the store, by stage, whether they are there or not.

        Those of a measured trial are as they were, also where a stage has another version today.
        """
        named = {stage: key.name for stage, key in self.keys(trial.params).items()}
        recorded = search.trial(family_of(trial)).user_attrs.get("keys", [])
        return {**named, **{name.split("/")[0]: name for name in recorded}}

    def outdated(self, search: Search) -> list[FrozenTrial]:
        """The measured trials that an earlier version measured: their scores don't compare with those of today."""
        return [trial for trial in search.run_trials() if "keys" in trial.user_attrs and not self._of_today(trial)]

    def apart(self, search: Search) -> frozenset[int]:
        """The numbers of the trials whose scores don't compare with the others': other versions measured them.

        The others are those that today's code measures so, or where it measures none so, the last ones. Nothing is
        apart where all were measured in one way.
        """
        measured = {trial.number: self._way_of(trial) for trial in search.run_trials() if "keys" in trial.user_attrs}
        ways = set(measured.values())
        if len(ways) < 2:
            return frozenset()
        way = TODAY if TODAY in ways else measured[max(measured)]
        return frozenset(number for number, other in measured.items() if other != way)

    def _way_of(self, trial: FrozenTrial) -> str:
        """How a trial was measured: :data:`TODAY`, or by which versions of the stages, where that was noted."""
        if self._of_today(trial):
            return TODAY
        return json.dumps(trial.user_attrs.get(VERSIONS_OF), sort_keys=True)

    def _of_today(self, trial: FrozenTrial) -> bool:
        """Whether today's versions of the stages would measure a measured trial as it was."""
        keys = self.keys(trial.params)
        return {keys[stage.name].name for stage in LAST if stage.name in keys} <= set(trial.user_attrs["keys"])

    def check_outdated(self, search: Search, home: Home) -> None:
        """Call it before anything new is measured.

        Raises :class:`ConfigError` where its scores would be compared with those of an earlier version.
        """
        old = len(self.outdated(search))
        if old:
            moved = "" if home.study else f", or move {home.sweeps / self.name} away"
            raise ConfigError(
                f"all trials of a sweep must be measured in one way, and an earlier version measured {old} of those "
                f"of {self.name}; they can still be shown and exported: to go on, start the search anew with another "
                f"--seed{moved}"
            )

    def autoencoders(self) -> dict[str, Recipe]:
        """A recipe for each autoencoder that the space needs, by the name of its result."""
        return {self.keys_of(recipe).vae.name: recipe for recipe in self.space.vae_variants(self.recipe)}


def planned(
    dataset: PreparedDataset,
    recipe_name: str,
    recipe: Recipe,
    space: SearchSpace,
    search: SearchConfig,
    seed: int,
    weights: InceptionWeights,
) -> SweepPlan:
    """A checked plan. Raises :class:`~trainables.errors.ConfigError` for a space that the recipe refuses.

    The recipe takes over the space's grid of thresholds, so that one sampling pass measures them all. It measures
    what is an objective: with dice its runs are measured downstream, and a plug-in's metric is among its metrics.
    Dice is measured under the recipe's own threshold alone, so no other is searched then.
    """
    check_end(recipe)
    if DICE_LOSS.objective in search.objectives:
        recipe, space = recipe.replace(**{"downstream.measured": True}), space.without(THRESHOLD)
    further = [name for name in search.plugins if name not in recipe.evaluation.metrics]
    if further:
        recipe = recipe.replace(**{"evaluation.metrics": (*recipe.evaluation.metrics, *further)})
    space.check(recipe)
    space = space.with_field_types(recipe)
    for variant in space.vae_variants(recipe):
        check_fit(variant, dataset)
    for field, dimension in space.dimensions.items():
        for value in dimension.examples():
            check_fit(recipe.replace(**{field: value}), dataset)
    if space.thresholds:
        recipe = recipe.replace(**{"sampling.threshold_grid": space.thresholds})
    masks = any(variant.data.mask for variant in space.vae_variants(recipe))
    read = dataset.fingerprint_of(masks=masks)
    return SweepPlan(dataset.name, read, recipe_name, recipe, space, search, seed, weights.sha256)


def check_end(recipe: Recipe) -> None:
    """Checks that a recipe for a search or a study draws by the weights of the end; raises :class:`ConfigError`."""
    got = recipe.sampling.after_steps
    if got:
        raise ConfigError(f"{AFTER_STEPS} must be 0 in a search or a study, got {got}: {NO_STEP}; set it to 0")


def check_fit(recipe: Recipe, dataset: PreparedDataset) -> None:
    """Checks that a recipe can be trained and measured on a dataset.

    Raises :class:`DataError` for too few slices or masks, and :class:`~trainables.errors.ConfigError` for a recipe
    that the dataset's images don't fit.
    """
    check_size(recipe.data.image_size, dataset.size)
    check_size(recipe.vae.warp_size, dataset.size, "vae.warp_size")
    if recipe.data.mask:
        check_masks(dataset, recipe.data)
    check_labels(dataset, recipe.diffusion.label_condition)
    counts, folds = dataset.counts(recipe.data.rule), recipe.data.folds > 1
    instead = "fewer folds" if folds else "--split slice"
    for split in ("train", "validation", "test") if folds else ("train", "validation"):
        if counts.get(split, 0) < FEWEST:
            where = f" by {recipe.data.rule}" if folds else ""
            raise DataError(
                f"a training needs {FEWEST} slices or more in the {split} split{where}, and {dataset.name} has "
                f"{counts.get(split, 0)}; prepare more subjects, or take {instead}"
            )
    everything = dataset.manifest["counts"]
    if recipe.diffusion.position_condition and everything["volumes"] >= everything["slices"]:
        raise no_positions()


def threads_of(folder: Path) -> int:
    """The threads that a trial of the sweep in ``folder`` had when the sweep began."""
    return int(read_json(folder / "sweep.json", None)["threads"])


def threads_words(folder: Path) -> str:
    """The threads of the sweep's trials in words, with the fewer that it went on with where there were no more."""
    fewer = read_json(folder / "sweep.json", None).get(FEWER, [])
    return f"{threads_of(folder)}{''.join(f', and later {number}' for number in fewer)}"


def sweep_plan(
    dataset: PreparedDataset,
    space: SearchSpace,
    weights: InceptionWeights,
    recipe_name: str | None,
    settings: Sequence[str],
    split: str | None,
    search: SearchConfig,
    seed: int,
) -> SweepPlan:
    """The plan for the options of ``sweep``; raises :class:`~trainables.errors.ConfigError` for a refused one."""
    name = recipe_name or space.recipe
    recipe = overridden(recipe_named(name), [*settings, *([f"data.split={split}"] if split else [])])
    return planned(dataset, name, recipe, space, search, seed, weights)

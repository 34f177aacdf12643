"""The lints of a target: a dataset, a sweep, a configuration with its results, or a whole home."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentsweep import stages
from latentsweep.configuration import Configuration
from latentsweep.datasets.manifest import MANIFEST
from latentsweep.datasets.slices import PreparedDataset, Rule, open_dataset
from latentsweep.lints import (
    Finding,
    Measurement,
    comparison_lints,
    configuration_lints,
    dataset_lints,
    result_lints,
)
from latentsweep.metrics import REFERENCE_SAMPLES, SAMPLES
from latentsweep.search import leaderboard
from latentsweep.search.export import configuration_at
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.sweeps import chosen_sweep, open_search, sweeps
from latentsweep.search.trials import family_of
from latentsweep.stages.keys import keys_of
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home, is_read_only
from latentsweep.storage.store import Store
from trainables.config import fingerprint
from trainables.errors import DataError, LatentsweepError
from trainables.measures.weights import find_weights
from trainables.recipes import Recipe

log = logging.getLogger(__name__)

NAMED = 3
"""How many cases of a finding are told in full."""

FINDINGS = "lints.json"
"""The file of a sweep's folder that keeps the findings of its recipes."""

RECIPES = 1
"""Raised when a lint of recipes changes, so that those of sweeps are looked at again."""

INSPECTION = 2
"""Raised when a lint of the data changes, so that datasets are looked at again."""


def lint_dataset(home: Home, dataset: PreparedDataset, rule: Rule = "subject") -> list[Finding]:
    """The findings of a dataset, also against the other datasets of the home. The store keeps them, if it may."""
    others = []
    for name in prepared_names(home):
        try:
            others += [open_dataset(home.datasets, name)] if name != dataset.name else []
        except DataError as error:
            log.warning("%s is not compared with %s: %s", dataset.name, name, error)
    seen = {"dataset": dataset.fingerprint, "rule": str(rule), "others": sorted(o.fingerprint for o in others)}

    def look(folder: Path) -> dict[str, Any]:
        return {"findings": [dataclasses.asdict(finding) for finding in dataset_lints(dataset, rule, others)]}

    key, store = StageKey("inspection", INSPECTION, seen), Store.of(home)
    found = store.find(key)
    if found is None and is_read_only(store.root):
        return dataset_lints(dataset, rule, others)
    return [Finding(**each) for each in (found or store.obtain(key, look)).summary["findings"]]


def lint_plan(home: Home, plan: SweepPlan) -> list[Finding]:
    """The findings of a sweep before it has trained anything; raises :class:`DataError` without its dataset."""
    dataset = open_dataset(home.datasets, plan.dataset, plan.fingerprint)
    return [*configuration_lints(plan.recipe), *lint_dataset(home, dataset, plan.recipe.data.rule)]


def _slices(home: Home, whose: str, dataset: str, expected: str) -> PreparedDataset | None:
    """The dataset of what has begun; None, and a warning, where it is gone, damaged or another by now."""
    try:
        return open_dataset(home.datasets, dataset, expected)
    except DataError as error:
        log.warning("the slices of %s are not looked at: %s", whose, error)
        return None


def lint_run(
    store: Store,
    recipe: Recipe,
    keys: Mapping[str, StageKey | str],
    metrics: Mapping[str, float],
    of_recipe: Sequence[Finding] | None = None,
) -> list[Finding]:
    """The findings of a configuration and of its results, as far as the store still has these.

    ``keys`` are those of its results, or their names, by stage; ``of_recipe`` are the findings of the recipe alone,
    where they are known.
    """
    vae, latents, reconstruction, denoiser = (
        store.find(keys[stage]) for stage in ("vae", "latents", "reconstruction", "denoiser")
    )
    channels = {**(latents.summary if latents else {}), **(reconstruction.summary if reconstruction else {})}
    measured = result_lints(
        recipe,
        latents=channels,
        vae_records=vae.json(stages.RECORDS) if vae else [],
        denoiser_records=denoiser.json(stages.RECORDS) if denoiser else [],
        metrics=metrics,
    )
    own = configuration_lints(recipe) if of_recipe is None else of_recipe
    return list({finding.code: finding for finding in (*own, *measured)}.values())


def lint_sweep(home: Home, plan: SweepPlan, search: Search) -> dict[str, list[Finding]]:
    """All findings of a sweep: of its ``plan``, of each ``configuration N``, and of their ``comparison``."""
    store = Store.of(home)
    slices = _slices(home, plan.name, plan.dataset, plan.fingerprint)
    of_slices = lint_dataset(home, slices, plan.recipe.data.rule) if slices else []
    trials = {
        f"configuration {trial.number}": trial for trial in sorted(search.measured(), key=lambda each: each.number)
    }
    recipes = {subject: plan.recipe_of(trial.params) for subject, trial in trials.items()}
    of_recipes = _lint_recipes(search, {"plan": plan.recipe, **recipes})
    found = {"plan": [*of_recipes["plan"], *of_slices]}
    for subject, trial in trials.items():
        keys, metrics = plan.results(search, trial), trial.user_attrs["metrics"]
        findings = lint_run(store, recipes[subject], keys, metrics, of_recipes[subject])
        found[subject] = [finding for finding in findings if finding not in found["plan"]]
    found["comparison"] = comparison_lints(measurements(store, plan, search))
    return found


def _lint_recipes(search: Search, recipes: Mapping[str, Recipe]) -> dict[str, list[Finding]]:
    """The findings of a sweep's recipes alone. The sweep's folder keeps them, since they need torch."""

    def look() -> dict[str, list[dict[str, Any]]]:
        return {
            subject: [dataclasses.asdict(finding) for finding in configuration_lints(recipe)]
            for subject, recipe in recipes.items()
        }

    identities = {subject: fingerprint(recipe.identity()) for subject, recipe in recipes.items()}
    found = leaderboard.keep(search, FINDINGS, look, of=[RECIPES, identities])
    return {subject: [Finding(**each) for each in findings] for subject, findings in found.items()}


def lint_home(home: Home) -> dict[str, list[Finding]]:
    """All findings of a home: of its datasets, split by subject, of its sweeps, and across those of a dataset.

    What can't be read is named in a warning, and the rest goes on.
    """
    found: dict[str, list[Finding]] = {}
    for name in prepared_names(home):
        with passing_over(f"the dataset {name}"):
            found[f"dataset {name}"] = lint_dataset(home, open_dataset(home.datasets, name))
    together: dict[str, list[Measurement]] = {}
    for folder in sweeps(home):
        with passing_over(f"the sweep {folder.name}"):
            plan, search = SweepPlan.read(folder), open_search(folder, home.study)
            of_sweep = lint_sweep(home, plan, search)
            found |= {f"{folder.name}, {subject}": findings for subject, findings in of_sweep.items()}
            together.setdefault(plan.dataset, []).extend(measurements(Store.of(home), plan, search))
    return found | {f"sweeps of {dataset}": comparison_lints(measured) for dataset, measured in together.items()}


@contextlib.contextmanager
def passing_over(subject: str) -> Iterator[None]:
    """Of many subjects, one that can't be read is named in a warning and keeps nobody from the others."""
    try:
        yield
    except LatentsweepError as error:
        log.warning("%s is not looked at: %s", subject, error)


def lint_target(home: Home, target: str | None) -> dict[str, list[Finding]]:
    """The findings of a dataset, a sweep, or a RUN as ``evaluate`` takes it; of the whole home for None.

    What has no findings is left out. Raises :class:`DataError` for a target that is none of these.
    """
    if target is None:
        found = lint_home(home)
    elif target in prepared_names(home):
        found = {f"dataset {target}": lint_dataset(home, open_dataset(home.datasets, target))}
    elif (home.sweeps / target).is_dir():
        folder = chosen_sweep(home, None, target)
        found = lint_sweep(home, SweepPlan.read(folder), open_search(folder, home.study))
    elif "/" not in target and not Path(target).exists():
        known = ", ".join([*prepared_names(home), *(folder.name for folder in sweeps(home))]) or "nothing yet"
        raise DataError(f"lint takes a prepared dataset, a sweep or a RUN; got {target!r}, and here are: {known}")
    else:
        found = {target: lint_configuration(home, configuration_at(home, target).configuration)}
    return {subject: findings for subject, findings in found.items() if findings}


def lint_configuration(home: Home, configuration: Configuration) -> list[Finding]:
    """The findings of a configuration, and of its results and slices where this home has them."""
    recipe, store = configuration.recipe, Store.of(home)
    dataset = _slices(home, "this configuration", configuration.dataset, configuration.fingerprint)
    split, read = "test", configuration.fingerprint
    if dataset:
        split = [split for split in dataset.splits(recipe.data.rule) if split != "train"][-1]
        read = dataset.fingerprint_of(masks=recipe.data.mask)
    keys = keys_of(recipe, read, configuration.seed, find_weights().sha256, split)
    evaluation = store.find(keys.evaluation)
    metrics = stages.metrics_of(evaluation, recipe) if evaluation else {}
    of_slices = lint_dataset(home, dataset, recipe.data.rule) if dataset else []
    return [*lint_run(store, recipe, keys, metrics), *of_slices]


def measurements(store: Store, plan: SweepPlan, search: Search) -> list[Measurement]:
    """What each trained trial's FID was measured with."""
    result = []
    for trial in search.measured():
        reference = store.find(plan.results(search, trial)["reference"])
        if reference and family_of(trial) == trial.number:
            metrics = trial.user_attrs["metrics"]
            result.append(
                Measurement(
                    name=f"{plan.name}/{trial.number}",
                    samples=int(metrics[SAMPLES.name]),
                    reference_samples=int(metrics[REFERENCE_SAMPLES.name]),
                    extractor=reference.summary["extractor"],
                    reference=reference.summary["sha"],
                )
            )
    return result


def prepared_names(home: Home) -> list[str]:
    """The names of the prepared datasets."""
    return sorted(path.parent.name for path in home.datasets.glob(f"[!.]*/{MANIFEST}"))


def merge_by_code(found: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """One finding for each code, with the evidence of the first few cases."""
    together: dict[str, list[tuple[str, Finding]]] = {}
    for subject, findings in found.items():
        for finding in findings:
            together.setdefault(finding.code, []).append((subject, finding))
    merged = []
    for cases in together.values():
        evidence = [f"{subject}: {finding.evidence}" for subject, finding in cases[:NAMED]]
        if len(cases) > NAMED:
            evidence.append(f"and {len(cases) - NAMED} more")
        worst = next((finding for _, finding in cases if finding.severity == "warning"), cases[0][1])
        merged.append(dataclasses.replace(worst, evidence="; ".join(evidence)))
    return merged

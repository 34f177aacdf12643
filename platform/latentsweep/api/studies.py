"""A study from Python: which components, or whole configurations, are better, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from latentsweep.ablation.design.arms import WHOLE, arms_of
from latentsweep.ablation.design.components import DEFAULT
from latentsweep.ablation.design.plan import AblationPlan, ArmRun, plan_of
from latentsweep.ablation.design.walltime import WallTime
from latentsweep.ablation.statistics.effect import Effect
from latentsweep.ablation.statistics.ratio import Ratio
from latentsweep.api.places import Settings, at_least, dataset_of, home_of, pages_of, recorder_of, several, texts_of
from latentsweep.configuration import execution_of, overridden
from latentsweep.execution.cluster import pack_job
from latentsweep.jobs import ablation_results
from latentsweep.jobs.ablation import Study
from latentsweep.jobs.ablation_outlook import known_noise, time_of
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.timing import StageTimes
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.measures.weights import find_weights
from trainables.recipes import Recipe, recipe_named


@dataclass(frozen=True)
class Finished:
    """A study that ran."""

    study: Study
    jobs: Sequence[ArmRun]
    """A run for each arm, seed and fold."""
    effects: Mapping[str, Sequence[Effect]]
    """The differences from the reference by the metric, each with its interval and its verdict in words."""
    ratios: Sequence[Ratio]
    """Each arm's KID over the reference's."""
    files: Sequence[Path]
    """The page of the study and its tables."""
    wall_time: Mapping[str, Any]
    """What the trainings of each arm took, where all were given the same minutes."""
    earlier: int | None
    """How many other decisions had read the test split; None where it wasn't read."""


@dataclass(frozen=True)
class AblationResult:
    """What a study found; of a dry run, only its ``plan`` and its ``forecast``."""

    plan: AblationPlan
    forecast: Mapping[str, Any]
    """The arms, the trainings that they need, and what so many seeds can show, as ``--dry-run --json`` prints it."""
    finished: Finished | None = None
    """All that was found; None in a dry run."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.plan.name

    @property
    def verdicts(self) -> dict[str, str]:
        """What is said of each comparison by the first metric, in words; empty in a dry run."""
        effects = self.finished.effects[ablation_results.METRICS[0]] if self.finished else ()
        return {effect.contrast.name: effect.words for effect in effects}

    @property
    def files(self) -> list[Path]:
        """The page of the study and its tables; none in a dry run."""
        return list(self.finished.files) if self.finished else []

    @property
    def failures(self) -> dict[str, str]:
        """The reason of each run that failed, by its name."""
        found = self.finished.study.failures() if self.finished else {}
        return {name: failure["reason"] for name, failure in found.items()}


def ablate(
    dataset: str,
    *,
    seeds: int = 5,
    folds: int = 1,
    design: str | None = None,
    arms: Sequence[str] = (),
    components: Sequence[str] | None = None,
    tune_per_arm: int = 0,
    recipe: str | None = None,
    settings: Settings = (),
    minutes: float | None = None,
    margin: float = 10.0,
    max_runs: int = 200,
    concurrent: int | None = None,
    card_gib: float | None = None,
    device: str | None = None,
    ray_address: str = "local",
    inception: str | Path | None = None,
    mlflow: bool = True,
    dry_run: bool = False,
    home: str | Path | Home = "runs",
    store: str = "",
    study_storage: str = "",
    console: Console | None = None,
    tell: Callable[[str], None] | None = None,
) -> AblationResult:
    """Finds out which components, or whole configurations, are better on a dataset, and how sure that is.

    ``seeds`` (at least 1) train each arm so often; a larger number later adds the rest. ``folds`` above 1 test each
    patient once. ``design`` is ``leave-one-out`` (the default), ``one-at-a-time``, ``factorial``, or ``arms``, with
    ``arms`` such as ``"warm = paper diffusion.ema_warmup=true"``, the reference first. ``components`` are names of
    components, all usual ones by default. ``tune_per_arm`` trials search each arm's learning rate before. ``recipe``
    is ``paper``, ``improved`` (the default), ``small`` or ``smoke``. ``minutes`` gives each run's two trainings
    together the same wall time. ``margin``, in per cent of the reference's score, counts as no difference. A study of
    more than ``max_runs`` runs is refused.

    The other arguments are those of :func:`latentsweep.sweep`. Raises :class:`~trainables.errors.ConfigError` for
    arguments that are refused, :class:`~trainables.errors.DataError` for a dataset that isn't prepared, and what
    :meth:`latentsweep.jobs.ablation.Study.run` raises.
    """
    at_least(1, seeds=seeds, folds=folds, max_runs=max_runs)
    at_least(0, tune_per_arm=tune_per_arm)
    place, weights = home_of(home, store, study_storage), find_weights(Path(inception) if inception else None)
    of_recipe, execution = execution_of(texts_of(settings), device)
    arms = several(arms)
    names = DEFAULT if components is None else several(components)
    design = design or (WHOLE if arms else "leave-one-out")
    told = None if components is None else ",".join(names)
    whole = arms_of(design, arms, of_recipe, {"--components": told, "--recipe": recipe})
    named = whole[0].source if whole else recipe or "improved"
    base = whole[0].recipe if whole else overridden(recipe_named(named), of_recipe)
    data = dataset_of(place, dataset, shown=console is not None)
    plan = plan_of(
        data,
        named,
        base,
        design,
        () if whole else names,
        seeds=seeds,
        tune=tune_per_arm,
        most=max_runs,
        weights=weights,
        arms=whole,
        settings=of_recipe if whole else (),
        minutes=minutes,
        folds=folds,
        margin=margin / 100,
    )
    results, wall = Store.of(place), WallTime.read(place.ablations / plan.name)
    largest = max((each.recipe for each in plan.design.arms), key=size)
    slices = max(data.counts(each.data.rule)["train"] for each in plan.in_folds(largest))
    pack = pack_job(largest, ray_address, execution, concurrent=concurrent, card_gib=card_gib, slices=slices)
    if dry_run:
        times = StageTimes.here(place, data, weights, pack)
        seconds = time_of(plan, seeds, results, wall, times.of) / pack.concurrent
        forecast = ablation_results.forecast(plan, results, seeds, wall, known_noise(results, plan), seconds)
        return AblationResult(plan, forecast)
    forecast = ablation_results.forecast(plan, results, seeds, wall)
    study = Study(place, plan, data, weights, recorder_of(place, dataset, mlflow))
    if tell and (line := pack.left_out_line()):
        tell(line)
    jobs = study.run(seeds, Runtime(pack, console or Console(quiet=True), ray_address))
    real = ablation_results.real_slices(study, jobs)
    effects = ablation_results.judge_effects(study, jobs, seeds, real)
    ratios = ablation_results.compare_to_reference(study, jobs, seeds, real)
    address = pages_of(place, study.recorder)(plan.name) if mlflow else ""
    files = ablation_results.write_study(study, jobs, effects, seeds, ratios, real, address)
    wall_time = ablation_results.wall_time(study, jobs)
    finished = Finished(study, jobs, effects, ratios, files, wall_time, study.note_use())
    return AblationResult(plan, forecast, finished)


def size(recipe: Recipe) -> tuple[int, ...]:
    """By which the recipe that takes the most memory is chosen: widths, and the sides on which the networks work."""
    vae, diffusion = recipe.vae, recipe.diffusion
    sides = recipe.data.image_size // vae.patch_size, recipe.latent_size // diffusion.patch_size
    return sum(diffusion.widths), sum(vae.widths), *sides, vae.latent_channels

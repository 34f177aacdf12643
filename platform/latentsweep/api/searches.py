"""A search from Python: its plan, its trials, and what it found."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from latentsweep.api.places import Settings, at_least, dataset_of, home_of, record_of, recorder_of, several, texts_of
from latentsweep.configuration import Configuration, changes_of, execution_of
from latentsweep.execution.lock import hold_lock
from latentsweep.pages.numbers import number
from latentsweep.records.sweep import is_recorded
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.confirmation import Extent
from latentsweep.search.export import configuration_of
from latentsweep.search.plan import SweepPlan, sweep_plan
from latentsweep.search.schedule import checked_seconds
from latentsweep.search.spaces import search_space
from latentsweep.search.study import Search
from latentsweep.search.sweeps import ended_search, take_turn
from latentsweep.storage.home import Home
from trainables.measures.weights import find_weights
from trainables.space import THRESHOLD, SearchSpace

if TYPE_CHECKING:
    from latentsweep.api.models import Model

TRIALS = 20
"""Trials of a search that is given neither a number nor hours."""


@dataclass(frozen=True)
class SweepResult:
    """What a search found; of a dry run, only its ``plan`` and its ``forecast``."""

    home: Home
    plan: SweepPlan
    search: Search | None = None
    """The study; None in a dry run."""
    forecast: Mapping[str, Any] = field(default_factory=dict)
    """What would run, with memory and time, as ``--dry-run --json`` prints it; empty where it ran."""
    recorded: bool = False
    """Whether MLflow has its runs."""

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.plan.name

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.home.sweeps / self.name

    @property
    def leaderboard(self) -> list[dict[str, Any]]:
        """A row for each measured configuration, the best first: rank, trial, parameters, scores."""
        return leaderboard.rows(self.search) if self.search else []

    @property
    def importances(self) -> Mapping[str, float]:
        """The share of each searched field in the differences of the scores, 0 to 1; empty where too few tell."""
        return (leaderboard.importances(self.search) or {}) if self.search else {}

    def best(self, trial: int | None = None, *, despite_guards: bool = False) -> Configuration:
        """The best configuration, confirmed where the search confirmed it, or that of trial number ``trial``.

        Its ``write(path)`` makes a file of it, and :func:`latentsweep.train` takes it as it is. Raises
        :class:`~trainables.errors.DataError` where there is none, and :class:`~trainables.errors.ConfigError` where
        the guards refuse it, unless ``despite_guards``, or where two objectives have several best and no ``trial``
        says which.
        """

        def run_id(dataset: str, key: str) -> str | None:
            return record_of(self.home, dataset, True).run_id(key) if self.recorded else None

        return configuration_of(self.folder, trial, run_id, database=self.home.study, despite_guards=despite_guards)

    def load(self, trial: int | None = None, *, device: str | None = None) -> Model:
        """The model of the best configuration, or of trial number ``trial``, also where the guards refuse it.

        Raises :class:`~trainables.errors.DataError` where there is none, and
        :class:`~trainables.errors.ConfigError` where two objectives have several best and no ``trial`` says which.
        """
        from latentsweep.api.models import load

        chosen = self.best(trial, despite_guards=True).origin["trial"]
        return load(f"{self.name}/{chosen}", home=self.home, device=device)


def sweep(
    dataset: str,
    *,
    trials: int | None = None,
    hours: float | None = None,
    recipe: str | None = None,
    space: str | Path | Mapping[str, Any] | SearchSpace | None = None,
    objectives: Sequence[str] = ("kid",),
    sampler: str = "tpe",
    pruner: str = "median",
    seed: int = 0,
    split: str | None = None,
    confirm: int | None = None,
    confirm_seeds: int = 2,
    despite_guards: bool = False,
    most_seconds: float = 0.0,
    warm_start: int = SearchConfig.warm_start,
    settings: Settings = (),
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
) -> SweepResult:
    """Searches: runs trials and trains the autoencoders that they share, ranks what they generate, confirms the best.

    Called again with the same arguments it goes on where it was; with more ``trials`` (at least 1, by default 20) it
    runs the rest. ``dataset`` is the name of a prepared one; ``demo`` is prepared by itself.

    ``hours``, in place of ``trials``, are what the search may take. It times training steps here, plans the sizes of
    its trainings, its trials and their confirmation by that, and ends when the hours do. What counts is the time that
    it runs: called again, it has what is left.

    ``recipe`` is ``paper``, ``improved``, ``small`` or ``smoke``, by default the space's own. ``space`` is a search
    space, its plain form ``{"dimensions": {"vae.latent_channels": [4, 8]}}``, or a YAML file of that; by default the
    dataset's own. ``objectives`` are ``kid``, ``fid``, …, one, or two for a Pareto front; ``sampler`` is ``tpe``,
    ``gp`` or ``random``, ``pruner`` ``median``, ``gp``, ``hyperband`` or ``none``. ``seed``, from 0 on, is that of
    trainings, samples and search.
    ``split`` is ``subject``, or ``slice`` as the paper did. ``confirm`` best denoisers are trained again with
    ``confirm_seeds`` fresh seeds each; by default 5 where 12 different trainings or more can be run, else 0.
    ``despite_guards`` refuses nothing for copying or collapse; what takes more than ``most_seconds`` to draw an image
    can't win (0: any may). The first trials are the best configurations of the
    home's earlier sweeps, at most ``warm_start`` and at most a quarter of all. ``settings`` change fields of the
    recipe or, as ``execution.field``, how it runs.

    ``concurrent`` trials run at once, by default as many as fit; ``card_gib`` is the memory of a card to plan for, in
    GiB; ``device`` is ``cpu``, ``cuda`` or ``auto``; ``ray_address`` is ``local`` or that of a cluster. ``inception``
    is the file of the network that measures, where it isn't installed. ``mlflow`` records the runs. ``dry_run`` makes
    the forecast and ends.

    Progress is shown on ``console`` and notes are told to ``tell``; by default nothing is printed. Raises
    :class:`~trainables.errors.ConfigError` for arguments that are refused, :class:`~trainables.errors.DataError` for
    a dataset that isn't prepared, and what :meth:`latentsweep.jobs.sweep.Sweep.run` raises.
    """
    began = time.monotonic()
    seconds = None if hours is None else checked_seconds(hours, trials, confirm)
    trials = TRIALS if trials is None else trials
    at_least(1, trials=trials, confirm_seeds=confirm_seeds)
    at_least(0, seed=seed, confirm=confirm, warm_start=warm_start)
    place, say = home_of(home, store, study_storage), tell or (lambda line: None)
    of_recipe, execution = execution_of(texts_of(settings), device)
    chosen = _space(dataset, space)
    search = SearchConfig(
        objectives=tuple(several(objectives)),
        sampler=sampler,
        pruner=pruner,
        guarded=not despite_guards,
        most_seconds=most_seconds,
        warm_start=warm_start,
    )
    weights = find_weights(Path(inception) if inception else None)
    data = dataset_of(place, dataset, shown=console is not None)
    plan = sweep_plan(data, chosen, weights, recipe, of_recipe, split, search, seed)
    extent = Extent.of(confirm, confirm_seeds, plan, trials)
    if seconds is None and not dry_run:
        ended = _ended(place, plan, trials, extent, mlflow)
        if ended:
            for note in _notes(plan, chosen, trials, extent, confirm):
                say(note)
            return SweepResult(place, plan, ended, recorded=mlflow)
    # Only here: what trains imports torch.
    from latentsweep.execution.cluster import pack_job
    from latentsweep.execution.packing import pack_trials, planned_cards
    from latentsweep.jobs import forecast as forecasts
    from latentsweep.jobs.job import Runtime
    from latentsweep.jobs.scheduling import kept_plan, timed_plan
    from latentsweep.jobs.sweep import Sweep
    from latentsweep.jobs.timing import StageTimes

    wanted: dict[str, Any] = {
        "execution": execution,
        "concurrent": concurrent,
        "card_gib": card_gib,
        "slices": data.counts(plan.recipe.data.rule)["train"],
    }
    pack = pack_job(plan.recipe, ray_address, **wanted)
    runtime = Runtime(pack, console or Console(quiet=True), ray_address)
    here = StageTimes.here(place, data, weights, pack)
    with contextlib.ExitStack() as held:
        if seconds is not None:
            kept, times = kept_plan(place, plan, seconds), here
            if kept is None and not dry_run:
                held.enter_context(runtime.ray())
                runtime = dataclasses.replace(runtime, joined=True)
                times = StageTimes.under_load(place, data, weights, pack, seed)
            fixed = {*changes_of(of_recipe), *chosen.dimensions}
            plan = kept or timed_plan(plan, seconds, began, times, fixed, pack.concurrent)
        if plan.schedule:
            trials, extent = plan.schedule.trials, Extent(plan.schedule.configurations, plan.schedule.seeds)
        for note in _notes(plan, chosen, trials, extent, confirm):
            say(note)
        if dry_run:
            on_card = pack if pack.gpu_share else pack_trials(plan.recipe, **wanted, present=planned_cards(card_gib))
            forecast = forecasts.forecast(plan, place, trials, pack, on_card, here.of, extent)
            return SweepResult(place, plan, forecast=forecast)
        if not pack.gpu_share and plan.recipe.data.image_size > 64:
            say(f"note: {pack.without_card}; {plan.recipe_name} takes days on a CPU, --recipe small minutes")
        if line := pack.left_out_line():
            say(line)
        job = Sweep(place, plan, weights, recorder_of(place, dataset, mlflow))
        job.run(trials, runtime, extent, began)
    return SweepResult(place, plan, job.search, recorded=mlflow)


def _notes(plan: SweepPlan, chosen: SearchSpace, trials: int, extent: Extent, confirm: int | None) -> Iterator[str]:
    """What of the arguments has another effect than a user may expect."""
    if (reached := plan.reachable(trials)) < trials and not plan.schedule:
        yield (
            f"note: --trials {trials}, and the space has {number(reached, 'different training')}: each runs once, "
            "and none twice"
        )
    if THRESHOLD in chosen.dimensions and THRESHOLD not in plan.space.dimensions:
        yield "note: dice is measured under the recipe's own early-stop threshold, so no other is searched"
    if confirm and not extent.configurations:
        yield "note: nothing is confirmed, since two objectives have no single best"


def _ended(home: Home, plan: SweepPlan, trials: int, extent: Extent, recorded: bool) -> Search | None:
    """The study of a sweep of which nothing is left to run or record; None for another, with which a job goes on."""
    found = ended_search(home, plan, trials, extent)
    if found is None or (recorded and not is_recorded(record_of(home, plan.dataset, True), plan, found)):
        return None
    with hold_lock(home.writable(found.folder), home.study):
        take_turn(home, found.folder)
    return found


def _space(dataset: str, space: str | Path | Mapping[str, Any] | SearchSpace | None) -> SearchSpace:
    if isinstance(space, SearchSpace):
        return space
    if isinstance(space, Mapping):
        return SearchSpace.from_plain(space)
    return search_space(dataset, None if space is None else Path(space))

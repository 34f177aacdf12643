"""Confirmation: the best of a sweep, trained again with seeds that the search never used, and ranked anew.

The lowest of many scores of one seed each is too good, since chance has chosen it, too. ``docs/metrics.md`` says how
good the ranking is in simulated sweeps. What was decided and measured is an attribute of the Optuna study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.metrics import Metric, objective_of
from latentsweep.search.confirmed import Confirmation, Confirmed, order_by_standing
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.trials import family_of
from latentsweep.stages.guards import REFUSED
from latentsweep.stages.keys import Keys
from trainables.recipes import Recipe

ATTRIBUTE = "confirmation"
"""The study's attribute: ``seeds``, ``finalists`` (numbers of trials), and ``rows`` by a trial's number."""

CONFIGURATIONS, SEEDS = 5, 2
"""How many configurations are confirmed by default, and with how many seeds each."""

FEWEST_TRIALS = 12
"""Sweeps of fewer trials confirm nothing unless they are told to."""

STRIDE = 1_000_003
"""What is between a sweep's seed and each of its fresh ones. Studies count their seeds from 0, far below it."""


@dataclass(frozen=True)
class Extent:
    """How much is confirmed: so many of the best denoisers, with so many fresh seeds each. 0: nothing."""

    configurations: int = 0
    seeds: int = SEEDS

    @classmethod
    def of(cls, configurations: int | None, seeds: int, plan: SweepPlan, trials: int) -> Extent:
        """What the options ask for; None is the default for so many ``trials``. Nothing with two objectives."""
        if configurations is None:
            configurations = CONFIGURATIONS if plan.reachable(trials) >= FEWEST_TRIALS else 0
        return cls(0 if len(plan.search.objectives) > 1 else configurations, seeds)


NOTHING = Extent()
"""No confirmation."""


def fresh_seeds(seed: int, count: int) -> tuple[int, ...]:
    """The seeds that confirm a sweep of ``seed``: seed + 1,000,003·k for k = 1 to ``count``.

    None of them is the sweep's own, and sweeps whose seeds differ by less than 1,000,003 share none. The first of
    many are those of fewer.
    """
    return tuple(seed + STRIDE * k for k in range(1, count + 1))


@dataclass(frozen=True)
class FreshRun:
    """A configuration that is trained and measured with one fresh seed."""

    trial: int
    seed: int
    recipe: Recipe
    keys: Keys

    @property
    def name(self) -> str:
        """As it is told to people."""
        return f"configuration {self.trial}, seed {self.seed}"


@dataclass(frozen=True)
class Wanted:
    """What an extent asks for: the configurations, best first, the seeds, and the runs whose end isn't known yet."""

    finalists: list[FrozenTrial]
    seeds: tuple[int, ...]
    missing: list[FreshRun]


def metric_of(search: Search) -> Metric:
    """The metric that a confirmation compares: that of the first objective."""
    return objective_of(search.config.objectives[0])


def finalists(search: Search, count: int) -> list[FrozenTrial]:
    """The configurations of the ``count`` best denoisers, best first.

    Of the leading denoiser that which :meth:`Search.best` takes, of each other the one with the lowest score. None
    of what the guards refuse.
    """
    leading: dict[int, FrozenTrial] = {}
    for trial in search.feasible():
        leading.setdefault(family_of(trial), trial)
    leading.update((family_of(trial), trial) for trial in search.best())
    return list(leading.values())[:count]


def plan_runs(plan: SweepPlan, trials: Sequence[FrozenTrial], seeds: Sequence[int]) -> list[FreshRun]:
    """The runs that confirm ``trials``, seed by seed."""
    return [
        FreshRun(trial.number, seed, plan.recipe_of(trial.params), again.keys(trial.params))
        for seed in seeds
        for again in [dataclasses.replace(plan, seed=seed)]
        for trial in trials
    ]


def runs_on_record(plan: SweepPlan, search: Search) -> list[FreshRun]:
    """The runs whose ends the study holds."""
    return [
        run
        for number, row in _record(search)["rows"].items()
        for run in plan_runs(plan, [search.trial(int(number))], [int(seed) for seed in _ends(row)])
    ]


def last_extent(search: Search) -> Extent:
    """What was last asked to be confirmed."""
    record = _record(search)
    return Extent(len(record["finalists"]), len(record["seeds"])) if record["finalists"] else NOTHING


def begin(search: Search, trials: Sequence[FrozenTrial], seeds: Sequence[int]) -> None:
    """Notes in the study what is to be confirmed; what was measured before stays."""
    record = _record(search)
    for trial in trials:
        new = {"family": family_of(trial), "params": dict(trial.params), "scores": {}, "failures": {}}
        record["rows"].setdefault(str(trial.number), {**new, "selection": trial.values[0]})
    record |= {"seeds": list(seeds), "finalists": [trial.number for trial in trials]}
    search.study.set_user_attr(ATTRIBUTE, record)


def note(search: Search, run: FreshRun, score: float | None, failure: Mapping[str, str] | None = None) -> None:
    """Notes in the study how a run ended: its score, or ``reason`` and ``class`` of the failure."""
    record = _record(search)
    row, seed = record["rows"][str(run.trial)], str(run.seed)
    if failure:
        row["failures"][seed] = {name: failure[name] for name in ("reason", "class")}
    else:
        row["scores"][seed] = score
    search.study.set_user_attr(ATTRIBUTE, record)


def missing(search: Search, runs: Sequence[FreshRun]) -> list[FreshRun]:
    """The runs whose end the study doesn't hold."""
    rows = _record(search)["rows"]
    return [run for run in runs if str(run.seed) not in _ends(rows.get(str(run.trial), {}))]


def wanted(search: Search, plan: SweepPlan, extent: Extent) -> Wanted:
    """What ``extent`` asks for of the trials that have ended so far."""
    best, seeds = finalists(search, extent.configurations), fresh_seeds(plan.seed, extent.seeds)
    return Wanted(best, seeds, missing(search, plan_runs(plan, best, seeds)))


def confirmation(search: Search) -> Confirmation | None:
    """What the study holds; None where nothing was confirmed, or where a run of the finalists hasn't ended.

    Earlier finalists that have the same seeds are ranked, too; of a denoiser only the latest of its configurations.
    """
    record = _record(search)
    seeds, rows = [str(seed) for seed in record["seeds"]], record["rows"]
    current = [str(number) for number in record["finalists"]]
    complete = [number for number, row in rows.items() if set(seeds) <= set(_ends(row))]
    if not current or not seeds or not set(current) <= set(complete):
        return None
    latest = {rows[number]["family"]: number for number in (*current, *complete, *current)}
    found = [_row(int(number), rows[number], seeds) for number in latest.values()]
    order, logs = order_by_standing([row.selection for row in found], [row.scores for row in found])
    return Confirmation(tuple(map(int, seeds)), tuple(found[place] for place in order), logs)


def choice(search: Search) -> list[FrozenTrial]:
    """What ``export`` takes: the confirmed best where there is one, else :meth:`Search.best`.

    Where a seed of each failed, what the guards refuse with a fresh seed gives way to the first that they don't;
    nothing is taken where they refuse all.
    """
    found, best = confirmation(search), search.best()
    if found is None:
        return best
    own = [row for row in found.rows if row.family in map(family_of, best)]
    if found.best or any(row.refused for row in own):
        return [search.trial(row.trial) for row in found.unrefused[:1]]
    return best


def refusal(search: Search, trial: FrozenTrial) -> str:
    """Why the guards refuse a measured trial with the search's seed or a fresh one, in words; empty for neither."""
    found = confirmation(search)
    row = found.row_of(trial.number) if found else None
    return search.refusal(trial) or (row.refusal if row else "")


def _record(search: Search) -> dict[str, Any]:
    return {"seeds": [], "finalists": [], "rows": {}, **search.study.user_attrs.get(ATTRIBUTE, {})}


def _ends(row: Mapping[str, Any]) -> dict[str, Any]:
    """How the runs of a row ended, by seed."""
    return {**row.get("scores", {}), **row.get("failures", {})}


def _row(number: int, row: Mapping[str, Any], seeds: Sequence[str]) -> Confirmed:
    return Confirmed(
        number,
        row["family"],
        row["params"],
        row["selection"],
        tuple(row["scores"].get(seed) for seed in seeds),
        {int(seed): row["failures"][seed]["reason"] for seed in seeds if seed in row["failures"]},
        frozenset(int(seed) for seed in seeds if row["failures"].get(seed, {}).get("class") == REFUSED),
    )

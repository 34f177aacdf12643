"""Confirmation: the best of a sweep, trained again with seeds that the search never used, and ranked anew.

The lowest of many scores of one seed each is too good, since chance has chosen it, too. ``docs/metrics.md`` says how
good the ranking is in simulated sweeps. What was decided and measured is an attribute of the Optuna study.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from latentsweep.guards import REFUSED
from latentsweep.metrics import OBJECTIVES, Metric
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search, family_of
from latentsweep.stages.pipeline import Keys
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


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained again: the score that the search found, and a score for each fresh seed."""

    trial: int
    family: int
    """The trial whose denoiser it shares."""
    params: Mapping[str, Any]
    selection: float
    scores: tuple[float | None, ...]
    """In the order of the confirmation's seeds; None where that training or measurement failed."""
    failures: Mapping[int, str]
    """The reason of each failure, by seed."""
    refused: frozenset[int] = frozenset()
    """The seeds of those failures that are the guards' refusals."""

    @property
    def refusal(self) -> str:
        """Why the guards refuse it with a fresh seed, in words; empty where they don't."""
        return "; ".join(f"{self.failures[seed]} with the seed {seed}" for seed in sorted(self.refused))


@dataclass(frozen=True)
class Confirmation:
    """What the fresh seeds say, best first: the ranking of :func:`ranking`."""

    seeds: tuple[int, ...]
    rows: tuple[Confirmed, ...]
    logs: bool
    """Whether means are geometric, which takes scores above 0; arithmetic otherwise."""

    @property
    def best(self) -> Confirmed | None:
        """The first; None where a seed of each of them failed."""
        return None if self.rows[0].failures else self.rows[0]

    @property
    def expected(self) -> float | None:
        """What a configuration that is chosen in this way scores with another seed, see :func:`expectation`."""
        whole = [row for row in self.rows if not row.failures]
        return expectation(
            [row.selection for row in whole], [without_failures(row.scores) for row in whole], self.logs
        )

    def mean(self, row: Confirmed) -> float | None:
        """The mean score of the fresh seeds; None where one failed."""
        return None if row.failures else centre(without_failures(row.scores), self.logs)

    def ranks_by(self, row: Confirmed) -> float | None:
        """The score that gives its rank, :func:`standing`; None where a seed failed."""
        return None if row.failures else standing([row.selection, *without_failures(row.scores)], self.logs)

    def row_of(self, trial: int) -> Confirmed | None:
        """The row of that trial, if it was confirmed."""
        return next((row for row in self.rows if row.trial == trial), None)

    @property
    def unrefused(self) -> list[Confirmed]:
        """The rows that the guards refuse with no seed."""
        return [row for row in self.rows if not row.refused]


def without_failures(scores: Sequence[float | None]) -> list[float]:
    """The scores of seeds that gave one."""
    return [score for score in scores if score is not None]


def centre(scores: Sequence[float], logs: bool) -> float:
    """The geometric mean of scores, or with ``logs`` False the arithmetic one."""
    return math.exp(statistics.fmean(map(math.log, scores))) if logs else statistics.fmean(scores)


def standing(scores: Sequence[float], logs: bool) -> float:
    """What ranks a configuration: the mean of all its seeds' scores, of three or more without the worst.

    One seed in ten or so ends far behind the others; left in, it would undo what the further seeds tell.
    """
    return centre(sorted(scores)[: max(2, len(scores) - 1)], logs)


def ranking(selection: Sequence[float], fresh: Sequence[Sequence[float | None]]) -> tuple[list[int], bool]:
    """The places of configurations, best first, and whether their scores were taken as logarithms.

    ``selection`` is the score of each in the search, ``fresh`` those of its fresh seeds, None for a failure. All
    rank by :func:`standing`, which the search's score is a part of: it tells as much as a fresh one of which is
    better. Whoever failed with a seed is last, those with more failures behind. Where a score isn't above 0,
    arithmetic means rank all.
    """
    whole = [[one, *without_failures(more)] for one, more in zip(selection, fresh, strict=True)]
    logs = all(score > 0 for scores in whole for score in scores)
    failed = [sum(score is None for score in scores) for scores in fresh]
    return sorted(range(len(whole)), key=lambda place: (failed[place], standing(whole[place], logs))), logs


def expectation(selection: Sequence[float], fresh: Sequence[Sequence[float]], logs: bool) -> float | None:
    """What the choice scores with a seed that had no part in it: an estimate without the luck of the chosen.

    Each fresh seed in turn is left out, the other scores choose, and the seed's score of what they chose counts; the
    result is the mean over the seeds. None for fewer than two fresh seeds, or no configuration.
    """
    count = len(fresh[0]) if fresh else 0
    if count < 2:
        return None
    left_out = []
    for seed in range(count):
        others = [[one, *scores[:seed], *scores[seed + 1 :]] for one, scores in zip(selection, fresh, strict=True)]
        chosen = min(range(len(others)), key=lambda place: standing(others[place], logs))
        left_out.append(fresh[chosen][seed])
    return centre(left_out, logs)


def metric_of(search: Search) -> Metric:
    """The metric that a confirmation compares: that of the first objective."""
    return OBJECTIVES[search.config.objectives[0]]


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
    order, logs = ranking([row.selection for row in found], [row.scores for row in found])
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

"""The driver of a long search: time per trial and memory against trials, up to 2,000, each with all its points.

All that a sweep's driver does between trials, in this process: Tune's searcher and scheduler over the study in its
database, two rungs a trial, the list of what the sweep refers to, the view's lines and the runs in MLflow's database.
The trials themselves take no time, and Ray is left out. Ends with exit code 1 where a trial late in the search costs
more than 0.3 s.

    python benchmarks/growth.py --report
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from rich.console import Console
from simulation import CONTROLLER, SPACE, World, plan_of
from timing import publish

from latentsweep.execution.shared_stages import Work
from latentsweep.execution.tuning import StudyScheduler, StudySearcher
from latentsweep.execution.view import View
from latentsweep.jobs.sweep import Sweep
from latentsweep.jobs.sweep_listener import SweepListener
from latentsweep.pages.tables import records_as_csv
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.storage.home import Home
from latentsweep_mlflow.recorder import recorder_for
from trainables.measures.weights import find_weights
from trainables.space import THRESHOLD

MARKS = (100, 500, 1000, 2000)
RECENT = 25
"""Trials before a mark whose time is taken."""

LIMIT = 0.3
PARTS = ("suggest", "of it TPE", "rungs", "tell", "watch")


class Clock:
    """Where the time of the latest trials goes."""

    def __init__(self) -> None:
        self.trials: collections.deque[dict[str, float]] = collections.deque(maxlen=RECENT)

    def timed(self, owner: Any, method: str, part: str) -> None:
        """From now on the time in ``owner.method`` counts as ``part``."""
        original = getattr(owner, method)

        def measured(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                self.trials[-1][part] += time.perf_counter() - began

        setattr(owner, method, measured)

    def mean(self, part: str) -> float:
        """Seconds a trial."""
        return sum(trial[part] for trial in self.trials) / len(self.trials)


class SharingNothing(SweepListener):
    """What a sweep's listener does, where autoencoders are no matter."""

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        return ()


def resident() -> float:
    """This process's memory, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=MARKS[-1])
    parser.add_argument("--sampler", default="tpe", help="tpe or random")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-growth.md")
    arguments = parser.parse_args()
    world, rows = World(0), []

    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere:
        home = Home(Path(place))
        plan = plan_of(SPACE, SearchConfig(sampler=arguments.sampler), 0)
        sweep = Sweep(home, plan, find_weights(), recorder_for(home.root, "growth"))
        sweep.record.begin([])
        view = View(Console(file=nowhere), plan.name, arguments.trials, plan.recipe.diffusion.steps)
        searcher = StudySearcher(sweep.search, arguments.trials, SharingNothing(sweep, view))
        scheduler = StudyScheduler(searcher)
        clock = Clock()
        clock.timed(optuna.samplers.TPESampler, "sample_relative", "of it TPE")
        for method, part in (("ask", "suggest"), ("report", "rungs"), ("tell", "tell")):
            clock.timed(sweep.search, method, part)
        for method in ("started", "heard", "ended"):
            clock.timed(searcher.listener, method, "watch")
        before, began = resident(), time.perf_counter()
        for number in range(1, arguments.trials + 1):
            clock.trials.append(collections.defaultdict(float))
            start, name = time.perf_counter(), str(number)
            config: Any = searcher.suggest(name)
            trial: Any = SimpleNamespace(trial_id=name, config=config)
            for step in (25_000, 50_000):
                record = {"step": step, "time": time.time_ns() // 1_000_000, "val/mse": 1.0, "rung/kid": 1.0}
                scheduler.on_trial_result(CONTROLLER, trial, {"records": [record]})
            each = [{**config["params"], THRESHOLD: threshold} for threshold in SPACE.thresholds]
            points = [{"params": params, "metrics": world.measured(params)} for params in each]
            keys = plan.keys(config["params"]).names()
            searcher.on_trial_complete(name, {"points": points, "keys": keys})
            clock.trials[-1]["all"] = time.perf_counter() - start
            if number in MARKS:
                spent = time.perf_counter() - began
                times = [clock.mean(part) for part in ("all", *PARTS)]
                memory = resident()
                at = time.perf_counter()
                records_as_csv(leaderboard.rows(sweep.search))
                board = time.perf_counter() - at
                at = time.perf_counter()
                Search(sweep.folder, plan.space, plan.search, plan.seed).requeue()
                opened = time.perf_counter() - at
                rows.append((number, times, memory, spent, board, opened))
                print(rows[-1], file=sys.stderr, flush=True)
                began += time.perf_counter() - at

    head = ["trials", "points", "ms a trial", *PARTS, "in all, s", "driver, MB", "leaderboard, s", "reopening, s"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for number, times, memory, spent, board, opened in rows:
        parts = " | ".join(f"{value * 1e3:.0f}" for value in times)
        points = number * len(SPACE.thresholds)
        lines.append(f"| {number} | {points} | {parts} | {spent:.0f} | {memory:.0f} | {board:.2f} | {opened:.2f} |")
    last = rows[-1]
    holds = last[1][0] < LIMIT
    verdict = [
        {
            "what": f"the driver at {last[0]} trials ({last[0] * len(SPACE.thresholds)} configurations)",
            "against": f"itself at {rows[0][0]} trials",
            "at_least": f"under {LIMIT:g} s a trial; growth is stated",
            "measured": f"{last[1][0]:.3f} s a trial against {rows[0][1][0]:.3f} s; {last[2]:.0f} MB against "
            f"{rows[0][2]:.0f} MB",
            "holds": holds,
        }
    ]
    text = [
        f"Mean ms of the last {RECENT} trials before each mark, by part: *suggest* asks the study (TPE is a part "
        "of it), *rungs* are two reports with the pruner's decision, *tell* the result with its "
        f"{len(SPACE.thresholds)} thresholds, *watch* the live view, the list of what is referred to and MLflow. "
        f"Sampler {arguments.sampler}; without Ray. The driver had {before:.0f} MB before the first trial.",
        "",
        *lines,
    ]
    return publish(
        "growth", "The driver against trials", text, report=arguments.report, rows=verdict, libraries=("optuna",)
    )


if __name__ == "__main__":
    raise SystemExit(main())

"""Where the time of the demo's sweep goes: by stage, by process, and what is left on the clock when nothing computes.

The command of ``make demo`` in a home of its own, as a user runs it for the first time. On the clock a moment counts
as the stages that were being computed in it, as their manifests say (to a second); where there were none, as the
start, the pauses between stages, or the end. Linux only. Every item over 3 % is to be explained, and the guards
against faults (``counted_processes/guard_clock.py``) may take 2 % of the CPU seconds together: this is the one bound.

    python benchmarks/demo_profile.py --report
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from counted_processes import guard_clock
from optuna.trial import TrialState
from process_tree import measured
from sweep import ROOT, environment
from timing import publish

from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store

TRIALS = 8
SHOWN = 0.03
"""Items of a larger share are listed."""
MOST_OF_GUARDS = 0.02
"""The share of the CPU seconds that all guards against faults may take together."""

EXPLAINED = """What the items are, and what was done about them:

- *denoiser*, *vae*: trainings, which the sweep is for; a step's time is in the report on steps.
- *samples*: 25 evaluations of the denoiser and of its guide for each of 64 images, and their decoding.
- *evaluation*, *reference*, *reconstruction*: Inception features in the main, which no stage computes twice; a whole
  evaluation is measured in the report on the evaluation.
- *start*: imports of Python, making the dataset, starting Ray and its first two workers, which import PyTorch.
- *end*: the leaderboard, the importances and figures, the report's page, the last runs to MLflow, and Ray's shutdown.
- *between stages*: asking the study, telling it, sending a trial to its worker.
- *outside of stages*: the trainings of pruned trials, which leave no result, the imports of Ray's processes, the
  slices of the dataset, and the driver.
"""

Span = tuple[float, float, str]
"""When a stage began and ended, in seconds since the epoch, and its name."""


def spans(home: Home) -> list[Span]:
    """Of every result, from what its manifest says, and of every pruned trial, from what the study says."""
    found = []
    for entry in Store.of(home).entries():
        end = datetime.datetime.fromisoformat(entry.manifest["created"]).timestamp() + 0.5
        found.append((end - entry.seconds, end, str(entry.manifest["stage"])))
    for trial in open_search(chosen_sweep(home, "demo", None)).run_trials():
        if trial.state == TrialState.PRUNED and trial.datetime_start and trial.datetime_complete:
            times = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
            found.append((*times, "denoiser (of a pruned trial)"))
    return sorted(found)


def on_the_clock(spans: list[Span], began: float, ended: float, every: float = 0.1) -> tuple[dict[str, float], float]:
    """Seconds of the wall clock by what went on, shared where two stages ran at once; those with one stage alone."""
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    seconds: defaultdict[str, float] = defaultdict(float)
    alone, moment = 0.0, began
    while moment < ended:
        busy = [stage for begin, end, stage in spans if begin <= moment < end]
        idle = "start" if moment < first else "end" if moment >= last else "between stages"
        for stage in busy or [idle]:
            seconds[stage] += every / len(busy or [idle])
        if len(busy) == 1:
            alone += every
        moment += every
    return seconds, alone


def table(head: str, seconds: dict[str, float], whole: float) -> list[str]:
    """Items of more than ``SHOWN`` of the whole, largest first, and the sum of the others."""
    lines = [f"| {head} | seconds | share |", "| --- | --- | --- |"]
    shown = {name: value for name, value in seconds.items() if value >= SHOWN * whole}
    for name, value in sorted(shown.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {value:.1f} | {value / whole:.0%} |")
    rest = sum(value for name, value in seconds.items() if name not in shown)
    return [*lines, f"| each of the others under {SHOWN:.0%} | {rest:.1f} | {rest / whole:.0%} |", ""]


def counted(folder: Path) -> dict[str, str]:
    """The environment of a command whose guards count in ``folder`` what they take."""
    found = environment()
    places = [str(Path(guard_clock.__file__).parent), found["PYTHONPATH"]]
    return {**found, "PYTHONPATH": os.pathsep.join(places), guard_clock.FOLDER: str(folder)}


def guards_table(seconds: dict[str, float], whole: float) -> list[str]:
    """Every guard, most first, and their sum."""
    lines = ["| CPU, of guards against faults | seconds | share |", "| --- | --- | --- |"]
    rows = [*sorted(seconds.items(), key=lambda item: -item[1]), ("all of them", sum(seconds.values()))]
    return [*lines, *(f"| {name} | {value:.2f} | {value / whole:.2%} |" for name, value in rows), ""]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-demo-profile.md")
    parser.add_argument("--trials", type=int, default=TRIALS, help="with fewer, the guards' share is larger")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as counts:
        words = ["sweep", "--dataset", "demo", "--trials", str(arguments.trials), "--home", folder]
        began = time.time()
        cost = measured([sys.executable, str(ROOT / "cli.py"), *words], counted(Path(counts)))
        guards = guard_clock.sums(Path(counts))
        home = Home(Path(folder))
        stages: defaultdict[str, float] = defaultdict(float)
        for entry in Store.of(home).entries():
            stages[str(entry.manifest["stage"])] += entry.manifest["cost"]["cpu_seconds"]
        clock, alone = on_the_clock(spans(home), began, began + cost.wall)
    stages["outside of stages"] = cost.cpu - sum(stages.values())
    share = sum(guards.values()) / cost.cpu
    rows = [
        {
            "what": "CPU of the guards against faults",
            "against": "the demo's whole sweep",
            "at_least": f"at most {MOST_OF_GUARDS:.0%}",
            "measured": f"{share:.1%}",
            "holds": share <= MOST_OF_GUARDS,
        }
    ]
    text = [
        f"{cost.wall:.0f} s on the clock, {cost.cpu:.0f} s of CPU; in {alone:.0f} s one stage ran alone.",
        "",
        *table("on the clock", clock, cost.wall),
        *table("CPU, by stage", stages, cost.cpu),
        *table("CPU, by process", cost.by_name, cost.cpu),
        *guards_table(guards, cost.cpu),
        EXPLAINED,
    ]
    return publish(
        "demo-profile",
        "The demo's sweep",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("torch", "ray", "optuna"),
    )


if __name__ == "__main__":
    raise SystemExit(main())

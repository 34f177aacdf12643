"""Our own jobs at the paper's shapes, as another checkout does them and as this one does: before and after.

Each checkout runs in a process of its own, and they take turns (see ``contest.py``). A ratio is that of the medians
of all turns, after over before; beside it the middle half of the ratios of neighbouring turns.

    git worktree add ../before COMMIT
    python benchmarks/checkouts.py --before ../before --report
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from pathlib import Path

import torch
from contest import Contender, Job, turns
from timing import publish

HERE = Path(__file__).resolve().parents[1]


def job_of(checkout: Path, job: str, precision: str, threads: int) -> Job:
    """A job of the ``contenders.py`` of ``checkout``, in a process that has imported none of our code yet."""
    sys.path[:0] = [str(checkout / folder) for folder in ("", "platform", "mlflow", "benchmarks")]
    made: Job = importlib.import_module("contenders").latentsweep(job, precision, threads)
    found = Path(importlib.import_module("trainables").__file__ or "")
    if not found.is_relative_to(checkout):
        raise SystemExit(f"--before must name a checkout of latentsweep, got {checkout}; its code wasn't found there")
    return made


def compare(checkouts: dict[str, Path], job: str, precision: str, threads: int, rounds: int, times: int) -> str:
    """One row of the table."""
    contenders = {
        name: Contender(job_of, (folder, job, precision, threads), threads) for name, folder in checkouts.items()
    }
    seconds = turns(contenders, rounds=rounds, times=times, warmup=2)
    low, _, high = statistics.quantiles(
        (after / before for before, after in zip(seconds["before"], seconds["after"], strict=True)), n=4
    )
    before, after = (statistics.median(seconds[name]) for name in ("before", "after"))
    return f"| {precision} | {before:.3f} | {after:.3f} | {after / before:.3f} | {low:.3f} to {high:.3f} |"


def main() -> None:
    from steps import ROUNDS, TITLES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--jobs", default=",".join(ROUNDS), help="by default all: %(default)s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=float, default=2.0, help="how many times the turns of steps.py")
    parser.add_argument("--report", action="store_true", help="leave the table as reports/DATE-checkouts.md")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before.resolve(), "after": HERE}
    lines = [
        "| job | precision | before, s | after, s | ratio | middle half |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    for job in arguments.jobs.split(","):
        for precision in ("fp32", "bf16"):
            rounds, times = ROUNDS[job]
            row = compare(
                checkouts, job, precision, arguments.threads, max(2, round(rounds * arguments.rounds)), times
            )
            lines.append(f"| {TITLES[job]} {row}")
            print(lines[-1], flush=True)
    torch.set_num_threads(arguments.threads)
    publish("checkouts", "Before and after a change", lines, report=arguments.report, libraries=("torch",))


if __name__ == "__main__":
    main()

"""How much longer a training step takes beside a busy process, by how PyTorch's threads wait for each other.

Times the denoiser's step of the smoke recipe by as many threads as there are cores, at the niceness of Ray's workers:
alone, and beside one process that keeps a core busy; with GNU OpenMP's own waiting, and with ours
(``trainables.WAITING``). The ways take turns.
Ends with exit code 1 where a row doesn't hold.

    python benchmarks/busy_cores.py --report
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from timing import publish, verdicts

import trainables
from trainables.loop.machine import cores

STEP = """
import os, sys
os.nice(15)  # as Ray's workers are
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE
from trainables.resources.timing import step_seconds
print(step_seconds(SMOKE, "diffusion", Execution(device="cpu", threads=int(sys.argv[1])), slices=700, seconds=1.0))
"""
OWN = {name: value for name, value in os.environ.items() if name not in trainables.WAITING}
OWN["OMP_WAIT_POLICY"] = "undefined"  # GNU OpenMP's own way: it warns, and takes it for not set
WAYS = {"its own": OWN, "ours": {**os.environ, **trainables.WAITING}}


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing but keep a core busy."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def seconds(way: str) -> float:
    """Seconds of a step in a process of its own."""
    command = [sys.executable, "-c", STEP, str(cores())]
    done = subprocess.run(command, env=WAYS[way], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-busy-cores.md")
    arguments = parser.parse_args()
    took = dict[tuple[str, int], float]()
    for beside in (0, 1):
        with busy(beside):
            rounds = [{way: seconds(way) for way in WAYS} for _ in range(arguments.rounds)]
        took |= {(way, beside): statistics.median(each[way] for each in rounds) for way in WAYS}
    alone, beside_one = (took["its own", count] / took["ours", count] for count in (0, 1))
    rows = [
        {
            "what": f"a step by {cores()} threads beside one busy process",
            "against": "GNU OpenMP's own waiting",
            "at_least": "2 times less time",
            "measured": f"{beside_one:.1f} times less",
            "holds": beside_one >= 2,
        },
        {
            "what": f"a step by {cores()} threads on a free machine",
            "against": "GNU OpenMP's own waiting",
            "at_least": "at most 1.25 times as much",
            "measured": f"{1 / alone:.2f} times as much",
            "holds": 1 / alone <= 1.25,
        },
    ]
    text = [
        *verdicts(rows),
        "",
        f"Milliseconds of a step of the smoke recipe's denoiser; medians of {arguments.rounds}.",
        "",
        "| waiting | alone | beside one busy process |",
        "| --- | --- | --- |",
        *(f"| {way} | {1000 * took[way, 0]:.0f} | {1000 * took[way, 1]:.0f} |" for way in WAYS),
    ]
    return publish("busy-cores", "How threads wait", text, report=arguments.report, rows=rows)


if __name__ == "__main__":
    raise SystemExit(main())

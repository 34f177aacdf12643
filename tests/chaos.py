"""A soak: a sweep under random SIGKILLs of its processes, compared with one that nobody disturbed (``make chaos``).

Every configuration's curve and result must be equal, bit for bit; nothing may be lost, doubled, left open or left
running. All is measured with the thin network, whose scores mean nothing and are as reproducible as the real one's.
With a searcher that learns and a pruner, what is tried depends on the order of arrival: then the results can't be
compared, and the rest must hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from command_line import UNSPARED, cli, let_children_measure_thinly
from processes import Job
from soak import DATASET, KILLED, LONGEST_PAUSE, again, check_nothing_left, kill_one, short_sweep, targets
from swept import check_complete, results, trained_in

from latentsweep.storage.store import Store

STATES = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED"}


def sweep_under_fire(home: Path, words: list[str], kills: int, random_: random.Random) -> dict[str, int]:
    """Runs the sweep to its end; kills one of its processes so many times, and says it again where it was ended."""
    counts = dict.fromkeys(KILLED, 0)
    job = Job.start(home, *words)
    while sum(counts.values()) < kills:
        kind = random_.choice(KILLED)
        while job.process.poll() is None and not targets(job, kind):
            time.sleep(0.1)
        time.sleep(random_.uniform(0.0, LONGEST_PAUSE))
        if job.process.poll() is not None:
            if job.process.returncode == 0:
                break
            job = again(job, words)
        if not kill_one(job, kind, random_):
            continue
        counts[kind] += 1
        if kind == "command":
            job.process.wait()
            job = Job.start(home, *words)
    while job.ended(1800) != 0:
        job = again(job, words)
    return counts


def words_of(folder: Path, options: argparse.Namespace) -> list[str]:
    """The sweep's command."""
    return short_sweep(folder, options.trials, sampler=options.sampler, pruner=options.pruner)


def soak(base: Path, calm: Path | None, folder: Path, options: argparse.Namespace, seed: int) -> None:
    """One sweep under fire, held against the calm one where there is one."""
    home = folder / f"chaos-{seed}"
    shutil.copytree(base, home)
    words = words_of(folder, options)
    began = time.monotonic()
    counts = sweep_under_fire(home, words, options.kills, random.Random(seed))
    assert sum(counts.values()) == options.kills, f"the sweep ended after {counts}: too few trials for so many kills"
    said = json.loads(cli(home, *words, alone=True).stdout)
    check_complete(home, DATASET, said["sweep"], options.trials, states=STATES)
    if calm:
        assert results(home, said["sweep"]) == results(calm, said["sweep"]), "a result differs"
        assert trained_in(home) == trained_in(calm)
    check_nothing_left(home)
    assert not Store(home / "store").begun() or options.pruner != "none"
    compared = "equal to the undisturbed one bit for bit" if calm else "nothing lost, doubled or left open"
    killed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(
        f"soak {seed}: {options.trials} trials under {killed} kills in {time.monotonic() - began:.0f} s: {compared}"
    )


def main() -> None:
    """Prepares, runs the undisturbed sweep, then the disturbed ones; ends with an assertion where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sampler", default="random", choices=("random", "tpe", "gp"))
    parser.add_argument("--pruner", default="none", choices=("none", "median", "gp", "hyperband"))
    options = parser.parse_args()
    let_children_measure_thinly(os.environ)
    os.environ[UNSPARED] = "1"
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        base = folder / "base"
        cli(base, "data", "prepare", DATASET, alone=True)
        calm = None
        if (options.sampler, options.pruner) == ("random", "none"):
            calm = folder / "calm"
            shutil.copytree(base, calm)
            began = time.monotonic()
            cli(calm, *words_of(folder, options), alone=True)
            print(f"undisturbed: {options.trials} trials in {time.monotonic() - began:.0f} s", flush=True)
        for seed in range(options.seed, options.seed + options.runs):
            soak(base, calm, folder, options, seed)
            sys.stdout.flush()


if __name__ == "__main__":
    main()

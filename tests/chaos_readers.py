"""A soak of all that may go on beside two sweeps, under random SIGKILLs of its processes (``make chaos-readers``).

For some minutes two sweeps run in one home, and again and again ``report``, ``lint``, ``ui`` (which answers once),
``store free``, ``data prepare --replace`` of another dataset, and a copy of a finished home that looks for one trial
more. Then the same commands must end with what they gave undisturbed, bit for bit; the copy must have written into
itself alone; nothing may be lost, mixed, left open or left running; and no command that ended by itself may have
shown a traceback, or an end that is none of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from command_line import UNSPARED, cli, let_children_measure_thinly
from PIL import Image
from processes import Job
from soak import DATASET, KILLED, SPACE, check_nothing_left, kill_one, short_sweep
from swept import check_complete, mlflow_runs, results, study_of, trained_in

from latentsweep.search.plan import SweepPlan

OTHER = "other"
"""The dataset that is prepared anew all the time, and that no sweep is told of."""
OTHER_SPACE = SPACE.replace("[0.0, 0.25, 0.5]", "[0.0, 0.25]")
"""The second sweep's: it shares all that its trials need with the first one, also trainings."""
ENDS = {"report": {0, 2}, "lint": {0, 1, 2}, "ui": {0, 2}, "store": {0}, "data": {0}, "sweep": {0}}
"""The exit codes that each command may end with; ``report``, ``lint`` and ``ui`` refuse what has no result yet."""
GIVEN_UP = 1
PAUSE = 2.0
"""Seconds between two commands of a reader."""
PATIENCE = 1800.0
"""Seconds for a sweep to end when nothing disturbs it any more."""


@dataclass
class Actor:
    """Somebody who says the same commands in a home, again and again, until it is time to end."""

    name: str
    home: Path
    next_words: Callable[[], list[str]]
    watch: Callable[[Job], None] = lambda job: None
    job: Job | None = None
    saying: str = ""
    ends: dict[int, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether a command of it runs."""
        return self.job is not None and self.job.process.poll() is None

    def act(self, until: float) -> None:
        """To be run in a thread of its own."""
        while time.monotonic() < until:
            words = self.next_words()
            self.saying = words[0]
            self.job = Job.start(self.home, *words, name=f"{self.home.name}-{self.name}")
            try:
                self.watch(self.job)
                self.note(words, self.job.ended(PATIENCE))
            except AssertionError as error:
                self.faults.append(f"{' '.join(words)}: {error}")
                return
            time.sleep(PAUSE)

    def note(self, words: list[str], code: int) -> None:
        """Counts an end, and keeps what is wrong with one that no kill explains."""
        assert self.job
        self.ends[code] = self.ends.get(code, 0) + 1
        given_up = code == GIVEN_UP and "times in a row" in self.job.said
        wrong = code not in ENDS[words[0]] and not given_up
        if code != -signal.SIGKILL and (wrong or "Traceback" in self.job.said):
            self.faults.append(f"{' '.join(words[:2])} ended with {code}: {self.job.said[-3000:]}")


def answer_once(job: Job) -> None:
    """Asks a ``ui`` for its first page, and ends it."""
    words = [str(word) for word in job.process.args]  # type: ignore[union-attr]
    address = f"http://127.0.0.1:{words[words.index('--port') + 1]}/"
    patience = time.monotonic() + PATIENCE
    while job.process.poll() is None:
        assert time.monotonic() < patience, "the ui never answered"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as page:
            assert page.status == 200
            job.process.send_signal(signal.SIGINT)
            return
        time.sleep(0.3)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_pictures(folder: Path, seed: int) -> Path:
    """A source of nine subjects with a picture each."""
    random_ = np.random.default_rng(seed)
    for number in range(9):
        path = folder / f"subject{number}" / "a.png"
        path.parent.mkdir(parents=True)
        picture = np.zeros((64, 64), np.uint8)
        picture[8:56, 8:56] = random_.integers(60, 250, (48, 48))
        Image.fromarray(picture).save(path)
    return folder


def prepare_words(source: Path) -> list[str]:
    return ["data", "prepare", OTHER, "--source", str(source), "--replace", "--size", "64"]


def files_in(home: Path) -> dict[str, str]:
    """The digest of every file of a home."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@dataclass
class Scene:
    """The homes of a soak, and the commands that are said in them."""

    folder: Path
    trials: int

    @property
    def calm(self) -> Path:
        return self.folder / "calm"

    @property
    def sweeps(self) -> dict[str, list[str]]:
        """The words of each sweep."""
        second = self.trials // 2
        return {
            "one": short_sweep(self.folder / "one", self.trials),
            "two": short_sweep(self.folder / "two", second, space=OTHER_SPACE),
        }

    def more(self) -> list[str]:
        """The words of the second sweep with a trial more."""
        words = self.sweeps["two"]
        place = words.index("--trials") + 1
        return [*words[:place], str(int(words[place]) + 1), *words[place + 1 :]]

    def prepare(self) -> None:
        """Makes the sources, and the calm home, in which all was said once and undisturbed."""
        for number in (0, 1):
            write_pictures(self.folder / f"source{number}", number)
        base = self.folder / "base"
        cli(base, "data", "prepare", DATASET, alone=True)
        cli(base, *prepare_words(self.folder / "source0"), alone=True)
        shutil.copytree(base, self.calm)
        for words in self.sweeps.values():
            cli(self.calm, *words, alone=True)

    def actors(self, home: Path, copy: Path) -> list[Actor]:
        """Everybody who is at work in the home, and one in the copy."""
        sources = itertools.cycle([prepare_words(self.folder / f"source{number}") for number in (1, 0)])
        in_the_copy = itertools.cycle([self.more(), ["report"]])
        sweeps = [Actor(name, home, lambda words=words: words) for name, words in self.sweeps.items()]  # type: ignore[misc]
        return [
            *sweeps,
            Actor("report", home, lambda: ["report"]),
            Actor("lint", home, lambda: ["lint"]),
            Actor("ui", home, lambda: ["ui", "--port", str(unused_port())], answer_once),
            Actor("free", home, lambda: ["store", "free"]),
            Actor("prepare", home, lambda: next(sources)),
            Actor("copy", copy, lambda: next(in_the_copy)),
        ]


def kill_some(actors: list[Actor], kills: int, seconds: float, random_: random.Random) -> dict[str, int]:
    """So many SIGKILLs at random moments of the time, half of them to the sweeps; counts them by whom they met."""
    began, counts = time.monotonic(), dict[str, int]()
    for moment in sorted(random_.uniform(5, seconds) for _ in range(kills)):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        while time.monotonic() < began + seconds + PATIENCE and any(actor.busy for actor in actors):
            actor = random_.choice(actors[:2] if random_.random() < 0.5 else actors[2:])
            kind = random_.choice(KILLED) if actor.saying == "sweep" else "command"
            if actor.job and actor.busy and kill_one(actor.job, kind, random_):
                counts[f"{actor.name}'s {kind}"] = counts.get(f"{actor.name}'s {kind}", 0) + 1
                break
            time.sleep(0.2)
    return counts


def check(scene: Scene, home: Path, copy: Path) -> None:
    """Says the same commands until they end, and holds the home against the calm one."""
    for name, words in scene.sweeps.items():
        said = json.loads(cli(home, *words, alone=True).stdout)
        trials = int(words[words.index("--trials") + 1])
        check_complete(home, DATASET, said["sweep"], trials, alone=False)
        check_same(home, scene.calm, said["sweep"], name)
    assert trained_in(home) == trained_in(scene.calm)
    names = {folder.name for folder in (home / "sweeps").iterdir() if folder.is_dir()}
    assert names == {folder.name for folder in (scene.calm / "sweeps").iterdir() if folder.is_dir()}
    keys = {run.data.tags["latentsweep.key"] for run in mlflow_runs(home, DATASET)}
    assert not {key for key in keys if not any(key.startswith(name) for name in names)}, "a run of no sweep"
    cli(home, *prepare_words(scene.folder / "source0"), alone=True)
    assert prepared(home) == prepared(scene.calm)

    said = json.loads(cli(copy, *scene.more(), alone=True).stdout)
    check_complete(copy, DATASET, said["sweep"], int(said["counts"]["complete"]), alone=False)
    before, after = results(scene.calm, said["sweep"]), results(copy, said["sweep"])
    assert {params: after[params] for params in before} == before
    assert len(after) == len(before) + 2, "a trial more has two thresholds"
    for place in (home, copy):
        assert "RUNNING" not in {run.info.status for run in mlflow_runs(place, DATASET)}
        check_nothing_left(place)


def check_same(home: Path, calm: Path, sweep: str, name: str) -> None:
    """A sweep's results and their keys are those of the calm one, and so is its dataset."""
    assert results(home, sweep) == results(calm, sweep), f"a result of sweep {name} differs"
    one, other = (
        {
            json.dumps(trial.params, sort_keys=True): trial.user_attrs.get("keys")
            for trial in study_of(at, sweep).trials
        }
        for at in (home, calm)
    )
    assert one == other
    plans = [SweepPlan.read(at / "sweeps" / sweep) for at in (home, calm)]
    assert plans[0].fingerprint == plans[1].fingerprint


def prepared(home: Path) -> tuple[str, list[str]]:
    """The fingerprint of the other dataset and the digests of its shards."""
    manifest = json.loads((home / "datasets" / OTHER / "manifest.json").read_text())
    return manifest["fingerprint"], [shard["sha256"] for shard in manifest["shards"]]


def soak(scene: Scene, seed: int, kills: int, seconds: float) -> None:
    """One soak: everybody at once, the kills, and the checks."""
    home, copy = scene.folder / f"home-{seed}", scene.folder / f"copy-{seed}"
    shutil.copytree(scene.folder / "base", home)
    shutil.copytree(scene.calm, copy)
    before = files_in(scene.calm)
    actors = scene.actors(home, copy)
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=actor.act, args=(until,)) for actor in actors]
    for thread in threads:
        thread.start()
    counts = kill_some(actors, kills, seconds, random.Random(seed))
    for thread in threads:
        thread.join()
    faults = [fault for actor in actors for fault in actor.faults]
    assert not faults, "\n\n".join(faults)
    check(scene, home, copy)
    assert files_in(scene.calm) == before, "the copy wrote into the home that it is a copy of"
    killed = ", ".join(f"{count} {whom}" for whom, count in sorted(counts.items()))
    said = ", ".join(f"{actor.name} {sum(actor.ends.values())}" for actor in actors)
    print(f"soak {seed}: in {seconds:.0f} s {said}; killed: {killed}: nothing lost, mixed or left open", flush=True)


def main() -> None:
    """Prepares, runs all that goes undisturbed, then the disturbed ones; ends with an assertion where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24, help="of the first sweep; the second has half as many")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an empty folder that stays, to look at what failed")
    options = parser.parse_args()
    let_children_measure_thinly(os.environ)
    os.environ[UNSPARED] = "1"
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-readers-")))
        folder.mkdir(parents=True, exist_ok=True)
        scene = Scene(folder.resolve(), options.trials)
        scene.prepare()
        for seed in range(options.seed, options.seed + options.runs):
            soak(scene, seed, options.kills, options.seconds)


if __name__ == "__main__":
    main()

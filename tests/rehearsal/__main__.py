"""Runs the rehearsal: all of it, some of its parts, or a command over the null card.

Ends with 0 where all held, with 1 where a part failed, and with 77 where its environment can't be had here.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from rehearsal.card import Card, Process
from rehearsal.command import FailedError, Stage
from rehearsal.environment import CHECKOUT, Environment, UnavailableError
from rehearsal.parts import PARTS, Part

FAILED, MISUSED, UNAVAILABLE = 1, 2, 77
AT_ONCE = 3
"""Parts that run at a time: they import and wait as much as they compute."""


def main() -> int:
    """Parses the command line; returns the exit code."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument("--folder", type=Path, default=CHECKOUT / ".rehearsal", help="of all it makes")
    parser.add_argument("--parts", default=",".join(names), help="which, with commas between; all by default")
    parser.add_argument("--card-gib", type=float, default=6.0, help="memory of the card that a command gets")
    parser.add_argument("--capability", default="8.6", help="its compute capability")
    parser.add_argument("command", nargs="*", help="a command, after --, in place of the parts")
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"--parts must be among {','.join(names)}, got {','.join(unknown)}")
    environment = Environment(options.folder.resolve())
    environment.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(environment.folder / "lock", timeout=0):
            if not made(environment):
                return UNAVAILABLE
            if options.command:
                return watched(environment, Card(options.capability, options.card_gib), options.command)
            return rehearse(environment, [part for part in PARTS if part.name in wanted])
    except Timeout:
        parser.error(f"{environment.folder} is in use by another rehearsal: wait for it, or name another --folder")


def made(environment: Environment) -> bool:
    """Makes the environment, and says so; whether it is there."""
    began = time.monotonic()
    try:
        tell("environment", environment.make(), began)
    except UnavailableError as error:
        print(f"rehearsal skipped: {error}", flush=True)
        return False
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the environment can't be made: {error}\n{error.stderr}") from error
    return True


def rehearse(environment: Environment, parts: Sequence[Part]) -> int:
    """Runs the parts, some at a time, and says of each how it went as it ends."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            held = list(pool.map(lambda part: holds(environment, part), parts))
        except KeyboardInterrupt:  # a terminal tells the parts' commands, too
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [part.name for part, each in zip(parts, held, strict=True) if not each]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = f"{used.ru_utime + used.ru_stime:.0f} s of the CPU"
    tell("rehearsal", f"FAILED: {', '.join(failed)}; {cpu}" if failed else f"passed; {cpu}", began)
    return FAILED if failed else 0


def holds(environment: Environment, part: Part) -> bool:
    """Whether a part held; says how it went."""
    began = time.monotonic()
    stage = Stage(environment, environment.emptied("parts", part.name), part.card)
    try:
        lines = part.says(stage)
    except Exception as error:
        what = str(error) if isinstance(error, FailedError) else traceback.format_exc()
        tell(part.name, f"FAILED: {what}", began)
        return False
    tell(part.name, "passed" if len(lines) > 1 else f"passed: {lines[0]}", began, lines if len(lines) > 1 else ())
    return True


def watched(environment: Environment, card: Card, command: Sequence[str]) -> int:
    """Runs one command here, and says on standard error what its processes did; returns its exit code."""
    stage = Stage(environment, environment.emptied("parts", "command"), card)
    code = subprocess.run(command, env=stage.variables()).returncode
    for process in stage.processes():
        print(described(process), file=sys.stderr)
    return code


def described(process: Process) -> str:
    """What a process did on the card, in a line."""
    counts = ", ".join(f"{name} {count}" for name, count in process.counts.items() if count)
    return f"null card: {process.command[:60]}: at most {process.peak / 2**20:.0f} MiB; {counts}"


def tell(name: str, what: str, began: float, more: Sequence[str] = ()) -> None:
    """Prints a line of how something went, with its seconds, and what else was found below it."""
    lines = [f"{name:<12} {time.monotonic() - began:5.0f} s  {what}", *(f"    {line}" for line in more)]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())

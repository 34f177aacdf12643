"""The parts of the rehearsal, in the order of their length; each gets a card of its own."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from rehearsal.card import Card
from rehearsal.command import FailedError, Stage
from rehearsal.environment import CHECKOUT
from rehearsal.journey import journey

HERE = CHECKOUT / "tests" / "rehearsal"
GPU_TESTS = "tests/trainables/test_gpu.py"
ALONE = ("--noconftest",)
"""The product's tests may hide cards from all but their own tests for cards."""
GPU_CHECK = CHECKOUT / "benchmarks" / "gpu_check"
PATIENCE = 4
"""Its limits are for a card; here they are so many times as long."""


@dataclass(frozen=True)
class Part:
    """A name, what it is called with, and the card that it gets."""

    name: str
    says: Callable[[Stage], list[str]]
    """Does it, and says in lines what was found; raises :class:`FailedError`."""
    card: Card = dataclasses.field(default_factory=Card)


def tests(stage: Stage, *words: object) -> list[str]:
    """pytest, all of whose tests have to pass, none skipped."""
    quiet = ("-q", "-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=failed")  # their checkpoints are large
    return [all_passed(stage.run("pytest", "python", "-m", "pytest", *quiet, *words).out)]


def all_passed(said: str) -> str:
    """pytest's last line; raises :class:`FailedError` where it speaks of anything but tests that passed."""
    summary = said.strip().splitlines()[-1]
    if not re.fullmatch(r"\d+ passed(, \d+ warnings?)? in .*", summary):
        raise FailedError(f"all tests pass and none is skipped: not so, but {summary}")
    return summary


def counted_steps(stage: Stage) -> list[str]:
    """What a step of each training and an evaluation of the samplers ask of the card, against its bounds."""
    said = stage.run("steps", "python", "-m", "rehearsal.steps", codes=(0, 1))
    if said.code:
        raise FailedError(f"bounds don't hold\n{said.out}")
    return said.out.splitlines()


def refusals(stage: Stage) -> list[str]:
    """A card that can't be used: each command that would use it says so in one line and ends with 2."""
    found = []
    for command, *words in (("plan",), ("sweep", "--dataset", "demo", "--home", stage.folder / "home", "--dry-run")):
        err = stage.run(command, "python", "cli.py", command, "--recipe", "smoke", *words, codes=(2,)).err
        lines = err.strip().splitlines()
        if "Traceback" in err or not lines or not lines[-1].startswith("error: "):
            raise FailedError(f"{command} refuses in one line: not so, but {err}")
        found.append(f"{command}: {lines[-1]}")
    return found


def graphs(stage: Stage) -> list[str]:
    """Whole steps as CUDA graphs."""
    return tests(stage, *ALONE, HERE / "graphs.py")


def gpu_check(stage: Stage) -> list[str]:
    """``make gpu-check`` over the null card, but for the tests for cards, which are a part of their own here."""
    words = ("--parts", "1,3,4,5,6,7,8,9,10", "--patience", PATIENCE)
    said = stage.run("gpu-check", "python", "-m", "gpu_check", *words, path=GPU_CHECK.parent)
    return statuses(said.out)


def statuses(said: str) -> list[str]:
    """What lines of JSON with a name and a status say, a line each.

    Raises :class:`FailedError` for one that says neither "passed" nor, with the reason, "not shown".
    """
    found = []
    for line in said.splitlines():
        try:
            row = json.loads(line)
            name, status = row["name"], row["status"]
        except (ValueError, TypeError, KeyError) as error:
            raise FailedError(f"every line is JSON with a name and a status: not so, but {line}") from error
        if status != "passed" and not (status == "not shown" and row.get("reason")):
            raise FailedError(f"{name} passes, or says why it can't be shown: not so, but {line}")
        found.append(f"{name}: {status}{': ' * bool(row.get('reason'))}{row.get('reason', '')}")
    if not found:
        raise FailedError("there is a line for each check: not so, but none")
    return found


PARTS = (
    Part("journey-8.6", lambda stage: journey(stage, "bf16")),
    Part("journey-7.5", lambda stage: journey(stage, "fp16"), Card("7.5")),
    Part("gpu-tests", lambda stage: tests(stage, GPU_TESTS)),
    Part("steps", counted_steps),
    Part("graphs", graphs),
    Part("old-driver", refusals, Card(driver=12_040)),
    Part("old-card", refusals, Card("6.1")),
    Part("card", lambda stage: tests(stage, *ALONE, HERE / "checks.py")),
    Part("gpu-check", gpu_check),
)

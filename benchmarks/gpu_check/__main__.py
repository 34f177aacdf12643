"""``make gpu-check``: finds the card, then runs the parts one after another; see the package's own words."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_check.card import Card
from gpu_check.notes import Value
from gpu_check.outcome import Outcome, last_lines, run, table
from gpu_check.parts import PARTS, PROBE_LIMIT, Part, listed

PACKAGES = ("numpy", "safetensors", "threadpoolctl", "pytest")
"""What parts import beside torch."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu-check", description="What only a card can show, in ten parts.")
    parser.add_argument("--parts", type=chosen, default=PARTS, help="their numbers, such as 1,4,9; all, if left out")
    parser.add_argument("--patience", type=float, default=1.0, help="multiply all limits, on a slow machine")
    parser.add_argument("--list", action="store_true", help="say what the parts are, with limits and estimates")
    arguments = parser.parse_args()
    if arguments.list:
        print(listed())
        return 0
    began = time.monotonic()
    card = asked_card(PROBE_LIMIT * arguments.patience)
    if isinstance(card, str):
        print(card, file=sys.stderr)
        return 2
    outcomes = [line_of(card, time.monotonic() - began)]
    print(outcomes[0].to_json(), flush=True)
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        command = f"{sys.executable} -m pip install {' '.join(missing)}"
        print(f"note: some parts can't be shown without {', '.join(missing)}: {command}", file=sys.stderr)
    for outcome in run_parts(arguments.parts, card, arguments.patience):
        print(outcome.to_json(), flush=True)
        outcomes.append(outcome)
    print(table(outcomes), file=sys.stderr)
    return int(any(outcome.bad for outcome in outcomes))


def run_parts(parts: Sequence[Part], card: Card, patience: float) -> Iterator[Outcome]:
    """Each part's outcome as it comes; where one is bad, the end of what it said goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for part in parts:
            limit = part.limit * patience
            print(f"{part.number} {part.name}: {part.shows}, at most {limit:g} s", file=sys.stderr, flush=True)
            notes, log = (Path(folder) / f"{part.number}.{kind}" for kind in ("notes", "log"))
            command = [sys.executable, "-m", "gpu_check.worker", str(part.number), card.to_json(), str(notes)]
            outcome = run(part.number, part.name, limit, command, notes, log)
            if outcome.bad:
                print(last_lines(log), file=sys.stderr)
            yield outcome


def asked_card(limit: float) -> Card | str:
    """The card, asked from a process of its own, so that this one takes none of its memory; or why there is none."""
    command = [sys.executable, "-m", "gpu_check.card"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"gpu-check: no card answered within {limit:g} s; nvidia-smi shows whether its driver does"
    if asked.returncode:
        lines = asked.stderr.strip().splitlines()
        return lines[-1] if lines else f"gpu-check: asking for the card ended with {asked.returncode}"
    return Card.from_json(asked.stdout.splitlines()[-1])


def line_of(card: Card, seconds: float) -> Outcome:
    """The card itself, as part 0."""
    numbers: dict[str, Value] = {
        "name": card.name,
        "compute_capability": ".".join(map(str, card.capability)),
        "memory_mib": card.bytes // 2**20,
        "driver": card.driver,
        "torch": card.torch,
        "cuda": card.cuda,
        "computes": card.computes,
    }
    return Outcome(0, "card", "passed", "", round(seconds, 1), {}, numbers)


def chosen(text: str) -> list[Part]:
    """The parts of ``1,4,9``."""
    numbers = {part.number: part for part in PARTS}
    try:
        return [numbers[int(number)] for number in text.split(",")]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(
            f"parts are numbers from 1 to {len(PARTS)}, such as 1,4,9; got {text!r}"
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())

"""``make gpu-check``: finds the card, then runs the parts one after another; see the package's own words."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_check.card import Card
from gpu_check.outcome import Outcome, last_lines, run, table
from gpu_check.parts import PARTS, PROBE_LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu-check", description="What only a card can show, in ten parts.")
    parser.add_argument("--parts", type=numbers, default=[part.number for part in PARTS], help="such as 1,4,9")
    parser.add_argument("--list", action="store_true", help="say what the parts are, with limits and estimates")
    arguments = parser.parse_args()
    if arguments.list:
        print(listed())
        return 0
    began = time.monotonic()
    card = asked_card()
    if isinstance(card, str):
        print(card, file=sys.stderr)
        return 2
    outcomes = [found(card, time.monotonic() - began)]
    print(outcomes[0].to_json(), flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for part in PARTS:
            if part.number not in arguments.parts:
                continue
            print(
                f"part {part.number}, {part.name}: {part.shows} (at most {part.limit} s)", file=sys.stderr, flush=True
            )
            notes, log = (Path(folder) / f"{part.number}.{kind}" for kind in ("notes", "log"))
            command = [sys.executable, "-m", "gpu_check.worker", str(part.number), card.to_json(), str(notes)]
            outcome = run(part.number, part.name, part.limit, command, notes, log)
            print(outcome.to_json(), flush=True)
            if outcome.bad:
                print(last_lines(log), file=sys.stderr)
            outcomes.append(outcome)
    print(table(outcomes), file=sys.stderr)
    return int(any(outcome.bad for outcome in outcomes))


def asked_card() -> Card | str:
    """The card, asked from a process of its own, so that this one takes none of its memory; or why there is none."""
    command = [sys.executable, "-m", "gpu_check.card"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_LIMIT)
    except subprocess.TimeoutExpired:
        return f"gpu-check: the card did not answer within {PROBE_LIMIT} s; look at nvidia-smi"
    if asked.returncode:
        lines = asked.stderr.strip().splitlines()
        return lines[-1] if lines else f"gpu-check: asking for the card ended with {asked.returncode}"
    return Card.from_json(asked.stdout.splitlines()[-1])


def found(card: Card, seconds: float) -> Outcome:
    """The card itself, as the first line."""
    numbers = {
        "name": card.name,
        "compute_capability": ".".join(map(str, card.capability)),
        "memory_mib": card.bytes // 2**20,
        "driver": card.driver,
        "torch": card.torch,
        "cuda": card.cuda,
        "computes": card.computes,
    }
    return Outcome(0, "card", "passed", "", round(seconds, 1), {}, dict(numbers))


def numbers(text: str) -> list[int]:
    """Numbers of parts, from ``1,4,9``."""
    chosen = [int(number) for number in text.split(",")]
    if not set(chosen) <= {part.number for part in PARTS}:
        raise argparse.ArgumentTypeError(f"parts are 1 to {len(PARTS)}, got {text}")
    return chosen


def listed() -> str:
    """The parts with their limits, and the seconds that are estimated for two cards."""
    rows = [f"{'':<4}{'part':<11}{'shows':<42}{'limit':>6}{'RTX 3060':>10}{'H200':>6}"]
    for part in PARTS:
        rows.append(
            f"{part.number:>2}  {part.name:<11}{part.shows:<42}{part.limit:>6}"
            f"{part.estimate[0]:>10}{part.estimate[1]:>6}"
        )
    limits = PROBE_LIMIT + sum(part.limit for part in PARTS)
    sums = [sum(part.estimate[card] for part in PARTS) for card in (0, 1)]
    return "\n".join(
        [*rows, f"{'':<57}{limits:>6}{sums[0]:>10}{sums[1]:>6}  (limit with {PROBE_LIMIT} s for the card)"]
    )


if __name__ == "__main__":
    raise SystemExit(main())

"""The process of one part: ``python -m gpu_check.worker PART CARD NOTES`` does it, and notes what came of it."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.parts import PARTS, Part

OURS = ("gpu_check", "contest", "trainables", "latentsweep")


def do(part: Part, card: Card, notes: Notes) -> None:
    """Runs a part. An error is its failure, but a package that isn't installed is only a reason."""
    try:
        part.function()(notes, card)
    except Exception as error:
        traceback.print_exc()
        package = missing_package(error)
        if package:
            notes.leave_out(f"the package {package} isn't installed: {sys.executable} -m pip install {package}")
        else:
            notes.fail(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    notes.end()


def missing_package(error: Exception) -> str:
    """The package of others that an import didn't find; empty for any other error."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return "" if package in OURS else package


def main() -> None:
    number, card, path = sys.argv[1:]
    told = Card.from_json(card)
    do(next(part for part in PARTS if part.number == int(number)), told, Notes(Path(path), computes=told.computes))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is noted; a context's end can take seconds


if __name__ == "__main__":
    main()

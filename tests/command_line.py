"""The command line as a user has it, and a recipe so small that a whole job takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

import shared_driver

ROOT = Path(__file__).parents[1]
PLANTED = (b"PLANTED", b"SECRET", b"19610203")
"""What was planted as identifiers in the test data, and must never be said."""

_TINY = {
    "data.image_size": 32,
    "vae.widths": "[8, 16]",
    "vae.max_steps": 12,
    "vae.validations": 3,
    "diffusion.widths": "[8, 16]",
    "diffusion.attention_levels": "[]",
    "diffusion.embedding_channels": 16,
    "diffusion.steps": 60,
    "diffusion.validations": 5,
    "sampling.steps": 8,
    "evaluation.samples": 8,
    "evaluation.rung_samples": 4,
    "evaluation.bootstrap": 20,
}
TINY = [word for field, value in _TINY.items() for word in ("--set", f"{field}={value}")]
"""The options of such a recipe."""
THIN = ("--inception", str(ROOT / "tests" / "golden" / "thin_network.pt"))
"""The option of a network to measure with that takes a twentieth of the real one's time; see ``thin_network``."""
CHILDREN = Path(__file__).parent / "child_processes"
"""What the Python processes that tests start import first: it makes the thin network a known one, and spares work."""
UNSPARED = "LATENTSWEEP_TEST_UNSPARED"
"""The environment variable with which a command starts all of Ray and paints its figures, as a user's does."""


def let_children_measure_thinly(environment: MutableMapping[str, str]) -> None:
    """Lets commands that are started with that environment take :data:`THIN`, which they refuse otherwise."""
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHILDREN), environment.get("PYTHONPATH")]))


def cli(home: Path, *words: object, code: int = 0, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """What a command did and said, which must end with ``code``.

    The driver that all tests share runs it, unless it is to be ``alone``: a process with a Ray of its own, as a
    user's is.
    """
    line = [*map(str, words), "--home", str(home)]
    if alone:
        command = [sys.executable, str(ROOT / "cli.py"), *line]
        done = subprocess.run(command, capture_output=True, text=True, cwd=home.parent)
    else:
        done = shared_driver.shared().run(line, home.parent)
    assert not any(planted.decode() in done.stdout + done.stderr for planted in PLANTED)
    assert done.returncode == code, done.stdout + done.stderr
    return done

"""Which tests see the cards of this machine: those that need one, where they run alone.

All others assert what is computed on the CPU, or what the command line does without a card. CUDA reads once in a
process which cards there are, so that one process can't have both kinds.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
ON_CARDS = Path(__file__).parent / "trainables" / "test_gpu.py"
"""The tests that need a card."""


def hide(words: Sequence[str], here: Path, environment: MutableMapping[str, str]) -> None:
    """Hides the cards, unless ``words`` (files, folders or tests, seen from ``here``) name all that need them."""
    chosen = {(here / word.split("::")[0]).resolve() for word in words}
    if chosen != {ON_CARDS}:
        environment[VISIBLE] = ""

"""Lets commands of the tests measure with the thin network, a file that the product refuses; see ``thin_network``."""

import hashlib
from pathlib import Path

from when_imported import when_imported

FILE = Path(__file__).parents[1] / "golden" / "thin_network.pt"


def know(weights):
    """Adds the file's digest to the known ones."""
    weights.KNOWN_SHA256[hashlib.sha256(FILE.read_bytes()).hexdigest()] = "the thin network of the tests"


when_imported("trainables.measures.weights", know)

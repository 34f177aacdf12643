"""Lets commands of the tests measure with the thin network, a file that the product refuses; see ``thin_network``."""

import hashlib
import importlib.util
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "golden" / "thin_network.pt"
WEIGHTS = "trainables.measures.weights"


class Finder:
    """Adds the file's digest to the known ones, once the module that has these is there."""

    def find_spec(self, name, path=None, target=None):
        if name != WEIGHTS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.KNOWN_SHA256[hashlib.sha256(FILE.read_bytes()).hexdigest()] = "the thin network of the tests"

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())

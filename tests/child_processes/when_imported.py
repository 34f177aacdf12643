"""Changes a module of others as soon as it is imported, and costs nothing where it never is."""

import importlib.util
import sys


class Finder:
    """Finds the module ``name`` as Python would, once, and lets ``change`` have it when it is there."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            self.change(module)

        spec.loader.exec_module = exec_module
        return spec


def when_imported(name, change):
    """Calls ``change(module)`` right after the module ``name`` was imported."""
    sys.meta_path.insert(0, Finder(name, change))

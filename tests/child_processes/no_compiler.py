"""Spares the processes of tests PyTorch's compiler, which they don't use: its import takes a second of each.

PyTorch's optimisers import it, and ask it for two things that do nothing in code that isn't compiled. Whoever asks it
for more gets the real one.
"""

import importlib
import importlib.util
import sys
import types

COMPILER = "torch._dynamo"


class Absent(types.ModuleType):
    """Stands for the compiler until somebody wants more of it."""

    @staticmethod
    def disable(function=None, *_, **__):
        return function or (lambda function: function)

    @staticmethod
    def graph_break(*_, **__):
        pass

    def __getattr__(self, name):
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
            importlib.import_module(COMPILER)
        return getattr(sys.modules[COMPILER], name)


class Finder:
    """Finds what stands for the compiler, the first time that it is looked for."""

    def find_spec(self, name, path=None, target=None):
        if name != COMPILER:
            return None
        sys.meta_path.remove(self)
        return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec):
        module = Absent(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        del module.__path__  # whoever looks for a part of the compiler wants the real one


sys.meta_path.insert(0, Finder())

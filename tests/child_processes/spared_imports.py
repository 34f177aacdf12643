"""Spares the processes of tests modules that others import and hardly use; each takes a second of every process.

PyTorch's optimisers import its compiler and ask it for two things that do nothing in code that isn't compiled;
torchvision takes a function from a part of it, and torchmetrics looks at SciPy's signals, and neither goes on to use
it. Whoever asks for more gets the real module.
"""

import importlib.machinery
import importlib.util
import sys
import types

STANDS_FOR = {
    "torch._dynamo": {
        "disable": lambda function=None, *_, **__: function or (lambda function: function),
        "graph_break": lambda *_, **__: None,
    },
    "torch._dynamo.utils": {"is_compile_supported": lambda device: False},
    "scipy.signal": {"hamming": None},
}
"""What each module has until somebody asks it for more."""


class Absent(types.ModuleType):
    """Stands for a module."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            FINDER.give_way(self.__name__)
            importlib.import_module(self.__name__)
        return getattr(sys.modules[self.__name__], name)


class Finder:
    """Finds what stands for a module, until it or another part of its package is wanted."""

    def __init__(self):
        self.absent = set(STANDS_FOR)

    def find_spec(self, name, path=None, target=None):
        if name in self.absent:
            return importlib.util.spec_from_loader(name, self, is_package=True)
        above = name.rpartition(".")[0]
        if above in self.absent:
            self.give_way(above)
            package = importlib.import_module(above)
            if name in sys.modules:  # its package has just loaded it
                return importlib.util.spec_from_loader(name, self)
            return importlib.machinery.PathFinder.find_spec(name, package.__path__)
        return None

    def create_module(self, spec):
        return sys.modules.get(spec.name) or Absent(spec.name)

    def exec_module(self, module):
        if isinstance(module, Absent):
            vars(module).update(STANDS_FOR[module.__name__])

    def give_way(self, name):
        """Lets the real module, its package and its parts be imported from now on."""
        for each in [
            each for each in self.absent if f"{each}.".startswith(f"{name}.") or name.startswith(f"{each}.")
        ]:
            self.absent.discard(each)
            if isinstance(sys.modules.get(each), Absent):
                del sys.modules[each]


FINDER = Finder()
sys.meta_path.insert(0, FINDER)

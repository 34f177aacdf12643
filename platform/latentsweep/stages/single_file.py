"""One file of a module of ours and of all that it uses of our packages: it runs where these aren't installed.

Every definition that can be reached from the module is copied as it stands, so that the file computes the same bits.
Annotations aren't followed: they are never evaluated, and types that only they name are left out.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("latentsweep", "trainables")
"""Those whose definitions are copied; whatever else is imported must be installed."""

Place = tuple[int, int]
"""Line and column."""


@dataclass
class Source:
    """The text of a module: its statements by the names that they define, and what its imports give."""

    name: str
    text: str
    statements: list[ast.stmt]
    defined: dict[str, int] = field(default_factory=dict)
    """By name: the number of its statement."""
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By the name here: the module that it comes from, and its name there; empty where it is that module itself."""

    def piece(self, number: int, renamed: dict[ast.expr, str]) -> str:
        """The text of a statement and of the text behind it that says what it is, with expressions ``renamed``."""
        node, *behind = self.statements[number : number + 2]
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda each: each.lineno).lineno
        last = (behind[0] if behind and _is_text(behind[0]) else node).end_lineno
        lines = [line.encode() for line in self.text.splitlines()]  # the columns of a tree count bytes
        for expression in sorted(renamed, key=lambda each: each.col_offset, reverse=True):
            line, begin, end = lines[expression.lineno - 1], expression.col_offset, expression.end_col_offset
            lines[expression.lineno - 1] = line[:begin] + renamed[expression].encode() + line[end:]
        return b"\n".join(lines[first - 1 : last]).decode()


@functools.cache
def read_source(name: str) -> Source:
    """The source of an installed module."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise NotImplementedError(f"{name} has no source file")
    text = Path(spec.origin).read_text("utf-8")
    source = Source(name, text, ast.parse(text).body)
    for number, node in enumerate(source.statements):
        source.defined |= dict.fromkeys(_defines(node), number)
        source.imported |= _imports(node)
    return source


def single_file(name: str) -> str:
    """The text of one file of the module ``name``, all of whose own definitions are in it.

    Raises :class:`NotImplementedError` where one name would mean two things in it.
    """
    root, found = read_source(name), _Found()
    for defined in root.defined:
        found.follow(root, defined)
    ending = root.statements[-1]
    parts = [*found.pieces(), *([ast.unparse(ending)] if isinstance(ending, ast.If) else [])]
    said = f'"""{ast.get_docstring(ast.parse(root.text), clean=False)}"""'
    head = [said, "from __future__ import annotations", "\n".join(sorted(found.outside.values()))]
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(parts) + "\n"


class _Found:
    """What was reached so far: statements by module, and imports of what isn't ours."""

    def __init__(self) -> None:
        self.needs: dict[str, set[str]] = {}
        """Which modules each takes something from."""
        self.statements: dict[tuple[str, int], dict[ast.expr, str]] = {}
        """By module and number: the expressions in it that are renamed."""
        self.outside: dict[str, str] = {}
        """The imports by the name that they give."""
        self.owners: dict[str, str] = {}

    def follow(self, source: Source, name: str) -> None:
        """Takes in what ``name`` means in a module, and all that this uses."""
        if name in source.defined:
            number = source.defined[name]
            if (source.name, number) in self.statements:
                return
            renamed = self.statements[source.name, number] = {}
            self.needs.setdefault(source.name, set())
            for each in _defines(source.statements[number]):
                self._own(each, source.name)
            for used in _evaluated(source.statements[number]):
                new = self._use(source, used)
                if new:
                    renamed[used] = new
        elif name in source.imported:
            module, original = source.imported[name]
            if module.split(".")[0] in PACKAGES:
                self.needs.setdefault(source.name, set()).add(module)
                self.follow(read_source(module), original)
            else:
                alias = "" if name in (original, module) else f" as {name}"
                line = f"from {module} import {original}" if original else f"import {module}"
                self.outside[name] = line + alias
                self._own(name, line)

    def pieces(self) -> Iterator[str]:
        """The texts of the statements, those of a module after those that it takes something from."""
        for name in graphlib.TopologicalSorter(self.needs).static_order():
            for module, number in sorted(self.statements):
                if module == name:
                    yield read_source(name).piece(number, self.statements[module, number])

    def _use(self, source: Source, used: ast.expr) -> str:
        """Follows an expression in a module; what stands for it in the file, empty where it stays."""
        if isinstance(used, ast.Name):
            if _module_of(source, used.id):
                return ""
            self.follow(source, used.id)
            module, original = source.imported.get(used.id, ("", ""))
            ours = module.split(".")[0] in PACKAGES
            return original if ours and original != used.id else ""
        if isinstance(used, ast.Attribute) and isinstance(used.value, ast.Name):
            module = _module_of(source, used.value.id)
            if module:
                self.needs.setdefault(source.name, set()).add(module)
                self.follow(read_source(module), used.attr)
                return used.attr
        return ""

    def _own(self, name: str, owner: str) -> None:
        if self.owners.setdefault(name, owner) != owner:
            raise NotImplementedError(f"{name} means two things: {self.owners[name]} and {owner}; rename one")


def _module_of(source: Source, name: str) -> str:
    """The module of ours that a name stands for; empty for any other name."""
    module, original = source.imported.get(name, ("", ""))
    full = f"{module}.{original}" if original else module
    if module.split(".")[0] not in PACKAGES or original in (read_source(module).defined if original else ()):
        return ""
    return full if importlib.util.find_spec(full) else ""


def _evaluated(node: ast.AST) -> Iterator[ast.expr]:
    """The names, and attributes of names, that are evaluated when a statement or what it defines runs."""
    if isinstance(node, ast.Name | ast.Attribute):
        yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _evaluated(child)


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = [*getattr(node, "targets", []), *([node.target] if isinstance(node, ast.AnnAssign) else [])]
    return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]


def _imports(node: ast.stmt) -> dict[str, tuple[str, str]]:
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name.split(".")[0]: (alias.name, "") for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
        return {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return {}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

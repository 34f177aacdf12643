"""What installed packages add to the tables: losses, samplers, metrics, denoisers and readers, each under its name.

A package names them in its entry points; docs/plugins.md shows how one is written.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trainables.config import Config

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "losses": ("prediction", "target"),
    "samplers": ("step",),
    "metrics": ("images", "real"),
    "denoisers": ("channels", "config"),
    "readers": (),
}
"""What a plug-in of each kind is called with; the kinds are the ends of the groups ``latentsweep.losses`` …

A reader is no function but a row of the table of readers.
"""
NAME = re.compile(r"[a-z][a-z0-9_]*")
"""What a plug-in may be called: fields of a recipe begin with its name."""

Section = TypeVar("Section", bound=Config)


@dataclass(frozen=True)
class Plugin:
    """One thing that an installed package adds."""

    name: str
    package: str
    version: str
    """That of the package: what it computes may change with it, so it is part of the keys."""
    target: Any
    """A function, a :class:`Config` whose members are called, or a row of a table."""

    @property
    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """Its fields by their names, each as :func:`trainables.config.setting` makes it; none of a function."""
        return {f.name: f for f in dataclasses.fields(self.target)} if _has_fields(self.target) else {}

    def build(self, values: Mapping[str, Any]) -> Callable[..., Any]:
        """The plug-in with the values of its fields, ready to be called; raises :class:`ConfigError` for bad ones."""
        made: Callable[..., Any] = self.target(**values) if _has_fields(self.target) else self.target
        return made

    @property
    def identity(self) -> list[str]:
        """What keys say of it beside its name and its fields."""
        return [self.package, self.version]


@functools.cache
def installed(kind: str) -> Mapping[str, Plugin]:
    """The usable plug-ins of a kind, by name; those that can't be used are in :func:`broken`."""
    return _read(kind)[0]


@functools.cache
def broken(kind: str) -> dict[str, str]:
    """Why each other plug-in of a kind can't be used, in one line, by its name.

    A second line of one name stands under the name and what it is about.
    """
    return _read(kind)[1]


def with_plugins(section: type[Section]) -> type[Section]:
    """Adds the plug-ins' names to the choices of a section's fields that take them, and the plug-ins' own fields.

    A plug-in's field ``width`` becomes the section's field ``NAME_width``. It is below :func:`dataclasses.dataclass`
    in the lines above a class, since it changes what that one sees.
    """
    for field in [each for each in vars(section).values() if isinstance(each, dataclasses.Field)]:
        kind = field.metadata.get("plugins")
        if kind:
            name = next(name for name, each in vars(section).items() if each is field)
            added, told = {}, {}
            for each in installed(kind).values():
                fault = _add_fields(section, name, each)
                if fault:
                    place = f"{section.__name__}.{name}"
                    told[each.name] = _line(each.name, each.package, fault, f" as {place}")
                    _note(broken(kind), each.name, place, told[each.name])
                else:
                    added[each.name] = each
            rules = {**field.metadata, "added": added, "broken": {**broken(kind), **told}}
            setattr(section, name, dataclasses.field(default=field.default, metadata=rules))
    return section


def rows(kind: str, row: type, table: Mapping[str, Any]) -> dict[str, Plugin]:
    """The plug-ins of a kind that are rows of a table, where they are of its type and their names are free.

    The others are then in :func:`broken`.
    """
    found = {}
    for plugin in installed(kind).values():
        fault = f"it must be a {row.__name__}, got a {type(plugin.target).__name__}"
        if isinstance(plugin.target, row):
            fault = "its name is that of a built-in one" if plugin.name in table else ""
        if fault:
            _note(broken(kind), plugin.name, plugin.package, _line(plugin.name, plugin.package, fault))
        else:
            found[plugin.name] = plugin
    return found


def _add_fields(section: type[Config], chooser: str, plugin: Plugin) -> str:
    """Gives a section the fields of a plug-in; why not, in words, where a name is taken, and else nothing."""
    hints = typing.get_type_hints(plugin.target) if plugin.fields else {}
    new = {f"{plugin.name}_{name}": (hints[name], field) for name, field in plugin.fields.items()}
    rules = vars(section)[chooser].metadata
    if plugin.name in (*rules["choices"], *rules["taken"]):
        return f"there is a built-in {plugin.name!r} already"
    for name in new:
        if hasattr(section, name):
            return f"{section.__name__} has a field {name!r} already"
    for name, (hint, field) in new.items():
        own = {**field.metadata, "later": True, "plugin": plugin, "of": chooser}
        section.__annotations__[name] = hint
        setattr(section, name, dataclasses.field(default=field.default, metadata=own))
    return ""


@functools.cache
def _read(kind: str) -> tuple[dict[str, Plugin], dict[str, str]]:
    found: dict[str, Plugin] = {}
    faults: dict[str, str] = {}
    entries = [entry for entry in _entry_points() if entry.group == f"latentsweep.{kind}"]
    for entry in sorted(entries, key=lambda each: (each.name, each.value)):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("an unknown package", "0")
        if entry.name in found:
            if found[entry.name].package != package:
                fault = f"{found[entry.name].package} has one of that name"
                _note(faults, entry.name, package, _line(entry.name, package, fault))
            continue
        try:
            plugin = Plugin(entry.name, package, version, entry.load())
            fault = _fault(plugin, ARGUMENTS[kind])
        except (Exception, SystemExit) as error:  # it is the code of others, which must not stop ours
            fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if fault:
            _note(faults, entry.name, package, _line(entry.name, package, fault))
        else:
            found[entry.name] = plugin
    return found, faults


@functools.cache
def _entry_points() -> Sequence[importlib.metadata.EntryPoint]:
    """What all installed packages name, of every kind; the folders of packages are looked through once."""
    named = importlib.metadata.entry_points()
    return [entry for kind in ARGUMENTS for entry in named.select(group=f"latentsweep.{kind}")]


def _fault(plugin: Plugin, arguments: tuple[str, ...]) -> str:
    """Why a plug-in that was loaded can't be used, in words; empty where it can."""
    if not NAME.fullmatch(plugin.name):
        return f"its name must be of small letters, digits and _, got {plugin.name!r}"
    if not arguments:
        return ""
    called = plugin.target.__call__ if _has_fields(plugin.target) else plugin.target
    if not callable(called) or (isinstance(called, type) and arguments != ARGUMENTS["denoisers"]):
        return "it must be a function or a trainables.config.Config with __call__"
    given = (None,) * (len(arguments) + _has_fields(plugin.target))
    try:
        inspect.signature(called).bind(*given)
    except TypeError:
        return f"it must take ({', '.join(arguments)}), and takes {inspect.signature(called)}"
    for name, field in plugin.fields.items():
        if "doc" not in field.metadata or field.default is dataclasses.MISSING:
            return f"its field {name!r} must be made by trainables.config.setting, with a default and its meaning"
    if plugin.fields:
        plugin.build({})  # values by default that it refuses, or types that nobody knows, raise here
        typing.get_type_hints(plugin.target)
    return ""


def _has_fields(target: Any) -> bool:
    return isinstance(target, type) and issubclass(target, Config)


def _note(faults: dict[str, str], name: str, about: str, line: str) -> None:
    """Keeps a line, also where another one has the name already."""
    if line not in faults.values():
        faults[name if name not in faults else f"{name}, {about}"] = line


def _line(name: str, package: str, fault: str, place: str = "") -> str:
    return f"the plug-in {name!r} of {package} can't be used{place}: {fault}; mend that package or uninstall it"

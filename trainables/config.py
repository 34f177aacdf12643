"""The base of every configuration: documented settings, their checks, their identity, their form as a dictionary."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from trainables.errors import ConfigError


def setting(
    default: Any,
    doc: str,
    *,
    identity: bool = True,
    later: bool = False,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    plugins: str | None = None,
    taken: Collection[str] = (),
) -> Any:
    """A documented dataclass field.

    ``low`` and ``high`` bound a number (or each member of a tuple), inclusive; ``choices`` are the values allowed.
    ``identity=False`` keeps a field that changes no result out of the store's keys. ``later`` marks a field that was
    added after there were stores: at its default it stays out of the keys, too, so that old results are found.
    ``plugins`` names the kind of plug-ins whose names are choices, too; of a field of several values, any number.
    ``taken`` are the names that these can't have, beside the choices.
    """
    metadata = {"doc": doc, "identity": identity, "later": later, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata={**metadata, "plugins": plugins, "taken": taken})


LARGEST = 2**63 - 1
LONGEST = 200
"""Characters of a value that an error quotes."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A frozen, keyword-only dataclass of settings that checks itself; raises :class:`ConfigError`.

    A field of several values holds a tuple, and also takes a list or its text, such as ``"[16, 32]"``.
    """

    def __post_init__(self) -> None:
        hints = self._hints()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str) and typing.get_origin(hints[field.name]) is tuple:
                value = _list_of(value)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            _check_type(self, field.name, value, hints[field.name])
            if field.metadata:
                _check_range(type(self), field.name, value, field.metadata)
        for field in dataclasses.fields(self):
            if field.metadata.get("added"):
                self.chosen_plugins(field.name)
        self.check()

    @classmethod
    @functools.cache
    def _hints(cls) -> dict[str, Any]:
        return typing.get_type_hints(cls)

    def check(self) -> None:
        """Rules that involve several fields; raises :class:`ConfigError`."""

    def idle(self) -> dict[str, Any]:
        """The fields that do nothing beside the others, each with the value that it counts as."""
        return {}

    def identity(self) -> dict[str, Any]:
        """The fields that change a result, as JSON values: keys of the store and names are made of them."""
        found, idle = {}, self.idle()
        for field in dataclasses.fields(self):
            value, rules = idle.get(field.name, getattr(self, field.name)), field.metadata
            absent = "plugin" in rules or (rules.get("later") and value == field.default)
            if rules.get("identity", True) and not absent:
                found[field.name] = value.identity() if isinstance(value, Config) else _plain(value)
        return found | self.plugin_identity()

    def plugin_identity(self) -> dict[str, Any]:
        """The part of :meth:`identity` that plug-ins make: names, packages, versions, fields; empty without any."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            used = self._used(field)
            if used:
                found |= {field.name: _plain(getattr(self, field.name))}
                found[f"{field.name} from"] = {each.name: each.identity for each in used}
            if "plugin" in field.metadata and field.metadata.get("identity", True) and self._shows(field):
                found[field.name] = _plain(getattr(self, field.name))
        return found

    def chosen_plugins(self, field: str) -> dict[str, Callable[..., Any]]:
        """The plug-ins that ``field`` names, by name, ready to be called; no built-in ones.

        Raises :class:`ConfigError` for values of their fields that they refuse.
        """
        return {
            each.name: each.build({name: getattr(self, f"{each.name}_{name}") for name in each.fields})
            for each in self._used(type(self).__dataclass_fields__[field])
        }

    def _used(self, field: dataclasses.Field[Any]) -> list[Any]:
        """The plug-ins that a field names."""
        added, value = field.metadata.get("added"), getattr(self, field.name)
        if not added:
            return []
        return [added[name] for name in (value if isinstance(value, tuple) else (value,)) if name in added]

    def _shows(self, field: dataclasses.Field[Any]) -> bool:
        """Whether a field is written: one of a plug-in only where it is in use."""
        plugin = field.metadata.get("plugin")
        return plugin is None or plugin in self._used(type(self).__dataclass_fields__[field.metadata["of"]])

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, nested configurations as dictionaries; of plug-ins only those in use."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if self._shows(f)}

    def _every(self) -> dict[str, Any]:
        """The same with the fields of all plug-ins."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value._every() if isinstance(value, Config) else _plain(value) for name, value in values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """The inverse of :meth:`to_dict`; raises :class:`ConfigError` for a field that does not exist."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where or cls.__name__} must be a mapping of fields, got {shown(values)}")
        hints = cls._hints()
        known = {f.name for f in dataclasses.fields(cls)}
        for field in dataclasses.fields(cls):  # a plug-in that isn't here has no fields here either
            if field.metadata.get("plugins") and field.name in values:
                given = values[field.name]
                _check_choices(cls, field.name, tuple(given) if isinstance(given, list) else given, field.metadata)
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            path = f"{where}.{name}" if where else str(name)
            if name not in known:
                raise ConfigError(f"unknown field {shown(path)}; known fields: {', '.join(sorted(known))}")
            hint = hints[name]
            if isinstance(hint, type) and issubclass(hint, Config):
                value = hint.from_dict(value, where=path)
            arguments[name] = value
        return cls(**arguments)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with some fields changed; dots reach into sections: ``{"vae.epochs": 3}``."""
        values = self._every()
        for path, value in changes.items():
            *sections, name = path.split(".")
            inside: Any = values
            for section in sections:
                if not isinstance(inside, dict) or not isinstance(inside.get(section), dict):
                    raise ConfigError(f"unknown field {path!r}: there is no section {section!r}")
                inside = inside[section]
            if not isinstance(inside, dict) or name not in inside:
                raise ConfigError(f"unknown field {path!r}; known here: {', '.join(sorted(inside))}")
            inside[name] = value
        return type(self).from_dict(values)


def named_by(config: Any, field: str, built_in: Mapping[str, Any]) -> Any:
    """What a ``field`` of a section names: a row of the table ``built_in``, or a plug-in that is ready to be called.

    Raises :class:`ConfigError` for a name that this machine doesn't know, as where a recipe comes from another one.
    """
    name, found = getattr(config, field), {**config.chosen_plugins(field), **built_in}
    if name not in found:
        known = ", ".join(found)
        raise ConfigError(
            f"{field} must be one of {known}; got {shown(name)}; if it is a plug-in, install its package here"
        )
    return found[name]


def fingerprint(value: Any, *, length: int = 16) -> str:
    """The first ``length`` hexadecimal digits of the SHA-256 of ``value`` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def as_scalar(value: Any) -> Any:
    """A list or tuple as its JSON text, for places of single values, such as a study; other values as they are."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def is_whole(value: Any) -> typing.TypeGuard[int]:
    """Whether it is a whole number of at most 64 bits, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def shown(value: Any) -> str:
    """A value of any kind and size, as an error quotes it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of many thousand digits
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _list_of(text: str) -> Any:
    """The list that a JSON text holds; any other text as it is."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text
    return value if isinstance(value, list) else text


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(member) for member in value]
    return value


def _check_type(config: Config, name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        label = getattr(hint, "__name__", str(hint)) if not typing.get_origin(hint) else str(hint)
        raise ConfigError(f"{type(config).__name__}.{name} must be {label}, got {shown(value)}")
    if hint is float:
        object.__setattr__(config, name, float(value))
    elif hint == tuple[float, ...]:
        object.__setattr__(config, name, tuple(float(member) for member in value))


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is tuple:
        member = typing.get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(v, member) for v in value)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if hint is float:
        return (isinstance(value, float) and math.isfinite(value)) or is_whole(value)
    if hint is int:
        return is_whole(value)
    return isinstance(value, hint)


def _check_choices(config: type[Config], name: str, value: Any, rules: Mapping[str, Any]) -> None:
    """Raises :class:`ConfigError` for a value that is no choice; a plug-in is one where it is installed and sound."""
    if rules["choices"] is None:
        return
    allowed = (*rules["choices"], *rules.get("added", ()))
    for member in value if rules.get("plugins") and isinstance(value, tuple) else (value,):
        if member not in allowed:
            known = ", ".join(map(str, allowed)) or "those of plug-ins, and none is installed"
            line = f"{config.__name__}.{name} must be one of {known}; got {shown(member)}"
            if rules.get("plugins"):
                line += f"; {rules.get('broken', {}).get(member) or 'if it is a plug-in, install its package here'}"
            raise ConfigError(line)


def _check_range(config: type[Config], name: str, value: Any, rules: Mapping[str, Any]) -> None:
    label = f"{config.__name__}.{name}"
    _check_choices(config, name, value, rules)
    if value is None:
        return
    for member in value if isinstance(value, tuple) else (value,):
        if rules["low"] is not None and not member >= rules["low"]:
            raise ConfigError(f"{label} must be at least {rules['low']:g}, got {member!r}")
        if rules["high"] is not None and not member <= rules["high"]:
            raise ConfigError(f"{label} must be at most {rules['high']:g}, got {member!r}")

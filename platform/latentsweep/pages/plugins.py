"""What installed packages add, and their fields, for a program and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from latentsweep.datasets.formats import readers
from trainables import plugins
from trainables.recipes import Recipe


def plugins_as_plain() -> dict[str, Any]:
    """Every plug-in by its kind, with its package, its meaning and its fields in a recipe; and the broken ones."""
    sections = {section.name: section.default for section in dataclasses.fields(Recipe)}
    found: dict[str, Any] = {}
    for kind in plugins.ARGUMENTS:
        rows = []
        for each in _usable(kind, sections).values():
            fields = {
                f"{name}.{field.name}": {
                    "default": field.default,
                    "meaning": field.metadata["doc"],
                    "allowed": allowed(field),
                }
                for name, section in sections.items()
                for field in dataclasses.fields(section)  # type: ignore[arg-type]
                if field.metadata.get("plugin") is each
            }
            row = {"name": each.name, "package": each.package, "version": each.version}
            rows.append({**row, "meaning": _meaning(each.target), "fields": fields})
        found[kind] = {"usable": rows, "broken": sorted(plugins.broken(kind).values())}
    return found


def _usable(kind: str, sections: Mapping[str, Any]) -> Mapping[str, plugins.Plugin]:
    """The plug-ins of a kind that a field of a recipe takes, or the table of readers, by name."""
    if kind == "readers":
        return readers.PLUGINS
    fields = [field for section in sections.values() for field in dataclasses.fields(section)]
    found = [field.metadata["added"] for field in fields if field.metadata.get("plugins") == kind]
    return {name: plugin for added in found for name, plugin in sorted(added.items())}


def _meaning(target: Any) -> str:
    """The first line of what it says of itself; not the list of fields that a dataclass makes in its place."""
    said = (getattr(target, "__doc__", "") or "").partition("\n")[0]
    return "" if isinstance(target, type) and said.startswith(f"{target.__name__}(") else said


def plugin_lines(found: Mapping[str, Any]) -> list[str]:
    """The same in words."""
    lines = []
    for kind, each in found.items():
        for one in each["usable"]:
            meaning = f": {one['meaning']}" if one["meaning"] else ""
            lines.append(f"{kind}: {one['name']}, of {one['package']} {one['version']}{meaning}")
            for name, field in one["fields"].items():
                span = f" ({field['allowed']})" if field["allowed"] else ""
                lines.append(f"  {name} = {field['default']}: {field['meaning']}{span}")
        lines += [f"{kind}: {line}" for line in each["broken"]]
    return lines or ["no installed package adds anything; docs/plugins.md shows how one does"]


def allowed(field: dataclasses.Field[Any]) -> str:
    """What a field may be, in words; empty for anything of its type."""
    rules = field.metadata
    words = ", ".join(str(choice) for choice in rules["choices"] or ())
    if not words and (rules["low"] is not None or rules["high"] is not None):
        low, high = (("" if end is None else f"{end:g}") for end in (rules["low"], rules["high"]))
        words = f"{low} to {high}" if low and high else (f"at least {low}" if low else f"at most {high}")
    return words

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
        for each in (readers.PLUGINS if kind == "readers" else plugins.installed(kind)).values():
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
            meaning = (getattr(each.target, "__doc__", "") or "").partition("\n")[0]
            rows.append({"name": each.name, "package": each.package, "version": each.version, "meaning": meaning})
            rows[-1]["fields"] = fields
        found[kind] = {"usable": rows, "broken": sorted(plugins.broken(kind).values())}
    return found


def plugin_lines(found: Mapping[str, Any]) -> list[str]:
    """The same in words."""
    lines = []
    for kind, each in found.items():
        for one in each["usable"]:
            lines.append(f"{kind}: {one['name']}, of {one['package']} {one['version']}: {one['meaning']}")
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

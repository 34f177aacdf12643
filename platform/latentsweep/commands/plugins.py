"""``plugins``. Heavy imports wait until the command runs."""

from __future__ import annotations

import json

import typer

from latentsweep.commands import options


def plugins(as_json: options.JsonOption = False) -> None:
    """List what installed packages add: losses, samplers, metrics, denoisers, readers, and their fields."""
    from latentsweep.pages.plugins import plugin_lines, plugins_as_plain

    found = plugins_as_plain()
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(plugin_lines(found)))

"""``store show`` and ``store free``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import options

store_app = typer.Typer(no_args_is_help=True, help="What was computed and kept, what it cost, and what may go.")


@store_app.command("show")
def show(
    as_json: options.JsonOption = False, home: options.HomeOption = Path("runs"), store: options.StoreOption = ""
) -> None:
    """What the store holds, what each result cost, and what refers to it."""
    from latentsweep.storage import housekeeping

    rows = housekeeping.overview(options.home_of(home, store))
    typer.echo(json.dumps(rows, indent=1) if as_json else housekeeping.as_text(rows))


@store_app.command("free")
def free(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also in a store outside the home, which may be shared.")
    ] = False,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
) -> None:
    """Delete the results that no sweep and no training refers to."""
    from latentsweep.stages.pipeline import VERSIONS
    from latentsweep.storage import housekeeping

    rows = housekeeping.free(options.home_of(home, store), dry_run=dry_run, force=force, versions=VERSIONS)
    typer.echo(json.dumps(rows, indent=1) if as_json else housekeeping.freed_words(rows, dry_run=dry_run))

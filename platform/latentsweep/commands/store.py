"""``store show`` and ``store free``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import options
from latentsweep.commands.terminal import fold

store_app = typer.Typer(no_args_is_help=True, help="What was computed and kept, what it cost, and what may go.")


@store_app.command("show")
def show(
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """What the store holds, what each result cost, and who refers to it: sweeps, configurations and channels."""
    from latentsweep.search.labels import labels, users_words
    from latentsweep.storage import housekeeping

    place = options.home_of(home, store, study_storage)
    named = labels(place)
    if as_json:
        from latentsweep.stages.table import VERSIONS

        rows = housekeeping.overview(place, VERSIONS)
        known = {
            name: {
                "trials": label.trials,
                "configurations": label.configurations,
                "channels": sorted(label.channels),
            }
            for name, label in named.items()
        }
        typer.echo(json.dumps([{**row, **known.get(row["name"], {})} for row in rows], indent=1))
        return
    typer.echo(fold(housekeeping.as_text(housekeeping.overview(place), lambda row: users_words(row, named)), 44))


@store_app.command("free")
def free(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also in a store outside the home, which may be shared.")
    ] = False,
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="Also what was begun and not finished, though a job could go on from it."),
    ] = False,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
) -> None:
    """Delete the results that no sweep and no training refers to."""
    from latentsweep.stages.table import VERSIONS
    from latentsweep.storage import housekeeping

    place = options.home_of(home, store)
    rows = housekeeping.free(place, dry_run=dry_run, force=force, unfinished=unfinished, versions=VERSIONS)
    typer.echo(json.dumps(rows, indent=1) if as_json else housekeeping.freed_words(rows, dry_run=dry_run))
    if not unfinished and (more := housekeeping.offer(place)):
        typer.echo(more, err=True)

"""``release``. Heavy imports wait until it runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import options
from latentsweep.commands.terminal import fold


def release(
    run: Annotated[
        str,
        typer.Option(
            help="A configuration (best.yaml), a model's folder, SWEEP/NUMBER, or a dataset, for its champion."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", "-o", help="New or empty folder for the release.")],
    count: Annotated[int, typer.Option(min=1, help="How many slices.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first slice; the next has the next.")] = 0,
    source: Annotated[str, typer.Option(help="Where the real slices come from, for the data sheet.")] = "",
    licence: Annotated[
        str,
        typer.Option(help="Licence of the source, under which the release is given, too, as a name or an address."),
    ] = "",
    despite_guards: Annotated[
        bool, typer.Option("--despite-guards", help="Release what the guards refuse even so; the data sheet says it.")
    ] = False,
    device: options.DeviceOption = None,
    inception: options.WeightsOption = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Write slices to give away: no near copies, a data sheet, a Croissant file, checksums, and nothing real."""
    from latentsweep.api.progress import show_progress
    from latentsweep.api.releases import release as write

    with show_progress("drawing", "slices") as progress:
        found = write(
            run,
            to,
            count=count,
            seed=seed,
            source=source,
            licence=licence,
            despite_guards=despite_guards,
            device=device,
            inception=inception,
            home=options.home_of(home, store, study_storage),
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found) | {"folder": str(found.folder)}))
        return
    few = f" of the {found.asked} that were asked for" if found.samples < found.asked else ""
    said = (
        f"{found.samples} slices{few} in {found.folder}; {found.near_copies} of {found.drawn} drawn ones were near "
        "copies of training slices and are left out"
    )
    typer.echo(fold(said))
    if found.refused:
        typer.echo(f"the guards refuse the model: {found.refused}")

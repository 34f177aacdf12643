"""``plan``. Heavy imports wait until the command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import completion, options


def plan(
    recipe: Annotated[
        str, typer.Option(help="paper, improved, small or smoke.", autocompletion=completion.recipes)
    ] = "improved",
    config: Annotated[Path | None, typer.Option(help="A configuration, as export wrote it, in place of it.")] = None,
    settings: options.SetOption = None,
    slices: Annotated[
        int, typer.Option(min=0, help="Slices of the training split, which lie on the card during a training.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Data-parallel workers of a training.")] = 1,
    concurrent: options.ConcurrentOption = None,
    card_gib: options.CardOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show what a configuration takes of a card's memory, by part, and how trials would share the card."""
    from latentsweep.configuration import execution_of, overridden, read_configuration
    from latentsweep.execution import packing
    from trainables.loop.settings import Execution
    from trainables.recipes import recipe_named

    execution, chosen = Execution(), recipe_named(recipe)
    if config:
        configuration = read_configuration(config)
        execution, chosen = configuration.execution, configuration.recipe
    settings, execution = execution_of(settings or [], device, execution.replace(workers=workers))
    chosen = overridden(chosen, settings)
    present = packing.cards(execution.device)
    pack = packing.pack_trials(
        chosen,
        concurrent=concurrent,
        card_gib=card_gib,
        execution=execution,
        slices=slices,
        present=present or packing.planned_cards(card_gib),
    )
    if as_json:
        typer.echo(json.dumps({"card_is_here": bool(present), **packing.to_plain(pack)}, indent=1))
        return
    if not present:
        typer.echo(f"{pack.without_card}: planned for one of {pack.card_bytes / packing.GIB:.4g} GiB")
    typer.echo(packing.as_table(pack))
    if pack.left_out:
        typer.echo(pack.left_out_line())

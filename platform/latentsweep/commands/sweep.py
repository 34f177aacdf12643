"""``sweep`` and ``export``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentsweep.commands import completion, options
from latentsweep.commands.terminal import fold
from latentsweep.program.invocation import hint

if TYPE_CHECKING:
    from latentsweep.search.plan import SweepPlan
    from latentsweep.search.study import Search
    from latentsweep.storage.home import Home


def sweep(
    dataset: options.DatasetOption,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials in all, 20 by default; a larger number later goes on.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            help="Hours that the sweep may take, in place of --trials: steps are timed here, and sizes, trials and "
            "confirmation planned by that."
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="The same in minutes.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="paper, improved, small or smoke; the space's own by default.", autocompletion=completion.recipes
        ),
    ] = None,
    space: Annotated[Path | None, typer.Option(help="A search space as YAML; the dataset's own by default.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="kid (default), fid, dice (downstream, with masks), a plug-in's metric, …; twice for a Pareto front."
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp (weighs what autoencoders cost) or random.")] = "tpe",
    pruner: Annotated[
        str, typer.Option(help="median, gp, hyperband or none; two objectives are pruned by median alone.")
    ] = "median",
    seed: Annotated[int, typer.Option(min=0, help="Seed of trainings, samples and search.")] = 0,
    split: Annotated[str | None, typer.Option(help="'subject', or 'slice' as the paper did.")] = None,
    confirm: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Train so many of the best denoisers again with fresh seeds, and rank them anew; by default 5 where "
            "12 or more different trainings can be run, else 0.",
        ),
    ] = None,
    confirm_seeds: Annotated[int, typer.Option(min=1, help="Fresh seeds for each of these.")] = 2,
    despite_guards: Annotated[
        bool,
        typer.Option(
            "--despite-guards",
            help="Search without guards: nothing is pruned or refused for copying or collapse; another sweep.",
        ),
    ] = False,
    most_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Let nothing win that takes more seconds than this to draw an image, as measured in its trial; "
            "0 for any; another sweep.",
        ),
    ] = 0.0,
    warm_start: Annotated[
        int,
        typer.Option(
            min=0,
            help="Try so many of the best configurations of the home's earlier sweeps first, at most a quarter of "
            "the trials; a random search tries none.",
        ),
    ] = 3,
    settings: options.SetOption = None,
    concurrent: options.ConcurrentOption = None,
    card_gib: options.CardOption = None,
    device: options.DeviceOption = None,
    ray_address: options.RayOption = "local",
    inception: options.WeightsOption = None,
    mlflow: options.RecordOption = True,
    dry_run: options.DryRunOption = False,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Search: run trials and train the autoencoders that they share, rank what they generate, confirm the best."""
    from rich.console import Console

    from latentsweep.api import searches
    from trainables.errors import ConfigError

    if hours is not None and minutes is not None:
        raise ConfigError(f"--hours {hours:g} and --minutes {minutes:g} say the same; leave one out")
    place = options.home_of(home, store, study_storage)
    found = searches.sweep(
        dataset,
        trials=trials,
        hours=hours if minutes is None else minutes / 60,
        recipe=recipe,
        space=space,
        objectives=objective or ("kid",),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        split=split,
        confirm=confirm,
        confirm_seeds=confirm_seeds,
        despite_guards=despite_guards,
        most_seconds=most_seconds,
        warm_start=warm_start,
        settings=settings or (),
        concurrent=concurrent,
        card_gib=card_gib,
        device=device,
        ray_address=ray_address,
        inception=inception,
        mlflow=mlflow,
        dry_run=dry_run,
        home=place,
        console=Console(stderr=as_json),
        tell=lambda line: typer.echo(line, err=True),
    )
    if found.search is None:
        from latentsweep.jobs import forecast as forecasts

        typer.echo(json.dumps(found.forecast, indent=1) if as_json else fold(forecasts.as_text(found.forecast), 17))
        return
    show_results(place, found.plan, found.search, as_json, recorded=mlflow)


def export(
    to: Annotated[Path, typer.Option("--to", "-o", help="The YAML file to write.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            help="Take the latest sweep of this dataset that has a result.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    sweep_name: Annotated[
        str | None, typer.Option("--sweep", help="Take this sweep.", autocompletion=completion.sweeps)
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            "--number",
            "-n",
            "--trial",
            min=0,
            help="Take this configuration of the leaderboard; the best by default.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    despite_guards: Annotated[
        bool, typer.Option("--despite-guards", help="Export what the guards refuse even so.")
    ] = False,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Write the best configuration of a sweep, confirmed if it was, as a file to read, edit and train."""
    from latentsweep.search.export import configuration_of, words_of
    from latentsweep.search.sweeps import chosen_sweep
    from latentsweep.stages.guards import DESPITE
    from trainables.errors import ConfigError

    place = options.home_of(home, store, study_storage)
    folder = chosen_sweep(place, dataset, sweep_name)
    if to.exists() and not force:
        raise ConfigError(f"{to} is there already; choose another name or say --force")
    configuration = configuration_of(
        folder,
        trial,
        lambda name, key: options.record_of(place, name, True).run_id(key),
        place.study,
        despite_guards=despite_guards,
    )
    configuration.write(to)
    origin = configuration.origin
    despite = f" {DESPITE}" if origin.get("refused") else ""
    what = words_of(origin, named=trial is not None)
    text = "\n".join(
        [
            fold(f"{to}: configuration {origin['trial']} of {origin['sweep']}, {what}"),
            f"train it with: {hint(f'train --config {shlex.quote(str(to))}')}{despite}",
        ]
    )
    typer.echo(json.dumps({"file": str(to), "origin": origin}, indent=1) if as_json else text)


def show_results(home: Home, plan: SweepPlan, search: Search, as_json: bool, *, recorded: bool) -> None:
    """The leaderboard, what may mislead, and what to do next; in MLflow only where it is ``recorded`` there."""
    from latentsweep.lints import targets
    from latentsweep.search import confirmation, confirmation_table, leaderboard
    from latentsweep.search.clock import spent_seconds

    lints = [finding.code for finding in targets.merge_by_code(targets.lint_sweep(home, plan, search))]
    table, counts = leaderboard.rows(search), leaderboard.counts(search)
    again = leaderboard.confirmed_rows(search)
    if as_json:
        result: dict[str, Any] = {
            "sweep": plan.name,
            "counts": counts,
            "leaderboard": table,
            "confirmed": again,
            "lints": lints,
        }
        result |= {"apart": sorted(search.apart)} if search.apart else {}
        result |= {"continued": search.thawed()} if search.thawed() else {}
        if plan.schedule:
            result |= {"schedule": plan.schedule.to_plain(), "seconds": spent_seconds(home.sweeps / plan.name)}
        typer.echo(json.dumps(result | {"importances": leaderboard.importances(search)}, indent=1))
        return
    again = confirmation_table.rounded(again, confirmation.metric_of(search))
    said = [
        *confirmation_table.words(search),
        *filter(None, [each(search) for each in (leaderboard.thawed, leaderboard.copyists, leaderboard.apart)]),
    ]
    leaderboard.show(table, counts, leaderboard.importances(search), again=again, said=said)
    at = "" if str(home.root) == "runs" else f" --home {shlex.quote(str(home.root))}"
    if lints:
        typer.echo(f"what may mislead:  {', '.join(lints)}: {hint(f'lint {plan.name}{at}')}")
    if recorded:
        typer.echo(f"compare the runs:  {hint(f'ui{at}')}")
    typer.echo(f"read the report:   {hint(f'report {plan.name}{at}')}")
    if any(row["best"] for row in table):
        typer.echo(f"take the best out: {hint(f'export --sweep {plan.name} --to best.yaml{at}')}")

"""``ablate``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import completion, options
from latentsweep.commands.terminal import fold


def ablate(
    dataset: options.DatasetOption,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of each arm; a larger number later adds the rest.")] = 5,
    folds: Annotated[
        int,
        typer.Option(min=1, help="Run each arm and seed in so many folds: each patient is once in a test split."),
    ] = 1,
    design: Annotated[
        str | None, typer.Option(help="leave-one-out (the default), one-at-a-time, factorial, or arms (with --arm).")
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="A whole configuration: 'NAME = RECIPE field=value …', of a recipe's name or a file of export; name "
            "and changes as you like; again for each, the reference first."
        ),
    ] = None,
    components: Annotated[
        str | None, typer.Option(help="Names with commas between; --dry-run lists all that there are.")
    ] = None,
    tune_per_arm: Annotated[
        int, typer.Option(min=0, help="Trials of a search of the learning rate for each arm, before.")
    ] = 0,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="paper, improved (the default), small or smoke: what isn't a component.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="field=value of the recipe, or of every --arm; or execution.field=value."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Wall time of each run's two trainings together: numbers of steps are set by timing them here."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Per cent of the reference's score that count as no difference; part of the plan.")
    ] = 10.0,
    max_runs: Annotated[int, typer.Option(min=1, help="Refuse a study of more runs than this.")] = 200,
    concurrent: Annotated[int | None, typer.Option(help="Trainings at once; what fits by default.")] = None,
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
    """Find out which components, or whole configurations, are better on this dataset, and how sure that is."""
    from rich.console import Console

    from latentsweep.ablation.design.components import COMPONENTS
    from latentsweep.api import studies
    from latentsweep.jobs import ablation_results

    found = studies.ablate(
        dataset,
        seeds=seeds,
        folds=folds,
        design=design,
        arms=arm or (),
        components=None if components is None else [name.strip() for name in components.split(",") if name.strip()],
        tune_per_arm=tune_per_arm,
        recipe=recipe,
        settings=settings or (),
        minutes=minutes,
        margin=margin,
        max_runs=max_runs,
        concurrent=concurrent,
        card_gib=card_gib,
        device=device,
        ray_address=ray_address,
        inception=inception,
        mlflow=mlflow,
        dry_run=dry_run,
        home=options.home_of(home, store, study_storage),
        console=Console(stderr=as_json),
        tell=lambda line: typer.echo(line, err=True),
    )
    plan, forecast, finished = found.plan, found.forecast, found.finished
    if finished is None:
        typer.echo(json.dumps(forecast, indent=1) if as_json else fold(ablation_results.as_text(forecast), 4))
        if not as_json and not arm:
            typer.echo("\ncomponents that there are:")
            for component in COMPONENTS.values():
                typer.echo(fold(f"  {component.name:<24} {component.meaning}", 27))
        return
    study, jobs, earlier, wall_time = finished.study, finished.jobs, finished.earlier, finished.wall_time
    if as_json:
        failures = study.failures()
        effects = {
            metric: [ablation_results.plain(effect) for effect in each] for metric, each in finished.effects.items()
        }
        described = {"study": plan.name, "needed": forecast["needed"], "effects": effects, "failures": failures}
        described["ratios"] = [ablation_results.plain(ratio) for ratio in finished.ratios]
        described["gaps"] = [ablation_results.plain(gap) for gap in ablation_results.split_gaps(study, jobs)]
        described |= {"wall_time": wall_time} if wall_time else {}
        described |= {"earlier_test_decisions": earlier} if earlier is not None else {}
        typer.echo(json.dumps({**described, "files": [str(path) for path in finished.files]}, indent=1))
        return
    for name, words in found.verdicts.items():
        typer.echo(fold(f"{name}: {words}"))
    for ratio in finished.ratios:
        typer.echo(fold(f"{ratio.name}: as a ratio, {ratio.words}"))
    options.print_earlier(plan.dataset, earlier)
    if wall_time.get("unequal"):
        typer.echo(fold(wall_time["unequal"]))
    for name, reason in study.failures().items():
        typer.echo(fold(f"failed: {name}: {reason['reason']}"))
    for path in finished.files:
        typer.echo(path)

"""``ablate``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentsweep.commands import completion, options

if TYPE_CHECKING:
    from trainables.recipes import Recipe


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
            help="paper, improved (the default) or smoke: what isn't a component.", autocompletion=completion.recipes
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

    from latentsweep.ablation.design.arms import WHOLE, arms_of
    from latentsweep.ablation.design.components import COMPONENTS, DEFAULT
    from latentsweep.ablation.design.plan import plan_of
    from latentsweep.ablation.design.walltime import WallTime
    from latentsweep.configuration import execution_of, overridden
    from latentsweep.execution.cluster import pack_job
    from latentsweep.jobs import ablation_results
    from latentsweep.jobs.ablation import Study
    from latentsweep.jobs.ablation_outlook import known_noise
    from latentsweep.jobs.job import Runtime
    from latentsweep.storage.store import Store
    from trainables.measures.inception import find_weights
    from trainables.recipes import recipe_named

    place, weights = options.home_of(home, store, study_storage), find_weights(inception)
    settings, execution = execution_of(settings or [], device)
    names = DEFAULT if components is None else [name.strip() for name in components.split(",") if name.strip()]
    design = design or (WHOLE if arm else "leave-one-out")
    arms = arms_of(design, arm or [], settings, {"--components": components, "--recipe": recipe})
    named = arms[0].source if arms else recipe or "improved"
    base = arms[0].recipe if arms else overridden(recipe_named(named), settings)
    data = options.dataset_of(place, dataset)
    plan = plan_of(
        data,
        named,
        base,
        design,
        () if arms else names,
        seeds=seeds,
        tune=tune_per_arm,
        most=max_runs,
        weights=weights,
        arms=arms,
        settings=settings if arms else (),
        minutes=minutes,
        folds=folds,
        margin=margin / 100,
    )
    results, wall = Store.of(place), WallTime.read(place.ablations / plan.name)
    noise = known_noise(results, plan) if dry_run else None
    forecast = ablation_results.forecast(plan, results, seeds, wall, noise)
    if dry_run:
        typer.echo(json.dumps(forecast, indent=1) if as_json else ablation_results.as_text(forecast))
        if not as_json and not arms:
            typer.echo("\ncomponents that there are:")
            for component in COMPONENTS.values():
                typer.echo(f"  {component.name:<24} {component.meaning}")
        return
    study = Study(place, plan, data, weights, options.recorder_of(place, dataset, mlflow))
    largest = max((each.recipe for each in plan.design.arms), key=size)
    slices = max(study.training_slices(largest))
    pack = pack_job(largest, ray_address, execution, concurrent=concurrent, card_gib=card_gib, slices=slices)
    if pack.left_out:
        typer.echo(pack.left_out_line(), err=True)
    jobs = study.run(seeds, Runtime(pack, Console(stderr=as_json), ray_address))
    real = ablation_results.real_slices(study, jobs)
    effects = ablation_results.judge_effects(study, jobs, seeds, real)
    ratios = ablation_results.compare_to_reference(study, jobs, seeds, real)
    address = options.pages_of(place, study.recorder)(plan.name) if mlflow else ""
    files = ablation_results.write_study(study, jobs, effects, seeds, ratios, real, address)
    wall_time = ablation_results.wall_time(study, jobs)
    earlier = study.note_use()
    if as_json:
        failures = study.failures()
        found = {metric: [ablation_results.plain(effect) for effect in each] for metric, each in effects.items()}
        described = {"study": plan.name, "needed": forecast["needed"], "effects": found, "failures": failures}
        described["ratios"] = [ablation_results.plain(ratio) for ratio in ratios]
        described["gaps"] = [ablation_results.plain(gap) for gap in ablation_results.split_gaps(study, jobs)]
        described |= {"wall_time": wall_time} if wall_time else {}
        described |= {"earlier_test_decisions": earlier} if earlier is not None else {}
        typer.echo(json.dumps({**described, "files": [str(path) for path in files]}, indent=1))
        return
    for effect in effects[ablation_results.METRICS[0]]:
        typer.echo(f"{effect.contrast.name}: {effect.words}")
    for ratio in ratios:
        typer.echo(f"{ratio.name}: as a ratio, {ratio.words}")
    options.print_earlier(plan.dataset, earlier)
    if wall_time.get("unequal"):
        typer.echo(wall_time["unequal"])
    for name, reason in study.failures().items():
        typer.echo(f"failed: {name}: {reason['reason']}")
    for path in files:
        typer.echo(path)


def size(recipe: Recipe) -> tuple[int, int, int]:
    """By which the recipe that takes the most memory is chosen."""
    return sum(recipe.diffusion.widths), sum(recipe.vae.widths), recipe.vae.latent_channels

"""The command line: parse, build the configuration, call, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from latentsweep import __version__
from latentsweep.datasets.commands import data_app

if TYPE_CHECKING:
    from latentsweep.datasets.slices import PreparedDataset
    from latentsweep.home import Home
    from latentsweep.recording import Recorder

INTERRUPTED = 130


class OneLineErrors(TyperGroup):
    """Prints what a user can mend as one line and ends with exit code 2; ``--debug`` shows where it came from."""

    def invoke(self, ctx: Any) -> Any:
        from trainables.errors import LatentsweepError, StoppedError

        try:
            return super().invoke(ctx)
        except LatentsweepError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(INTERRUPTED if isinstance(error, StoppedError) else 2) from None


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find out which choices make slice-by-slice latent diffusion work on your brain MRI, and train the best.",
)
app.add_typer(data_app, name="data")
store_app = typer.Typer(no_args_is_help=True, help="What was computed and kept, what it cost, and what may go.")
app.add_typer(store_app, name="store")

HomeOption = Annotated[Path, typer.Option("--home", envvar="LATENTSWEEP_HOME", help="Folder of all that is made.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
WeightsOption = Annotated[
    Path | None, typer.Option("--inception", help="The 2015-12-05 Inception weights, where they aren't installed.")
]
RayOption = Annotated[str, typer.Option("--ray-address", help="'local' starts Ray here; else the cluster to join.")]
CardOption = Annotated[
    float | None,
    typer.Option(
        "--card-gib",
        help="Memory of a card to plan for, in GiB; by default 6 or the real card, whichever is smaller.",
    ),
]
RecordOption = Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Record to MLflow.")]
RunArgument = Annotated[
    str, typer.Argument(help="A configuration (best.yaml), a model's folder, or SWEEP/TRIAL.", metavar="RUN")
]


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Options of every command."""
    import logging

    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s: %(message)s")
    for name in ("matplotlib", "PIL", "filelock", "asyncio", "urllib3", "alembic", "git"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if version:
        typer.echo(f"latentsweep {__version__}")
        raise typer.Exit


@app.command()
def sweep(
    dataset: Annotated[str, typer.Option(help="A prepared dataset; 'demo' is prepared by itself.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; a larger number later goes on.")] = 20,
    recipe: Annotated[str | None, typer.Option(help="paper, improved or smoke; the space's own by default.")] = None,
    space: Annotated[Path | None, typer.Option(help="A search space as YAML; the dataset's own by default.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="kid (default), fid, …; twice for a Pareto front.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    pruner: Annotated[str, typer.Option(help="median, hyperband or none.")] = "median",
    seed: Annotated[int, typer.Option(min=0, help="Seed of trainings, samples and search.")] = 0,
    split: Annotated[str | None, typer.Option(help="'subject', or 'slice' as the paper did.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="field=value of the recipe.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Trials at once; what fits by default.")] = None,
    card_gib: CardOption = None,
    ray_address: RayOption = "local",
    inception: WeightsOption = None,
    mlflow: RecordOption = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and end.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Search: train the shared autoencoders, then trials, and rank what they generate."""
    from rich.console import Console

    from latentsweep import dry_run as forecasts
    from latentsweep.assembly import search_space, sweep_plan
    from latentsweep.budget import packing
    from latentsweep.search import SearchConfig
    from latentsweep.sweep import Sweep
    from trainables.inception import find_weights

    place = _home(home)
    chosen = search_space(dataset, space)
    search = SearchConfig(objectives=tuple(objective or ["kid"]), sampler=sampler, pruner=pruner)
    weights = find_weights(inception)
    plan = sweep_plan(_dataset(place, dataset), chosen, weights, recipe, list(assignments or []), split, search, seed)
    pack = packing(plan.recipe, concurrent=concurrent, card_gib=card_gib)
    if dry_run:
        forecast = forecasts.forecast(plan, place, trials, pack)
        typer.echo(json.dumps(forecast, indent=1) if as_json else forecasts.as_text(forecast))
        return
    if not pack.gpu_share and plan.recipe_name != "smoke":
        typer.echo(
            f"note: no CUDA card here; {plan.recipe_name} takes days on a CPU, --recipe smoke minutes", err=True
        )
    job = Sweep(place, plan, weights, _recorder(place, dataset, mlflow))
    job.run(trials, pack, Console(stderr=as_json), address=ray_address)
    _show_results(job.folder, home, as_json)


@app.command()
def ui(
    host: Annotated[
        str, typer.Option(help="Where to listen; other than loopback shows your runs to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser, too.")] = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Open the MLflow UI on this home's runs."""
    from latentsweep_mlflow.ui import serve

    serve(home, host=host, port=port, open_browser=open_browser, tell=typer.echo)


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="The YAML file to write.")],
    dataset: Annotated[str | None, typer.Option(help="Take the latest sweep of this dataset.")] = None,
    sweep_name: Annotated[str | None, typer.Option("--sweep", help="Take this sweep.")] = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Take this trial; the best by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Write the best configuration of a sweep as a file to read, edit and train."""
    from latentsweep.export import chosen_sweep, exported
    from trainables.errors import ConfigError

    place = _home(home)
    folder = chosen_sweep(place, dataset, sweep_name)
    if to.exists() and not force:
        raise ConfigError(f"{to} is there already; choose another name or say --force")
    configuration = exported(folder, trial, lambda name, key: _recorder(place, name, True).run_id(key))
    configuration.write(to)
    origin = configuration.origin
    text = f"{to}: trial {origin['trial']} of {origin['sweep']}\ntrain it with: python cli.py train --config {to}"
    typer.echo(json.dumps({"file": str(to), "origin": origin}, indent=1) if as_json else text)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="The configuration, as export wrote it.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Denoiser steps; the configuration's by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Data-parallel workers.")] = 1,
    ray_address: RayOption = "local",
    inception: WeightsOption = None,
    mlflow: RecordOption = True,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Train a configuration in full, measure it on held-out data, and register the model."""
    from rich.console import Console

    from latentsweep.assembly import record_training
    from latentsweep.budget import packing
    from latentsweep.configuration import read_configuration
    from latentsweep.retraining import train as run_training
    from trainables.inception import find_weights

    place = _home(home)
    configuration = read_configuration(config).with_steps(steps)
    weights = find_weights(inception)
    dataset = _dataset(place, configuration.dataset)
    pack = packing(configuration.recipe, concurrent=1, card_gib=None)
    result = run_training(
        place, configuration, dataset, weights, pack, Console(stderr=True), workers=workers, address=ray_address
    )
    summary: dict[str, Any] = {"name": result.name, "folder": str(result.folder), "from_store": result.from_store}
    summary |= {split: result.metrics(split) for split in result.evaluations}
    if mlflow:
        from latentsweep_mlflow.registry import register_model

        run_id = record_training(_recorder(place, dataset.name, True), result)
        registered = register_model(
            home,
            dataset=dataset.name,
            folder=result.folder,
            run_id=run_id,
            score=result.scores["gen/kid"],
            objective=f"kid on the {result.last} split",
            comparable=result.comparable,
        )
        summary["registry"] = dataclasses.asdict(registered)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        return
    how = "answered from the store" if result.from_store else "trained"
    typer.echo(f"{how}: {result.folder}")
    for split in result.evaluations:
        _print_metrics(split, result.metrics(split))
    if mlflow:
        typer.echo(f"registered as {dataset.name}, version {registered.version}: {registered.reason}")
    typer.echo(f"draw images with: python cli.py sample {result.folder} --count 16 --to images")


@app.command()
def sample(
    run: RunArgument,
    to: Annotated[Path, typer.Option(help="Folder for the images and grid.png.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; the next has the next.")] = 0,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Draw images from a trained run: a PNG for each seed, and a grid."""
    from latentsweep.assembly import trained_model, write_images

    place = _home(home)
    model, execution = trained_model(place, run, lambda name: _dataset(place, name))
    seeds = range(seed, seed + count)
    files = write_images(place.writable(to), model.images(seeds, execution), seeds)
    typer.echo(json.dumps({"folder": str(to), "files": files}) if as_json else f"{count} images and grid.png in {to}")


@app.command()
def evaluate(
    run: Annotated[str | None, typer.Argument(help="As for sample; or give --images.", metavar="RUN")] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of square PNG or JPEG files.")] = None,
    dataset: Annotated[str | None, typer.Option(help="What --images are measured against.")] = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    rule: Annotated[str, typer.Option(help="Split rule for --images: subject or slice.")] = "subject",
    inception: WeightsOption = None,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Measure a trained run, or any folder of images, against real slices that no training saw."""
    from latentsweep.assembly import evaluated_run
    from latentsweep.comparison import compare, read_images
    from latentsweep.store import Store
    from trainables.errors import ConfigError
    from trainables.execution import Execution
    from trainables.inception import find_weights
    from trainables.recipes import Recipe

    place = _home(home)
    if split not in ("validation", "test") or rule not in ("subject", "slice"):
        raise ConfigError(f"--split is validation or test and --rule subject or slice; got {split!r} and {rule!r}")
    weights = find_weights(inception)
    if (run is None) == (images is None) or (images is not None and dataset is None):
        raise ConfigError("evaluate takes either RUN, or --images FOLDER with --dataset NAME")
    if images is not None:
        pictures, real = read_images(images), _dataset(place, str(dataset))
        metrics = compare(
            pictures,
            real,
            Store(place.store),
            weights,
            Recipe().replace(**{"data.split": rule, "evaluation.samples": len(pictures)}),
            split=split,
            execution=Execution.for_machine(),
        )
    else:
        metrics = evaluated_run(place, str(run), lambda name: _dataset(place, name), weights, split)
    if as_json:
        typer.echo(json.dumps(metrics, indent=1))
    else:
        _print_metrics(split, metrics)


@store_app.command("show")
def show_store(as_json: JsonOption = False, home: HomeOption = Path("runs")) -> None:
    """What the store holds, what each result cost, and what refers to it."""
    from latentsweep import housekeeping

    rows = housekeeping.overview(_home(home))
    typer.echo(json.dumps(rows, indent=1) if as_json else housekeeping.as_text(rows))


@store_app.command("free")
def free_store(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
    home: HomeOption = Path("runs"),
) -> None:
    """Delete the results that no sweep and no training refers to."""
    from latentsweep import housekeeping

    rows = housekeeping.free(_home(home), dry_run=dry_run)
    gone = f"{len(rows)} results, {sum(row['bytes'] for row in rows) / 1e6:.1f} MB"
    typer.echo(json.dumps(rows, indent=1) if as_json else f"{'would free' if dry_run else 'freed'} {gone}")


def _home(path: Path) -> Home:
    from latentsweep.home import Home

    return Home(path)


def _dataset(home: Home, name: str) -> PreparedDataset:
    """The prepared dataset; the built-in one is made where it is missing."""
    from latentsweep.assembly import prepared_dataset

    return prepared_dataset(home, name, lambda line: typer.echo(line, err=True))


def _recorder(home: Home, experiment: str, wanted: bool) -> Recorder:
    if wanted:
        from latentsweep_mlflow.recorder import recorder_for

        return recorder_for(home.root, experiment)
    from latentsweep.recording import MemoryRecorder

    return MemoryRecorder()


def _show_results(folder: Path, home: Path, as_json: bool) -> None:
    from latentsweep import leaderboard
    from latentsweep.export import open_search

    search = open_search(folder)
    table, counts = leaderboard.rows(search), leaderboard.counts(search)
    if as_json:
        result = {"sweep": folder.name, "counts": counts, "leaderboard": table}
        typer.echo(json.dumps(result | {"importances": leaderboard.importances(search)}, indent=1))
        return
    leaderboard.show(table, counts, leaderboard.importances(search))
    at = "" if str(home) == "runs" else f" --home {home}"
    typer.echo(f"compare the runs:  python cli.py ui{at}")
    typer.echo(f"take the best out: python cli.py export --sweep {folder.name} --to best.yaml{at}")


def _print_metrics(split: str, metrics: dict[str, float]) -> None:
    typer.echo(f"on the {split} split:")
    for name, value in metrics.items():
        typer.echo(f"  {name:<24} {value:.6g}")

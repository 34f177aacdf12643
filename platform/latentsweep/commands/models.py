"""``train``, ``sample`` and ``evaluate``. Heavy imports wait until a command runs."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentsweep.commands import completion, options
from latentsweep.commands.scores import show_scores, show_usefulness
from latentsweep.commands.terminal import fold
from latentsweep.program.invocation import hint

if TYPE_CHECKING:
    from latentsweep.jobs.train import Training
    from latentsweep_mlflow.registry import Registered


def train(
    config: Annotated[Path, typer.Option(help="The configuration, as export wrote it.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Denoiser steps; the configuration's by default.")] = None,
    settings: options.SetOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Data-parallel workers.")] = 1,
    despite_guards: Annotated[
        bool,
        typer.Option(
            "--despite-guards",
            help="Register what the guards refuse even so, with a tag, never as champion.",
        ),
    ] = False,
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
    """Train a configuration in full, measure it on held-out data, and register the model."""
    from rich.console import Console

    from latentsweep.api import trainings
    from latentsweep.jobs import forecast as forecasts
    from latentsweep.jobs.train import SCORES
    from latentsweep.lints import as_text

    found = trainings.train(
        config,
        steps=steps,
        settings=settings or (),
        workers=workers,
        despite_guards=despite_guards,
        card_gib=card_gib,
        device=device,
        ray_address=ray_address,
        inception=inception,
        mlflow=mlflow,
        dry_run=dry_run,
        home=options.home_of(home, store, study_storage),
        console=Console(stderr=True),
        tell=lambda line: typer.echo(line, err=True),
    )
    if found.training is None:
        forecast = found.forecast
        typer.echo(json.dumps(forecast, indent=1) if as_json else fold(forecasts.training_text(forecast), 17))
        return
    result, job, registered = found.training, found.training.job, found.registered
    summary: dict[str, Any] = {"name": job.name, "folder": str(job.folder), "from_store": result.from_store}
    summary |= {split: result.metrics(split) for split in result.evaluations}
    summary |= {} if result.earlier is None else {"earlier_test_decisions": result.earlier}
    summary["lints"] = [dataclasses.asdict(finding) for finding in result.findings]
    summary |= {"refused": result.refused} if result.refused else {}
    summary |= {"registry": dataclasses.asdict(registered)} if registered else {}
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
        check_registered(result, registered, wanted=mlflow)
        return
    how = "answered from the store" if result.from_store else "trained"
    typer.echo(f"{how}: {job.folder}")
    if result.findings:
        typer.echo(fold(as_text(result.findings)))
    for split in result.evaluations:
        show_scores(f"on the {split} split", result.metrics(split))
    typer.echo(f"all numbers: {job.folder / SCORES}")
    options.print_earlier(job.dataset.name, result.earlier)
    if registered:
        typer.echo(f"registered as {job.dataset.name}, version {registered.version}: {registered.reason}")
    draw = f"sample {shlex.quote(str(job.folder))} --count 16 --to images"
    typer.echo(f"draw images with: {hint(draw)}")
    check_registered(result, registered, wanted=mlflow)


def check_registered(training: Training, registered: Registered | None, *, wanted: bool) -> None:
    """Raises :class:`~trainables.errors.ConfigError` where a model was to be registered and the guards refuse it."""
    from latentsweep.stages.guards import DESPITE
    from trainables.errors import ConfigError

    if wanted and registered is None:
        raise ConfigError(
            f"the guards refuse {training.job.name}, so it is not registered: {training.refused}; draw from "
            f"{training.job.folder} where it is, train another, or say {DESPITE}"
        )


def sample(
    run: options.RunArgument,
    to: Annotated[Path, typer.Option("--to", "-o", help="Folder for the images and grid.png.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; the next has the next.")] = 0,
    lesion: Annotated[
        str,
        typer.Option(help="none, small or large: the lesion of each, of a model with diffusion.lesion_condition."),
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="label=category, as grade=HGG, of a model with diffusion.label_condition. May be given several "
            "times."
        ),
    ] = None,
    nifti: Annotated[bool, typer.Option("--nifti", help="Also write a NIfTI volume of one slice for each.")] = False,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also write a DICOM file for each, marked as derived and synthetic.")
    ] = False,
    spacing: Annotated[
        float,
        typer.Option(
            help="Millimetres of a pixel in NIfTI and DICOM files; a prepared dataset doesn't keep its own."
        ),
    ] = 1.0,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Draw images from a trained run: a PNG for each seed, and a grid; with masks and overlays where it has them."""
    from latentsweep.api.models import load
    from latentsweep.jobs.drawn_files import write_drawn
    from latentsweep.stages.sampler import labels_of

    place = options.home_of(home, store, study_storage)
    drawn = load(run, device=device, home=place).draw(count, seed=seed, lesion=lesion, labels=labels_of(label or ()))
    formats = [name for name, wanted in (("nifti", nifti), ("dicom", dicom)) if wanted]
    files = write_drawn(place.writable(to), drawn, range(seed, seed + count), formats, spacing)
    what = f"{count} images" + (", their masks and overlays" if drawn.masks is not None else "") + " and grid.png"
    typer.echo(json.dumps({"folder": str(to), "files": files}) if as_json else f"{what} in {to}")


def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(help="As for sample, also a dataset, for its champion; or give --images.", metavar="RUN"),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="A folder of square pictures.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="What --images are measured against.", autocompletion=completion.datasets
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    rule: Annotated[str, typer.Option(help="Split rule for --images: subject or slice.")] = "subject",
    downstream: Annotated[
        bool,
        typer.Option(
            "--downstream",
            help="Also train segmentation networks on real slices, on drawn ones and on both, of a run with masks.",
        ),
    ] = False,
    device: options.DeviceOption = None,
    inception: options.WeightsOption = None,
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="Write all numbers to this file, too, as JSON.")
    ] = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Measure a trained run, or any folder of images, against real slices that no training saw."""
    from latentsweep.api.models import model_folder_of
    from latentsweep.datasets.ledger import note_use
    from latentsweep.jobs.comparison import compare
    from latentsweep.jobs.image_folder import images_name, read_images
    from latentsweep.jobs.trained import evaluated_run
    from latentsweep.pages.scorecard import few_images
    from latentsweep.stages.guards import refusal
    from latentsweep.storage.home import write_json
    from latentsweep.storage.store import Store
    from trainables.errors import ConfigError
    from trainables.loop.settings import Execution
    from trainables.measures.weights import find_weights
    from trainables.recipes import Recipe

    place = options.home_of(home, store, study_storage)
    if split not in ("validation", "test") or rule not in ("subject", "slice"):
        raise ConfigError(f"--split is validation or test and --rule subject or slice; got {split!r} and {rule!r}")
    weights = find_weights(inception)
    if (run is None) == (images is None) or (images is not None and dataset is None):
        raise ConfigError("evaluate takes either RUN, or --images FOLDER with --dataset NAME")
    if downstream and images is not None:
        raise ConfigError("--downstream needs masks, which --images have none of; give RUN, or leave it out")
    usefulness, figure = None, None
    if images is not None:
        pictures, real = read_images(images), options.dataset_of(place, str(dataset))
        named = real.name
        earlier = note_use(place, real, "evaluate", images_name(real.name, pictures), split, rule)
        metrics = compare(
            pictures,
            real,
            Store.of(place),
            weights,
            Recipe().replace(**{"data.split": rule, "evaluation.samples": len(pictures)}),
            split=split,
            execution=Execution.for_machine().replace(device=device or "auto"),
        )
    else:
        measured = evaluated_run(
            place,
            model_folder_of(place, str(run)),
            lambda name: options.dataset_of(place, name),
            weights,
            split,
            device,
            downstream=downstream,
        )
        metrics, named, earlier = measured.metrics, measured.dataset, measured.earlier
        usefulness, figure = measured.usefulness, measured.figure
    refused, few = refusal(metrics), few_images(metrics)
    whole: dict[str, Any] = dict(metrics)
    whole |= {"refused": refused} if refused else {}
    whole |= {} if earlier is None else {"earlier_test_decisions": earlier}
    whole |= {"note": few} if few else {}
    whole |= {"downstream": dataclasses.asdict(usefulness)} if usefulness else {}
    if to:
        write_json(place.writable(to.parent, "--to") / to.name, whole)
    if as_json:
        typer.echo(json.dumps(whole, indent=1))
        return
    show_scores(f"on the {split} split", metrics)
    if usefulness:
        show_usefulness(usefulness)
        typer.echo(f"figure: {figure}")
    options.print_earlier(named, earlier)
    typer.echo(f"all numbers: {to}" if to else "all numbers: add --json, or --to FILE")

"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentsweep.api.places import checked_home as checked_home
from latentsweep.api.places import dataset_of as dataset_of
from latentsweep.api.places import home_of as home_of
from latentsweep.api.places import pages_of as pages_of
from latentsweep.api.places import record_of as record_of
from latentsweep.commands import completion

HomeOption = Annotated[Path, typer.Option("--home", envvar="LATENTSWEEP_HOME", help="Folder of all that is made.")]
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="LATENTSWEEP_STORE",
        help="Where results are kept, if not in --home: a shared folder, or s3://bucket/prefix.",
    ),
]
StudyOption = Annotated[
    str,
    typer.Option(
        "--study-storage",
        envvar="LATENTSWEEP_STUDY",
        show_envvar=True,
        help="A PostgreSQL database for the studies, if not a file in each sweep's folder.",
    ),
]
DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help="A prepared dataset; 'demo' is prepared by itself.",
        autocompletion=completion.datasets,
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and end.")]
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
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="LATENTSWEEP_DEVICE",
        help="cpu leaves the cards alone; cuda ends where there is none; auto takes one where it is.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="field=value of the recipe (plugins lists more), or execution.field=value."),
]
ConcurrentOption = Annotated[int | None, typer.Option(help="Trials at once; what fits by default.")]
RecordOption = Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Record to MLflow.")]
RunArgument = Annotated[
    str,
    typer.Argument(
        help="A configuration (best.yaml), a model's folder, SWEEP/NUMBER, or a dataset, for its champion.",
        metavar="RUN",
    ),
]


def print_earlier(dataset: str, earlier: int | None) -> None:
    """How often the test split was used before, where it was read."""
    if earlier is not None:
        from latentsweep.datasets.ledger import earlier_words

        typer.echo(earlier_words(dataset, earlier))

"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentsweep.commands import completion
from latentsweep.commands.progress import show_progress
from latentsweep.datasets.catalogue import BUILT_IN

if TYPE_CHECKING:
    from latentsweep.datasets.slices import PreparedDataset
    from latentsweep.records.recorder import Recorder
    from latentsweep.storage.home import Home

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
    list[str] | None, typer.Option("--set", help="field=value of the recipe, or execution.field=value.")
]
ConcurrentOption = Annotated[int | None, typer.Option(help="Trials at once; what fits by default.")]
RecordOption = Annotated[bool, typer.Option("--mlflow/--no-mlflow", help="Record to MLflow.")]
RunArgument = Annotated[
    str, typer.Argument(help="A configuration (best.yaml), a model's folder, or SWEEP/NUMBER.", metavar="RUN")
]


LONGEST_HOME = 360
"""Bytes of a home's path: SQLite opens files of up to 512 bytes, and its files lie up to 150 deeper."""


def home_of(path: Path, store: str = "", study: str = "") -> Home:
    """The home at ``path``, with its store and its studies where the options say."""
    from latentsweep.storage.home import Home
    from trainables.errors import ConfigError

    whole = str(path.absolute())
    if any(sign in whole for sign in "?%") or len(whole.encode()) > LONGEST_HOME:
        raise ConfigError(
            f"--home must be a path without ? and %, which the addresses of databases take apart, and of at most "
            f"{LONGEST_HOME} bytes, since SQLite opens no longer one; got {whole}: choose another folder"
        )
    if study:
        from latentsweep.search.databases import check

        check(study)
    return Home(path, store, study)


def dataset_of(home: Home, name: str) -> PreparedDataset:
    """The prepared dataset; the built-in one is made where it is missing."""
    if name != BUILT_IN or (home.datasets / name).exists():
        from latentsweep.datasets.slices import open_dataset

        return open_dataset(home.datasets, name)
    from latentsweep.datasets.preparation import prepare  # only here: what reads scans takes long to import

    home.writable(home.datasets)
    with show_progress(f"preparing {name}") as progress:
        return prepare(name, home=home.root, progress=progress)


def recorder_of(home: Home, experiment: str, wanted: bool) -> Recorder:
    """MLflow's recorder, or one that forgets."""
    if wanted:
        from latentsweep_mlflow.recorder import recorder_for

        return recorder_for(home.root, experiment)
    from latentsweep.records.recorder import MemoryRecorder

    return MemoryRecorder()


def pages_of(home: Home, recorder: Recorder) -> Callable[[str], str]:
    """What gives the address of the page that MLflow has of a run; see :mod:`latentsweep_mlflow.links`."""
    from latentsweep_mlflow import links

    return links.pages_of(home.root, recorder)


def print_earlier(dataset: str, earlier: int | None) -> None:
    """How often the test split was used before, where it was read."""
    if earlier is not None:
        from latentsweep.datasets.ledger import earlier_words

        typer.echo(earlier_words(dataset, earlier))

"""``data prepare``, ``data show`` and ``data export``. Heavy imports wait until a command runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentsweep.api.progress import show_progress
from latentsweep.commands import completion, options
from latentsweep.commands.terminal import fold
from latentsweep.datasets.catalogue import DEFAULT_SUBJECT, KNOWN
from trainables.errors import ConfigError

if TYPE_CHECKING:
    from latentsweep.datasets.slices import PreparedDataset
    from latentsweep.datasets.sources.discovery import Discovery
    from trainables.data.settings import Fold

data_app = typer.Typer(
    no_args_is_help=True, help="Prepare datasets from raw scans, look at them, export their slices."
)

NAME = f"{', '.join(KNOWN)}, or a name for a dataset of your own."
SERIES = "; ".join(f"{known.name} has {', '.join(known.choices)}" for known in KNOWN.values() if known.choices)
NewName = Annotated[str, typer.Argument(help=NAME, autocompletion=completion.known)]
PreparedName = Annotated[str, typer.Argument(help=NAME, autocompletion=completion.datasets)]


@data_app.command()
def prepare(
    name: NewName,
    source: Annotated[Path | None, typer.Option(help="Folder with the raw scans; none for demo.")] = None,
    series: Annotated[
        str | None,
        typer.Option(
            help=f"Series of a known dataset, by default the first: {SERIES}. For a dataset of your own, the "
            "contrast where its source holds several, as flair, t1, t1ce or t2; all for all together."
        ),
    ] = None,
    subject_from: Annotated[
        str | None,
        typer.Option(
            help="Which part of a path is the subject, for a dataset of your own: folder:N (1 is the first below the "
            "source, -1 the one that the file is in), file, patient-id (DICOM), or regex:(…). Default: "
            f"{DEFAULT_SUBJECT}."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            help="Read only files whose path below the source fits this pattern, as '*_flair*' or '*/AX FLAIR/*'. "
            "May be given several times."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Read no file whose path below the source fits this pattern. May be given several times."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A CSV table of the subjects' labels, for diffusion.label_condition: the column subject, with the "
            "patients' names as --source has them, and others, such as grade."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a slice in pixels.")] = 128,
    jobs: Annotated[int | None, typer.Option(help="Processes; all cores by default.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Prepare anew what exists otherwise.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            help="Prepare nothing, and write an HTML page here: what would be read, as which patients and planes, "
            "and what would be left out and why, with thumbnails."
        ),
    ] = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
) -> None:
    """Cut raw scans to 8-bit axial slices, split them by subject, and store them without identifiers."""
    from latentsweep.datasets import preparation
    from latentsweep.datasets.sources.selection import Selection

    asked: dict[str, Any] = {
        "home": options.checked_home(home),
        "source": source,
        "series": series,
        "subject_from": subject_from,
        "selection": Selection(tuple(include or ()), tuple(exclude or ())),
        "size": size,
        "jobs": jobs,
        "tell": _tell_subjects,
    }
    if check is not None:
        if labels is not None:
            raise ConfigError("--check reads no table of labels; leave --labels out of it, and give it to prepare")
        from latentsweep.datasets.check import check as look
        from latentsweep.pages.check import write_check

        with show_progress(f"checking {name}") as progress:
            found = look(name, **asked, progress=progress)
        page = write_check(found, check)
        numbers = {"volumes": len(found.volumes), "patients": found.patients, "left_out": len(found.left_out)}
        if as_json:
            typer.echo(json.dumps({"page": str(page), **numbers}))
        else:
            typer.echo(f"{numbers['volumes']} volumes of {numbers['patients']} patients would be prepared: {page}")
        return
    with show_progress(f"preparing {name}") as progress:
        dataset = preparation.prepare(name, **asked, labels=labels, replace=replace, progress=progress)
    if as_json:
        typer.echo(json.dumps({"folder": str(dataset.folder), **dataset.manifest}, indent=2))
    else:
        typer.echo(fold("\n".join([*_numbers(dataset.manifest), f"in {dataset.folder}"])))


@data_app.command()
def show(
    name: PreparedName,
    sheet: Annotated[Path | None, typer.Option(help="Where the contact sheet goes; the dataset by default.")] = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
) -> None:
    """Counts by split, subjects, rejects, an intensity histogram, and a contact sheet as a picture."""
    from dataclasses import asdict

    from latentsweep.datasets.ledger import uses
    from latentsweep.datasets.overview import overview, write_contact_sheet
    from latentsweep.storage.home import Home

    dataset = _opened(home, name)
    facts, noted = overview(dataset), uses(Home(home), dataset.fingerprint)
    path = write_contact_sheet(dataset, sheet)
    if as_json:
        used = [asdict(use) for use in noted]
        typer.echo(json.dumps({**facts, "test_split_uses": used, "contact_sheet": str(path)}, indent=2))
    else:
        told = [f"test split used: {use.time}, {use.kind} {use.name}" for use in noted]
        told = told or ["test split used: none on record"]
        typer.echo(fold("\n".join([*_numbers(facts), *told, *_bars(facts["histogram"]), f"contact sheet: {path}"])))


@data_app.command()
def export(
    name: PreparedName,
    to: Annotated[Path, typer.Option("--to", "-o", help="New or empty folder for the PNG files.")],
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "all",
    rule: Annotated[str, typer.Option(help="Split by 'subject', or by 'slice' as the paper did.")] = "subject",
    folds: Annotated[int, typer.Option(min=1, help="Folds of the subjects, as data.folds; 1: the own split.")] = 1,
    fold: Annotated[int, typer.Option(min=0, help="Which of them, from 0 on, as data.fold.")] = 0,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
) -> None:
    """Write the slices as grey PNG files, in a folder for each split."""
    from latentsweep.datasets.overview import export_pngs

    written = export_pngs(_opened(home, name), to, split=split, rule=_rule(rule, fold, folds))
    typer.echo(json.dumps({"folder": str(to), "slices": written}) if as_json else f"{written} slices in {to}")


def _rule(rule: str, fold: int, folds: int) -> str | Fold:
    from trainables.data.settings import Fold

    if folds == 1 and fold == 0:
        return rule
    if fold >= folds or rule != "subject":
        raise ConfigError(
            f"--fold is below --folds and goes with --rule subject, got --fold {fold} --folds {folds} --rule {rule}; "
            "choose another"
        )
    return Fold(fold, folds)


def _opened(home: Path, name: str) -> PreparedDataset:
    from latentsweep.datasets.slices import open_dataset

    return open_dataset(home / "datasets", name)


def _tell_subjects(found: Discovery) -> None:
    """The rule of subjects on the error stream; examples, which name patients, on a terminal and in no log."""
    lines = [f"rule of subjects: {found.subject_rule}"]
    if _is_terminal():
        lines += [f"  {path} → {subject}" for path, subject in found.examples]
    elif found.examples:
        lines += ["(examples with their names are shown on a terminal alone)"]
    for line in lines:  # not by typer, which would write into the bar
        print("".join(letter if letter.isprintable() else "?" for letter in line), file=sys.stderr)


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _numbers(facts: dict[str, Any]) -> list[str]:
    counts = facts["counts"]
    lines = [
        f"{facts['name']}: {counts['slices']} slices of {counts['subjects']} subjects, {counts['volumes']} volumes, "
        f"{facts['settings']['size']}×{facts['settings']['size']} pixels, {facts['bytes'] / 1e6:.1f} MB, "
        f"prepared {facts['created']}",
        f"{'split':<12}{'subjects':>10}{'slices':>10}{'slices, split by slice':>25}",
    ]
    for split, subjects in counts["subjects_by_split"].items():
        by_slice = counts["slices_by_split_by_slice"][split]
        lines.append(f"{split:<12}{subjects:>10}{counts['slices_by_split'][split]:>10}{by_slice:>25}")
    if "slices_with_mask" in counts:
        lines.append(
            f"masks: {counts['slices_with_mask']} slices, {counts['slices_with_lesion']} of them with lesion"
        )
    for label, subjects in counts.get("subjects_by_label", {}).items():
        said = ", ".join(f"{category} {number}" for category, number in subjects.items())
        lines.append(f"label {label}, by subjects: {said}")
    lines.append(
        f"left out: {counts['slices_with_too_little_brain']} slices with too little brain, "
        f"{counts['files_broken']} broken files of {counts['files']}, {counts['files_ignored']} other files"
    )
    lines += [f"rejected: {reject['count']} × {reject['reason']}" for reject in facts["rejects"]]
    lines += [f"note: {note}" for note in facts["notes"]]
    return lines


def _bars(histogram: dict[str, Any]) -> list[str]:
    most = max(histogram["pixels"]) or 1
    whole = sum(histogram["pixels"]) + histogram["background"]
    lines = [f"intensity of 0 to 255 ({histogram['background'] / whole:.0%} of the pixels are 0):"]
    for edge, pixels in zip(histogram["edges"], histogram["pixels"], strict=True):
        lines.append(f"{edge:>5} {'█' * round(40 * pixels / most):<40} {pixels / whole:6.1%}")
    return lines

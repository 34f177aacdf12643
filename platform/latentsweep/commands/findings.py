"""``ui``, ``lint`` and ``report``: looking at what was found. Heavy imports wait until a command runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from latentsweep.commands import completion, options
from latentsweep.commands.terminal import fold
from trainables.errors import ConfigError

FOUND = 1
"""The exit code of ``lint`` where something misleads."""


def ui(
    host: Annotated[
        str, typer.Option(help="Where to listen; other than loopback shows your runs to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser, too.")] = False,
    home: options.HomeOption = Path("runs"),
) -> None:
    """Open the MLflow UI on this home's runs."""
    from latentsweep_mlflow.ui import serve

    serve(options.checked_home(home), host=host, port=port, open_browser=open_browser, tell=typer.echo)


def lint(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A dataset, a sweep or a RUN; all that is here by default.", autocompletion=completion.targets
        ),
    ] = None,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Look for settings, data and results that mislead; ends with exit code 1 where some were found."""
    from latentsweep.lints import as_text, targets

    found = targets.lint_target(options.home_of(home, store, study_storage), target)
    if as_json:
        plain = {
            subject: [dataclasses.asdict(finding) for finding in findings] for subject, findings in found.items()
        }
        typer.echo(json.dumps(plain, indent=1))
    else:
        typer.echo(fold(as_text(targets.merge_by_code(found))) or "nothing that misleads was found")
    if any(finding.severity == "warning" for findings in found.values() for finding in findings):
        raise typer.Exit(FOUND)


def report(
    sweep_name: Annotated[
        str | None,
        typer.Argument(
            help="The sweep; by default the latest that has a result.",
            metavar="SWEEP",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    paper_tables: Annotated[
        bool, typer.Option("--paper-tables", help="The paper's Tables I and II of the recorded trainings, instead.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser, too.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", "-o", help="The files' folder; by default the sweep's own, or that of the trainings."),
    ] = None,
    mlflow: options.RecordOption = True,
    as_json: options.JsonOption = False,
    home: options.HomeOption = Path("runs"),
    store: options.StoreOption = "",
    study_storage: options.StudyOption = "",
) -> None:
    """Write what a sweep found as one HTML file that opens anywhere, with Markdown and CSV beside it."""
    from latentsweep.jobs.reports import report_files, table_files

    if open_browser and paper_tables:
        raise ConfigError("--open opens the page of a sweep, and --paper-tables writes none; leave one of them out")
    place = options.home_of(home, store, study_storage)
    if paper_tables:
        files = table_files(place, to)
    else:
        files = report_files(
            place,
            sweep_name,
            lambda name: options.record_of(place, name, mlflow),
            to,
            recorded=mlflow,
            pages_of=lambda record: options.pages_of(place, record),
        )
    if open_browser:
        open_page(files[0])
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in files]}, indent=1))
        return
    if paper_tables:
        typer.echo(files[0].read_text())
    for path in files:
        typer.echo(path)


def open_page(page: Path) -> None:
    """Opens a page in the user's browser, and says where it is where there is none."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"note: no browser can be started here; open {page.resolve()} in one", err=True)

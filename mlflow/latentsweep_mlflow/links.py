"""Addresses of MLflow's pages: for pages of ours that lead there, and for what is said of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from latentsweep.records.recorder import Record
from latentsweep_mlflow.database import tracking_uri

LOCAL = "http://127.0.0.1:5000"
"""Where ``ui`` shows a home's own record, unless it is told another port."""

VIEW = "latentsweep"
"""The name of the view of an experiment's runs."""

WORKFLOW = "workflowType=machine_learning"
"""What makes a link open MLflow's pages for trainings, and not those for agents."""

DESCRIPTION, TAG_LENGTH = "mlflow.note.content", 8000
"""The tag of a run that holds what is said of it, and the most characters that MLflow takes of a tag."""

_LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<kind>runs?):(?P<key>[A-Za-z0-9._:/-]+)(?:\|(?P<file>[^)]+))?\)")
_KEPT = re.compile(r"\[(?P<words>[^\]]+)\]\(kept:(?P<tag>[A-Za-z0-9._]+)\)")


def address_of(home: Path) -> str:
    """Where MLflow's pages of a home's record are: at its server, without a name or password, or where ``ui`` is."""
    uri = tracking_uri(home)
    if not uri.startswith(("http://", "https://")):
        return LOCAL
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def pages_of(home: Path, record: Record) -> Callable[[str], str]:
    """A function that gives the address of the page of a key's run; empty where MLflow has none, or is away."""
    address = address_of(home)

    def page_of(key: str) -> str:
        run_id = record.run_id(key)
        return f"{address}/#/runs/{run_id}" if run_id else ""

    return page_of


def runs_link(address: str, experiment_id: str, view: str = VIEW) -> str:
    """The page of an experiment's runs, under a view that :func:`~latentsweep_mlflow.views.save_view` stored."""
    state = f"viewStateShareKey={quote(view, safe='')}&{WORKFLOW}"
    return f"{address.rstrip('/')}{'/' if address else ''}#/experiments/{experiment_id}/runs?{state}"


def resolve(
    text: str, experiment_id: str, run_id: str, tags: Mapping[str, str], id_of: Callable[[str], str | None]
) -> str:
    """A run's description with MLflow's addresses, as :meth:`~latentsweep.records.recorder.Record.describe` says.

    ``tags`` are the run's own, and ``id_of`` gives the run of a key.
    """
    runs = f"#/experiments/{experiment_id}/runs"

    def kept(found: re.Match[str]) -> str:
        file = tags.get(found["tag"])
        return f"[{found['words']}]({runs}/{run_id}/artifacts/{file}?{WORKFLOW})" if file else ""

    def link(found: re.Match[str]) -> str:
        if found["kind"] == "runs":
            return f"[{found['words']}]({runs_link('', experiment_id, found['key'])})"
        there = id_of(found["key"])
        file = f"/artifacts/{found['file']}" if found["file"] else ""
        return f"[{found['words']}]({runs}/{there}{file}?{WORKFLOW})" if there else found["words"]

    return _LINK.sub(link, re.sub(r"\n{3,}", "\n\n", _KEPT.sub(kept, text)))

"""The report of a sweep and the paper's tables, written as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latentsweep.lints import targets
from latentsweep.pages.templates import write_texts
from latentsweep.records.recorder import Recorder
from latentsweep.records.sweep import SweepRecord
from latentsweep.report import paper_tables, write_report
from latentsweep.report.content import PageOf, nowhere
from latentsweep.search.plan import SweepPlan
from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.storage.home import Home, is_read_only
from latentsweep.storage.store import Store


def report_files(
    home: Home,
    sweep: str | None,
    recorder_of: Callable[[str], Recorder],
    to: Path | None = None,
    *,
    recorded: bool,
    pages_of: Callable[[Recorder], PageOf] = lambda recorder: nowhere,
) -> list[Path]:
    """Writes the report of a sweep, by default the latest that has a result, and keeps it with the sweep's run.

    It goes to the folder ``to``, by default to one of the sweep's own, and points at MLflow where its runs are
    ``recorded`` there; ``pages_of`` says where they are. A home that is read-only keeps nothing and links nowhere.
    """
    folder = chosen_sweep(home, None, sweep)
    plan, search = SweepPlan.read(folder), open_search(folder, home.study)
    findings = targets.merge_by_code(targets.lint_sweep(home, plan, search))
    if is_read_only(folder):
        return write_report(home, folder.name, findings=findings, to=to, recorded=recorded)
    recorder = recorder_of(plan.dataset)
    page_of = pages_of(recorder) if recorded else nowhere
    files = write_report(home, folder.name, findings=findings, to=to, recorded=recorded, page_of=page_of)
    SweepRecord(recorder, plan, Store.of(home), search).report(files)
    return files


def table_files(home: Home, to: Path | None = None) -> list[Path]:
    """Writes the paper's tables of the recorded trainings as Markdown and LaTeX, into ``to`` or beside them."""
    tables = paper_tables(home)
    texts = {"paper-tables.md": tables.as_markdown(), "paper-tables.tex": tables.as_latex()}
    return write_texts(home.writable(to or home.trained, "--to"), texts)

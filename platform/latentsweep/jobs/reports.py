"""The report of a sweep and the paper's tables, written as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latentsweep.lints import targets
from latentsweep.pages.templates import write_texts
from latentsweep.records.recorder import Record
from latentsweep.records.sweep import keep_report
from latentsweep.report import paper_tables, write_report
from latentsweep.report.content import PageOf, nowhere
from latentsweep.search.plan import SweepPlan
from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.storage.home import Home, is_read_only


def report_files(
    home: Home,
    sweep: str | None,
    record_of: Callable[[str], Record],
    to: Path | None = None,
    *,
    recorded: bool,
    pages_of: Callable[[Record], PageOf] = lambda record: nowhere,
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
    record = record_of(plan.dataset)
    page_of = pages_of(record) if recorded else nowhere
    files = write_report(home, folder.name, findings=findings, to=to, recorded=recorded, page_of=page_of)
    keep_report(record, plan, search, files)
    return files


def table_files(home: Home, to: Path | None = None) -> list[Path]:
    """Writes the paper's tables of the recorded trainings as Markdown and LaTeX, into ``to`` or beside them."""
    tables = paper_tables(home)
    texts = {"paper-tables.md": tables.as_markdown(), "paper-tables.tex": tables.as_latex()}
    return write_texts(home.writable(to or home.trained, "--to"), texts)

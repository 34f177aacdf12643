"""All that a report says, gathered from a sweep's study and store; how it looks is decided elsewhere."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.lints import Finding
from latentsweep.metrics import FID, KID, REPORT, STEPS, Metric
from latentsweep.report import charts, repetition, summary
from latentsweep.report.charts import Chart
from latentsweep.report.importance import Importance, importances
from latentsweep.report.pictures import Picture, missing, pictures
from latentsweep.report.scores import Score, objective, scores
from latentsweep.report.source import Compute, Source, compute, opened
from latentsweep.search import leaderboard
from latentsweep.search.leaderboard import heading
from latentsweep.storage.home import Home
from trainables.errors import LatentsweepError
from trainables.space import THRESHOLD, Choice, Dimension

TOP = 25
"""Rows of the leaderboard that are shown; the CSV has all."""

NO_DATASET = "not prepared in this home any more"


Findings = Callable[[], Sequence[Finding]] | Sequence[Finding]


@dataclass(frozen=True)
class Tile:
    """One number of the summary."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Line:
    """A row of the leaderboard as it is shown."""

    score: Score
    cells: list[str]


@dataclass(frozen=True)
class Content:
    """What a report of one sweep says."""

    sweep: str
    dataset: str
    written: str
    summary: list[str]
    tiles: list[Tile]
    facts: list[tuple[str, str]]
    differences: list[tuple[str, str, str]]
    space: list[tuple[str, str]]
    compute: Compute
    failures: dict[str, int]
    headings: list[str]
    lines: list[Line]
    scores: list[Score]
    fields: list[str]
    objective: str
    importances: list[Importance]
    charts: dict[str, Chart]
    pictures: list[Picture]
    shown_trial: Score | None
    missing: list[str]
    findings: list[Finding]
    command: str
    space_yaml: str | None
    provenance: list[tuple[str, str]]
    in_database: bool = False

    @property
    def dashboard(self) -> str:
        """The command that shows the study; of a database its variable, since the address may hold a password."""
        study = '"$LATENTSWEEP_STUDY"' if self.in_database else f"sqlite:///runs/sweeps/{self.sweep}/study.db"
        return f"optuna-dashboard {study}"

    @property
    def any_alike(self) -> bool:
        """Whether the mark of what can't be told from the lowest has a meaning."""
        return any(score.alike for score in self.scores)

    @property
    def retrain(self) -> list[str]:
        """The commands that train the best configuration in full and draw from it."""
        trial = f" --trial {self.shown_trial.trial}" if self.shown_trial and len(self.chosen) > 1 else ""
        return [
            f"python cli.py export --sweep {shlex.quote(self.sweep)}{trial} --to best.yaml",
            "python cli.py train --config best.yaml",
            "python cli.py sample best.yaml --count 16 --to images",
        ]

    @property
    def chosen(self) -> list[Score]:
        """The configuration that export takes, or the Pareto front."""
        return [score for score in self.scores if score.chosen]


def gather(home: Home, sweep: str, findings: Findings = ()) -> Content:
    """Everything for the report of a sweep; raises :class:`~trainables.errors.DataError` for an unknown sweep."""
    source = opened(home, sweep)
    rows, shares = scores(source.search), importances(source.search)
    raised = sorted(findings() if callable(findings) else findings, key=lambda each: each.severity != "warning")
    shown = next((row for row in rows if row.chosen), rows[0] if rows else None)
    trial = source.search.trial(shown.trial) if shown else None
    entries = source.entries(trial) if trial else {}
    reference = dict(entries["reference"].summary) if "reference" in entries else {}
    metrics = columns(source, rows)
    return Content(
        sweep=source.folder.name,
        dataset=source.plan.dataset,
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        summary=summary.sentences(source, rows, shares, len(raised), reference),
        tiles=tiles(source, shown),
        facts=facts(source),
        differences=[(field, text(there), text(here)) for field, there, here in repetition.differences(source)],
        space=[(field, dimension_text(each)) for field, each in source.search.space.dimensions.items()],
        compute=compute(source),
        failures=summary.failures(source),
        headings=[
            "",
            "rank",
            "trial",
            *(metric.label for metric in metrics),
            *(heading(field) for field in source.search.space.dimensions),
        ],
        lines=[line(row, source, metrics) for row in rows[:TOP]],
        scores=rows,
        fields=list(source.search.space.dimensions),
        objective=objective(source.search).label,
        importances=shares,
        charts=drawn(source, rows, shares),
        pictures=pictures(entries, threshold(source, shown)) if shown else [],
        shown_trial=shown,
        missing=missing(entries, source.results(trial)) if trial else [],
        findings=raised,
        command=repetition.command(source),
        space_yaml=repetition.space_yaml(source),
        provenance=repetition.provenance(source),
        in_database=bool(home.study),
    )


def tiles(source: Source, shown: Score | None) -> list[Tile]:
    """The numbers that a reader looks for first."""
    if shown is None:
        return []
    metrics = shown.metrics
    ends = shown.interval(KID.name)
    interval = f"95 % interval {KID.format(ends[0])} to {KID.format(ends[1])}" if ends else "no interval recorded"
    steps = source.plan.recipe.sampling.steps
    found = [
        (f"{KID.label} of the best", KID, KID.name, interval),
        ("floor", KID, KID.floor, "real slices against real slices"),
        ("autoencoder's ceiling", KID, KID.ceiling, "its reconstructions against real slices"),
        (f"{FID.label} of the best", FID, FID.name, f"real against real: {FID.format(metrics.get(FID.floor))}"),
        (STEPS.label, STEPS, STEPS.name, f"denoiser evaluations per image; {steps} without early stop"),
    ]
    return [Tile(label, metric.format(metrics.get(name)), note) for label, metric, name, note in found]


def facts(source: Source) -> list[tuple[str, str]]:
    """What was run and on what."""
    plan, config, state = source.plan, source.search.config, leaderboard.counts(source.search)
    rule, side = plan.recipe.data.split, plan.recipe.data.image_size
    found = [("Dataset", plan.dataset)]
    dataset, note = prepared(source)
    if dataset:
        counts, subjects = dataset.counts(rule), dataset.manifest["counts"].get("subjects_by_split", {})
        parts = [
            f"{split} {count}"
            + (f" of {subjects[split]} subjects" if rule == "subject" and split in subjects else "")
            for split, count in counts.items()
        ]
        every = dataset.manifest["counts"]
        found.append(("Slices", f"{every['slices']} of {every['subjects']} subjects: {', '.join(parts)}{note}"))
    else:
        found.append(("Slices", note))
    found += [
        ("Split", SPLITS.get(rule, rule)),
        (
            "Recipe",
            f"{source.plan.recipe_name}, at {side}×{side} pixels",
        ),
        (
            "Search",
            f"minimises {' and '.join(config.objectives)} on the validation split; sampler {config.sampler}, pruner "
            f"{config.pruner}, {config.startup} trials before either begins",
        ),
        ("Seed", f"{plan.seed}, for trainings, samples and search; every configuration was trained once"),
        (
            "Trials",
            f"{state['complete']} complete, {state['pruned']} pruned, {state['failed']} failed"
            + (f", {state['waiting']} waiting" if state["waiting"] else "")
            + f"; {state['points']} configurations measured",
        ),
    ]
    return found


SPLITS = {
    "subject": "by subject: no patient is in two splits, so held-out slices are of patients that no training saw",
    "slice": "by slice, as the paper did: held-out slices share patients with the training ones, so scores flatter",
}


def prepared(source: Source) -> tuple[PreparedDataset | None, str]:
    """The dataset, if it is still there, and what must be said of it."""
    try:
        dataset = open_dataset(source.home.datasets, source.plan.dataset)
    except LatentsweepError:
        return None, NO_DATASET
    changed = dataset.fingerprint != source.plan.fingerprint
    return dataset, " (prepared anew since the sweep: these are the present counts)" if changed else ""


def columns(source: Source, rows: Sequence[Score]) -> list[Metric]:
    """The metrics that the leaderboard shows, where they were recorded; the objective comes first."""
    metrics = dict.fromkeys([objective(source.search), *REPORT])
    return [metric for metric in metrics if any(metric.name in row.metrics for row in rows)]


def line(row: Score, source: Source, metrics: Sequence[Metric]) -> Line:
    """A row of the leaderboard, its scores with intervals, and last the fields, of which there may be many."""
    cells = [mark(row), str(row.rank), str(row.trial)]
    for metric in metrics:
        ends = row.interval(metric.name)
        cell = metric.format(row.metrics.get(metric.name))
        cells.append(cell + (f" [{metric.format(ends[0])}, {metric.format(ends[1])}]" if ends else ""))
    return Line(row, [*cells, *(text(row.params[field]) for field in source.search.space.dimensions)])


def drawn(source: Source, rows: Sequence[Score], shares: Sequence[Importance]) -> dict[str, Chart]:
    """The charts that the data allow."""
    space, metric = source.search.space, objective(source.search)
    found: dict[str, Chart] = {}
    if shares:
        found["importance"] = charts.importance_chart(shares)
    if len(rows) > 1:
        found["parallel"] = charts.parallel_coordinates(rows, space, metric)
        found["slices"] = charts.slices(rows, space, metric)
    if rows:
        cost = charts.quality_against_cost(rows, KID if metric.cost else metric)
        if cost:
            found["cost"] = cost
    return found


def threshold(source: Source, shown: Score) -> float:
    """A configuration's early-stop threshold."""
    return float(shown.params.get(THRESHOLD, source.plan.recipe.sampling.early_stop_threshold))


def dimension_text(dimension: Dimension) -> str:
    """A dimension in words."""
    if isinstance(dimension, Choice):
        return ", ".join(text(value) for value in dimension.values)
    return f"{dimension.low:g} to {dimension.high:g}" + (", on a log scale" if dimension.log else "")


def mark(score: Score) -> str:
    """The sign of the chosen row, and of those that can't be told from the lowest."""
    return "★" if score.chosen else ("≈" if score.alike else "")


def text(value: Any) -> str:
    """A field's value as it is shown."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

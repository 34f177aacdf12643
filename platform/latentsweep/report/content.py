"""All that a report says, from a sweep's study and store; the templates say how it looks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from latentsweep.ablation.page import downstream
from latentsweep.ablation.statistics.downstream import Usefulness
from latentsweep.datasets.slices import JOINT, PreparedDataset, open_dataset
from latentsweep.lints import Finding
from latentsweep.metrics import DICE, FID, KID, STEPS, Metric, objective_of
from latentsweep.pages.charts import Chart
from latentsweep.pages.numbers import duration, now, number
from latentsweep.pages.tables import Table
from latentsweep.pages.templates import Tile, warnings_first
from latentsweep.program.invocation import documented
from latentsweep.report import charts, repetition, summary
from latentsweep.report.confirmation import confirmed_table
from latentsweep.report.importance import Importance, importances
from latentsweep.report.leaderboard_table import leaderboard_table, text
from latentsweep.report.pictures import LEADING, Picture, missing, pictures
from latentsweep.report.scores import Score, chosen, objective, scores
from latentsweep.report.source import Compute, Source, compute, open_source
from latentsweep.search import leaderboard
from latentsweep.search.confirmation import confirmation
from latentsweep.search.confirmation_table import extent_words
from latentsweep.search.confirmed import Confirmation
from latentsweep.search.trials import run_key
from latentsweep.stages import guards
from latentsweep.stages.results import DICE_BY_PATIENTS
from latentsweep.stages.table import DOWNSTREAM
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home
from trainables.errors import LatentsweepError
from trainables.space import THRESHOLD, Choice, Dimension

NO_DATASET = "not prepared in this home any more"

SPLITS = {
    "subject": "by subject: no patient is in two splits, so held-out slices are of patients that no training saw",
    "slice": "by slice, as the paper did: held-out slices share patients with the training ones, so scores flatter",
}

Findings = Callable[[], Sequence[Finding]] | Sequence[Finding]

PageOf = Callable[[str], str]
"""Gives the address of the page that MLflow has of the run of a key; empty where there is none."""


def nowhere(key: str) -> str:
    """The addresses of runs that are recorded nowhere."""
    return ""


@dataclass(frozen=True)
class Content:
    """What a report of one sweep says: the fields are given, all else follows from them."""

    source: Source
    scores: list[Score]
    importances: list[Importance]
    findings: list[Finding]
    recorded: bool = True
    """Whether the sweep's runs are in MLflow, as far as whoever asks for the report says."""
    page_of: PageOf = nowhere
    written: str = field(default_factory=now)

    @property
    def sweep(self) -> str:
        """The sweep's name."""
        return self.source.folder.name

    @property
    def fields(self) -> dict[str, Dimension]:
        """The searched fields."""
        return dict(self.source.search.space.dimensions)

    @property
    def objective(self) -> Metric:
        """The metric of the first objective."""
        return objective(self.source.search)

    @property
    def shown_trial(self) -> Score | None:
        """The configuration of which numbers and pictures are shown."""
        return chosen(self.scores) if self.scores else None

    @property
    def shown(self) -> str:
        """What that configuration is: the best, unless none is."""
        return "the best" if any(score.chosen for score in self.scores) else "the shown configuration"

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The results of that configuration that are in the store, by stage."""
        return self.source.entries(self.source.search.trial(self.shown_trial.trial)) if self.shown_trial else {}

    @property
    def headline(self) -> str:
        """What was found, in one sentence."""
        return summary.headline(self.source, self.scores)

    @property
    def sweep_page(self) -> str:
        """The address of the sweep's run in MLflow; empty where it isn't known."""
        return self.page_of(self.sweep)

    @property
    def page_of_this_machine(self) -> bool:
        """Whether that address is of whatever machine it is opened on."""
        return "//127.0.0.1" in self.sweep_page

    @property
    def summary(self) -> list[str]:
        """What was found, a paragraph each."""
        reference = self.entries["reference"].summary if "reference" in self.entries else {}
        return summary.sentences(self.source, self.scores, self.importances, len(self.findings), reference)

    @property
    def tiles(self) -> list[Tile]:
        """The numbers that a reader looks for first."""
        if self.shown_trial is None:
            return []
        metrics, ends = self.shown_trial.metrics, self.shown_trial.interval(KID.name)
        interval = f"95 % interval {KID.format(ends[0])} to {KID.format(ends[1])}" if ends else "no interval recorded"
        steps = self.source.plan.recipe.sampling.steps
        again = self.confirmation
        best = f"{KID.label} of {self.shown}" + (", in the search" if again and again.best else "")
        best += ", refused" if self.shown_trial.refused else ""
        real = f"real against real: {FID.format(metrics.get(FID.floor))}"
        found = [
            (best, KID, KID.name, interval),
            ("floor", KID, KID.floor, "real slices against real slices"),
            ("reconstructions", KID, KID.reconstructed, "real slices, encoded and decoded, against real slices"),
            (f"{FID.label} of {self.shown}", FID, FID.name, real),
            (STEPS.label, STEPS, STEPS.name, f"denoiser evaluations per image; {steps} without early stop"),
        ]
        tiles = [Tile(label, metric.format(metrics.get(name)), note) for label, metric, name, note in found]
        if again and again.best:
            value = self.objective.format(again.mean(again.best))
            note = f"mean of {number(len(again.seeds), 'fresh seed')}"
            tiles.insert(0, Tile(f"{self.objective.label} of the best, confirmed", value, note))
        return tiles

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was run and on what."""
        plan, config = self.source.plan, self.source.search.config
        state = leaderboard.counts(self.source.search)
        again = extent_words(self.confirmation)
        rule, side = str(plan.recipe.data.rule), plan.recipe.data.image_size
        minimised = " and ".join(objective_of(name).label for name in config.objectives)
        search = (
            f"minimises {minimised} on the validation split; sampler {config.sampler}, pruner {config.pruner}"
            + ("" if config.sampler == config.pruner == "gp" else f", {config.startup} trials before either begins")
        )
        trials = ", ".join(f"{state[name]} {name}" for name in ("complete", "pruned", "failed"))
        waiting = f", {state['waiting']} waiting" if state["waiting"] else ""
        return [
            ("Dataset", plan.dataset),
            ("Slices", slices(self.source)),
            ("Split", SPLITS.get(rule, f"by {rule}: no patient is in two splits")),
            ("Recipe", f"{plan.recipe_name}, at {side}×{side} pixels"),
            ("Search", search),
            ("Seed", f"{plan.seed}, for trainings, samples and search; every configuration was trained once{again}"),
            ("Trials", f"{trials}{waiting}; {state['points']} configurations measured"),
        ]

    @property
    def space(self) -> list[tuple[str, str]]:
        """The searched fields with their values in words."""
        return [(name, dimension_text(each)) for name, each in self.fields.items()]

    @property
    def differences(self) -> list[tuple[str, str, str]]:
        """The fields that differ from the named recipe: its value, and the sweep's."""
        return [(name, text(there), text(here)) for name, there, here in repetition.changes(self.source)]

    @cached_property
    def compute(self) -> Compute:
        """What the sweep cost."""
        return compute(self.source)

    @property
    def stages(self) -> Table:
        """The same by stage."""
        rows = []
        for each in self.compute.stages:
            freed = f"{each.freed} freed since: time not known" if each.freed else ""
            cells = str(each.results), str(each.unfinished or "–"), duration(each.seconds), freed
            rows.append((each.stage, *cells))
        caption = (
            "Wall time of work by stage, whoever computed a result first. Unfinished trainings are those that were "
            "pruned or stopped."
        )
        rows.append(("all", "", "", duration(self.compute.seconds), ""))
        return Table.of(("stage", "results", "unfinished", "time", ""), rows, caption)

    @cached_property
    def leaderboard(self) -> Table:
        """The best configurations, each with the address of its run."""
        return leaderboard_table(self.scores, self.source.search, lambda n: self.page_of(run_key(self.sweep, n)))

    @cached_property
    def confirmation(self) -> Confirmation | None:
        """What fresh seeds said of the best, where they were tried."""
        return confirmation(self.source.search)

    @property
    def confirmed(self) -> Table | None:
        """The same as a table."""
        return confirmed_table(self.confirmation, self.objective) if self.confirmation else None

    @property
    def shares(self) -> Table:
        """What mattered, by field."""
        rows = []
        for each in self.importances:
            shares = (f"{share:.0%}" for share in (each.share, each.floor, each.median, each.low, each.high))
            verdict = "not distinguishable from noise" if each.noise else ""
            rows.append((each.field, *shares, f"{each.first:.0%} of resamples", verdict))
        headings = ("field", "all trials", "noise floor", "median", "10 %", "90 %", "came first in", "")
        return Table.of(headings, rows, code=True)

    @cached_property
    def charts(self) -> dict[str, Chart]:
        """The charts that the data allow."""
        space, metric = self.source.search.space, self.objective
        fair = [row for row in self.scores if not row.refused]
        found: dict[str, Chart | None] = {
            "importance": charts.importance_chart(self.importances) if self.importances else None,
            "parallel": charts.parallel_coordinates(fair, space, metric) if len(fair) > 1 else None,
            "slices": charts.slices(fair, space, metric) if len(fair) > 1 else None,
            "cost": charts.quality_against_cost(fair, KID if metric.cost else metric) if fair else None,
        }
        return {name: chart for name, chart in found.items() if chart}

    @cached_property
    def pictures(self) -> list[Picture]:
        """Those of the shown configuration."""
        if self.shown_trial is None:
            return []
        usual = self.source.plan.recipe.sampling.early_stop_threshold
        found = pictures(self.entries, float(self.shown_trial.params.get(THRESHOLD, usual)))
        return [picture for picture in found if self._measured_downstream or picture.name != DICE_BY_PATIENTS]

    @property
    def leading(self) -> list[Picture]:
        """The pictures that the page opens with."""
        return [picture for picture in self.pictures if picture.name.startswith(LEADING)]

    @property
    def by_patients(self) -> list[Picture]:
        """The picture beside :attr:`usefulness`."""
        return [picture for picture in self.pictures if picture.name == DICE_BY_PATIENTS]

    @property
    def further(self) -> list[Picture]:
        """All others."""
        return [picture for picture in self.pictures if picture not in [*self.leading, *self.by_patients]]

    @cached_property
    def usefulness(self) -> Usefulness | None:
        """How good the slices of that configuration are as training data, where that was measured."""
        found = self.entries.get(DOWNSTREAM.name)
        return Usefulness.of(found.summary) if found and self._measured_downstream else None

    @property
    def _measured_downstream(self) -> bool:
        """Whether that configuration was: of a pass, one threshold alone is."""
        return self.shown_trial is not None and DICE.name in self.shown_trial.metrics

    @property
    def usefulness_table(self) -> Table | None:
        """The same as a table."""
        return downstream.table(self.usefulness) if self.usefulness else None

    @property
    def usefulness_words(self) -> list[str]:
        """The same in sentences."""
        return [downstream.sentence(self.usefulness), downstream.CAVEAT] if self.usefulness else []

    @property
    def missing(self) -> list[str]:
        """Which of its pictures are not there."""
        if self.shown_trial is None:
            return []
        return missing(self.entries, self.source.results(self.source.search.trial(self.shown_trial.trial)))

    @property
    def dashboard(self) -> str:
        """The command that shows the study; of a database its variable, since the address may hold a password."""
        return self.source.search.dashboard

    @property
    def runs(self) -> str:
        """The command that shows the runs in MLflow; empty where they aren't recorded."""
        return documented("ui") if self.recorded else ""

    @property
    def retrain(self) -> list[str]:
        """The commands that train the shown configuration in full and draw from it.

        ``train`` falls back to what a training was before it copied, where that was kept, and says in which folder.
        """
        shown = self.shown_trial
        if shown is None:
            return []
        trained = self.entries.get("denoiser")
        clean = guards.copies(shown.metrics) and bool(trained and trained.summary.get("clean_until"))
        count = sum(score.chosen for score in self.scores)
        trial = "" if count == 1 else f" --number {shown.trial}"
        export = "" if count else f" {guards.DESPITE}"
        train = f" {guards.DESPITE}" if shown.said and not clean else ""
        drawn = "FOLDER" if clean else "best.yaml"
        return [
            documented(f"export --sweep {shlex.quote(self.sweep)}{trial}{export} --to best.yaml"),
            documented(f"train --config best.yaml{train}"),
            documented(f"sample {drawn} --count 16 --to images") + ("  # the FOLDER that train names" * clean),
        ]


def gather(
    home: Home, sweep: str, findings: Findings = (), *, recorded: bool = True, page_of: PageOf = nowhere
) -> Content:
    """Everything for the report of a sweep; raises :class:`~trainables.errors.DataError` for an unknown sweep."""
    source = open_source(home, sweep)
    raised = warnings_first(findings() if callable(findings) else findings)
    found = scores(source.search), importances(source.search)
    return Content(source, *found, raised, recorded, page_of)


def slices(source: Source) -> str:
    """How many slices and subjects each split has, if the dataset is still there, and what must be said of it."""
    try:
        dataset: PreparedDataset = open_dataset(source.home.datasets, source.plan.dataset)
    except LatentsweepError:
        return NO_DATASET
    rule, every = source.plan.recipe.data.rule, dataset.manifest["counts"]
    subjects = {} if rule == "slice" else dataset.subjects_by_split(rule)
    parts = [
        f"{split} {count}" + (f" of {subjects[split]} subjects" if split in subjects else "")
        for split, count in dataset.counts(rule).items()
    ]
    began = source.plan.fingerprint
    changed = dataset.fingerprint_of(masks=JOINT in began) != began
    note = " (prepared anew since the sweep: these are the present counts)" if changed else ""
    return f"{every['slices']} of {every['subjects']} subjects: {', '.join(parts)}{note}"


def dimension_text(dimension: Dimension) -> str:
    """A dimension in words."""
    if isinstance(dimension, Choice):
        return ", ".join(text(value) for value in dimension.values)
    return f"{dimension.low:g} to {dimension.high:g}" + (", on a log scale" if dimension.log else "")

"""What a reader of a record is told of each run, in plain English and Markdown.

``[words](run:KEY)`` leads to the run of a key, ``(run:KEY|FOLDER/FILE)`` to a file of it, and ``(runs:KEY)`` to the
table of the runs under it. ``[words](kept:TAG)`` leads to the file that the run's own tag names, and is left out
without the tag. A :class:`~latentsweep.records.recorder.Recorder` knows their addresses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from latentsweep.ablation.design.plan import AblationPlan
from latentsweep.metrics import LEADERBOARD, objective_of
from latentsweep.pages.numbers import number
from latentsweep.search import leaderboard
from latentsweep.search.confirmation import choice, confirmation, metric_of
from latentsweep.search.confirmed import Confirmation
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.trials import COPIED, family_of, run_key

MOST = 3
"""How many metrics the table of the runs shows."""

REPORT, REPORTED = "report", "latentsweep.report"
"""The folder of a run that has its report, and the tag that names its page."""


def link(words: str, key: str) -> str:
    """Words that lead to the run of a key."""
    return f"[{words}](run:{key})"


def name_of(sweep: str, configuration: int) -> str:
    """What a configuration of a sweep is called: its number first, since tables cut off long names."""
    return f"#{configuration} {sweep}"


def describe_scores(metrics: Mapping[str, float]) -> str:
    """The scores that a leaderboard shows, in one sentence; empty where none was measured."""
    found = []
    for metric in LEADERBOARD:
        if metric.name in metrics:
            error = f" ± {metric.format(metrics[metric.error])}" if metric.error in metrics else ""
            floor = f" (real slices: {metric.format(metrics[metric.floor])})" if metric.floor in metrics else ""
            found.append(f"{metric.label} {metric.format(metrics[metric.name])}{error}{floor}")
    return f"{', '.join(found)}." if found else ""


def describe_configuration(plan: SweepPlan, search: Search, trial: FrozenTrial) -> str:
    """What a configuration is, how it ended, and whose training it shares."""
    own = f": {leaderboard.described(trial.params)}" if trial.params else ""
    lines = [f"Configuration {trial.number} of the sweep {link(plan.name, plan.name)}{own}."]
    attributes, family = trial.user_attrs, family_of(trial)
    if trial.state == TrialState.COMPLETE:
        lines.append(describe_scores(attributes["metrics"]))
    elif trial.state == TrialState.PRUNED and COPIED in attributes:
        lines.append(f"It was ended at step {attributes['pruned_at']}, because it copied: {attributes[COPIED]}.")
    elif trial.state == TrialState.PRUNED:
        lines.append(f"The pruner ended it at step {attributes['pruned_at']}: others were better at that step.")
        if later := search.thawed().get(trial.number):
            other = link(f"configuration {later}", run_key(plan.name, later))
            lines.append(f"It was continued later, as {other}.")
    elif trial.state == TrialState.FAIL:
        lines.append(f"It gave no result: {attributes.get('reason', 'no reason is known')}.")
    if pruned := search.pruned_before(trial):
        other = link(f"configuration {pruned.number}", run_key(plan.name, pruned.number))
        lines.append(f"It continues {other} from step {pruned.user_attrs['pruned_at']}, where that was pruned.")
    refused = search.refusal(trial)
    lines.append(f"It can't win, since a guard refuses it: {refused}." if refused else "")
    if family != trial.number:
        whose = link(f"configuration {family}", run_key(plan.name, family))
        lines.append(
            f"It is another early stop of {whose}, whose run has the curves of the training that both share."
        )
    return _paragraphs(lines)


def describe_autoencoder(sweep: str, params: Mapping[str, Any]) -> str:
    """What an autoencoder is, and whose."""
    own = f": {leaderboard.described(params)}" if params else ""
    return (
        f"An autoencoder that configurations of the sweep {link(sweep, sweep)} share{own}. Its pictures show how "
        "well it gives slices back, and no configuration that draws by it can show more."
    )


def describe_sweep(plan: SweepPlan, search: Search) -> str:
    """What a sweep found so far, with links to its best, its table and its report, and what Optuna calls it."""
    state = leaderboard.counts(search)
    ended = [f"{state[name]} {name}" for name in ("complete", "pruned", "failed") if state[name]]
    lines = [
        f"A sweep of {plan.dataset} with the recipe {plan.recipe_name}: {number(state['points'], 'configuration')} "
        f"measured; trainings: {', '.join(ended) or 'none has ended'}. "
        f"[All configurations, best first](runs:{plan.name})",
        f"[The report](kept:{REPORTED})",
        *_best(plan, search),
        f"Optuna's pages show it, too, as the study {plan.name}: `{search.dashboard}`.",
    ]
    return _paragraphs(lines)


def winning_words(search: Search) -> str:
    """What the tag of a winner says."""
    if len(search.config.objectives) > 1:
        return "on the Pareto front"
    found = confirmation(search)
    return f"confirmed with {number(len(found.seeds), 'fresh seed')}" if found and found.best else "best of one seed"


def describe_training(dataset: str, origin: Mapping[str, Any], scores: Mapping[str, float], split: str) -> str:
    """What a training of one configuration is, where that comes from, and what it scored."""
    whose = ""
    if {"sweep", "trial"} <= origin.keys():
        trial, sweep = str(origin["trial"]), str(origin["sweep"])
        whose = f" Its configuration is {link(f'number {trial}', run_key(sweep, trial))} of {sweep}."
    first = f"A training of one configuration on {dataset}, measured on the {split} split.{whose}"
    return _paragraphs([first, describe_scores(scores)])


def describe_arm(study: str, arm: str, seed: int, metrics: Mapping[str, float]) -> str:
    """What a run of a study is, and what it scored."""
    return _paragraphs([f"The arm {arm} of the study {link(study, study)}, seed {seed}.", describe_scores(metrics)])


def describe_study(plan: AblationPlan, seeds: int, page: str = "") -> str:
    """What a study compares, with a link to its ``page``, a file of its run."""
    arms = [arm.name for arm in plan.design.arms]
    lines = [
        f"A study on {plan.dataset} that compares {number(len(arms), 'arm')} ({', '.join(arms)}) with "
        f"{number(seeds, 'seed')} each.",
        f"[All runs, best first](runs:{plan.name})",
        f"[What it found](run:{plan.name}|{page})" if page else "",
    ]
    return _paragraphs(lines)


def _best(plan: SweepPlan, search: Search) -> list[str]:
    """The lines of what a sweep found best, each with its link."""
    found = confirmation(search)
    return [
        f"**Best{_confirmed(found, trial)}:** "
        f"{link(f'configuration {trial.number}', run_key(plan.name, trial.number))} with "
        f"{leaderboard.described(trial.params)}. {_scores(search, found, trial)}"
        for trial in choice(search)
    ]


def _confirmed(found: Confirmation | None, trial: FrozenTrial) -> str:
    row = found.row_of(trial.number) if found else None
    return f", confirmed with {number(len(row.scores), 'fresh seed')}" if row and not row.failures else ""


def _scores(search: Search, found: Confirmation | None, trial: FrozenTrial) -> str:
    """What a configuration scored: where it is confirmed, first with the fresh seeds, which did not choose it."""
    searched = describe_scores(trial.user_attrs["metrics"])
    row = found.row_of(trial.number) if found else None
    if found is None or row is None or row.failures:
        return searched
    metric = metric_of(search)
    return f"{metric.label} {metric.format(found.mean(row))} with fresh seeds; the search had found {searched}"


def _paragraphs(lines: Sequence[str]) -> str:
    return "\n\n".join(filter(None, lines))


def columns(objectives: Sequence[str]) -> list[str]:
    """The metrics that rank, then those that a leaderboard shows first, as the runs' table names them.

    They are few, so that the searched fields beside them are seen without scrolling.
    """
    first = [objective_of(name).at_end for name in objectives]
    return [*first, *(metric.at_end for metric in LEADERBOARD if metric.at_end not in first)][:MOST]

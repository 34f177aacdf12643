"""What a sweep found, in words that are computed from its data and say where it can't be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState

from latentsweep.metrics import KID, REFERENCE_SAMPLES, SAMPLES, Metric, interval, objective_of
from latentsweep.pages.gap import gap_words
from latentsweep.pages.numbers import duration, lints_raised, number
from latentsweep.report.importance import Importance
from latentsweep.report.scores import Score, chosen, objective, unpaired_words
from latentsweep.report.source import Source
from latentsweep.search import confirmation_table, leaderboard
from latentsweep.search.clock import spent_seconds
from latentsweep.search.confirmation import confirmation, last_extent
from trainables.space import Choice

SURE = 0.9
"""Share of the resamples in which a field must come first to be called the one that mattered most."""


def sentences(
    source: Source, rows: Sequence[Score], importances: Sequence[Importance], lints: int, reference: Mapping[str, Any]
) -> list[str]:
    """The summary, a paragraph each: what was searched, the best, how sure that is, what mattered, lints."""
    found = [search_words(source), schedule_words(source)]
    if not rows:
        found.append("No trial has been measured yet, so there is no best configuration. " + why_nothing(source))
        found.append(guard_words(source, rows))
    elif all(row.refused for row in rows):
        found += [
            "There is no best configuration: the guards refuse all that were measured.",
            guard_words(source, rows),
        ]
    elif not any(row.chosen for row in rows):
        found += [
            "There is no best configuration: the guards refuse each of the best, trained with fresh seeds.",
            guard_words(source, rows),
            " ".join(confirmation_table.words(source.search)),
        ]
    else:
        found += [
            best(source, rows, reference),
            guard_words(source, rows),
            " ".join(confirmation_table.words(source.search)),
            gap_words(chosen(rows).metrics),
            certainty(source, rows),
            importance_words(source, importances),
        ]
    found.append(lints_raised(lints) if lints else "No lint was raised.")
    return [sentence for sentence in found if sentence]


def headline(source: Source, rows: Sequence[Score]) -> str:
    """The whole sweep in one sentence: the best, its score, and what real slices and reconstructions score."""
    if not rows:
        return "No configuration has been measured yet."
    if not any(row.chosen for row in rows):
        return "There is no best configuration: the guards refuse what would be."
    metric, row = objective(source.search), chosen(rows)
    many, dataset = number(len(rows), "configuration"), source.plan.dataset
    if len(source.search.config.objectives) > 1:
        front = number(sum(each.chosen for each in rows), "configuration")
        names = " and ".join(objective_of(name).label for name in source.search.config.objectives)
        return f"Of {many} on {dataset}, none beats {front} in both {names}."
    again, ends = confirmation(source.search), interval(row.metrics, metric.name)
    if again and again.best:
        score = f"{metric.format(again.mean(again.best))} with fresh seeds"
    else:
        score = metric.format(row.values[0])
        score += f" [{metric.format(ends[0])}, {metric.format(ends[1])}]" if ends else ""
    told = ((metric.floor, "real slices score"), (metric.reconstructed, "its autoencoder's reconstructions"))
    beside = [f"{said} {metric.format(row.metrics[name])}" for name, said in told if name in row.metrics]
    where = f"; {' and '.join(beside)}" if beside else ""
    return (
        f"Of {many} on {dataset}, number {row.trial} is the best ({leaderboard.described(row.params)}): "
        f"{metric.label} {score}{where}."
    )


def search_words(source: Source) -> str:
    """What was tried on what."""
    state = leaderboard.counts(source.search)
    fields = ", ".join(source.search.space.dimensions)
    trials = state["complete"] + state["pruned"] + state["failed"]
    ended = [f"{state[name]} {name}" for name in ("complete", "pruned", "failed") if state[name]]
    text = (
        f"{number(trials, 'trial')} on {source.plan.dataset} searched {fields}, from the recipe "
        f"{source.plan.recipe_name}" + (f": {', '.join(ended)}." if ended else ".")
    )
    if thawed := leaderboard.thawed(source.search):
        text += f" {thawed[0].upper()}{thawed[1:]}."
    if state["waiting"]:
        text += f" {number(state['waiting'], 'trial')} waited or ran when this report was written."
    points = f" One sampling pass gives every early-stop threshold: {state['points']} configurations were measured."
    text += points if state["points"] > state["complete"] else ""
    apart = leaderboard.apart(source.search)
    return f"{text} {apart[0].upper()}{apart[1:]}." if apart else text


def schedule_words(source: Source) -> str:
    """What the hours of the search became, and what was done in them; empty where it was given none."""
    schedule, state = source.plan.schedule, leaderboard.counts(source.search)
    if schedule is None:
        return ""
    sizes = ", ".join(f"{name} = {value}" for name, value in schedule.sizes.items())
    spent, done = spent_seconds(source.folder), last_extent(source.search)
    again = f", and {schedule.configurations} × {schedule.seeds} fresh trainings" if schedule.configurations else ""
    confirmed = f", and {done.configurations} × {done.seeds} fresh trainings" if done.configurations else ""
    trials = state["complete"] + state["pruned"] + state["failed"]
    return (
        f"The search was given {duration(schedule.seconds)}. By the time that steps took on this machine it planned "
        f"{number(schedule.trials, 'trial')}{again}, and set {sizes or 'nothing of the recipe'}. It ran for "
        f"{duration(spent)}: {number(trials, 'trial')}{confirmed}."
    )


def guard_words(source: Source, rows: Sequence[Score]) -> str:
    """What the guards refused, and which trials were ended since they copied; empty for none."""
    refused = [row for row in rows if row.refused]
    if not source.search.config.guarded:
        text = "This search had no guards: a configuration that copies training slices or collapses can win."
        said = [row for row in rows if row.said]
        row = chosen(rows) if rows else None
        text += f" {len(said)} of {number(len(rows), 'measured configuration')} would be refused." if said else ""
        return text + (f" So would be the best, configuration {row.trial}: {row.said}." if row and row.said else "")
    text = ""
    if refused:
        lowest = min(refused, key=lambda row: row.values)
        text = (
            f"The guards refuse {len(refused)} of {number(len(rows), 'measured configuration')}, whatever these "
            f"score; the lowest score among these is of configuration {lowest.trial}: {lowest.refused}."
        )
    copied = leaderboard.copyists(source.search)
    return f"{text} Trials {copied}.".strip() if copied else text


def why_nothing(source: Source) -> str:
    """Why nothing was measured."""
    reasons = "; ".join(f"{reason} ({number(count, 'trial')})" for reason, count in failures(source).items())
    return f"What failed: {reasons}." if reasons else "Run the sweep's command again to go on."


def failures(source: Source) -> dict[str, int]:
    """The reasons of failed trials, and how many failed so."""
    failed = [trial for trial in source.search.run_trials() if trial.state == TrialState.FAIL]
    return dict(Counter(str(trial.user_attrs.get("reason", "no reason given")) for trial in failed).most_common())


def best(source: Source, rows: Sequence[Score], reference: Mapping[str, Any]) -> str:
    """The configuration that export takes, its score, the floor and what its autoencoder's reconstructions score."""
    metric = objective(source.search)
    row = chosen(rows)
    named = f"is number {row.trial} ({settings_of(row)}): "
    if len(source.search.config.objectives) > 1:
        names, front = " and ".join(source.search.config.objectives), sum(row.chosen for row in rows)
        text = (
            f"Two objectives were minimised, {names}, so there is no single best: "
            f"{number(max(1, front), 'configuration')} lie on the Pareto front. The one with the lowest "
            f"{metric.label} {named}"
        )
    else:
        text = f"The best configuration {named}"
    text += measured_text(row.metrics, metric)
    if metric != KID and KID.name in row.metrics:
        text += ", " + measured_text(row.metrics, KID)
    text += comparison(row.metrics, reference) + "."
    if row.rank > 1 and row.family == rows[0].family and len(source.search.config.objectives) == 1:
        of = "of their difference, paired" if row.paired else "of it"
        text += (
            f" The lowest score is {metric.format(rows[0].values[0])} (configuration {rows[0].trial}, the same "
            f"denoiser); the chosen threshold is the cheapest within one standard error {of}."
        )
    return text


def comparison(metrics: Mapping[str, float], reference: Mapping[str, Any]) -> str:
    """What the KID stands between: real slices, and reconstructions."""
    text = ""
    if SAMPLES.name in metrics and REFERENCE_SAMPLES.name in metrics:
        generated, real = (metric.format(metrics[metric.name]) for metric in (SAMPLES, REFERENCE_SAMPLES))
        split = reference.get("split", "validation")
        text += f", from {generated} generated against {real} real slices of the {split} split"
    if KID.floor in metrics:
        text += f". Real slices in their place score {KID.format(metrics[KID.floor])}, the floor"
    if KID.reconstructed in metrics:
        text += f"; its autoencoder's reconstructions score {KID.format(metrics[KID.reconstructed])}"
    elif text:
        text += "; what its autoencoder's reconstructions score was not recorded"
    return text


def certainty(source: Source, rows: Sequence[Score]) -> str:
    """Whether the best can be told from the others, and what those have in common that can't."""
    if len(source.search.config.objectives) > 1:
        return "Scores on the front differ by less than their intervals where those overlap in the leaderboard."
    metric, first = objective(source.search), rows[0]
    other = next((row for row in rows if row.family != first.family), None)
    if other is None:
        return "Only one denoiser was measured, so nothing can be said of what another configuration would give."
    gap, error = other.values[0] - first.values[0], other.difference_error
    lowest, beside = (metric.format(row.values[0]) for row in (first, other))
    said = (
        f"In the search, configuration {first.trial} had the lowest score, {lowest}. The best of another denoiser "
        f"was configuration {other.trial} with {beside}"
    )
    if error is None:
        return f"{said}; no uncertainty of this score was recorded, so whether they differ can't be said."
    alike = [row for row in rows if row.alike]
    denoisers = len({row.family for row in alike})
    size = f"{metric.format(gap)} more"
    if error > 0:
        size += f", {gap / error:.1f} {'paired ' if other.paired else ''}standard errors of the difference"
    verdict = "the difference is larger than chance would give on these samples"
    if other.alike:
        verdict = "a lead, but within what chance gives"
    if gap <= error:
        verdict = "which of the two is better can't be told from this sweep"
    text = f"{said}, {size}: {verdict}."
    if len(alike) > 1:
        text += (
            f" {len(alike)} of {len(rows)} configurations, of {number(denoisers, 'denoiser')}, can't be told from "
            "the lowest at the 95 % level."
        )
        text += common(source, rows, alike)
    return f"{text} {covered(rows, metric)}"


def covered(rows: Sequence[Score], metric: Metric) -> str:
    """What the errors of differences cover, and of which rows they are not paired."""
    text = (
        "The error of a difference covers other real subjects and other noise. It doesn't cover another training "
        "seed, and these scores are of one seed each."
    )
    unpaired = unpaired_words(rows, metric)
    return f"{text} {unpaired}." if unpaired else text


def common(source: Source, rows: Sequence[Score], alike: Sequence[Score]) -> str:
    """Which tried values none of the leading configurations has."""
    absent = []
    for field, dimension in source.search.space.dimensions.items():
        if isinstance(dimension, Choice):
            kept = {row.params[field] for row in alike}
            tried = {row.params[field] for row in rows}
            gone = [shown(each) for each in dimension.values if each in tried - kept]
            if gone:
                absent.append(f"{field} = {' or '.join(gone)}")
    return f" None of these has {', nor '.join(absent)}." if absent else ""


def importance_words(source: Source, importances: Sequence[Importance]) -> str:
    """The field with the largest share, how sure its place is, and which fields can't be told from noise."""
    if not importances:
        return f"What mattered can't be said: that needs {leaderboard.ENOUGH} complete trials with different scores."
    clear = [each for each in importances if not each.noise]
    if not clear:
        return (
            "Which choice mattered can't be told from noise: no field's share is above what it gets when its values "
            "are permuted among the passes."
        )
    first, noise = clear[0], [each.field for each in importances if each.noise]
    ending = f" Not distinguishable from noise: {', '.join(noise)}." if noise else ""
    share = f"{first.median:.0%} of the variance (10–90 % of resamples: {first.low:.0%} to {first.high:.0%})"
    if first.first >= SURE:
        return (
            f"Over the whole space, {first.field} mattered most, with {share}; it came first in {first.first:.0%} of "
            f"resamples.{ending}"
        )
    rivals = " or ".join(
        f"{each.field} (first in {each.first:.0%} of resamples)" for each in importances if each.first >= 1 - SURE
    )
    return f"Which choice mattered most isn't sure: {rivals or first.field}. {first.field} has {share}.{ending}"


def measured_text(metrics: Mapping[str, float], metric: Metric) -> str:
    """A metric with its name and interval."""
    if metric.name not in metrics:
        return f"{metric.label} not recorded"
    ends = interval(metrics, metric.name)
    text = f"{metric.label} {metric.format(metrics[metric.name])}"
    return text + (f" (95 % interval {metric.format(ends[0])} to {metric.format(ends[1])})" if ends else "")


def settings_of(row: Score) -> str:
    """A configuration's parameters."""
    return ", ".join(f"{field} = {shown(each)}" for field, each in row.params.items())


def shown(each: Any) -> str:
    """A parameter's value as it is shown."""
    return f"{each:.4g}" if isinstance(each, float) else str(each)

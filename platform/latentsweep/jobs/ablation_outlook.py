"""What a study could show, before any of it is trained: from the noise that the store knows of its dataset."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latentsweep.ablation.design.plan import AblationPlan
from latentsweep.ablation.design.walltime import WallTime
from latentsweep.ablation.statistics.additive import MOST_DEGREES
from latentsweep.ablation.statistics.effect import CROSS_METRIC, Run
from latentsweep.ablation.statistics.power import shown_by, smallest_p
from latentsweep.ablation.statistics.replicate import unit_words, units
from latentsweep.ablation.statistics.subjects import kid_covariance
from latentsweep.pages.numbers import number
from latentsweep.stages.table import DENOISER, EVALUATION, REAL_FEATURES, SHARED, STAGES, TRAININGS
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.config import fingerprint
from trainables.measures.distances import kernel_within_groups
from trainables.measures.reference import Reference
from trainables.recipes import Recipe

SPREAD = 0.05
"""Standard deviation of log KID between seeds that is taken where the store knows none: 5 to 8 % were measured."""
PAIRS = 10
"""Pairs of configurations by which the error between subjects is taken, at most."""
RESAMPLES = 500
MEASURED = {stage.name: stage.version for stage in (EVALUATION, REAL_FEATURES)}
"""The stages that make a score, each with the version whose scores compare with those of a new study."""


@dataclass(frozen=True)
class Noise:
    """What is known of a dataset before a study of it.

    ``spread`` is the standard deviation of log KID between seeds, pooled over ``configurations`` that were trained
    with two or more; 5 % where there is none. ``se_subjects`` is the median standard error between ``subjects`` of
    the log ratio of two configurations, with its degrees of freedom; None where nothing was measured on the study's
    real slices.
    """

    spread: float = SPREAD
    configurations: int = 0
    subjects: int = 0
    se_subjects: float | None = None
    df_subjects: float | None = None


def known_noise(store: Store, plan: AblationPlan) -> Noise:
    """The noise by what the store has of the plan's dataset, of any configuration and all that led to it.

    A configuration's early-stop thresholds count as several for the spread; for the error between subjects one of
    them does, since images of one denoiser lie near each other for all subjects. What earlier versions measured is
    left out, and trainings of two versions count as two configurations.
    """
    entries = {entry.name: entry for entry in store.entries()}
    reference = plan.jobs(plan.seeds(1))[0].keys.reference.name
    logs: dict[str, dict[str, float]] = {}
    measured: dict[str, Run] = {}
    for entry in entries.values():
        if not entry.name.startswith(f"{EVALUATION.name}/"):
            continue
        before = list(_lineage(entry, entries))
        whole = all(name in entries for each in before for name in each.manifest["upstream"])
        manifests = [each.manifest for each in before]
        if not whole or not any(each["inputs"].get("dataset") == plan.fingerprint for each in manifests):
            continue
        if any(MEASURED.get(each["stage"], each["version"]) != each["version"] for each in manifests):
            continue
        alike = fingerprint(sorted([each["stage"], each["version"], _without_seed(each)] for each in manifests))
        for point in entry.summary.get("points", ()):
            kid, cross = point["metrics"].get(CROSS_METRIC), point.get("kernel_by_subject")
            name = f"{alike} {point['threshold']}"
            if kid is None or not kid > 0:
                continue
            logs.setdefault(name, {})[entry.name] = math.log(kid)
            if cross and any(each.name == reference for each in before):
                sums = {subject: (1000 * total, int(count)) for subject, (total, count) in cross.items()}
                measured.setdefault(alike, Run(alike, 0, {CROSS_METRIC: kid}, entry.name, sums))
    several = [np.array(list(each.values())) for each in logs.values() if len(each) > 1]
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in several)
    freedom = sum(len(each) - 1 for each in several)
    found = Noise(math.sqrt(squares / freedom), len(several)) if squares else Noise()
    real = store.find(reference)  # of those that only a bucket has, the entries have no files
    return _with_subjects(found, list(measured.values()), Reference.load(real.folder)) if real else found


def time_of(
    plan: AblationPlan,
    seeds: int,
    store: Store,
    wall: WallTime | None,
    seconds_of: Callable[[StageKey, Recipe], float],
) -> float:
    """Seconds that what the store lacks of a study takes in one slot; trainings that were given minutes take these.

    The trials that tune each arm are of the arm's own sizes.
    """
    jobs = plan.jobs(plan.seeds(seeds), wall.changes if wall else None)
    lacking = {key.name: (key, job) for job in jobs for key in job.keys.values() if not store.find(key)}
    trained = {stage.name for stage in TRAININGS}
    minutes = 60 * (plan.minutes or 0.0)
    seconds = 0.0
    for key, job in lacking.values():
        if not minutes or key.stage not in trained:
            seconds += seconds_of(key, job.recipe)
    if minutes:
        seconds += minutes * sum(key.stage == DENOISER.name for key, _ in lacking.values())
    for arm in plan.design.arms if plan.tune else ():
        keys = next(job.keys for job in jobs if job.arm.name == arm.name)
        own = [key for stage, key in keys.items() if STAGES[stage] not in SHARED]
        seconds += plan.tune * sum(seconds_of(key, arm.recipe) for key in own)
    return seconds


def power_words(plan: AblationPlan, seeds: int, noise: Noise) -> str:
    """What that number of seeds can show, and where the held-out subjects cap it.

    In a study with folds the replicates are the folds, which test all subjects; how far folds vary isn't known
    before, so that seeds' spread stands for theirs.
    """
    replicates = plan.replicates(seeds)
    count = units(replicates)
    if count < 2:
        return "one seed tells nothing about chance: every verdict will be 'cannot tell'; take --seeds 3 or more"
    design = plan.design
    contrasts, arms = len(design.contrasts), len(design.arms)
    weight = max(math.sqrt(sum(w**2 for w in contrast.weights.values())) for contrast in design.contrasts)
    error, df = noise.spread * weight / math.sqrt(count), (count - 1) * min(arms - 1, MOST_DEGREES)
    between = None if plan.folds > 1 else noise.se_subjects
    subjects = between or 0.0, noise.df_subjects or math.inf
    least = _rise(shown_by(error, df, contrasts, *subjects))
    source = (
        f"seeds of {number(noise.configurations, 'configuration')} in the store vary by {100 * noise.spread:.2g} %"
        if noise.configurations
        else f"seeds are taken to vary by {100 * noise.spread:.2g} %, as the store knows of none"
    )
    cap = ". What the held-out subjects add isn't known: the store has no such runs yet"
    if plan.folds > 1:
        cap = ". Folds vary more than seeds do, so that is the least"
    elif between:
        most = _rise(shown_by(0.0, 1.0, contrasts, *subjects))
        cap = f". With {noise.subjects} held-out subjects, no number of seeds shows less than {most} %"
    return (
        f"{unit_words(replicates)} show a difference of {least} % of the score or more here, in four studies of five "
        f"and corrected for {number(contrasts, 'comparison')} ({source}){cap}. A sign-flip test can't go under p = "
        f"{smallest_p(count):.3g}"
    )


def _with_subjects(noise: Noise, runs: list[Run], reference: Reference) -> Noise:
    """The noise with the error between subjects, where two configurations were measured on the reference."""
    real = kernel_within_groups(reference.features, reference.subjects)
    errors, df = [], None
    for one, other in itertools.islice(itertools.combinations(runs, 2), PAIRS):
        weights = {one.arm: 1.0, other.arm: -1.0}
        both = {run.arm: [run] for run in (one, other)}
        sampled = kid_covariance(both, weights, real, resamples=RESAMPLES, seed=0)
        if sampled:
            covariance, df = sampled
            slopes = np.array([1 / one.metrics[CROSS_METRIC], -1 / other.metrics[CROSS_METRIC]])
            errors.append(math.sqrt(max(0.0, float(slopes @ covariance @ slopes))))
    if not errors:
        return replace(noise, subjects=len(real.groups))
    return replace(noise, subjects=len(real.groups), se_subjects=float(np.median(errors)), df_subjects=df)


def _lineage(entry: Entry, entries: Mapping[str, Entry]) -> Iterator[Entry]:
    """A result and those that it was computed from, as far as the store has them."""
    seen, waiting = set(), [entry.name]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in entries:
            continue
        seen.add(name)
        yield entries[name]
        waiting += entries[name].manifest["upstream"]


def _without_seed(manifest: Mapping[str, Any]) -> str:
    """What a result depends on but its seed."""
    return str({name: value for name, value in sorted(manifest["inputs"].items()) if name != "seed"})


def _rise(change: float) -> str:
    """What a difference of logarithms adds to a score, in per cent."""
    return f"{100 * math.expm1(change):.0f}"

"""What arms differ by, and whether the noise between seeds could have made it.

Arms are compared in pairs by seed: a contrast, a weighted sum over arms, is taken within each seed, and statistics go
over the seeds; of a score's logarithm too, where it has one. Legend: n seeds, m contrasts of a family, G subjects.
Every metric is in its own unit; KID is ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from latentsweep.ablation.statistics import inference, pairs, relative
from latentsweep.ablation.statistics.effect import MARGIN, Contrast, Counts, Effect, Run, Summary
from latentsweep.ablation.statistics.power import show_least
from latentsweep.ablation.statistics.proportions import equal_rates_p, exact_interval
from latentsweep.ablation.statistics.stability import failures_of
from latentsweep.ablation.statistics.verdicts import Rule, judge_effect
from latentsweep.metrics import NEAR_COPIES, SAMPLES, metric_of
from trainables.errors import ConfigError, DataError
from trainables.measures.distances import WithinKernel


def summaries(runs: Sequence[Run], arms: Sequence[str], metric: str) -> list[Summary]:
    """Each arm's values, seeds ascending; NaN and infinity count as missing.

    Raises :class:`DataError` for two runs of one arm and seed.
    """
    found = by_arm_and_seed(runs, metric)
    result = []
    for arm in arms:
        own = [found[key] for key in sorted(key for key in found if key[0] == arm)]
        values = tuple(float(run.metrics[metric]) for run in own)
        seeds, keys = tuple(run.seed for run in own), tuple(run.key for run in own)
        mean = float(np.mean(values)) if values else None
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        result.append(Summary(arm, metric, values, seeds, mean, sd, keys))
    return result


def effects(
    runs: Sequence[Run],
    contrasts: Sequence[Contrast],
    metric: str,
    *,
    seeds: Sequence[int],
    alpha: float = 0.05,
    margin: float = MARGIN,
    real: WithinKernel | None = None,
    diverged: Collection[tuple[str, int]] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> list[Effect]:
    """Every contrast of a metric over the planned ``seeds``, tested, with its interval and a verdict.

    KID and FID are judged by their relative change, on the log scale (:func:`~relative.changes`), where they are well
    above 0; near copies by the counts pooled over seeds; everything else by the paired differences.

    The p values are corrected (Holm 1979) over the contrasts of kind "arm", and over main effects and interactions
    together; those without p don't count. The verdict is "helps" or "hurts" ("differs" where neither way is better)
    where the corrected p is below ``alpha``; else "no difference" where the change is shown to be smaller than
    ``margin``, a share of the reference's score; else "cannot tell". That is shown by two one-sided tests (Schuirmann
    1987): on the log scale of |d| < log(1 + margin), else in pairs of a < (1 + margin) r and a > r/(1 + margin); the
    larger p of the two is corrected over the same family (Holm), at the same ``alpha``. A margin depends on nothing
    that was measured, so no arm moves another's. One seed is always "cannot tell": nothing is known of the noise.

    Failures are outcomes: "unstable" is said where what has positive weight failed in more seeds than what has
    negative weight, or would be said to hurt and failed in fewer. A seed fails that ``diverged``, as (arm, seed), or
    whose KID collapsed (:func:`~stability.collapses`). In a factorial that is said of main effects, with the arms
    that failed, and of no interaction: one arm that fails would make all of them unstable.

    In a study with folds the mean, its error and all that follows are of the folds' means
    (:mod:`~latentsweep.ablation.statistics.replicate`), which vary with training and test subjects.

    The interval covers new seeds; where ``runs`` have ``cross``, all of the same subjects and slices, it covers new
    subjects too, from ``resamples`` resamples drawn from ``seed``; on the log scale that takes ``real``, the kernels
    of the real slices. docs/metrics.md says how often it held the truth.

    Where all values are alike, and the subjects say nothing either, there is no spread to judge by. All 0 is "no
    difference", p = 1, the interval [0, 0]; all the same other number has no interval, and p is the sign-flip test's.
    Raises :class:`DataError` for two runs of one arm and seed, :class:`ConfigError` for a margin that isn't above 0.
    """
    if not 0 < margin < math.inf:
        raise ConfigError(
            f"a margin is the largest change that doesn't matter, as a share above 0, got {margin}: set another"
        )
    found = by_arm_and_seed(runs, metric)
    planned = list(dict.fromkeys(seeds))
    drafts = [pairs.difference(found, contrast, metric, planned, alpha, resamples, seed) for contrast in contrasts]
    arms = list(dict.fromkeys(arm for contrast in contrasts for arm in contrast.arms))
    within = [run for run in runs if run.seed in planned]
    stability = failures_of(within, arms, {(arm, each) for arm, each in diverged if each in planned})
    own = {key: run for key, run in found.items() if key[1] in planned and key[0] in arms}
    judged = relative.changes(
        own, drafts, stability, margin=margin, real=real, alpha=alpha, resamples=resamples, seed=seed
    )
    drafts = [
        replace(_on_scale(draft, each, own, margin), stability=tuple(stability[arm] for arm in draft.contrast.arms))
        for draft, each in zip(drafts, judged, strict=True)
    ]
    for of_arms in (True, False):
        family = [place for place, each in enumerate(contrasts) if (each.kind == "arm") == of_arms]
        differ = _corrected({place: drafts[place].p for place in family})
        equal = _corrected({place: drafts[place].p_equal for place in family})
        rule = Rule(alpha, max(1, len(family)), margin, len(planned))
        for place in family:
            draft = replace(drafts[place], p_holm=differ.get(place), p_equal_holm=equal.get(place))
            draft = show_least(draft, rule.contrasts, alpha, list(own.values()))
            verdict, words = judge_effect(draft, rule, metric_of(metric).better)
            drafts[place] = replace(draft, verdict=verdict, words=words)
    return drafts


def by_arm_and_seed(runs: Sequence[Run], metric: str) -> dict[tuple[str, int], Run]:
    """The runs that have a finite value of the metric."""
    found: dict[tuple[str, int], Run] = {}
    seen: set[tuple[str, int]] = set()
    for run in runs:
        if (run.arm, run.seed) in seen:
            raise DataError(
                f"a study has one run of an arm and seed, got two of {run.arm!r} with seed {run.seed}: leave one out"
            )
        seen.add((run.arm, run.seed))
        if math.isfinite(run.metrics.get(metric, math.nan)):
            found[run.arm, run.seed] = run
    return found


def _corrected(p: Mapping[int, float | None]) -> dict[int, float]:
    """Holm's p values of those that there are, by their place."""
    tested = {place: value for place, value in p.items() if value is not None}
    return dict(zip(tested, map(float, inference.holm(list(tested.values()))), strict=True))


def _on_scale(draft: Effect, judged: relative.Judged | str, found: pairs.Found, margin: float) -> Effect:
    """The effect with the p values of the scale that its verdict rests on."""
    if isinstance(judged, relative.Judged):
        return replace(draft, scale="log", relative=judged.relative, p=judged.p, p_equal=judged.p_equal)
    counts = _counted(draft, found)
    if counts:
        (first, second), tried = counts.found, counts.made
        return replace(draft, counts=counts, p=equal_rates_p((first, tried[0]), (second, tried[1])))
    return replace(draft, why_raw=judged, p_equal=pairs.equal_p(draft, found, margin))


def _counted(draft: Effect, found: pairs.Found) -> Counts | None:
    """Near copies pooled over seeds, where the metric is their share of a known number of slices."""
    weights = draft.contrast.weights
    if draft.metric != NEAR_COPIES.name or draft.p is None or sorted(weights.values()) != [-1.0, 1.0]:
        return None
    pooled = []
    for arm in sorted(weights, key=lambda name: -weights[name]):
        of_arm = [run.metrics for (name, _), run in found.items() if name == arm]
        if any(SAMPLES.name not in metrics for metrics in of_arm):
            return None
        made = [round(each[SAMPLES.name]) for each in of_arm]
        copies = sum(round(each[draft.metric] * count) for each, count in zip(of_arm, made, strict=True))
        low, high = exact_interval(copies, sum(made))
        pooled.append((copies, sum(made), float(low), float(high)))
    return Counts(*zip(*pooled, strict=True))

"""Differences of arms within each seed, by Student's paired t, over seeds and over subjects.

Legend: n seeds, G subjects. Every metric is in its own unit; KID is ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from latentsweep.ablation.statistics import inference
from latentsweep.ablation.statistics.effect import CROSS_METRIC, Contrast, Effect, Run
from latentsweep.ablation.statistics.power import smallest_p
from latentsweep.ablation.statistics.replicate import independent, units
from latentsweep.metrics import metric_of

DECIBELS = "dB"
ROUNDING = 1e-12
"""Differences below this share of the values they are made of are rounding, and count as none."""

Found = Mapping[tuple[str, int], Run]
"""The runs that have the metric, by arm and seed."""


def difference(
    found: Found,
    contrast: Contrast,
    metric: str,
    planned: Sequence[int],
    alpha: float,
    resamples: int,
    seed: int,
) -> Effect:
    """The effect by paired differences, without what depends on the other contrasts.

    :func:`latentsweep.ablation.statistics.effects.effects` says what becomes of no spread.
    """
    seeds = tuple(each for each in planned if all((arm, each) in found for arm in contrast.arms))
    terms = np.array(
        [[contrast.weights[arm] * found[arm, each].metrics[metric] for arm in contrast.arms] for each in seeds]
    )
    rounding = ROUNDING * float(np.abs(terms).max(initial=0.0))
    exact = [math.fsum(row) for row in terms]
    values = tuple(0.0 if abs(value) <= rounding else value for value in exact)
    each_unit = independent(seeds, values)
    draft = Effect(
        contrast,
        metric,
        seeds,
        values,
        p_sign_flip=inference.sign_flip_p(each_unit),
        runs=tuple(found[arm, each].key for arm in contrast.arms for each in seeds),
        missing=tuple(f"{arm}, seed {each}" for arm in contrast.arms for each in planned if (arm, each) not in found),
    )
    if not values:
        return draft
    mean, df = float(np.mean(each_unit)), len(each_unit) - 1
    subjects = _between_subjects(contrast, seeds, found, resamples, seed) if metric == CROSS_METRIC else (None, None)
    draft = replace(draft, mean=mean, se_subjects=subjects[0], df_subjects=subjects[1])
    if not df:
        return draft
    sd = float(np.std(each_unit, ddof=1)) if max(each_unit) - min(each_unit) > rounding else 0.0
    correction, error = inference.hedges_correction(df), sd / math.sqrt(len(each_unit))
    draft = replace(draft, sd=sd, se_seeds=error, size=correction * mean / sd if correction and sd else None)
    if error or draft.se_subjects:
        subjects = draft.se_subjects or 0.0, draft.df_subjects or df
        reach, df_both, p = map(float, inference.judge(mean, error, df, *subjects, alpha=alpha))
        return replace(draft, df=df_both, low=mean - reach, high=mean + reach, p=p)
    if mean == 0:
        return replace(draft, low=0.0, high=0.0, p=1.0)
    return replace(draft, p=smallest_p(units(seeds)))


def equal_p(draft: Effect, found: Found, margin: float) -> float | None:
    """The p of a difference as large as the margin: with a and r the weighted sums of what has positive and what has
    negative weight, the larger of the one-sided paired t tests of a − (1 + margin) r ≥ 0 and a − r/(1 + margin) ≤ 0.

    The subjects' error is that of the difference: what the real slices have alike is left out, of which a share of
    the size of the margin remains. None without a spread, where r isn't above 0, and of levels in dB, which
    have no shares.
    """
    if draft.df is None or metric_of(draft.metric).unit == DECIBELS:
        return None
    positive = {arm: weight for arm, weight in draft.contrast.weights.items() if weight > 0}
    negative = {arm: -weight for arm, weight in draft.contrast.weights.items() if weight < 0}
    sides = np.array(
        [
            independent(draft.seeds, [_weighed(found, weights, each, draft.metric) for each in draft.seeds])
            for weights in (positive, negative)
        ]
    )
    if not sides[1].mean() > 0:
        return None
    values = np.array([sides[0] - (1 + margin) * sides[1], sides[1] / (1 + margin) - sides[0]])
    means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(values.shape[1])
    subjects = draft.se_subjects or 0.0
    if not (errors + subjects).all():
        return None
    df = values.shape[1] - 1
    p = inference.judge(means, errors, df, subjects, draft.df_subjects or df).p
    return max(inference.one_sided(*each) for each in zip(means.tolist(), p.tolist(), strict=True))


def _weighed(found: Found, weights: Mapping[str, float], seed: int, metric: str) -> float:
    """The weighted sum of the metric over arms in one seed."""
    return math.fsum(weight * found[arm, seed].metrics[metric] for arm, weight in weights.items())


def _between_subjects(
    contrast: Contrast, seeds: Sequence[int], found: Found, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    """Standard error of the contrast's mean between subjects and its degrees of freedom, from the runs' ``cross``.

    With the same subjects drawn for all arms and seeds, A doesn't change and B cancels (:class:`Run`): what is left
    of the mean is −2 Σ w_g T_g / Σ w_g n_g, with T_g the contrast of S_g, averaged over seeds. None where a run lacks
    ``cross``, runs differ in subjects or slices, or there are fewer than two subjects. They are drawn in the order
    of n_g and T_g, so that neither their names nor their order in a record changes the error.
    """
    chosen = {(arm, each): found[arm, each].cross for arm in contrast.arms for each in seeds}
    first = next(iter(chosen.values()))
    sizes = {subject: count for subject, (_, count) in first.items() if count > 0}
    sums = np.zeros(len(sizes))
    for (arm, _), cross in chosen.items():
        if {subject: count for subject, (_, count) in cross.items() if count > 0} != sizes:
            return None, None
        sums += contrast.weights[arm] * np.array([cross[subject][0] for subject in sizes]) / len(seeds)
    if len(sizes) < 2 or not np.isfinite(sums).all():
        return None, None
    if np.abs(sums).max() <= ROUNDING * max(abs(total) for total, _ in first.values()):
        return 0.0, float(len(sizes) - 1)
    counts = np.array(list(sizes.values()))
    order = np.lexsort((sums, counts))
    error, df = inference.subject_error(-2 * sums[order], counts[order], resamples=resamples, seed=seed)
    return float(error), float(df)

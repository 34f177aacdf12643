"""What arms differ by, and whether the noise between seeds could have made it.

Arms are compared in pairs by seed: a contrast, a weighted sum over arms, is taken within each seed, and statistics go
over the seeds. Legend: n seeds, m contrasts of a family, G subjects. Every metric is in its own unit; KID is ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from latentsweep.ablation.statistics import inference
from latentsweep.ablation.statistics.effect import CROSS_METRIC, Contrast, Effect, Run, Summary
from latentsweep.ablation.statistics.power import smallest_p
from latentsweep.ablation.statistics.replicate import independent, units
from latentsweep.ablation.statistics.verdicts import Scale, judge_effect
from latentsweep.metrics import metric_of
from trainables.errors import ConfigError, DataError

ROUNDING = 1e-12
"""Differences below this share of the values they are made of are rounding, and count as none."""


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


def noise(runs: Sequence[Run], metric: str) -> float | None:
    """Standard deviation between the seeds of one arm, pooled over arms: √(Σ (n_a − 1) s_a² / Σ (n_a − 1)).

    Folds of one arm count as arms of their own, since their test splits differ. None where no arm has two values.
    """
    arms = sorted({run.arm for run in runs})
    folds = [[run for run in runs if run.fold == fold] for fold in sorted({run.fold for run in runs})]
    found = [each for own in folds for each in summaries(own, arms, metric)]
    spreads = [(len(each.values) - 1, each.sd) for each in found if each.sd is not None]
    return math.sqrt(sum(df * sd**2 for df, sd in spreads) / sum(df for df, _ in spreads)) if spreads else None


def effects(
    runs: Sequence[Run],
    contrasts: Sequence[Contrast],
    metric: str,
    *,
    seeds: Sequence[int],
    alpha: float = 0.05,
    margin: float | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Effect]:
    """Every contrast of a metric over the planned ``seeds``, tested, with its interval and a verdict.

    The p values are corrected (Holm 1979) over the contrasts of kind "arm", and over main effects and interactions
    together; those without p don't count. The verdict is "helps" or "hurts" ("differs" where neither way is better)
    where the corrected p is below ``alpha``; else "no difference" where the 1 − α interval lies
    within ± ``margin``, by default :func:`noise`; else "cannot tell". The interval within the margin is equivalence
    as Schuirmann (1987) tests it, but stricter: his two one-sided tests at α ask it of the 1 − 2α interval.
    One seed is always "cannot tell": nothing is known of the noise.

    In a study with folds the mean, its error and all that follows are of the folds' means
    (:mod:`~latentsweep.ablation.statistics.replicate`), which vary with training and test subjects.

    The interval covers new seeds; where ``runs`` have ``cross``, all of the same subjects and slices, it covers new
    subjects too, from ``resamples`` resamples drawn from ``seed``. docs/metrics.md says how often it held the truth.

    Where all values are alike, and the subjects say nothing either, there is no spread to judge by. All 0 is "no
    difference", p = 1, the interval [0, 0]; all the same other number has no interval, and p is the sign-flip test's.
    Raises :class:`DataError` for two runs of one arm and seed, :class:`ConfigError` for a margin below 0.
    """
    if margin is not None and not margin >= 0:
        raise ConfigError(
            f"a margin is the largest difference that doesn't matter, 0 or more, got {margin}: set another"
        )
    found = by_arm_and_seed(runs, metric)
    planned = list(dict.fromkeys(seeds))
    drafts = [_estimated(found, contrast, metric, planned, alpha, resamples, seed) for contrast in contrasts]
    of_noise = margin is None
    margin = noise(runs, metric) if margin is None else margin
    for of_arms in (True, False):
        family = [place for place, each in enumerate(contrasts) if (each.kind == "arm") == of_arms]
        tested = {place: p for place in family if (p := drafts[place].p) is not None}
        for place, p_holm in zip(tested, inference.holm(list(tested.values())), strict=True):
            drafts[place] = replace(drafts[place], p_holm=float(p_holm))
        scale = Scale(alpha, max(1, len(family)), margin, of_noise, len(planned))
        for place in family:
            verdict, words = judge_effect(drafts[place], scale, metric_of(metric).better)
            drafts[place] = replace(drafts[place], verdict=verdict, words=words)
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


def _estimated(
    found: Mapping[tuple[str, int], Run],
    contrast: Contrast,
    metric: str,
    planned: Sequence[int],
    alpha: float,
    resamples: int,
    seed: int,
) -> Effect:
    """The effect without what depends on the other contrasts; :func:`effects` says what becomes of no spread."""
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


def _between_subjects(
    contrast: Contrast, seeds: Sequence[int], found: Mapping[tuple[str, int], Run], resamples: int, seed: int
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

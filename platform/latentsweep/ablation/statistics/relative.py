"""Changes of a score as shares of the reference's: contrasts of logarithms, over seeds and over subjects.

Legend: n seeds, A arms. Only for scores that are well above 0; :func:`changes` says what that means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latentsweep.ablation.statistics import inference
from latentsweep.ablation.statistics.additive import compare
from latentsweep.ablation.statistics.effect import CROSS_METRIC, Contrast, Effect, Relative, Stability
from latentsweep.ablation.statistics.pairs import Found
from latentsweep.ablation.statistics.replicate import independent, unit_of
from latentsweep.ablation.statistics.subjects import kid_covariance
from latentsweep.metrics import FID, KID
from trainables.measures.distances import WithinKernel

METRICS = (KID.name, FID.name)
"""Those with a log scale: distances, 0 where nothing is left to improve."""

ABOVE_ZERO = 3.0
"""A mean is well above 0 that is more than this many of its standard errors."""

FAR_APART = 0.001
"""A spread isn't shared that is so improbably large, or small, beside that of the others, by an F test."""

NEAR_ZERO, SUBJECTS_UNKNOWN = "a score isn't well above 0", "only so the error covers other held-out subjects here"
"""Why the verdict rests on the paired differences, where a metric has a log scale."""


@dataclass(frozen=True)
class Judged:
    """A change with its two-sided p of none, and its p of one as large as the margin."""

    relative: Relative
    p: float
    p_equal: float


def changes(
    found: Found,
    drafts: Sequence[Effect],
    stability: Mapping[str, Stability],
    *,
    margin: float,
    real: WithinKernel | None,
    alpha: float,
    resamples: int,
    seed: int,
) -> list[Judged | str]:
    """Each draft's contrast on the log scale; or why it isn't there, "" where the metric has none.

    A contrast is on the log scale where every arm of it is well above 0: all its values are, and its mean is more
    than :data:`ABOVE_ZERO` times its standard error over seeds, or the means of folds, and, where ``real`` is given,
    subjects; collapsed seeds don't count. All arms of the study that are so by their seeds share one residual spread
    (:func:`~latentsweep.ablation.statistics.additive.compare`), but for those with a collapsed seed or a spread far
    above the others' (:data:`FAR_APART`): a contrast with one is judged by its own arms alone. So is one whose own
    spread is as far below, as of arms that share their training and differ in sampling. Arms with the same scores in
    every seed, which share their samples, count once there.

    The error between subjects: for KID with ``real``, the kernels of the real slices, that of Σ w log KID by the
    delta method, Σ_ab (w_a/m_a) C_ab (w_b/m_b), with C of :func:`kid_covariance` and means m. The real slices' own
    kernels don't cancel in a ratio; so where runs have ``cross`` but ``real`` is lacking, the log scale couldn't
    cover subjects, and the contrast stays with the paired differences, which do.
    """
    values = {key: run.metrics[drafts[0].metric] for key, run in found.items()} if drafts else {}
    arms = {arm: np.array([y for (name, _), y in values.items() if name == arm]) for arm, _ in values}
    fallen = {arm: stability[arm].collapsed if arm in stability else () for arm in arms}
    steady = {
        arm: _independent({s: y for (name, s), y in values.items() if name == arm}, fallen[arm]) for arm in arms
    }
    above = {arm for arm in arms if (arms[arm] > 0).all() and _well_above(steady[arm])}
    pool = _alike({arm: np.log(steady[arm]) for arm in arms if arm in above and not fallen[arm]})
    result: list[Judged | str] = []
    for draft in drafts:
        contrast = draft.contrast
        if draft.metric not in METRICS or not draft.df or not any(draft.values):
            result.append("")
            continue
        if not above.issuperset(contrast.arms):
            result.append(NEAR_ZERO)
            continue
        between, df_subjects = None, None
        if draft.metric == CROSS_METRIC:
            runs = {arm: [run for (name, _), run in found.items() if name == arm] for arm in contrast.arms}
            sampled = real and kid_covariance(runs, contrast.weights, real, resamples=resamples, seed=seed)
            if sampled:
                covariance, df_subjects = sampled
                if not all(_well_above(steady[a], v) for a, v in zip(runs, np.diag(covariance), strict=True)):
                    result.append(NEAR_ZERO)
                    continue
                slopes = np.array([contrast.weights[arm] / arms[arm].mean() for arm in runs])
                between = math.sqrt(max(0.0, float(slopes @ covariance @ slopes)))
            elif draft.se_subjects is not None:
                result.append(SUBJECTS_UNKNOWN)
                continue
        judged = _judged(values, contrast, contrast.arms, margin, between, df_subjects, alpha)
        if set(pool).issuperset(contrast.arms):
            shared = _judged(values, contrast, pool, margin, between, df_subjects, alpha)
            judged = judged if _far_below(judged, shared) else shared
        result.append(judged or "")
    return result


def _far_below(alone: Judged | None, shared: Judged | None) -> bool:
    """Whether a contrast's own spread is improbably small beside the one that the arms share, by an F test."""
    from scipy.special import fdtr

    if alone is None or shared is None:
        return False
    own, all_arms = alone.relative, shared.relative
    return bool(fdtr(own.df_seeds, all_arms.df_seeds, (own.se_seeds / all_arms.se_seeds) ** 2) < FAR_APART)


def _judged(
    values: Mapping[tuple[str, int], float],
    contrast: Contrast,
    arms: Sequence[str],
    margin: float,
    between: float | None,
    df_subjects: float | None,
    alpha: float,
) -> Judged | None:
    """The contrast by least squares over ``arms``; None where nothing is left to tell a spread by."""
    logs = {arm: {s: math.log(y) for (name, s), y in values.items() if name == arm} for arm in arms}
    twin = {arm: next(other for other in arms if logs[other] == logs[arm]) for arm in arms}
    rows = sorted(set(twin.values()))
    y = _by_unit([logs[arm] for arm in rows])
    weights = np.zeros(len(rows))
    for arm in contrast.arms:
        weights[rows.index(twin[arm])] += contrast.weights[arm]
    found = compare(y, np.isfinite(y), weights)
    mean, error, df = float(found.mean[0]), float(found.error[0]), found.df
    if not error > 0 or not math.isfinite(mean):
        return None
    both = (between or 0.0), (df_subjects or df)
    limit = math.log1p(margin)
    means = np.array([mean, mean - limit, -limit - mean])
    judged = inference.judge(means, error, df, *both, alpha=alpha)
    reach, df_both, p = (float(np.ravel(each)[0]) for each in judged)
    p_equal = max(inference.one_sided(*each) for each in zip(means[1:].tolist(), judged.p[1:].tolist(), strict=True))
    low, change, high = (math.expm1(end) for end in (mean - reach, mean, mean + reach))
    return Judged(Relative(change, low, high, df_both, error, df, between, df_subjects), p, p_equal)


def _by_unit(logs: Sequence[Mapping[int, float]]) -> np.ndarray:
    """What least squares takes as the seeds of each arm: its seeds, or its folds (A, n), NaN where it has no value.

    A fold's values are those of its arms by least squares over its seeds (:func:`compare`), up to a constant of the
    fold: without gaps the means of the seeds; where a run is lost, arms are compared by the seeds that they share.
    """
    units = sorted({unit_of(seed) for own in logs for seed in own})
    result = np.full((len(logs), len(units)), math.nan)
    for place, unit in enumerate(units):
        seeds = sorted({seed for own in logs for seed in own if unit_of(seed) == unit})
        y = np.array([[own.get(seed, math.nan) for seed in seeds] for own in logs])
        if len(seeds) == 1:
            result[:, place] = y[:, 0]
            continue
        most = int(np.isfinite(y).sum(axis=1).argmax())
        result[:, place] = compare(y, np.isfinite(y), np.eye(len(y)) - np.eye(len(y))[most]).mean
    return result


def _alike(logs: Mapping[str, np.ndarray]) -> list[str]:
    """The arms whose spread isn't far above that of the others."""
    from scipy.special import fdtrc

    squares = {arm: (float(((y - y.mean()) ** 2).sum()), len(y) - 1) for arm, y in logs.items()}
    kept = []
    for arm, (own, df) in squares.items():
        rest = [each for other, each in squares.items() if other != arm]
        others, df_others = sum(each for each, _ in rest), sum(each for _, each in rest)
        far = df and df_others and others and fdtrc(df, df_others, own / df / (others / df_others)) < FAR_APART
        if not far:
            kept.append(arm)
    return kept


def _independent(values: Mapping[int, float], fallen: Sequence[int]) -> np.ndarray:
    """An arm's values by seed, or their means by fold, without those of seeds that collapsed."""
    seeds = [seed for seed in values if seed not in fallen]
    return np.array(independent(seeds, [values[seed] for seed in seeds]))


def _well_above(values: np.ndarray, between: float = 0.0) -> bool:
    """Whether the mean is well above 0, with the variance ``between`` subjects of it."""
    over_seeds = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    return float(values.mean()) > ABOVE_ZERO * math.sqrt(over_seeds + float(between))

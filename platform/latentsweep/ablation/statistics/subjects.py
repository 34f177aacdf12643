"""What other held-out subjects would change: resamples of whole subjects, the same for all arms and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from latentsweep.ablation.statistics.effect import Run
from latentsweep.ablation.statistics.inference import effective_subjects, subject_draws
from trainables.measures.distances import WithinKernel

Floats = npt.NDArray[np.float64]

FEWEST_SUBJECTS = 3
"""Below this, resamples of the real slices are almost all of one subject, and say nothing of others."""


def kid_covariance(
    arms: Mapping[str, Sequence[Run]], weights: Mapping[str, float], real: WithinKernel, *, resamples: int, seed: int
) -> tuple[Floats, float] | None:
    """Covariance (A, A) between subjects of the arms' mean KID ×1000, and its degrees of freedom.

    Of KID = A + B(w) − 2 Σ w_g S_g / Σ w_g n_g (:class:`latentsweep.ablation.statistics.effect.Run`), all but A is
    computed for each resample. The subjects are drawn in the order of n_g and the contrast ``weights`` of S_g, as for
    the difference itself, so that both errors agree and neither names nor their order matter. None where a run lacks
    ``cross``, the runs and ``real`` aren't of the same slices, or subjects are few.
    """
    sizes = dict(zip(real.groups, real.sizes, strict=True))
    measured = [
        {name: count for name, (_, count) in run.cross.items() if count > 0} for each in arms.values() for run in each
    ]
    if len(sizes) < FEWEST_SUBJECTS or any(each != sizes for each in measured):
        return None
    sums = np.array(
        [[np.mean([run.cross[name][0] for run in each]) for name in real.groups] for each in arms.values()]
    )
    counts = np.array(real.sizes, dtype=np.float64)
    order = np.lexsort((np.array([weights[arm] for arm in arms]) @ sums, counts))
    draws = np.empty((resamples, len(counts)))
    draws[:, order] = subject_draws(len(counts), resamples=resamples, seed=seed)
    draws = draws[(draws > 0).sum(axis=1) > 1]
    kids = 1000 * real.resample(draws) - 2 * (sums @ draws.T) / (draws @ counts)
    effective = float(effective_subjects(counts))
    return np.cov(kids) * effective / (effective - 1), effective - 1

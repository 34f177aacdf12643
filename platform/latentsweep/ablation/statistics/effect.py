"""What a study's runs are, what is asked of them, and what comes of it.

Legend: n seeds, G subjects. Every metric is in its own unit; KID is ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from latentsweep.ablation.statistics.replicate import fold_of
from latentsweep.metrics import KID
from trainables.errors import ConfigError

Verdict = Literal["helps", "hurts", "differs", "no difference", "unstable", "cannot tell"]
Kind = Literal["arm", "main effect", "interaction"]
Scale = Literal["log", "raw"]

MARGIN = 0.10
"""The change that doesn't matter, as a share of the score: a tenth more, or as much less by logarithms."""

CROSS_METRIC = KID.name
"""The metric that :attr:`Run.cross` is of."""


@dataclass(frozen=True)
class Run:
    """One arm trained and measured with one seed; ``key`` names the run in the record.

    In a study with folds ``seed`` is a :class:`~latentsweep.ablation.statistics.replicate.Replicate`.

    ``cross`` holds, by held-out subject g, (S_g, n_g): the sum over the subject's n_g real slices y of the mean over
    the generated x of 1000 k(x, y). With subjects weighted w, KID ×1000 is A + B(w) − 2 Σ w_g S_g / Σ w_g n_g, where
    A, of generated pairs, doesn't depend on w, and B(w), of pairs of real slices of different
    subjects, is the same in all arms.
    """

    arm: str
    seed: int
    metrics: Mapping[str, float]
    key: str
    cross: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def fold(self) -> int:
        """The fold whose subjects it was measured on; 0 in a study without folds."""
        return fold_of(self.seed)


@dataclass(frozen=True)
class Contrast:
    """A weighted sum over arms: an arm less its reference, or a main effect or interaction of a factorial.

    Raises :class:`ConfigError` unless the weights sum to 0 over two arms or more.
    """

    name: str
    weights: Mapping[str, float]
    kind: Kind = "arm"

    def __post_init__(self) -> None:
        if len(self.arms) < 2 or not abs(math.fsum(self.weights.values())) <= 1e-9:
            raise ConfigError(
                f"a contrast's weights sum to 0 over two arms or more, got {dict(self.weights)} for {self.name!r}: "
                "weigh what is compared +1 and what it is compared with -1"
            )

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that it weighs."""
        return tuple(arm for arm, weight in self.weights.items() if weight)


@dataclass(frozen=True)
class Summary:
    """One arm's values of a metric by seed, where it has one; ``runs`` are their keys.

    ``mean`` is None for no value, the standard deviation ``sd`` (n − 1 in the denominator) for fewer than two.
    """

    arm: str
    metric: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    mean: float | None
    sd: float | None
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Relative:
    """A contrast of logarithms d = Σ w log y, as the change e^d − 1 of what has positive weight; 0.2 is 20 % more.

    ``low`` and ``high`` end the 1 − α interval of ``df`` degrees of freedom, as changes. The standard errors are of
    d: ``se_seeds`` of ``df_seeds`` (:func:`latentsweep.ablation.statistics.additive.compare`), and ``se_subjects``
    of ``df_subjects``, None where the interval covers other seeds alone.
    """

    change: float
    low: float
    high: float
    df: float
    se_seeds: float
    df_seeds: float
    se_subjects: float | None = None
    df_subjects: float | None = None


@dataclass(frozen=True)
class Stability:
    """How often an arm failed among the seeds ``tried``: its loss diverged, or its score collapsed.

    ``low`` and ``high`` end the exact 95 % interval of the rate. ``missed`` is the rate that so many seeds miss
    altogether in 5 % of studies, 1 − 0.05^(1/n). ``worst`` is the seed with the worst score, and that score.
    """

    arm: str
    tried: int
    diverged: tuple[int, ...]
    collapsed: tuple[int, ...]
    low: float
    high: float
    missed: float
    worst: tuple[int, float] | None

    @property
    def failed(self) -> int:
        """Seeds that failed."""
        return len(self.diverged) + len(self.collapsed)


@dataclass(frozen=True)
class Counts:
    """Near copies of an arm, then of its reference: ``found`` among the slices ``made``, pooled over seeds.

    ``low`` and ``high`` end the exact 95 % intervals of the rates.
    """

    found: tuple[int, int]
    made: tuple[int, int]
    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """A contrast of one metric; a number is None where the seeds are too few for it.

    ================  =============================================================================================
    ``values``        the contrast within each of ``seeds``, those for which all its arms have the metric
    ``mean``, ``sd``  of the values, or of their means by fold; the standard deviation has n − 1 in the denominator
    ``se_seeds``      s/√n; ``se_subjects``: the standard error between subjects, where runs have ``cross``, and
                      ``df_subjects`` its degrees of freedom
    ``low, high``     the 1 − α interval of the mean, of ``df`` degrees of freedom (:func:`~inference.judge`)
    ``size``          J(n − 1) mean/sd: Cohen's d_z (Lakens 2013, eq. 6), freed of its bias (Hedges 1981)
    ``scale``         what the verdict and p rest on: "log", the ``relative`` change, or "raw", paired differences;
                      ``why_raw`` says why, where the metric has a log scale
    ``p``             of no difference, two-sided, on that scale; ``p_holm`` after Holm (1979) over the family
    ``p_equal``       of a change as large as the margin, the larger of two one-sided ones; ``p_equal_holm`` likewise
    ``p_sign_flip``   of the exact sign-flip test, which assumes no distribution; of the raw values of seeds alone
    ``detectable``    the smallest difference that such a study shows in four of five, at the level α/m;
                      ``detectable_change``: the same as a share of the reference's mean
    ``stability``     of each of its arms; ``counts`` of near copies, where the metric is their share
    ``verdict``       of what has positive weight; ``words`` says it in a sentence
    ``runs``          keys of all runs behind it; ``missing``: planned ones without a value, as "arm, seed 3"
    ================  =============================================================================================
    """

    contrast: Contrast
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None = None
    sd: float | None = None
    se_seeds: float | None = None
    se_subjects: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    size: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_sign_flip: float | None = None
    verdict: Verdict = "cannot tell"
    words: str = ""
    runs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    df_subjects: float | None = None
    scale: Scale = "raw"
    why_raw: str = ""
    relative: Relative | None = None
    p_equal: float | None = None
    p_equal_holm: float | None = None
    detectable: float | None = None
    detectable_change: float | None = None
    stability: tuple[Stability, ...] = ()
    counts: Counts | None = None

    @property
    def direction(self) -> float:
        """Below 0 where what has positive weight has the lower score, on the scale that the verdict rests on."""
        return self.relative.change if self.scale == "log" and self.relative else self.mean or 0.0

    @property
    def same(self) -> bool:
        """Whether the contrast is exactly 0 in every seed, as for arms that share their samples: 0 on any scale."""
        return bool(self.values) and not any(self.values)

    @property
    def failed(self) -> tuple[int, int]:
        """Seeds that failed, of the arms with positive weight and of those with negative weight."""
        sides = [0, 0]
        for each in self.stability:
            sides[self.contrast.weights[each.arm] < 0] += each.failed
        return sides[0], sides[1]

"""The guards of a search: who copies training slices, collapses or draws too slowly can't win, whatever the score.

KID and FID reward the first two. Each guard is a measure with a bound that is recorded beside it (docs/metrics.md).
Where either is unknown, as in measurements of an older version, the guard says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from latentsweep.metrics import ALIKE, BOUND, DIVERSITY, NEAR_COPIES, SAMPLES, SECONDS_PER_IMAGE, Metric

DESPITE = "--despite-guards"
"""The option by which a user takes a configuration that a guard refuses."""

REFUSED = "guards"
"""The class of a failure that a guard saw."""

TAG = "latentsweep.guards"
"""The tag of what a guard refuses, in MLflow: why it does."""

FURTHER_DIGITS = 16
"""So many numbers of digits are tried to tell a value from its bound in words."""

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Guard:
    """A measure and the side of its bound that is refused."""

    metric: Metric
    least: bool
    """Whether the bound is the least that is allowed; else it is the most."""
    words: Callable[[float, float, int], str]
    """What is said of a value, its bound, and the number of images, 0 where it is unknown."""

    def excess(self, value: float, bound: float) -> float:
        """How far a value is beyond its bound: above 0 where it is refused."""
        return bound - value if self.least else value - bound


def _copies(share: float, bound: float, count: int) -> str:
    found, most = _shares(share, bound, count)
    return f"copies {found} (bound {most})"


def _alike(share: float, bound: float, count: int) -> str:
    found, most = _shares(share, bound, count)
    return f"collapsed: {found} alike (bound {most})"


def _dull(diversity: float, bound: float, count: int) -> str:
    found, least = _apart(diversity, bound, lambda value, more: f"{value:.{3 + more}g}")
    return f"collapsed: diversity {found} (bound {least})"


def _slow(seconds: float, bound: float, count: int) -> str:
    found, most = _apart(seconds, bound, lambda value, more: f"{value:.{2 + more}g}")
    return f"slow: {found} s an image (bound {most})"


GUARDS = (
    Guard(NEAR_COPIES, least=False, words=_copies),
    Guard(ALIKE, least=False, words=_alike),
    Guard(DIVERSITY, least=True, words=_dull),
    Guard(SECONDS_PER_IMAGE, least=False, words=_slow),
)
"""Every guard. Each is a constraint of every search; the last has a bound where a user states one."""

COPIES_AT_RUNG = NEAR_COPIES.at_rungs, NEAR_COPIES.at_rungs + BOUND
"""What a rung says of copies. Images on the way may be alike, since a training begins with a mean image."""


def constraints(metrics: Metrics) -> dict[str, float]:
    """How far each guard's measure is beyond its bound, by the measure's name; as Optuna takes it, fine up to 0."""
    return {
        guard.metric.stem: guard.excess(metrics[guard.metric.name], metrics[guard.metric.bound])
        for guard in GUARDS
        if guard.metric.name in metrics and guard.metric.bound in metrics
    }


def with_bound(metrics: Metrics, seconds: float) -> Metrics:
    """Measurements of a search that allows so many ``seconds`` an image, with that bound; 0 states none."""
    return {**metrics, SECONDS_PER_IMAGE.bound: seconds} if seconds and SECONDS_PER_IMAGE.name in metrics else metrics


def refusals(metrics: Metrics) -> list[str]:
    """Why the guards refuse a configuration with these measurements, in words; nothing where they don't."""
    beyond, count = constraints(metrics), int(metrics.get(SAMPLES.name, 0))
    return [
        guard.words(metrics[guard.metric.name], metrics[guard.metric.bound], count)
        for guard in GUARDS
        if beyond.get(guard.metric.stem, 0) > 0
    ]


def refusal(metrics: Metrics) -> str:
    """The same in one line, empty where nothing is refused."""
    return "; ".join(refusals(metrics))


def copies(metrics: Metrics) -> bool:
    """Whether a configuration with these measurements copies its training slices."""
    return constraints(metrics).get(NEAR_COPIES.stem, 0) > 0


def rung_words(record: Metrics) -> str:
    """What a rung's scores say of copies, in words; empty where they weren't measured."""
    share, bound = (record.get(name) for name in COPIES_AT_RUNG)
    return "" if share is None or bound is None else _copies(share, bound, 0)


def rung_constraint(record: Metrics) -> dict[str, float]:
    """The constraint that a rung's scores break, as :func:`constraints` has it; nothing where they break none."""
    share, bound = (record.get(name) for name in COPIES_AT_RUNG)
    return {} if share is None or bound is None or share <= bound else {NEAR_COPIES.stem: share - bound}


def _shares(share: float, bound: float, count: int) -> tuple[str, str]:
    """A share of the images and the most that is allowed: how many of ``count`` images, else in per cent."""
    found, most = round(share * count), int(bound * count + 1e-9)
    return (f"{found} of {count}", str(most)) if found > most else _apart(share, bound, _percent)


def _apart(value: float, bound: float, text: Callable[[float, int], str]) -> tuple[str, str]:
    """Both as texts, with the fewest further digits that tell them apart where they differ."""
    texts = ((text(value, more), text(bound, more)) for more in range(FURTHER_DIGITS))
    return next((pair for pair in texts if pair[0] != pair[1]), (text(value, 0), text(bound, 0)))


def _percent(share: float, more: int) -> str:
    """A share in per cent, to a tenth where it is small, and with so many more digits."""
    decimals = more + (0 if share >= 0.1 or not share else 1)
    digits = f"{100 * share:.{decimals}f}"
    return f"{digits.rstrip('0').rstrip('.') if decimals else digits} %"

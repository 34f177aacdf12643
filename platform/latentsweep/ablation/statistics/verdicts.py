"""What a tested difference comes to: a verdict, and one sentence with its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentsweep.ablation.statistics.effect import Effect, Verdict
from latentsweep.ablation.statistics.power import seeds_needed
from latentsweep.ablation.statistics.replicate import unit_words, units
from latentsweep.metrics import Better, metric_of


@dataclass(frozen=True)
class Scale:
    """What differences are judged by: the level, the family's size, and the margin within which they don't matter.

    ``margin`` is None where nothing is known of the noise; ``of_noise`` says that it is the noise between seeds.
    """

    alpha: float
    contrasts: int
    margin: float | None
    of_noise: bool
    planned: int


def judge_effect(effect: Effect, scale: Scale, better: Better | None) -> tuple[Verdict, str]:
    """The verdict of an effect whose numbers are there, and its words, by the rule of ``statistics.effects``."""
    verdict, words = _judged(effect, scale, better)
    left_out = scale.planned - len(effect.seeds)
    if left_out and effect.seeds:
        words += f"; {left_out} of {scale.planned} seeds left out, where a run is missing"
    return verdict, words


def _judged(effect: Effect, scale: Scale, better: Better | None) -> tuple[Verdict, str]:
    if effect.mean is None:
        return "cannot tell", "cannot tell: no seed has all the runs that it takes"
    if effect.p is None or effect.p_holm is None:
        return "cannot tell", f"cannot tell with one seed: {_change(effect)} there, which may be chance"
    if effect.low is None or effect.high is None:
        return _without_spread(effect, scale, better)
    if effect.p_holm < scale.alpha:
        change = f"{_change(effect)} ({100 * (1 - scale.alpha):.4g} % interval {_ends(effect)})"
        small = scale.margin is not None and abs(effect.mean) <= scale.margin
        return _direction(effect, better, change, f", though less than {_margin(effect, scale)}" if small else "")
    largest = max(-effect.low, effect.high)
    if largest == 0:
        return "no difference", f"no difference larger than 0: the same in each of {unit_words(effect.seeds)}"
    if scale.margin is not None and largest <= scale.margin:
        return "no difference", f"no difference larger than {_number(effect, largest, largest)}"
    return "cannot tell", f"cannot tell with {unit_words(effect.seeds)}: {_interval(effect)}" + _more(effect, scale)


def _without_spread(effect: Effect, scale: Scale, better: Better | None) -> tuple[Verdict, str]:
    """For a difference, not 0, that is the same in every seed. Without a spread, only its sign can be tested."""
    count, noun = units(effect.seeds), unit_words(effect.seeds)
    if effect.p_holm is not None and effect.p_holm < scale.alpha:
        return _direction(effect, better, f"{_change(effect)} in each of {noun}", "")
    enough = math.floor(math.log2(2 * scale.contrasts / scale.alpha)) + 1
    more = f"; {enough} {noun.split()[1]} that agree would show it" if enough > count else ""
    return (
        "cannot tell",
        f"cannot tell with {noun}: {_change(effect)} in each, without a spread to judge by{more}",
    )


def _direction(effect: Effect, better: Better | None, change: str, remark: str) -> tuple[Verdict, str]:
    if better is None:
        return "differs", change + remark
    good = (effect.mean or 0) < 0 if better == "lower" else (effect.mean or 0) > 0
    return ("helps", f"{change}, which is better{remark}") if good else ("hurts", f"{change}, which is worse{remark}")


def _more(effect: Effect, scale: Scale) -> str:
    """How many seeds would do, where it is more than there are; and why a clear interval is not enough."""
    words = ""
    if effect.p is not None and effect.p < scale.alpha:
        words = f", which is not enough among {scale.contrasts} comparisons"
    if not scale.margin or not effect.sd:
        return words
    size, margin = scale.margin / effect.sd, _margin(effect, scale)
    needed = seeds_needed(
        size,
        scale.contrasts,
        alpha=scale.alpha,
        se_subjects=(effect.se_subjects or 0) / effect.sd,
        df_subjects=effect.df_subjects or math.inf,
    )
    if needed is None and seeds_needed(size, scale.contrasts, alpha=scale.alpha) is not None:
        return f"{words}; to show a difference as large as {margin} takes more held-out subjects, not more seeds"
    if needed is None:
        return f"{words}; not even 1000 would show a difference as large as {margin}"
    if needed <= units(effect.seeds):
        return words
    return f"{words}; {needed} would show a difference as large as {margin}"


def _margin(effect: Effect, scale: Scale) -> str:
    margin = scale.margin or 0.0
    number = _number(effect, margin, margin)
    return f"the noise between seeds ({number})" if scale.of_noise else f"the margin of {number}"


def _change(effect: Effect) -> str:
    """The mean difference, in words."""
    mean = effect.mean or 0.0
    part = "interaction " if effect.contrast.kind == "interaction" else ""
    if mean == 0:
        return f"{part}no difference at all"
    largest = max(abs(end) for end in (effect.low, effect.high, mean) if end is not None)
    return f"{part}{_number(effect, abs(mean), largest)} {_way(mean)}"


def _interval(effect: Effect) -> str:
    """The interval, in words: "1.2 lower to 20.1 higher", or "3.4 to 20.1 lower"."""
    low, high = effect.low or 0.0, effect.high or 0.0
    if low < 0 < high:
        largest = max(-low, high)
        return f"{_digits(-low, largest)} lower to {_number(effect, high, largest)} higher"
    return f"{_ends(effect)} {_way(low + high)}"


def _ends(effect: Effect) -> str:
    """The sizes at the ends of an interval on one side of 0, the smaller one first."""
    near, far = sorted((abs(effect.low or 0.0), abs(effect.high or 0.0)))
    return f"{_digits(near, far)} to {_number(effect, far, far)}"


def _way(change: float) -> str:
    return "lower" if change < 0 else "higher"


def _number(effect: Effect, value: float, largest: float) -> str:
    """A size of the effect's metric, with its unit."""
    return f"{_digits(value, largest)} {metric_of(effect.metric).unit}".rstrip()


def _digits(value: float, largest: float) -> str:
    """A size with the decimals that ``largest``, the largest beside it, has when written with three digits."""
    places = 2 - math.floor(math.log10(largest)) if largest > 0 else 0
    return f"{value:.{max(0, places)}f}"

"""What a tested difference comes to: a verdict, and one sentence with its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latentsweep.ablation.statistics.effect import Counts, Effect, Stability, Verdict
from latentsweep.ablation.statistics.power import seeds_needed
from latentsweep.ablation.statistics.replicate import listed_seeds, unit_words, units
from latentsweep.metrics import Better, metric_of
from latentsweep.pages.numbers import listed


@dataclass(frozen=True)
class Rule:
    """What differences are judged by: the level, the family's size, the margin as a share, and the planned seeds."""

    alpha: float
    contrasts: int
    margin: float
    planned: int


def judge_effect(effect: Effect, rule: Rule, better: Better | None) -> tuple[Verdict, str]:
    """The verdict of an effect whose numbers are there, and its words, by the rule of ``statistics.effects``."""
    verdict, words = _judged(effect, rule, better)
    left_out = rule.planned - len(effect.seeds)
    if left_out and effect.seeds:
        what = "seeds lack a run" if effect.scale == "log" else "seeds left out, where a run is missing"
        words += f"; {left_out} of {rule.planned} {what}"
    if effect.why_raw:
        words += f"; judged by paired differences, as {effect.why_raw}"
    arm, reference = effect.failed
    kind = effect.contrast.kind
    if kind != "interaction" and (arm > reference or (verdict == "hurts" and arm < reference)):
        cells = "; by which of their components, this doesn't tell" if kind == "main effect" else ""
        return "unstable", f"unstable: {failed_words(effect)}{cells}; in the seeds measured: {words}"
    some = (f"{each.arm} failed in {each.failed} of {each.tried} seeds" for each in effect.stability if each.failed)
    return verdict, "; ".join([words, *some])


def failed_words(effect: Effect) -> str:
    """How many seeds of each arm failed, how, and what rate so many seeds can show or miss."""
    fallen = [each for each in effect.stability if each.failed]
    whole = [each for each in effect.stability if not each.failed]
    parts = [_fallen(each) for each in fallen]
    if whole:
        few = min(whole, key=lambda each: each.tried)
        count = f"{few.tried} seed{'s' if few.tried > 1 else ''} miss{'' if few.tried > 1 else 'es'}"
        missed = f"{count} a failure rate of up to {_percent(few.missed)} in 5 % of cases"
        parts.append(f"{listed(each.arm for each in whole)} in none, though {missed}")
    return ", ".join(parts)


def _fallen(each: Stability) -> str:
    how = [
        f"{what} with seed{'s' if len(seeds) > 1 else ''} {listed_seeds(seeds)}"
        for what, seeds in (("diverged", each.diverged), ("collapsed", each.collapsed))
        if seeds
    ]
    worst = f"; its worst score is {each.worst[1]:.4g}, of seed {each.worst[0]}" if each.worst else ""
    return (
        f"{each.arm} failed in {each.failed} of {each.tried} seeds (95 % interval of the rate "
        f"{100 * each.low:.2g} to {_percent(each.high)}; {' and '.join(how)}{worst})"
    )


def _judged(effect: Effect, rule: Rule, better: Better | None) -> tuple[Verdict, str]:
    if effect.mean is None:
        return "cannot tell", "cannot tell: no seed has all the runs that it takes"
    if effect.p is None or effect.p_holm is None:
        noun = unit_words(effect.seeds).split()[1]
        return "cannot tell", f"cannot tell with one {noun}: {_change(effect)} there, which may be chance"
    if effect.counts:
        words = counts_words(effect.counts)
        if effect.p_holm < rule.alpha:
            return _direction(effect, better, words, "")
        return "cannot tell", words if not any(effect.counts.found) else f"cannot tell: {words}"
    if effect.low is None or effect.high is None:
        return _without_spread(effect, rule, better)
    largest = max(-effect.low, effect.high)
    if largest == 0:
        return "no difference", f"no difference at all: the same in each of {unit_words(effect.seeds)}"
    small = effect.p_equal_holm is not None and effect.p_equal_holm < rule.alpha
    if effect.p_holm < rule.alpha:
        change = f"{_change(effect)} ({100 * (1 - rule.alpha):.4g} % interval {_ends(effect)})"
        return _direction(effect, better, change, f", though by less than {_percent(rule.margin)}" if small else "")
    if small:
        return "no difference", f"no difference larger than {_percent(rule.margin)}: {_interval(effect)}"
    return "cannot tell", f"cannot tell with {unit_words(effect.seeds)}: {_interval(effect)}" + _more(effect, rule)


def counts_words(counts: Counts) -> str:
    """How many copies there were among how many slices, and what rates they leave possible."""
    (arm, reference), made = counts.found, counts.made
    if not arm and not reference:
        if made[0] == made[1]:
            return f"0 of {made[0]} in both: each rate is below {_percent(counts.high[0])}"
        below = " and ".join(_percent(high) for high in counts.high)
        return f"0 of {made[0]} and 0 of {made[1]}: the rates are below {below}"
    each = (
        f"{found} of {tried} (95 % interval {100 * low:.2g} to {_percent(high)})"
        for found, tried, low, high in zip(counts.found, made, counts.low, counts.high, strict=True)
    )
    return " against ".join(each)


def _without_spread(effect: Effect, rule: Rule, better: Better | None) -> tuple[Verdict, str]:
    """For a difference, not 0, that is the same in every seed. Without a spread, only its sign can be tested."""
    count, noun = units(effect.seeds), unit_words(effect.seeds)
    if effect.p_holm is not None and effect.p_holm < rule.alpha:
        return _direction(effect, better, f"{_change(effect)} in each of {noun}", "")
    enough = math.floor(math.log2(2 * rule.contrasts / rule.alpha)) + 1
    more = f"; {enough} {noun.split()[1]} that agree would show it" if enough > count else ""
    return (
        "cannot tell",
        f"cannot tell with {noun}: {_change(effect)} in each, without a spread to judge by{more}",
    )


def _direction(effect: Effect, better: Better | None, change: str, remark: str) -> tuple[Verdict, str]:
    if better is None:
        return "differs", change + remark
    good = effect.direction < 0 if better == "lower" else effect.direction > 0
    return ("helps", f"{change}, which is better{remark}") if good else ("hurts", f"{change}, which is worse{remark}")


def _more(effect: Effect, rule: Rule) -> str:
    """What such a study shows, how many seeds would show the margin, and why a clear interval is not enough."""
    words = ""
    if effect.p is not None and effect.p < rule.alpha:
        words = f", which is not enough among {rule.contrasts} comparisons"
    if effect.detectable is None:
        return words
    share = f" or {_percent(effect.detectable_change)}" if effect.detectable_change is not None else ""
    words += f"; a difference of {_number(effect, effect.detectable, effect.detectable)}{share} would show"
    each, count, noun = effect.relative, units(effect.seeds), unit_words(effect.seeds).split()[1]
    if effect.scale != "log" or not each:
        return words
    one = each.se_seeds * math.sqrt(count)
    size, df = math.log1p(rule.margin) / one, each.df_seeds / (count - 1)
    subjects = (each.se_subjects or 0.0) / one, each.df_subjects or math.inf
    needed = seeds_needed(
        size, rule.contrasts, alpha=rule.alpha, df_a_seed=df, se_subjects=subjects[0], df_subjects=subjects[1]
    )
    if needed is not None:
        return f"{words}; {needed} {noun} would show {_percent(rule.margin)}" if needed > count else words
    if seeds_needed(size, rule.contrasts, alpha=rule.alpha, df_a_seed=df) is None:
        return f"{words}; not even 1000 {noun} would show {_percent(rule.margin)}"
    return f"{words}; to show {_percent(rule.margin)} takes more held-out subjects, not more {noun}"


def _change(effect: Effect) -> str:
    """The mean difference, in words; on the log scale the relative change beside it."""
    mean, each = effect.mean or 0.0, effect.relative
    part = "interaction " if effect.contrast.kind == "interaction" else ""
    if effect.scale == "log" and each:
        change = _percent(abs(each.change))
        if mean * each.change <= 0:
            return f"{part}{change} {_way(each.change)} by the mean of logarithms"
        return f"{part}{_number(effect, abs(mean), abs(mean))} or {change} {_way(each.change)}"
    if mean == 0:
        return f"{part}no difference at all"
    largest = max(abs(end) for end in (effect.low, effect.high, mean) if end is not None)
    return f"{part}{_number(effect, abs(mean), largest)} {_way(mean)}"


def _interval(effect: Effect) -> str:
    """The interval, in words: "1.2 lower to 20.1 higher", or "3.4 to 20.1 lower"."""
    low, high = _limits(effect)
    if not low < 0 < high:
        return f"{_ends(effect)} {_way(low + high)}"
    if effect.scale == "log":
        return f"{_percent(-low)} lower to {_percent(high)} higher"
    largest = max(-low, high)
    return f"{_digits(-low, largest)} lower to {_number(effect, high, largest)} higher"


def _ends(effect: Effect) -> str:
    """The sizes at the ends of an interval on one side of 0, the smaller one first."""
    near, far = sorted(abs(end) for end in _limits(effect))
    if effect.scale == "log":
        return f"{_percent(near).removesuffix(' %')} to {_percent(far)}"
    return f"{_digits(near, far)} to {_number(effect, far, far)}"


def _limits(effect: Effect) -> tuple[float, float]:
    """The ends of the interval on the scale that the verdict rests on."""
    if effect.scale == "log" and effect.relative:
        return effect.relative.low, effect.relative.high
    return effect.low or 0.0, effect.high or 0.0


def _way(change: float) -> str:
    return "lower" if change < 0 else "higher"


def _percent(share: float | None) -> str:
    """A share in per cent, with two digits, or all before the point."""
    value = 100 * (share or 0.0)
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"


def _number(effect: Effect, value: float, largest: float) -> str:
    """A size of the effect's metric, with its unit."""
    return f"{_digits(value, largest)} {metric_of(effect.metric).unit}".rstrip()


def _digits(value: float, largest: float) -> str:
    """A size with the decimals that ``largest``, the largest beside it, has when written with three digits."""
    places = 2 - math.floor(math.log10(largest)) if largest > 0 else 0
    return f"{value:.{max(0, places)}f}"

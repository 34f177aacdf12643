"""How sure a study's verdicts are, in words: what they rest on, what could have been seen, what intervals cover."""

from __future__ import annotations

from collections.abc import Sequence

from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.wording import name_of
from latentsweep.ablation.statistics.effect import Effect
from latentsweep.ablation.statistics.power import smallest_p
from latentsweep.ablation.statistics.ratio import Ratio
from latentsweep.ablation.statistics.replicate import Replicate, counted_seeds, unit_words, units
from latentsweep.pages.numbers import fixed, listed, number


def certainty(content: Content) -> str:
    """How many seeds, what they can show at all, and what an interval holds."""
    if len(content.seeds) < 2:
        return (
            "Every arm was run with one seed, so a difference can't be told from what another seed would have "
            "changed: no interval and no p is given, and no verdict. Run it again with --seeds 3 or more."
        )
    text = f"Each arm has {counted_seeds(content.seeds)}, and arms are compared in pairs of the same seed. "
    return text + " ".join(able(content, content.primary)) + " " + interval_covers(content.effects[content.primary])


def able(content: Content, metric: str) -> list[str]:
    """What a metric's verdicts rest on, and what so many seeds and comparisons can show; empty for one seed."""
    count = units(content.seeds)
    effects = content.effects.get(metric, ())
    if count < 2 or not effects:
        return []
    family, smallest = largest_family(effects), smallest_p(count)
    rest = ", so the p values rest on differences between seeds being about normal" if smallest > 0.05 else ""
    return [
        *_scales(effects),
        f"The margin for no difference is {100 * content.margin:g} % of the reference's score, set by the plan; "
        "claims of none are corrected for their number, too.",
        *_least(effects, content.places(metric), unit_words(content.seeds), family),
        f"The exact sign-flip test of pairs, which assumes no distribution, can't go below p = {smallest:.3g} "
        f"here{rest}.",
    ]


def _scales(effects: Sequence[Effect]) -> list[str]:
    """Which verdicts rest on the change in per cent, and which on the paired differences."""
    on_log = [effect.contrast.name for effect in effects if effect.scale == "log"]
    raw = [e.contrast.name for e in effects if e.scale == "raw" and e.mean is not None and not e.same]
    if not on_log:
        return []
    text = (
        "Verdicts rest on the change in per cent, whose interval stands behind it: on logarithms of the score. The "
        "arms share one spread, but for those whose own is far from it"
    )
    return [f"{text}; of {listed(raw)} on the paired differences." if raw else f"{text}."]


def _least(effects: Sequence[Effect], places: int, units: str, family: int) -> list[str]:
    """The smallest differences that the effects' own errors would have let the study show."""
    sizes = sorted(effect.detectable for effect in effects if effect.detectable is not None)
    if not sizes:
        return []
    shares = sorted(effect.detectable_change for effect in effects if effect.detectable_change is not None)
    percent = f" ({_span([f'{100 * share:.0f}' for share in (shares[0], shares[-1])])} %)" if shares else ""
    words = _span([fixed(size, places) for size in (sizes[0], sizes[-1])]) + percent
    return [
        f"With {units} and {number(family, 'comparison')}, a difference of {words} shows in four "
        "studies of five, by the errors of each comparison, and smaller ones in fewer."
    ]


def _span(ends: Sequence[str]) -> str:
    """Two numbers as a range, or one where both are written alike."""
    return " to ".join(dict.fromkeys(ends))


def largest_family(effects: Sequence[Effect]) -> int:
    """The number of contrasts that Holm's correction takes together: arms, or main effects and interactions."""
    arms = sum(effect.contrast.kind == "arm" for effect in effects)
    return max(arms, len(effects) - arms)


def interval_covers(effects: Sequence[Effect]) -> str:
    """What an interval holds, and what not."""
    if all(effect.low is None for effect in effects):
        return "There are no intervals."
    held, not_held = "other seeds", "other held-out subjects"
    if any(subjects_error(effect) is not None for effect in effects):
        held, not_held = "other seeds and other held-out subjects of the same kind", "other training subjects"
    if any(isinstance(seed, Replicate) for effect in effects for seed in effect.seeds):
        held, not_held = "other seeds, other training subjects and other held-out subjects", ""
    rest = f"{not_held}, another dataset" if not_held else "another dataset"
    return f"A 95 % interval covers what {held} would change, not {rest} or another recipe."


def subjects_error(effect: Effect) -> float | None:
    """The standard error between subjects, on the scale that the verdict rests on."""
    return effect.relative.se_subjects if effect.relative else effect.se_subjects


def read_ratios(ratios: Sequence[Ratio]) -> list[str]:
    """What a ratio is and what its interval holds, where there are any."""
    if not ratios:
        return []
    text = "Ratio: the arm's mean over the reference's, in the seeds that both have; "
    if all(ratio.low is None and not ratio.unbounded for ratio in ratios):
        return [f"{text}there are no intervals."]
    held = "alone: the real slices' features aren't in the store, or runs were measured on others"
    if any(ratio.subjects for ratio in ratios):
        held = "and other held-out subjects"
    if any(isinstance(seed, Replicate) for ratio in ratios for seed in ratio.seeds):
        held = "and other subjects, for training and held out"
    unbounded = any(ratio.unbounded for ratio in ratios)
    end = " Unbounded: the reference itself can't be told from 0." if unbounded else ""
    return [f"{text}the interval is Fieller's (1954), uncorrected, and covers other seeds {held}.{end}"]


def stable(content: Content) -> str:
    """How often arms failed, and how rare a failure so many seeds can miss."""
    arms = list(content.stability.values())
    fallen = [f"{each.arm} in {each.failed} of {each.tried}" for each in arms if each.failed]
    tried = min((each.tried for each in arms), default=0)
    if not tried:
        return ""
    missed = f"{number(tried, 'seed')} {'misses' if tried == 1 else 'miss'} a failure rate of up to "
    missed += f"{100 * max(each.missed for each in arms if each.tried == tried):.0f} % in 5 % of cases"
    if fallen:
        return f"Seeds that diverged or collapsed: {'; '.join(fallen)}; of the other arms none, though {missed}."
    return f"No seed diverged or collapsed, though {missed}."


def exploratory(content: Content) -> str:
    """What is said once of metrics that verdicts don't rest on."""
    return f"Exploratory: the study's verdicts rest on {name_of(content.primary)}."

"""What an ablation study found, in words that are computed from its effects and say what can't be told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.wording import (
    decimals,
    difference,
    direction,
    fixed,
    listed,
    name_of,
    probability,
    verdict_of,
)
from latentsweep.ablation.statistics.effect import Effect
from latentsweep.ablation.statistics.power import detectable, smallest_p
from latentsweep.ablation.statistics.ratio import Ratio

OUT, IN = "without ", "with "
"""How the name of an arm begins that has a component taken out of the reference, or put into it."""

HEADINGS = {
    "helps": "Helps",
    "hurts": "Hurts",
    "differs": "Changes the score",
    "no difference": "Makes no difference",
    "cannot tell": "Can't be told from the noise",
    "not measured": "Not measured",
}
"""Verdicts on components in the order in which they are shown, and what they are called."""

VERBS = {
    "helps": ("helps", "help"),
    "hurts": ("hurts", "hurt"),
    "differs": ("changes it", "change it"),
    "no difference": ("makes no difference beyond the margin", "make no difference beyond the margin"),
    "cannot tell": ("can't be told from the noise between seeds",) * 2,
    "not measured": ("was not measured", "were not measured"),
}
"""The verdicts as verbs, of one component and of several."""

HEADINGS_OF_ARMS = HEADINGS | {
    "helps": "Better than the reference",
    "hurts": "Worse than the reference",
    "differs": "Different from the reference",
    "no difference": "No different from the reference",
}
"""The same of whole configurations."""

VERBS_OF_ARMS = VERBS | {
    "helps": ("is better", "are better"),
    "hurts": ("is worse", "are worse"),
    "differs": ("differs", "differ"),
}

CLEAR = ("helps", "hurts", "differs")
"""Verdicts that tell a difference."""

TURNED = {"helps": "hurts", "hurts": "helps"}


@dataclass(frozen=True)
class Group:
    """The components of one verdict: ``lines`` are their names, each with its numbers."""

    verdict: str
    heading: str
    lines: list[tuple[str, str]]


def component_of(effect: Effect, *, whole: bool = False) -> str:
    """The component that an effect speaks of; the arm where its name doesn't say, or arms are ``whole``."""
    if whole:
        return effect.contrast.name
    return effect.contrast.name.removeprefix(OUT).removeprefix(IN)


def on_component(effect: Effect, *, whole: bool = False) -> str:
    """The verdict on the component: where it was taken out and the score got worse, it helps; or on a whole arm."""
    if effect.mean is None:
        return "not measured"
    if not whole and effect.contrast.kind == "arm" and effect.contrast.name.startswith(OUT):
        return TURNED.get(effect.verdict, effect.verdict)
    return effect.verdict


def groups(content: Content) -> list[Group]:
    """The components by what the primary metric says of them; empty groups are left out."""
    found, whole = content.compared(content.primary), content.whole
    places = decimals(content.summaries[content.primary], content.effects[content.primary])
    made = [
        Group(
            verdict,
            heading,
            [
                (component_of(effect, whole=whole), line(effect, content.reference, places, whole=whole))
                for effect in found
                if on_component(effect, whole=whole) == verdict
            ],
        )
        for verdict, heading in (HEADINGS_OF_ARMS if whole else HEADINGS).items()
    ]
    return [group for group in made if group.lines]


def line(effect: Effect, reference: str | None, places: int, *, whole: bool = False) -> str:
    """What the score does with or without a component: the effect's own words, and p where a difference was found."""
    name, metric = effect.contrast.name, name_of(effect.metric)
    if effect.contrast.kind == "main effect":
        where = "with it, averaged over the others, "
    elif whole:
        where = f"against {reference}, "
    elif name.startswith(OUT):
        where = "without it, "
    else:
        where = "with it, " if name.startswith(IN) else f"against {reference}, "
    if effect.mean is None:
        return "no seed has all the runs that the comparison takes"
    if len(effect.seeds) == 1:
        return f"{where}{metric} changes by {fixed(effect.mean, places, sign=True)} in the only seed"
    if effect.verdict in CLEAR:
        return f"{where}{metric} is {effect.words}; {p_words(effect)}"
    return f"{where}{metric} changes by {fixed(effect.mean, places, sign=True)}; {effect.words}"


def p_words(effect: Effect) -> str:
    """The corrected p."""
    p = probability(effect.p_holm)
    return f"p {p}".replace(" ", "\u00a0") if p.startswith("<") else f"p\u00a0=\u00a0{p}"


def sentences(content: Content) -> list[str]:
    """The summary, a paragraph each: the answer, how sure it is, interactions, other metrics, failures, lints."""
    found = [
        headline(content),
        certainty(content),
        in_ratios(content),
        gap_words(content),
        interactions(content),
        elsewhere(content),
        losses(content),
        content.unequal,
        warned(content),
    ]
    return [sentence for sentence in found if sentence]


def headline(content: Content) -> str:
    """How many components help, hurt, make no difference and can't be told, by name; or arms, of whole ones."""
    metric, whole = content.primary, content.whole
    by_verdict: dict[str, list[str]] = {}
    for effect in content.compared(metric):
        by_verdict.setdefault(on_component(effect, whole=whole), []).append(component_of(effect, whole=whole))
    verbs = VERBS_OF_ARMS if whole else VERBS
    parts = [
        f"{len(names)} {verbs[verdict][len(names) > 1]} ({listed(names)})"
        for verdict in HEADINGS
        if (names := by_verdict.get(verdict))
    ]
    asked = number(len(content.compared(metric)), "configuration" if whole else "component")
    if whole:
        asked += f" against {content.reference}"
    return (
        f"Of {asked}, judged by {name_of(metric)} ({direction(metric)}): {'; '.join(parts) or 'none was measured'}."
    )


def certainty(content: Content) -> str:
    """How many seeds, what they can show at all, and what an interval holds."""
    if len(content.seeds) < 2:
        return (
            "Every arm was run with one seed, so a difference can't be told from what another seed would have "
            "changed: no interval and no p is given, and no verdict. Run it again with --seeds 3 or more."
        )
    text = f"Each arm has {number(len(content.seeds), 'seed')}, and arms are compared in pairs of the same seed. "
    return text + " ".join(able(content, content.primary)) + " " + covered(content.effects[content.primary])


def able(content: Content, metric: str) -> list[str]:
    """What so many seeds and comparisons can show of a metric; empty for one seed."""
    count = len(content.seeds)
    effects = content.effects.get(metric, ())
    if count < 2 or not effects:
        return []
    places = decimals(content.summaries[metric], effects)
    noise = content.margin(metric)
    family = max(len(each) for each in families(effects).values())
    sds = [effect.sd for effect in effects if effect.sd is not None]
    words = f"{detectable(count, family):.1f} standard deviations of a paired difference"
    if any(sds):
        typical = math.sqrt(sum(sd**2 for sd in sds) / len(sds))
        subjects = [effect.se_subjects for effect in effects if effect.se_subjects is not None]
        added = math.sqrt(sum(se**2 for se in subjects) / len(subjects)) if subjects else 0.0
        degrees = min((effect.df_subjects for effect in effects if effect.df_subjects is not None), default=math.inf)
        least = detectable(count, family, se_subjects=added / typical, df_subjects=degrees)
        words = f"about {fixed(least * typical, places)} ({least:.1f} standard deviations of a paired difference)"
    found = [] if noise is None else [f"The margin for no difference is {fixed(noise, places)}."]
    if metric not in content.margins and noise is not None:
        found = [
            f"Between seeds of one arm the standard deviation is {fixed(noise, places)}: the noise, and the margin "
            "below which a difference counts as none."
        ]
    return [
        *found,
        f"With {number(count, 'seed')} and {number(family, 'comparison')}, a difference of {words} shows in four "
        "studies of five, and smaller ones in fewer.",
        f"The exact sign-flip test, which assumes no distribution, can't go below p = {smallest_p(count):.3g} here"
        + (
            ", so the p given rest on differences between seeds being about normal."
            if smallest_p(count) > 0.05
            else "."
        ),
    ]


def families(effects: Sequence[Effect]) -> Mapping[str, list[Effect]]:
    """The contrasts that Holm's correction takes together."""
    found: dict[str, list[Effect]] = {}
    for effect in effects:
        found.setdefault("arm" if effect.contrast.kind == "arm" else "factorial", []).append(effect)
    return found


def covered(effects: Sequence[Effect]) -> str:
    """What an interval holds, and what not."""
    if all(effect.low is None for effect in effects):
        return "There are no intervals."
    if any(effect.se_subjects is not None for effect in effects):
        return (
            "A 95 % interval covers what other seeds and other held-out subjects of the same kind would change, not "
            "other training subjects, another dataset or another recipe."
        )
    return (
        "A 95 % interval covers what other seeds would change, not other held-out subjects, another dataset or "
        "another recipe."
    )


def in_ratios(content: Content) -> str:
    """The primary metric of each arm as a ratio to the reference's."""
    found = content.ratios_of(content.primary)
    parts = "; ".join(f"{ratio.name} {ratio.words if ratio.low is None else ratio.text}" for ratio in found)
    return f"{name_of(content.primary)} as a ratio to the reference's [95 % interval]: {parts}." if found else ""


def gap_words(content: Content) -> str:
    """What each arm's autoencoder and denoiser lose in the primary metric, above the floor."""
    found = content.split().get(content.primary, [])
    if not found:
        return ""
    places = decimals(content.summaries[content.primary], content.effects[content.primary])
    parts = [
        f"{gap.arm} {fixed(gap.autoencoder.mean, places)} and {fixed(gap.denoiser.mean, places)}" for gap in found
    ]
    return (
        f"Above the floor of real slices, {name_of(content.primary)} {fixed(found[0].floor.mean, places)}, the "
        f"autoencoder and the denoiser lose: {'; '.join(parts)}."
    )


def read_ratios(ratios: Sequence[Ratio]) -> list[str]:
    """What a ratio is and what its interval holds, where there are any."""
    if not ratios:
        return []
    text = "Ratio: the arm's mean over the reference's, in the seeds that both have; "
    if all(ratio.low is None and not ratio.unbounded for ratio in ratios):
        return [f"{text}there are no intervals."]
    text += "the interval is Fieller's (1954), uncorrected, and covers "
    if any(ratio.subjects for ratio in ratios):
        text += "other seeds and other held-out subjects."
    else:
        text += "other seeds alone: the real slices' features aren't in the store, or runs were measured on others."
    if any(ratio.unbounded for ratio in ratios):
        text += " Unbounded: the reference itself can't be told from 0."
    return [text]


def interactions(content: Content) -> str:
    """Whether components act alike with and without each other."""
    effects = [e for e in content.effects[content.primary] if e.contrast.kind == "interaction"]
    if not effects:
        return ""
    places = decimals(content.summaries[content.primary], content.effects[content.primary])
    parts = [
        f"{effect.contrast.name}: {difference(effect, places)}, "
        + (f"together {verdict_of(effect)}, {p_words(effect)}" if effect.verdict in CLEAR else effect.words)
        for effect in effects
    ]
    text = f"Interactions, {scale_of(effects[0])}: {'; '.join(parts)}."
    if any(effect.verdict in CLEAR for effect in effects):
        text += " Where components interact, a main effect averages over two that differ: look at the lines below."
    return text


def scale_of(effect: Effect) -> str:
    """What the number of an interaction is."""
    half = math.isclose(sum(weight for weight in effect.contrast.weights.values() if weight > 0), 1.0)
    return f"{'half ' if half else ''}the difference that one component makes to the effect of the other"


def elsewhere(content: Content) -> str:
    """What other metrics say clearly; nothing for one seed."""
    if len(content.seeds) < 2:
        return ""
    parts, whole = [], content.whole
    verbs = VERBS_OF_ARMS if whole else VERBS
    for metric in content.metrics[1:]:
        clear: dict[str, list[str]] = {}
        for effect in content.compared(metric):
            if effect.verdict in CLEAR:
                clear.setdefault(on_component(effect, whole=whole), []).append(component_of(effect, whole=whole))
        said = [f"{listed(names)} {verbs[verdict][len(names) > 1]}" for verdict, names in clear.items()]
        parts += [f"{name_of(metric)}: {', '.join(said)}"] if said else []
    if parts:
        return f"On other metrics, each corrected by itself: {'; '.join(parts)}. Nothing else stands out there."
    return "On no other metric does anything stand out from the noise." if content.metrics[1:] else ""


def warned(content: Content) -> str:
    """How many lints there are."""
    count = len(content.findings)
    return f"{number(count, 'lint')} {'was' if count == 1 else 'were'} raised; see below." if count else ""


def losses(content: Content) -> str:
    """What is missing, and which comparisons rest on fewer seeds for it."""
    lost = content.planned - content.measured
    if lost <= 0:
        return f"All {content.planned} runs were measured." if not content.failures else ""
    fewer = [e.contrast.name for e in content.effects[content.primary] if len(e.seeds) < len(content.seeds)]
    text = f"{lost} of {number(content.planned, 'run')} {'has' if lost == 1 else 'have'} no result"
    if content.failures:
        text += f" ({len(content.failures)} failed: {'; '.join(dict.fromkeys(content.failures.values()))})"
    return text + (f"; so these rest on fewer seeds: {', '.join(fewer)}." if fewer else ".")


def number(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""What an ablation study found, in words that are computed from its effects and say what can't be told."""

from __future__ import annotations

import math
from typing import NamedTuple

from latentsweep.ablation.page.certainty import (
    able,
    certainty,
    exploratory,
    interval_covers,
    largest_family,
    read_ratios,
    stable,
    subjects_error,
)
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.wording import difference, direction, name_of, probability, verdict_of
from latentsweep.ablation.statistics.effect import Effect
from latentsweep.ablation.statistics.replicate import counted_seeds, listed_seeds
from latentsweep.pages.numbers import fixed, lints_raised, listed, number

OUT, IN = "without ", "with "
"""How the name of an arm begins that has a component taken out of the reference, or put into it."""

WORDS = {
    "helps": ("Helps", "helps", "help"),
    "hurts": ("Hurts", "hurts", "hurt"),
    "differs": ("Changes the score", "changes it", "change it"),
    "no difference": (
        "Makes no difference",
        "makes no difference beyond the margin",
        "make no difference beyond the margin",
    ),
    "unstable": (
        "May change how often trainings fail",
        *("may change how often trainings fail",) * 2,
    ),
    "cannot tell": ("Can't be told from the noise", *("can't be told from the noise between seeds",) * 2),
    "not measured": ("Not measured", "was not measured", "were not measured"),
}
"""Verdicts on components in the order in which they are shown: their heading, and the verb of one and of several."""

WORDS_OF_ARMS = WORDS | {
    "helps": ("Better than the reference", "is better", "are better"),
    "hurts": ("Worse than the reference", "is worse", "are worse"),
    "differs": ("Different from the reference", "differs", "differ"),
    "no difference": ("No different from the reference", *WORDS["no difference"][1:]),
    "unstable": ("Unstable", "is unstable", "are unstable"),
}
"""The same of whole configurations."""

CLEAR = ("helps", "hurts", "differs")
"""Verdicts that tell a difference."""

TURNED = {"helps": "hurts", "hurts": "helps"}


class Group(NamedTuple):
    """The components of one verdict: ``lines`` are their names, each with its numbers."""

    verdict: str
    heading: str
    lines: list[tuple[str, str]]


def by_verdict(content: Content, metric: str) -> dict[str, list[tuple[str, Effect]]]:
    """The components that effects speak of, or whole arms, by the verdict on them.

    Where a component was taken out and the score got worse, it helps.
    """
    found: dict[str, list[tuple[str, Effect]]] = {}
    for effect in content.comparisons(metric):
        name, verdict = effect.contrast.name, str(effect.verdict)
        if effect.mean is None and verdict != "unstable":
            verdict = "not measured"
        if not content.whole:
            if effect.contrast.kind == "arm" and name.startswith(OUT):
                verdict = TURNED.get(verdict, verdict)
            name = name.removeprefix(OUT).removeprefix(IN)
        found.setdefault(verdict, []).append((name, effect))
    return found


def groups(content: Content) -> list[Group]:
    """The components by what the primary metric says of them; empty groups are left out."""
    found = by_verdict(content, content.primary)
    return [
        Group(verdict, words[0], [(name, line(content, effect)) for name, effect in found[verdict]])
        for verdict, words in (WORDS_OF_ARMS if content.whole else WORDS).items()
        if verdict in found
    ]


def line(content: Content, effect: Effect) -> str:
    """What the score does with or without a component: the effect's own words, and p where a difference was found."""
    name, metric = effect.contrast.name, name_of(effect.metric)
    where = f"against {content.reference}"
    if effect.contrast.kind == "main effect":
        where = "with it, averaged over the others"
    elif not content.whole and name.startswith((OUT, IN)):
        where = "without it" if name.startswith(OUT) else "with it"
    if effect.verdict == "unstable":
        return f"{where}, {effect.words}"
    if effect.mean is None:
        return "no seed has all the runs that the comparison takes"
    if effect.verdict in CLEAR and len(effect.seeds) > 1:
        return f"{where}, {metric} is {effect.words}; {p_words(effect)}"
    change = f"{where}, {metric} changes by {fixed(effect.mean, content.places(effect.metric), sign=True)}"
    return f"{change} in the only seed" if len(effect.seeds) == 1 else f"{change}; {effect.words}"


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
        missing_runs(content),
        stable(content) if len(content.seeds) > 1 else "",
        content.unequal,
        lints_raised(len(content.findings)) if content.findings else "",
    ]
    return [sentence for sentence in found if sentence]


def headline(content: Content) -> str:
    """How many components help, hurt, make no difference and can't be told, by name; or arms, of whole ones."""
    metric, found = content.primary, by_verdict(content, content.primary)
    parts = [
        f"{len(found[verdict])} {words[1 + (len(found[verdict]) > 1)]} ({listed(name for name, _ in found[verdict])})"
        for verdict, words in (WORDS_OF_ARMS if content.whole else WORDS).items()
        if verdict in found
    ]
    count = len(content.comparisons(metric))
    asked = f"{number(count, 'configuration')} against {content.reference}"
    return (
        f"Of {asked if content.whole else number(count, 'component')}, judged by {name_of(metric)} "
        f"({direction(metric)}): {'; '.join(parts) or 'none was measured'}."
    )


def in_ratios(content: Content) -> str:
    """The primary metric of each arm as a ratio to the reference's."""
    found = content.ratios_of(content.primary)
    parts = "; ".join(f"{ratio.name} {ratio.words if ratio.low is None else ratio.text}" for ratio in found)
    return f"{name_of(content.primary)} as a ratio to the reference's [95 % interval]: {parts}." if found else ""


def gap_words(content: Content) -> str:
    """What each arm's autoencoder and denoiser lose in the primary metric, above the floor."""
    found = content.gaps_by_metric().get(content.primary, [])
    if not found:
        return ""
    places = content.places(content.primary)
    parts = (f"{g.arm} {fixed(g.autoencoder.mean, places)} and {fixed(g.denoiser.mean, places)}" for g in found)
    return (
        f"Above the floor of real slices, {name_of(content.primary)} {fixed(found[0].floor.mean, places)}, the "
        f"autoencoder and the denoiser lose: {'; '.join(parts)}."
    )


def interactions(content: Content) -> str:
    """Whether components act alike with and without each other."""
    effects = [e for e in content.effects[content.primary] if e.contrast.kind == "interaction"]
    if not effects:
        return ""
    places = content.places(content.primary)
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
    parts, words = [], WORDS_OF_ARMS if content.whole else WORDS
    for metric in content.metrics[1:]:
        said = [
            f"{listed(name for name, _ in each)} {words[verdict][1 + (len(each) > 1)]}"
            for verdict, each in by_verdict(content, metric).items()
            if verdict in CLEAR
        ]
        parts += [f"{name_of(metric)}: {', '.join(said)}"] if said else []
    if parts:
        found = f"On other metrics, each corrected by itself: {'; '.join(parts)}. Nothing else stands out there."
        return f"{found} {exploratory(content)}"
    return "On no other metric does anything stand out from the noise." if content.metrics[1:] else ""


def missing_runs(content: Content) -> str:
    """What is missing, and which comparisons rest on fewer seeds for it."""
    lost = content.planned - content.measured
    if lost <= 0:
        return f"All {content.planned} runs were measured." if not content.failures else ""
    fewer = [e.contrast.name for e in content.effects[content.primary] if len(e.seeds) < len(content.seeds)]
    text = f"{lost} of {number(content.planned, 'run')} {'has' if lost == 1 else 'have'} no result"
    if content.failures:
        text += f" ({len(content.failures)} failed: {'; '.join(dict.fromkeys(content.failures.values()))})"
    return text + (f"; so these rest on fewer seeds: {', '.join(fewer)}." if fewer else ".")


def notes(content: Content, metric: str) -> list[str]:
    """What a metric's numbers mean, what they can show, and which runs they lack."""
    effects = content.effects.get(metric, ())
    seeds = listed_seeds(content.seeds)
    found = [
        f"Study {content.name} on {content.dataset}; {counted_seeds(content.seeds)} ({seeds}), n of "
        "them with a result. sd: standard deviation between seeds."
    ]
    if content.reference:
        found.append(f"Differences are from the reference, {content.reference}, in pairs of the same seed.")
    else:
        found.append("A main effect is the mean of all arms with a component less that of all without, seed by seed.")
    crossed = [effect for effect in effects if effect.contrast.kind == "interaction"]
    if crossed:
        found.append(f"An interaction is {scale_of(crossed[0])}.")
    if any(effect.p_holm is not None for effect in effects):
        family = number(largest_family(effects), "comparison")
        subjects = " and subjects" if any(subjects_error(effect) is not None for effect in effects) else ""
        counted = any(effect.counts for effect in effects)
        test = "Fisher's exact test of the counts of all seeds" if counted else f"Student's t over seeds{subjects}"
        found.append(
            f"p: two-sided, by {test}, after Holm's correction for {family}; "
            "intervals aren't corrected. d_z: mean over standard deviation of the paired differences, after Hedges."
        )
        found.append(interval_covers(effects))
    found += read_ratios(content.ratios_of(metric)) + able(content, metric)
    beyond = [f"{key}: {said}" for each in content.refused.values() for key, said in each.items()]
    if beyond:
        found.append(
            f"Refused by the guards, whatever they score, since they copy training slices or have collapsed: "
            f"{'; '.join(beyond)}. An arm's mean has them."
        )
    lacking = sorted({key for effect in effects for key in effect.missing})
    if lacking:
        found.append(f"Runs without a result: {'; '.join(lacking)}.")
    return found

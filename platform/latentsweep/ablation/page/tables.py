"""The tables of a study, each number traced to the runs that it came from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from latentsweep.ablation.design.plan import AblationPlan
from latentsweep.ablation.design.walltime import EQUAL, WallTime, inequality
from latentsweep.ablation.page.certainty import exploratory
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.summary import notes
from latentsweep.ablation.page.wording import (
    decimals,
    difference,
    direction,
    name_of,
    probability,
    title_of,
    verdict_of,
    with_reference,
)
from latentsweep.ablation.statistics.effect import Effect, Summary
from latentsweep.ablation.statistics.gaps import PARTS, ArmGap
from latentsweep.ablation.statistics.verdicts import counts_words
from latentsweep.metrics import FID, MEMORISATION, NEAR_COPIES, metric_of
from latentsweep.pages.gap import BELOW_ZERO
from latentsweep.pages.numbers import UNKNOWN, capitalised, fixed, interval, spread
from latentsweep.pages.tables import Row, Table

MARKS = {"helps": "▲", "hurts": "▼", "differs": "◆", "no difference": "=", "unstable": "✗", "cannot tell": "?"}
"""The sign of each verdict in the overview of all metrics."""

MARKS_READ = (
    "▲ better than the reference, ▼ worse, ◆ different where neither way is better, = no difference larger than the "
    "margin, ✗ unstable, ? can't be told"
)
FACTORIAL_READ = (
    "▲ helps, ▼ hurts (of an interaction: better or worse than the two by themselves foretell), = no difference, "
    "✗ unstable, ? can't be told"
)
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
"""Which way a metric is better, as a sign behind its name."""

COPYING = (NEAR_COPIES.name, MEMORISATION.name)
"""What says whether a generator repeats its training slices."""


def metric_table(content: Content, metric: str) -> Table:
    """Every arm's mean ± sd, and every contrast's difference, interval, effect size, p and verdict, with its notes.

    A contrast of kind "arm" stands in the row of its arm, main effects and interactions in rows of their own below.
    Ratios, where there are any, have a column beside the differences.
    """
    summaries, effects = content.summaries[metric], content.effects.get(metric, ())
    texts = {ratio.name: ratio.text for ratio in content.ratios_of(metric)}
    places = content.places(metric)
    of_arm = {effect.contrast.name: effect for effect in effects if effect.contrast.kind == "arm"}
    rows = []
    for summary in summaries:
        effect = of_arm.get(summary.arm)
        runs = tuple(dict.fromkeys([*summary.runs, *(effect.runs if effect else ())]))
        failed = content.stability[summary.arm].failed if summary.arm in content.stability else 0
        refused = len(content.refused.get(summary.arm, ()))
        mean = _mean(summary, places, count=True) + (f", {failed} failed" if failed else "")
        mean += f", {refused} refused" if refused else ""
        cells = (mean, *_compared(effect, places, texts))
        verdict = effect.verdict if effect else ""
        rows.append(Row(with_reference(summary.arm, content.reference), "arm", cells, runs, verdict))
    for effect in effects:
        if effect.contrast.kind != "arm":
            cells = (f"({len(effect.seeds)})", *_compared(effect, places, texts))
            rows.append(Row(title_of(effect.contrast), effect.contrast.kind, cells, effect.runs, effect.verdict))
    ratio = ("ratio [95 % interval]",) if texts else ()
    header = ("mean ± sd (n)", "difference [95 % interval]", *ratio, "d_z", "p (Holm)", "verdict")
    first = "arm or contrast" if len(rows) > len(summaries) else "arm"
    caption = f"{capitalised(direction(metric))}." + ("" if metric == content.primary else f" {exploratory(content)}")
    return Table(capitalised(name_of(metric)), caption, (first, *header), tuple(rows), tuple(notes(content, metric)))


def beside(content: Content) -> dict[str, list[Table]]:
    """The tables beside those of single metrics by the templates' names; a list is empty where it has none."""
    memorised = memorisation_table(content.summaries, content.effects, reference=content.reference)
    return {
        "memorised": [memorised] if memorised else [],
        "gap_tables": [
            gap_table(metric, found, content.places(metric), reference=content.reference)
            for metric, found in content.gaps_by_metric().items()
        ],
        "overviews": [overview(content)] if len(content.metrics) > 1 else [],
    }


def overview(content: Content) -> Table:
    """All metrics beside each other: arms as mean ± sd, other contrasts as differences, each with its verdict."""
    found = [effect.contrast for each in content.effects.values() for effect in each]
    others = {contrast.name: contrast for contrast in found if contrast.kind != "arm"}
    arms = dict.fromkeys(summary.arm for each in content.summaries.values() for summary in each)
    shown = [(arm, with_reference(arm, content.reference), "arm") for arm in arms]
    shown += [(name, title_of(contrast), contrast.kind) for name, contrast in others.items()]
    rows = [
        Row(title, kind, tuple(_overview_cell(content, metric, name) for metric in content.metrics))
        for name, title, kind in shown
    ]
    heads = (capitalised(name_of(metric)) + ARROWS[metric_of(metric).better] for metric in content.metrics)
    return Table(
        "All metrics",
        "Arms as mean ± standard deviation over seeds"
        + (", main effects and interactions as differences" if others else "")
        + f". {FACTORIAL_READ if others else MARKS_READ}: after Holm's correction within each metric, not over the "
        f"metrics. {exploratory(content)}",
        ("arm or contrast" if others else "arm", *heads),
        tuple(rows),
    )


def memorisation_table(
    summaries: Mapping[str, Sequence[Summary]], effects: Mapping[str, Sequence[Effect]], *, reference: str | None
) -> Table | None:
    """Both measures of :data:`COPYING` by arm, each with its difference; None where one wasn't measured."""
    if not all(any(summary.values for summary in summaries.get(metric, ())) for metric in COPYING):
        return None
    rows: dict[str, list[str]] = {}
    runs: dict[str, tuple[str, ...]] = {}
    for metric in COPYING:
        own = effects.get(metric, ())
        places = decimals(summaries[metric], own)
        of_arm = {effect.contrast.name: effect for effect in own if effect.contrast.kind == "arm"}
        for summary in summaries[metric]:
            effect = of_arm.get(summary.arm)
            compared = counts_words(effect.counts) if effect and effect.counts else ""
            cells = (
                _mean(summary, places, count=True),
                compared or (difference(effect, places) if effect else UNKNOWN),
            )
            rows.setdefault(summary.arm, []).extend(cells)
            runs[summary.arm] = tuple(dict.fromkeys([*runs.get(summary.arm, ()), *summary.runs]))
    columns = tuple(head for metric in COPYING for head in (capitalised(name_of(metric)), "against the reference"))
    return Table(
        "Memorisation",
        "Whether an arm repeats training slices more than the reference does.",
        ("arm", *columns),
        tuple(Row(with_reference(arm, reference), "arm", tuple(cells), runs[arm]) for arm, cells in rows.items()),
        (
            "Near copies: share of generated slices nearer to a training slice than held-out ones ever are. An arm's "
            "share is of all its seeds' slices together, with the exact interval of Clopper and Pearson (1934), and "
            "two arms are compared by Fisher's exact test. Seeds that copy unequally make both too sure.",
            "Memorisation ratio: median distance to the nearest training slice over that of held-out slices. Below 1 "
            "is nearer than these; above it, lower can just mean better, since poor images are far from every slice.",
        ),
    )


def gap_table(metric: str, gaps: Sequence[ArmGap], places: int, *, reference: str | None) -> Table:
    """What the autoencoder and what the denoiser loses in a metric, by arm; ``gaps`` are of that metric alone."""
    rows = []
    for gap in gaps:
        parts = [getattr(gap, name) for name in PARTS]
        cells = (fixed(part.mean, places) + interval(part.low, part.high, places) for part in parts)
        rows.append(Row(with_reference(gap.arm, reference), "arm", (*cells, str(len(gap.seeds))), gap.runs))
    found = [
        "Floor: real training slices of other subjects in place of generated ones. The autoencoder loses what their "
        "reconstructions score above it, the denoiser what generated slices score above the reconstructions; the "
        "three add up to the score. Means over n seeds, with 95 % intervals that cover other seeds, not other "
        "subjects."
    ]
    below = [
        f"{gap.arm} ({name})" for gap in gaps for name in ("autoencoder", "denoiser") if getattr(gap, name).mean < 0
    ]
    found += [f"Below 0: {', '.join(below)}; {BELOW_ZERO}."] if below else []
    if metric == FID.name and not all(gap.equal for gap in gaps):
        found.append(
            "Floor and score are of different numbers of slices, and the Fréchet distance falls with their number: "
            "the denoiser's part holds that difference too."
        )
    return Table(
        f"The gap in {name_of(metric)}",
        "Generated slices against real ones, split between autoencoder and denoiser.",
        ("arm", "floor", "+ autoencoder", "+ denoiser", "= generated", "n"),
        tuple(rows),
        tuple(found),
    )


def walltime_table(plan: AblationPlan, wall: WallTime, took: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    """What each arm was given and what its trainings took."""
    rows = []
    for name, each in wall.arms.items():
        vae, denoiser = (statistics.fmean(part) for part in zip(*took[name], strict=True)) if name in took else (0, 0)
        means = tuple(f"{mean:.3g}" if name in took else UNKNOWN for mean in (vae + denoiser, vae, denoiser))
        steps = f"{each.vae_steps} × {each.vae_step:.3g} s", f"{each.denoiser_steps} × {each.denoiser_step:.3g} s"
        cells = (*steps, f"{sum(each.minutes):.3g}", *means)
        rows.append(Row(with_reference(name, plan.design.reference.name), "arm", cells))
    equal = f"The arms' mean wall times are within {100 * EQUAL:.0f} % of each other."
    return Table(
        "Wall time",
        f"{plan.minutes:g} minutes a run, for autoencoder and denoiser together.",
        ("arm", "autoencoder", "denoiser", "planned (min)", "taken (min)", "of it autoencoder", "of it denoiser"),
        tuple(rows),
        (
            f"Planned: {wall.words}.",
            "Taken: what the store's manifests say of the trainings, validation and checkpoints included, means over "
            "seeds. An autoencoder that arms share counts for each of them.",
            *((inequality(took) or equal,) if len(took) > 1 else ()),
        ),
    )


def _mean(summary: Summary, places: int, *, count: bool = False) -> str:
    """Mean ± standard deviation of an arm, with the ``count`` of its seeds; a dash for none."""
    seeds = f" ({len(summary.seeds)})" if count and summary.seeds else ""
    return fixed(summary.mean, places) + spread(summary.sd, places) + seeds


def _compared(effect: Effect | None, places: int, ratios: Mapping[str, str]) -> tuple[str, ...]:
    """Difference with interval, ratio where any has one, effect size, p and verdict; dashes for what isn't compared.

    ``ratios`` are by the contrast's name, as they are shown.
    """
    if effect is None:
        return (UNKNOWN,) * (5 if ratios else 4)
    ratio = (ratios.get(effect.contrast.name, UNKNOWN),) if ratios else ()
    return difference(effect, places), *ratio, fixed(effect.size, 2), probability(effect.p_holm), verdict_of(effect)


def _overview_cell(content: Content, metric: str, name: str) -> str:
    """An arm's or a contrast's cell under one metric."""
    summaries, effects = content.summaries[metric], content.effects.get(metric, ())
    places = content.places(metric)
    effect = next((each for each in effects if each.contrast.name == name), None)
    summary = next((each for each in summaries if each.arm == name), None)
    if summary is not None and (effect is None or effect.contrast.kind == "arm"):
        text = _mean(summary, places)
    else:
        text = fixed(effect.mean, places, sign=True) if effect else UNKNOWN
    known = effect and (effect.mean is not None or effect.verdict == "unstable")
    return f"{text} {MARKS[effect.verdict]}" if effect and known else text

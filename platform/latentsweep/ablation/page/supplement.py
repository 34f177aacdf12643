"""The tables beside a study's main one: whether arms memorise, and what autoencoder and denoiser lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latentsweep.ablation.page.tables import Row, Table, mean_and_sd, named
from latentsweep.ablation.page.wording import UNKNOWN, capitalised, decimals, difference, fixed, name_of
from latentsweep.ablation.statistics.effect import Effect, Summary
from latentsweep.ablation.statistics.gaps import PARTS, ArmGap, Part
from latentsweep.metrics import FID, MEMORISATION, NEAR_COPIES
from latentsweep.report.gap import BELOW_ZERO

COPYING = (NEAR_COPIES.name, MEMORISATION.name)
"""What says whether a generator repeats its training slices."""


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
            cells = mean_and_sd(summary, places), difference(effect, places) if effect else UNKNOWN
            rows.setdefault(summary.arm, []).extend(cells)
            runs[summary.arm] = tuple(dict.fromkeys([*runs.get(summary.arm, ()), *summary.runs]))
    columns = tuple(head for metric in COPYING for head in (capitalised(name_of(metric)), "difference [95 %]"))
    return Table(
        "Memorisation",
        "Whether an arm repeats training slices more than the reference does.",
        ("arm", *columns),
        tuple(Row(named(arm, reference), "arm", tuple(cells), runs[arm]) for arm, cells in rows.items()),
        (
            "Near copies: share of generated slices nearer to a training slice than held-out ones ever are. An arm's "
            "is higher by no more than its difference's upper end. An interval [0, 0] says that there was none at "
            "all: among k images, a share of up to 3/k can go unseen (Hanley and Lippman-Hand 1983).",
            "Memorisation ratio: median distance to the nearest training slice over that of held-out slices. Below 1 "
            "is nearer than these; above it, lower can just mean better, since poor images are far from every slice.",
        ),
    )


def gap_table(metric: str, gaps: Sequence[ArmGap], places: int, *, reference: str | None) -> Table:
    """What the autoencoder and what the denoiser loses in a metric, by arm; ``gaps`` are of that metric alone."""
    rows = [
        Row(
            named(gap.arm, reference),
            "arm",
            (*(_part(getattr(gap, name), places) for name in PARTS), str(len(gap.seeds))),
            gap.runs,
        )
        for gap in gaps
    ]
    notes = [
        "Floor: real training slices of other subjects in place of generated ones. The autoencoder loses what their "
        "reconstructions score above it, the denoiser what generated slices score above the reconstructions; the "
        "three add up to the score. Means over n seeds, with 95 % intervals that cover other seeds, not other "
        "subjects."
    ]
    below = [
        f"{gap.arm} ({name})" for gap in gaps for name in ("autoencoder", "denoiser") if getattr(gap, name).mean < 0
    ]
    notes += [f"Below 0: {', '.join(below)}; {BELOW_ZERO}."] if below else []
    if metric == FID.name and not all(gap.equal for gap in gaps):
        notes.append(
            "Floor and score are of different numbers of slices, and the Fréchet distance falls with their number: "
            "the denoiser's part holds that difference too."
        )
    return Table(
        f"The gap in {name_of(metric)}",
        "Generated slices against real ones, split between autoencoder and denoiser.",
        ("arm", "floor", "+ autoencoder", "+ denoiser", "= generated", "n"),
        tuple(rows),
        tuple(notes),
    )


def _part(part: Part, places: int) -> str:
    """A part of a gap with its interval, where there is one."""
    ends = f" [{fixed(part.low, places)}, {fixed(part.high, places)}]" if part.low is not None else ""
    return fixed(part.mean, places) + ends

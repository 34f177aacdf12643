"""What the cells of the contest say: means over seeds, who is best without copying, curves, the report."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from quality_cells import Cell, Mean, mean_of

from trainables.figures import style
from trainables.figures.style import AxisRange

if TYPE_CHECKING:
    from quality_data import Data

COPIES = 0.02
"""Share of near copies above which a contender has not won."""
OURS = "ours"
COLUMNS = {
    "KID ×1000": ("kid", 1.0, 1),
    "FID": ("fid", 1.0, 0),
    "near copies, %": ("near_copies", 100.0, 1),
    "memorisation": ("memorisation", 1.0, 2),
    "precision": ("precision", 1.0, 2),
    "recall": ("recall", 1.0, 2),
    "diversity": ("diversity", 1.0, 3),
    "high frequencies": ("high_frequency_share", 1.0, 3),
}
"""Of each column: the metric, a factor, digits."""
GOALS = {240: (60.0, 0.5), 960: (45.0, 2 / 3)}
"""Of a budget: the KID that ours is to reach at most, and its largest share of the best peer's."""
RECALL = AxisRange(0, 0.2, step=0.2)
COPIED = AxisRange(0, 10, step=10)
MINUTES = AxisRange(0.8, 20, "log")
LOOKS = {
    "ours": (style.BLUE, "-", "o"),
    "diffusers": (style.ORANGE, "-", "s"),
    "diffusers-narrow": (style.ORANGE, "--", "s"),
    "monai": (style.GREEN, "-", "^"),
    "monai-narrow": (style.GREEN, "--", "^"),
    "slim-diff": (style.PURPLE, "-", "D"),
    "slim-diff-narrow": (style.PURPLE, "--", "D"),
}
"""Colour, dash and marker of a contender."""


@dataclass(frozen=True)
class Result:
    """A contender at a budget."""

    name: str
    title: str
    budget: int
    rate: float
    cells: Sequence[Cell]
    """One a seed, at least one."""

    def mean(self, metric: str) -> Mean:
        """Of a metric of the evaluator, over seeds."""
        return mean_of(cell.metrics.get(f"gen/{metric}", math.nan) for cell in self.cells)

    @property
    def copies(self) -> bool:
        """Whether more than :data:`COPIES` of its images are near copies, so that it can't win."""
        return self.mean("near_copies").value > COPIES


def best_peer(results: Sequence[Result], budget: int) -> Result | None:
    """The lowest mean KID of the others at a budget that doesn't copy; None where there is none."""
    peers = [each for each in results if each.budget == budget and each.name != OURS and not each.copies]
    return min(peers, key=lambda each: each.mean("kid").value, default=None)


def our_result(results: Sequence[Result], budget: int) -> Result | None:
    """Ours at a budget."""
    return next((each for each in results if each.budget == budget and each.name == OURS), None)


def show(mean: Mean, factor: float = 1.0, digits: int = 1) -> str:
    """A mean with its standard error, as a table has it."""
    if not mean.seeds or math.isnan(mean.value):
        return "–"
    error = "" if math.isnan(mean.error) else f" ± {mean.error * factor:.{digits}f}"
    return f"{mean.value * factor:.{digits}f}{error}"


def table(results: Sequence[Result]) -> Iterator[str]:
    """A row for each contender and budget; copies are marked."""
    head = ("minutes", "contender", "seeds", *COLUMNS)
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for result in sorted(results, key=lambda each: (each.budget, each.mean("kid").value)):
        cells = [show(result.mean(metric), factor, digits) for metric, factor, digits in COLUMNS.values()]
        if result.copies:
            cells[2] += " **copies**"
        yield f"| {result.budget / 60:g} | {result.title} | {len(result.cells)} | " + " | ".join(cells) + " |"


def costs(results: Sequence[Result]) -> Iterator[str]:
    """What the cells took, and by which learning rates."""
    yield "| minutes | contender | learning rates × | steps | CPU s of the training | CPU s of the sampling |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for result in results:
        steps = " + ".join(
            f"{mean_of(cell.phases[phase].steps for cell in result.cells).value:,.0f} ({phase})"
            for phase in result.cells[0].phases
        )
        seconds = ", ".join(f"{cell.seconds:.0f}{'' if cell.on_budget else ' (off budget)'}" for cell in result.cells)
        sampling = mean_of(cell.sampling_seconds for cell in result.cells).value
        yield (
            f"| {result.budget / 60:g} | {result.title} | {result.rate:g} | {steps} | {seconds} | {sampling:.0f} |"
        )


def rows_of(results: Sequence[Result]) -> list[dict[str, object]]:
    """Ours against the best peer, a row for each budget that both have; copies can't hold."""
    rows: list[dict[str, object]] = []
    for budget in sorted({each.budget for each in results}):
        ours, peer = our_result(results, budget), best_peer(results, budget)
        if ours is None or peer is None:
            continue
        mine, theirs = ours.mean("kid"), peer.mean("kid")
        limit, share = GOALS.get(budget, (math.inf, 1.0))
        copies = ours.mean("near_copies")
        asked = f"{share:.2f} times" + (f", KID {limit:.0f}" if math.isfinite(limit) else "")
        rows.append(
            {
                "what": f"KID ×1000 after {budget / 60:g} minutes of a core, near copies at most {COPIES:.0%}",
                "against": f"{peer.title}, the best of the others",
                "at_least": asked,
                "measured": f"{mine.value / theirs.value:.2f} times ({show(mine)} against {show(theirs)}), near "
                f"copies {show(copies, 100.0)} %",
                "holds": bool(mine.value <= share * theirs.value and mine.value <= limit and not ours.copies),
            }
        )
    return rows


def draw_curves(results: Sequence[Result], floor: Mapping[str, float]) -> Figure:
    """KID, near copies and recall against minutes of a core; the floor of real slices is a dashed line."""
    figure = style.new_figure(4.4)
    panels = figure.subplots(1, 3)
    names = list(dict.fromkeys(each.name for each in results))
    shown = (
        ("Quality (lower is better)", "kid", 1.0, "KID ×1000", style.KID),
        ("Near copies (2 % is the limit)", "near_copies", 100.0, "% of images", COPIED),
        ("Recall (higher is better)", "recall", 1.0, "share of real slices covered", RECALL),
    )
    for axes, (title, metric, factor, words, span) in zip(panels, shown, strict=True):
        seen = []
        for name in names:
            points = sorted((each for each in results if each.name == name), key=lambda each: each.budget)
            means = [each.mean(metric) for each in points]
            colour, dash, marker = LOOKS[name]
            values = [mean.value * factor for mean in means]
            errors = [0.0 if math.isnan(mean.error) else mean.error * factor for mean in means]
            axes.errorbar(
                [each.budget / 60 for each in points], values, yerr=errors, color=colour, linestyle=dash,
                marker=marker, markersize=5, capsize=3, label=points[0].title,
            )  # fmt: skip
            seen += [*values, *(value + error for value, error in zip(values, errors, strict=True))]
        if metric == "near_copies":
            axes.axhline(100 * COPIES, color=style.GREY, linestyle="--", linewidth=1.5)
        elif metric in floor:
            axes.axhline(floor[metric], color=style.GREY, linestyle="--", linewidth=1.5, label="real slices")
            seen.append(floor[metric])
        style.label(axes, title, "minutes of one core", words)
        style.fix_range(axes, "y", span, seen)
        axes.set_xscale("log")
        axes.set_xlim(MINUTES.low, MINUTES.high)
        axes.set_xticks([1, 4, 16], ["1", "4", "16"])
        axes.minorticks_off()
    handles, labels = panels[0].get_legend_handles_labels()
    style.legend(panels[1], handles=handles, labels=labels, loc="best")  # where most room is
    return figure


def report_of(results: Sequence[Result], data: Data, words: str) -> str:
    """The report in Markdown; ``words`` are the command's arguments."""
    reference = data.reference("test")
    floor, real = reference.floor, reference.real
    images = results[0].cells[0].images
    lines = [
        f"# Picture quality at equal CPU time, {datetime.date.today().isoformat()}",
        "",
        f"{len(data.training)} training slices of the 865 real ones at 64×64, split by subject. {images} images of "
        f"each contender against all {len(reference.images)} test slices. Means over seeds ± standard errors. "
        "Budgets are CPU seconds of one core for the training; sampling isn't counted. KID is unbiased. Above 2 % "
        "near copies a contender is marked and hasn't won; slices of new patients may have up to "
        f"{100 * data.near_copies_bound:.1f} % (the 95 % limit of the test slices' share).",
        "",
        f"Real training slices score KID {floor['kid']:.1f}, FID {floor['fid']:.0f}, precision "
        f"{floor.get('precision', math.nan):.2f}, recall {floor.get('recall', math.nan):.2f}. Test slices have "
        f"diversity {real['diversity']:.3f}, high frequencies {real['high_frequency_share']:.3f}.",
        "",
        *table(results),
        "",
        "| what | against | at most | measured | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows_of(results):
        holds = "yes" if row["holds"] else "NO"
        lines.append(f"| {row['what']} | {row['against']} | {row['at_least']} | {row['measured']} | {holds} |")
    lines += ["", "## What they took", "", *costs(results), "", "## Settings", "", *settings(results), ""]
    lines += [
        f"- Command: `python benchmarks/quality.py {words}`",
        f"- Machine: {', '.join(sorted({cell.machine for result in results for cell in result.cells}))}",
        f"- torch {torch.__version__}, Python {platform.python_version()}",
        "",
    ]
    return "\n".join(lines)


def settings(results: Sequence[Result]) -> Iterator[str]:
    """The recipe of each contender, in the words of its module and in full."""
    import quality_diffusers
    import quality_monai
    import quality_peers
    import quality_slim_diff

    yield from (quality_peers.__doc__ or "").splitlines()
    for module, loop in (
        (quality_diffusers, quality_diffusers.Diffusers),
        (quality_monai, quality_monai.Monai),
        (quality_slim_diff, quality_slim_diff.SlimDiff),
    ):
        yield f"- {' '.join(f'{module.__doc__} {loop.__doc__}'.split())}"
    yield ""
    seen: list[Any] = []
    for result in results:
        stated = dict(result.cells[0].plan.settings)
        if (result.name, stated) not in seen:
            seen.append((result.name, stated))
            yield f"- {result.title}, {result.budget / 60:g} min: `{stated}`"

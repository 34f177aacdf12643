"""An ablation as tables for a paper: Markdown, LaTeX and CSV, each number traced to the runs that it came from."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from latentsweep.ablation.page.wording import (
    UNKNOWN,
    arrow,
    capitalised,
    decimals,
    difference,
    direction,
    fixed,
    name_of,
    probability,
    seeds_of,
    title_of,
    verdict_of,
)
from latentsweep.ablation.statistics.effect import Effect, Summary
from latentsweep.ablation.statistics.gaps import PARTS, ArmGap, Part
from latentsweep.ablation.statistics.ratio import Ratio
from latentsweep.report.paper_tables import escaped, row_of

REFERENCE = " (reference)"

MARKS = {"helps": "▲", "hurts": "▼", "differs": "◆", "no difference": "=", "cannot tell": "?"}
"""The sign of each verdict in the overview of all metrics."""

MARKS_READ = (
    "▲ better than the reference, ▼ worse, ◆ different where neither way is better, = no difference larger than the "
    "noise, ? can't be told"
)
FACTORIAL_READ = (
    "▲ helps, ▼ hurts (of an interaction: better or worse than the sum), = no difference, ? can't be told"
)


@dataclass(frozen=True)
class Row:
    """An arm or a contrast as it is shown.

    ``cells`` are those after the name, ``runs`` the keys behind them, ``verdict`` the effect's own, empty where
    nothing is compared.
    """

    name: str
    kind: str
    cells: tuple[str, ...]
    runs: tuple[str, ...]
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """A table of one metric, or of all; ``notes`` say how to read it."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def as_markdown(self) -> str:
        """As Markdown, with the notes and the runs behind each row below."""
        lines = [f"**{self.title}.** {self.caption}", "", _markdown(self.header), "|" + " --- |" * len(self.header)]
        lines += [_markdown((row.name, *row.cells)) for row in self.rows]
        traced = [f"- {row.name}: {seeds_of(row.runs)}" for row in self.rows if row.runs]
        below = [f"- {note}" for note in self.notes], ["The runs behind each row:", "", *traced] if traced else []
        return "\n".join([*lines, *(line for part in below if part for line in ("", *part))]) + "\n"

    def as_latex(self) -> str:
        """As a LaTeX table in ASCII for the package booktabs, the notes below it."""
        lines = [
            r"\begin{table}",
            r"  \centering",
            r"  \small",
            rf"  \caption{{{latex(f'{self.title}. {self.caption}')}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
            r"    \toprule",
            _latex_row(self.header),
        ]
        above = None
        for row in self.rows:
            if row.kind != above:
                lines.append(r"    \midrule")
            lines.append(_latex_row((row.name, *row.cells)))
            above = row.kind
        lines += [r"    \bottomrule", r"  \end{tabular}"]
        if self.notes:
            lines.append(rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(' '.join(self.notes))}}}")
        return "\n".join([*lines, r"\end{table}", ""])


def metric_table(
    metric: str,
    summaries: Sequence[Summary],
    effects: Sequence[Effect],
    *,
    reference: str | None,
    notes: Sequence[str] = (),
    ratios: Sequence[Ratio] = (),
) -> Table:
    """Every arm's mean ± sd, and every contrast's difference, interval, effect size, p and verdict.

    A contrast of kind "arm" stands in the row of its arm, main effects and interactions in rows of their own below.
    ``reference`` is the arm that others are compared with, None in a factorial. ``ratios``, where there are any, have
    a column beside the differences.
    """
    texts = {ratio.name: ratio.text for ratio in ratios}
    places = decimals(summaries, effects)
    of_arm = {effect.contrast.name: effect for effect in effects if effect.contrast.kind == "arm"}
    rows = []
    for summary in summaries:
        effect = of_arm.get(summary.arm)
        runs = tuple(dict.fromkeys([*summary.runs, *(effect.runs if effect else ())]))
        cells = (mean_and_sd(summary, places), *compared(effect, places, texts))
        rows.append(Row(named(summary.arm, reference), "arm", cells, runs, effect.verdict if effect else ""))
    for effect in effects:
        if effect.contrast.kind != "arm":
            cells = (f"({len(effect.seeds)})", *compared(effect, places, texts))
            rows.append(Row(title_of(effect.contrast), effect.contrast.kind, cells, effect.runs, effect.verdict))
    return Table(
        capitalised(name_of(metric)),
        f"{capitalised(direction(metric))}.",
        (
            "arm or contrast" if len(rows) > len(summaries) else "arm",
            "mean ± sd (n)",
            "difference [95 % interval]",
            *(("ratio [95 % interval]",) if texts else ()),
            "d_z",
            "p (Holm)",
            "verdict",
        ),
        tuple(rows),
        tuple(notes),
    )


def overview(
    summaries: Mapping[str, Sequence[Summary]], effects: Mapping[str, Sequence[Effect]], *, reference: str | None
) -> Table:
    """All metrics beside each other: arms as mean ± sd, other contrasts as differences, each with its verdict."""
    found = [effect for each in effects.values() for effect in each]
    others = {effect.contrast.name: effect.contrast for effect in found if effect.contrast.kind != "arm"}
    arms = dict.fromkeys(summary.arm for each in summaries.values() for summary in each)
    rows = [
        Row(
            named(arm, reference),
            "arm",
            tuple(_overview_cell(arm, summaries[metric], effects.get(metric, ())) for metric in summaries),
            (),
        )
        for arm in arms
    ]
    rows += [
        Row(
            title_of(contrast),
            contrast.kind,
            tuple(_overview_cell(name, summaries[metric], effects.get(metric, ())) for metric in summaries),
            (),
        )
        for name, contrast in others.items()
    ]
    return Table(
        "All metrics",
        "Arms as mean ± standard deviation over seeds"
        + (", main effects and interactions as differences" if others else "")
        + f". {FACTORIAL_READ if others else MARKS_READ}: after Holm's correction within each metric, not over the "
        "metrics.",
        (
            "arm or contrast" if others else "arm",
            *(capitalised(name_of(metric)) + arrow(metric) for metric in summaries),
        ),
        tuple(rows),
    )


def as_markdown(tables: Iterable[Table]) -> str:
    """All tables as Markdown."""
    return "\n".join(table.as_markdown() for table in tables)


def as_latex(tables: Iterable[Table]) -> str:
    """All tables as LaTeX, in ASCII."""
    return "\n".join(["% \\usepackage{booktabs}", *(table.as_latex() for table in tables)])


COLUMNS = (
    "metric",
    "kind",
    "name",
    "weights",
    "n",
    "seeds",
    "values",
    "mean",
    "sd",
    "se_seeds",
    "se_subjects",
    "df",
    "low",
    "high",
    "d_z",
    "p",
    "p_holm",
    "p_sign_flip",
    "verdict",
    "words",
    "runs",
    "missing",
)
"""The CSV's columns; ``kind`` is "mean" for an arm's own values, "ratio" for a ratio, the part's name for a part of a
gap, else that of the contrast."""


def as_csv(
    summaries: Mapping[str, Sequence[Summary]],
    effects: Mapping[str, Sequence[Effect]],
    ratios: Sequence[Ratio] = (),
    gaps: Sequence[ArmGap] = (),
) -> str:
    """A line for each arm and each contrast of each metric: all numbers unrounded, with the keys of their runs.

    ``values`` are those of ``seeds``, in order: of an arm its own, of a contrast the differences within each seed.
    Of a ratio, in a line of kind "ratio", ``mean`` is that of the means. Each part of a gap has a line of its own
    kind. Lists are separated by semicolons.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for metric, found in summaries.items():
        for summary in found:
            line = {"metric": metric, "kind": "mean", "name": summary.arm}
            writer.writerow(line | _recorded(summary))
        for effect in effects.get(metric, ()):
            weights = "; ".join(f"{arm}: {weight!r}" for arm, weight in effect.contrast.weights.items())
            line = {"metric": metric, "kind": effect.contrast.kind, "name": effect.contrast.name, "weights": weights}
            numbers = ("se_seeds", "se_subjects", "df", "low", "high", "p", "p_holm", "p_sign_flip")
            line |= {name: _exact(getattr(effect, name)) for name in numbers}
            line |= {"d_z": _exact(effect.size), "verdict": effect.verdict, "words": effect.words}
            writer.writerow(line | _recorded(effect) | {"missing": "; ".join(effect.missing)})
    for ratio in ratios:
        line = {"metric": ratio.metric, "kind": "ratio", "name": ratio.name, "n": str(len(ratio.seeds))}
        line |= {"mean": _exact(ratio.value), "low": _exact(ratio.low), "high": _exact(ratio.high)}
        line |= {"seeds": "; ".join(map(str, ratio.seeds)), "words": ratio.words, "runs": "; ".join(ratio.runs)}
        writer.writerow(line)
    for gap in gaps:
        for name in PARTS[:-1]:
            part: Part = getattr(gap, name)
            line = {"metric": gap.metric, "kind": name, "name": gap.arm, "n": str(len(gap.seeds))}
            line |= {"mean": _exact(part.mean), "low": _exact(part.low), "high": _exact(part.high)}
            line |= {"seeds": "; ".join(map(str, gap.seeds)), "values": "; ".join(map(repr, part.values))}
            writer.writerow(line | {"runs": "; ".join(gap.runs)})
    return text.getvalue()


def mean_and_sd(summary: Summary, places: int) -> str:
    """Mean ± standard deviation (seeds) of an arm."""
    spread = f" ± {fixed(summary.sd, places)}" if summary.sd is not None else ""
    return f"{fixed(summary.mean, places)}{spread} ({len(summary.seeds)})" if summary.seeds else UNKNOWN


def compared(effect: Effect | None, places: int, ratios: Mapping[str, str]) -> tuple[str, ...]:
    """Difference with interval, ratio where any has one, effect size, p and verdict; dashes for what isn't compared.

    ``ratios`` are by the contrast's name, as they are shown.
    """
    if effect is None:
        return (UNKNOWN,) * (5 if ratios else 4)
    ratio = (ratios.get(effect.contrast.name, UNKNOWN),) if ratios else ()
    return difference(effect, places), *ratio, fixed(effect.size, 2), probability(effect.p_holm), verdict_of(effect)


def named(arm: str, reference: str | None) -> str:
    """An arm's name, with a word where it is the reference."""
    return arm + (REFERENCE if arm == reference else "")


def cell(text: str) -> str:
    """Text that may stand in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


LATEX = {
    **{sign: f"${sign}$" for sign in "<>|"},
    "−": "$-$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
    "◆": r"$\diamond$",
    "·": r"$\cdot$",
    "½": r"$\frac{1}{2}$",
    "λ": r"$\lambda$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "ε": r"$\varepsilon$",
    "η": r"$\eta$",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}
"""What LaTeX needs beyond :data:`latentsweep.report.paper_tables.LATEX`."""


def latex(text: str) -> str:
    """Text as LaTeX shows it, in ASCII: of other letters the base letter, of other signs their Unicode name."""
    return re.sub(r"[<>|]|[^\x00-\x7f]", lambda found: _latex_sign(found[0]), escaped(text))


def _latex_sign(sign: str) -> str:
    base = "".join(each for each in unicodedata.normalize("NFKD", sign) if each.isascii())
    if sign in LATEX or base or unicodedata.combining(sign):
        return LATEX.get(sign, base)
    return f"({unicodedata.name(sign, 'unknown sign').lower()})"


def _latex_row(cells: Sequence[str]) -> str:
    return f"    {' & '.join(latex(each) for each in cells)} \\\\"


def _markdown(cells: Sequence[str]) -> str:
    return row_of([cell(each) for each in cells])


def _overview_cell(name: str, summaries: Sequence[Summary], effects: Sequence[Effect]) -> str:
    """An arm's or a contrast's cell under one metric."""
    places = decimals(summaries, effects)
    effect = next((each for each in effects if each.contrast.name == name), None)
    summary = next((each for each in summaries if each.arm == name), None)
    if summary is not None and (effect is None or effect.contrast.kind == "arm"):
        spread = f" ± {fixed(summary.sd, places)}" if summary.sd is not None else ""
        text = fixed(summary.mean, places) + spread
    else:
        text = fixed(effect.mean, places, sign=True) if effect else UNKNOWN
    return f"{text} {MARKS[effect.verdict]}" if effect and effect.mean is not None else text


def _recorded(found: Summary | Effect) -> dict[str, str]:
    return {
        "n": str(len(found.seeds)),
        "seeds": "; ".join(map(str, found.seeds)),
        "values": "; ".join(map(repr, map(float, found.values))),
        "mean": _exact(found.mean),
        "sd": _exact(found.sd),
        "runs": "; ".join(found.runs),
    }


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))

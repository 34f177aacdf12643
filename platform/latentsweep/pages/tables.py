"""One model of a table, and how it is written as Markdown, LaTeX and CSV; the templates write it as HTML."""

from __future__ import annotations

import csv
import functools
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pylatexenc.latexencode import RULE_CALLABLE, UnicodeToLatexConversionRule, UnicodeToLatexEncoder


@dataclass(frozen=True)
class Row:
    """A row: ``cells`` are those after the name, ``runs`` the keys of the runs behind them.

    Rows of another ``kind`` stand apart; ``verdict`` decides the row's colour in HTML.
    """

    name: str
    kind: str
    cells: tuple[str, ...]
    runs: tuple[str, ...] = ()
    verdict: str = ""
    href: str = ""
    """The address that the first of the cells leads to in HTML."""

    @property
    def traced(self) -> str:
        """The runs in short: those whose keys differ by the number at their end stand together."""
        groups: dict[str, list[str]] = {}
        for key in self.runs:
            stem = key.rstrip("0123456789")
            groups.setdefault(stem, []).append(key.removeprefix(stem))
        return "; ".join(stem + ", ".join(numbers) for stem, numbers in groups.items())


@dataclass(frozen=True)
class Table:
    """A table; ``notes`` say how to read it."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    code: bool = False
    """Whether the first column is code."""
    numbers: bool = True
    """Whether all columns but the first are numbers, which HTML aligns at the right."""

    @classmethod
    def of(cls, header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", **options: bool) -> Table:
        """A table without title and notes; the first cell of a row is its name."""
        made = tuple(Row(row[0], "", tuple(row[1:])) for row in rows)
        return cls("", caption, tuple(header), made, (), **options)

    def as_markdown(self) -> str:
        """As Markdown, with the notes and the runs behind each row below."""
        lines = [f"**{self.title}.** {self.caption}", ""] if self.title else []
        lines += [markdown_row(self.header), "|" + " --- |" * len(self.header)]
        names = (f"`{row.name}`" if self.code else row.name for row in self.rows)
        lines += [markdown_row((name, *row.cells)) for name, row in zip(names, self.rows, strict=True)]
        traced = [f"- {row.name}: {row.traced}" for row in self.rows if row.runs]
        below = [f"- {note}" for note in self.notes], ["The runs behind each row:", "", *traced] if traced else []
        return "\n".join([*lines, *(line for part in below if part for line in ("", *part))]) + "\n"

    def as_latex(self, *, numbered: bool = False) -> str:
        """As a LaTeX table in ASCII for the package booktabs, the notes below it.

        ``numbered`` is for the paper's tables: the title is left out, since LaTeX numbers them, and the first two
        columns are text.
        """
        caption = self.caption if numbered else f"{self.title}. {self.caption}"
        columns = ("ll" if numbered else "l").ljust(len(self.header), "r")
        lines = [r"\begin{table}", r"  \centering", *([] if numbered else [r"  \small"])]
        lines += [rf"  \caption{{{latex(caption)}}}", rf"  \begin{{tabular}}{{{columns}}}", r"    \toprule"]
        lines.append(latex_row(self.header))
        above = None
        for row in self.rows:
            if row.kind != above:
                lines.append(r"    \midrule")
            lines.append(latex_row((row.name, *row.cells)))
            above = row.kind
        lines += [r"    \bottomrule", r"  \end{tabular}"]
        if self.notes:
            lines.append(rf"  \par\smallskip\parbox{{\linewidth}}{{\footnotesize {latex(' '.join(self.notes))}}}")
        return "\n".join([*lines, r"\end{table}", ""])


def as_latex(tables: Iterable[str]) -> str:
    """LaTeX tables in one file, with the package that they need."""
    return "\n".join(["% \\usepackage{booktabs}", *tables])


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV; a column that a row lacks is empty. No text in it is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writerow({column: _defused(column) for column in columns})
    writer.writerows({column: _defused(value) for column, value in row.items()} for row in rows)
    return text.getvalue()


def records_as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV; nothing where there are none."""
    return as_csv(list(rows[0]), rows) if rows else ""


def _defused(value: Any) -> Any:
    """The value, with an apostrophe before a text that a spreadsheet would compute, unless it is of numbers alone."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"=", "+", "-", "@"}:
        return value
    return value if all(map(_is_number, value.split("; "))) else f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def cell(value: object) -> str:
    """Text that may stand in a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(cell, cells)) + " |"


def latex_row(cells: Sequence[str]) -> str:
    """A row of a LaTeX table."""
    return f"    {' & '.join(map(latex, cells))} \\\\"


SIGNS = {
    "–": "--",
    "×": r"$\times$",
    "|": "$|$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "▲": r"$\bigtriangleup$",
    "▼": r"$\bigtriangledown$",
    "◆": r"$\diamond$",
    "✗": r"$\times$",
    "·": r"$\cdot$",
    "½": r"$\frac{1}{2}$",
    "…": r"\dots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}
"""Signs for which pylatexenc has no command, or one that takes another package."""


def latex(text: str) -> str:
    """Text as LaTeX shows it, in ASCII: letters and signs by pylatexenc, what it doesn't know by its Unicode name."""
    return re.sub(r"\\ensuremath\{([^{}]*)\}", r"$\1$", str(_encoder().unicode_to_latex(text)))


@functools.cache
def _encoder() -> UnicodeToLatexEncoder:
    return UnicodeToLatexEncoder(
        conversion_rules=[UnicodeToLatexConversionRule(RULE_CALLABLE, _sign), "defaults"],
        replacement_latex_protection="braces-after-macro",
        unknown_char_policy=lambda sign: f"({unicodedata.name(sign, 'unknown sign').lower()})",
        unknown_char_warning=False,
    )


def _sign(text: str, place: int) -> tuple[int, str] | None:
    """What stands for the sign at a place, and that it is one; None leaves it to pylatexenc."""
    sign = text[place]
    if sign in SIGNS:
        return 1, SIGNS[sign]
    if sign.isascii() or unicodedata.category(sign).startswith("L"):
        return None
    base = "".join(each for each in unicodedata.normalize("NFKD", sign) if each.isascii())
    return (1, base) if base or unicodedata.combining(sign) else None

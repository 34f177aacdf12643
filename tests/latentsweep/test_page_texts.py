"""What a name or an error may hold is text in every file of a report: no formula, no HTML, no link."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from latentsweep.pages.tables import Table, as_csv, records_as_csv
from latentsweep.pages.templates import inert, write_texts

FORMULAS = ["=1+1", '=HYPERLINK("http://h","a")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\n=1", " =1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_or_heading_of_a_table_is_a_formula(text: str) -> None:
    rows = list(csv.reader(io.StringIO(as_csv(["name", text], [{"name": text, text: 1}]))))
    assert rows == [["name", f"'{text}"], [f"'{text}", "1"]]


def test_numbers_and_plain_text_of_a_table_stay_as_they_are() -> None:
    row = {"a": -3.5, "b": "-3.5", "c": "+1e-3", "d": True, "e": None, "f": "a=b", "g": "", "h": "-inf", "i": "– 3"}
    [found] = csv.DictReader(io.StringIO(records_as_csv([row])))
    assert found == {key: "" if value is None else str(value) for key, value in row.items()}
    assert records_as_csv([]) == ""


def test_no_text_of_a_markdown_file_is_html_or_leads_elsewhere(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) ![b](http://h/x.png) <!-- --> </td> <?php"
    table = Table.of(("a", "b"), [(hostile, "p < 0.05, <0.1, a<b")], code=True).as_markdown()
    picture = "![The gap](ablation_gap.png)\n"
    write_texts(tmp_path, {"page.md": table + hostile + picture, "page.html": hostile})
    written = (tmp_path / "page.md").read_text()
    for part in ("<img", "](javascript", "](http", "<!--", "</td", "<?"):
        assert part not in written
    assert "p < 0.05, <0.1" in written
    assert picture in written
    assert (tmp_path / "page.html").read_text() == hostile, "the templates of HTML escape what they are given"


def test_blocks_of_code_stay_as_they_are() -> None:
    block = "```\npython cli.py data prepare mine --source '<folder>'\n```\n"
    assert inert(f"<b>\n\n{block}\n<b>\n\n```yaml\na: <b>\n```\n<b>") == (
        f"&lt;b>\n\n{block}\n&lt;b>\n\n```yaml\na: <b>\n```\n&lt;b>"
    )
    assert inert("<b>\n```\n<b>") == "&lt;b>\n```\n&lt;b>", "a block without an end is none"

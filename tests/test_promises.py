"""The pages on faults and trust promise what a test holds, and name it: links to its file, with its name as title."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("docs/faults.md", "docs/trust.md")
LINK = re.compile(r'\[[^\]]+\]\((?P<file>[^) ]+)(?: "(?P<test>test_\w+)")?\)')
PROMISE_NOTHING = {"When something goes wrong", "Trust", "Files that you did not make", "Reporting a problem"}
"""Headings whose first paragraph tells what the page or the section is about, or asks the reader for something."""
SOAK = re.compile(r"tests/chaos\w*\.py")


def promises(page: str) -> dict[str, str]:
    """Each row of a table, item of a list and other paragraph of a page, by its first words."""
    found: dict[str, str] = {}
    introduced: set[str] = set()
    heading = ""
    blocks = [block.strip() for block in re.split(r"\n(?=\n|\| |- )", page)]
    for text, following in itertools.pairwise([*blocks, ""]):
        if text.startswith("#"):
            heading = text.lstrip("# ")
        elif text.startswith("| ---") or not text:
            continue
        elif heading in PROMISE_NOTHING and heading not in introduced:
            introduced.add(heading)
        elif not following.startswith("| ---"):  # else it is the heading of a table
            found[text[:60]] = text
    return found


def defined(path: Path) -> set[str]:
    """The tests of a module, by its source alone."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", PAGES)
def test_every_promise_names_a_test(name: str) -> None:
    page = (ROOT / name).read_text()
    found = promises(page)
    assert len(found) > 15
    without = [
        words
        for words, text in found.items()
        if not any(link["test"] or SOAK.search(link["file"]) for link in LINK.finditer(text))
    ]
    assert not without, "each promise of the page names the test that holds it, or is taken back"


@pytest.mark.parametrize("name", PAGES)
def test_every_test_that_a_page_names_exists(name: str) -> None:
    links = [link for link in LINK.finditer((ROOT / name).read_text()) if link["file"].startswith("../tests/")]
    paths = {link["file"]: (ROOT / "docs" / link["file"]).resolve() for link in links}
    assert not [file for file, path in paths.items() if not path.is_file()]
    tests = {file: defined(path) for file, path in paths.items()}
    assert not [
        (link["file"], link["test"]) for link in links if link["test"] and link["test"] not in tests[link["file"]]
    ]


def test_a_promise_without_a_test_is_found() -> None:
    table = "| what | limit |\n| --- | --- |\n| all | 1 |\n"
    page = f"# Trust\n\nAbout it.\n\nIt holds.\nAlways.\n\n- So does this.\n{table}"
    assert list(promises(page)) == ["It holds.\nAlways.", "- So does this.", "| all | 1 |"]

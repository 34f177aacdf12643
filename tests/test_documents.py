"""The documents: their links lead somewhere, their commands can be typed, and every command has its page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from latentsweep.commands.app import every_command
from latentsweep.datasets.catalogue import KNOWN
from latentsweep.manual.documentation import pages
from latentsweep.manual.examples import EXAMPLES
from latentsweep.manual.pages import file_of

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "mlflow", "platform", "trainables", "search_spaces", "benchmarks", "examples", "tests", ".github")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
PROGRAM = r"(?:python cli\.py|latentsweep)"
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What a wrong line raises: click's, or that of the copy of click in typer."""
PLACEHOLDER = re.compile(r"…|<\w|\[")
"""What stands in a line that only shows how a command is built."""


@cache
def commands() -> dict[str, Any]:
    """The commands, put together once."""
    return every_command()


def without_code(text: str) -> str:
    """``text`` without its blocks of code and without code in lines."""
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def links(text: str) -> list[str]:
    """The targets of links and pictures, without those of other sites."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_code(text))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings."""
    headings = re.findall(
        r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def leads_somewhere(document: Path, target: str) -> bool:
    """Whether a link of a document has a file, and its heading where it names one."""
    file, _, heading = target.partition("#")
    path = document.parent / file if file else document
    return path.exists() and (not heading or heading in anchors(path.read_text()))


def typed(text: str) -> Iterator[list[str]]:
    """The words behind the program's name, of each command in a block of code and in a line."""
    blocks = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    lines = re.findall(rf"^(?:\$ )?{PROGRAM} ([^\n]+)", blocks, re.MULTILINE)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in [*lines, *re.findall(rf"`{PROGRAM} ([^`]+)`", outside)]:
        if not PLACEHOLDER.search(line):
            yield shlex.split(line, comments=True)


def parse(words: list[str]) -> None:
    """Parses a command's words and runs nothing; raises what click raises for a wrong one."""
    known = commands()
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
    if name is None:
        assert words[0].startswith("-"), f"no such command: {' '.join(words)}"
        return
    rest = words[len(name.split()) :]
    if rest and not {"-h", "--help"} & set(rest):  # a name alone only mentions the command
        known[name].make_context(name, rest)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_of_a_document_leads_somewhere(name: str) -> None:
    document = ROOT / name
    assert [target for target in links(document.read_text()) if not leads_somewhere(document, target)] == []


def test_a_link_to_nothing_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](#one-heading) [b](other.md) ![c](c.png) [d](https://x.org/y) `[e](e.md)`\n")
    assert [target for target in links(page.read_text()) if not leads_somewhere(page, target)] == [
        "other.md",
        "c.png",
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if re.search(PROGRAM, (ROOT / name).read_text())])
def test_every_command_of_a_document_can_be_typed(name: str) -> None:
    for words in typed((ROOT / name).read_text()):
        parse(words)


@pytest.mark.parametrize("line", ["sweep --data demo", "sweep --dataset demo --trials many", "data prepair demo"])
def test_a_command_that_cannot_be_typed_is_found(line: str) -> None:
    (words,) = typed(f"```\npython cli.py {line}\n```\n")
    with pytest.raises((USAGE_ERROR, AssertionError), match=r"No such option|valid integer|no such command"):
        parse(words)


def test_the_readme_says_how_to_get_every_set_that_has_a_name() -> None:
    text = (ROOT / "README.md").read_text()
    for known in KNOWN.values():
        steps = [step.replace("`", "") for step in re.findall(r"`[^`]+`|https?://[^\s,]*[a-z0-9]", known.getting)]
        assert [step for step in steps if step not in text] == [], known.name


def test_every_command_and_option_says_what_it_does_and_has_examples() -> None:
    known = commands()
    assert set(EXAMPLES) == set(known)
    for name, command in known.items():
        assert command.help, name
        assert all(parameter.help for parameter in command.params), name


def test_the_page_of_a_command_names_every_option() -> None:
    written = pages()
    for name, command in commands().items():
        text = written[f"commands/{file_of(name)}"]
        options = [word for each in command.params if each.param_type_name == "option" for word in each.opts]
        assert [word for word in options if f"`{word}" not in text] == []


def test_no_page_of_a_command_is_left_behind() -> None:
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "commands").iterdir()}
    assert there == {name for name in pages() if name.startswith("commands/")}


def test_the_readme_shows_commands_and_fits_on_a_few_screens() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(list(typed(text))) >= 10
    assert text.count("\n") <= 180


def test_every_page_is_in_the_index_of_the_documents() -> None:
    listed = {
        (ROOT / "docs" / target.partition("#")[0]).resolve()
        for target in links((ROOT / "docs" / "README.md").read_text())
    }
    there = {path for path in DOCUMENTS if (ROOT / "docs") in path.parents and path.parent.name != "commands"}
    assert {path for path in there if path.name != "README.md"} - listed == set()

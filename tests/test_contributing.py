"""CONTRIBUTING.md can't lag: the files, names and make targets that it mentions are there."""

from __future__ import annotations

import re
from pathlib import Path

from latentsweep.datasets.formats.readers import READERS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
ROWS = re.findall(r"^\| \*\*.*$", PAGE, re.MULTILINE)


def test_its_files_are_there() -> None:
    pattern = r"`((?:\.ci|docs|platform|search_spaces|tests|trainables)/[^`]*|\w+\.(?:md|txt))`"
    paths = re.findall(pattern, PAGE)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_its_make_targets_are_there() -> None:
    targets = {first or second for first, second in re.findall(r"^make (\S+)|`make (\S+)`", PAGE, re.MULTILINE)}
    rules = (ROOT / "Makefile").read_text()
    assert len(targets) > 3
    assert [target for target in targets if f"\n{target}:" not in rules] == []


def test_its_names_are_in_the_files_of_their_rows() -> None:
    assert len(ROWS) > 8
    for row in ROWS:
        where = row.split("|")[2]
        paths = [ROOT / path for path in re.findall(r"`(\w+/[\w/.]*)`", where)]
        files = [file for path in paths for file in ([path] if path.is_file() else path.glob("*.py"))]
        for name in re.findall(r"`([A-Z_]{5,}|[a-z_]+)`", where):
            assert any(name in file.read_text() for file in files), f"{name} is in no file that its row names: {row}"


def test_the_row_of_a_reader_names_the_folder_where_readers_are() -> None:
    [row] = [row for row in ROWS if "**reader of a file format**" in row]
    [folder] = re.findall(r"a module of `([^`]+)`", row)
    of_package = folder.removeprefix("platform/").replace("/", ".")
    assert {f"{reader.read.__module__.rpartition('.')[0]}." for reader in READERS.values()} == {of_package}

"""Long lines on a terminal break between words; where there is none, they stay whole."""

from __future__ import annotations

import sys

import pytest

from latentsweep.commands.terminal import fold

LINE = "memory           1.04 GiB a trial, 0.61 GiB an autoencoder, predicted"


def test_a_line_that_is_too_long_goes_on_below_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    assert fold(f"{LINE}\n\nend", 17).splitlines() == [
        "memory           1.04 GiB a trial, 0.61",
        "                 GiB an autoencoder,",
        "                 predicted",
        "",
        "end",
    ]


def test_a_path_that_is_too_long_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    assert fold("in /a/folder-that-has/a-long-path").splitlines() == ["in", "  /a/folder-that-has/a-long-path"]


def test_a_file_gets_whole_lines() -> None:
    assert not sys.stdout.isatty()
    assert fold(LINE, 17) == LINE

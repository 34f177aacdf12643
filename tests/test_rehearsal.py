"""The rehearsal's verdicts; what it rehearses runs by ``make rehearse`` alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rehearsal import __main__ as rehearsal
from rehearsal import environment, library, parts
from rehearsal.command import FailedError, Stage
from rehearsal.environment import Environment, UnavailableError
from rehearsal.parts import Part, statuses


def raising(error: Exception) -> Part:
    def says(stage: Stage) -> list[str]:
        raise error

    return Part(type(error).__name__, says)


def test_a_part_that_fails_fails_the_rehearsal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passing = Part("passing", lambda stage: ["well"])
    assert rehearsal.rehearse(Environment(tmp_path), [passing]) == 0
    assert rehearsal.rehearse(Environment(tmp_path), [raising(FailedError("too many launches")), passing]) == 1
    said = capsys.readouterr().out
    assert "passed: well" in said
    assert "FAILED: too many launches" in said
    assert "FAILED: FailedError" in said


def without_torch(says: str) -> object:
    def run(*command: object) -> None:
        if "install" in command:
            raise subprocess.CalledProcessError(1, [str(word) for word in command], stderr=says)

    return run


@pytest.mark.parametrize(
    "says",
    ["ERROR: No matching distribution found for torch==2.14.1", "ERROR: HTTPSConnectionPool: Max retries exceeded"],
)
def test_a_machine_that_cannot_have_the_cuda_build_skips_in_one_line_and_by_its_own_code(
    says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "run", without_torch(says))
    monkeypatch.setattr(library, "TOOLS", {})
    monkeypatch.setattr(sys, "argv", ["rehearsal", "--folder", str(tmp_path)])
    assert rehearsal.main() == 77
    assert capsys.readouterr().out == f"rehearsal skipped: torch==2.14.1 can't be had here: {says}\n"


def test_an_installation_that_fails_otherwise_is_no_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "run", without_torch("ERROR: No space left on device"))
    monkeypatch.setattr(library, "TOOLS", {})
    with pytest.raises(subprocess.CalledProcessError):
        Environment(tmp_path).make()


def test_a_machine_without_a_compiler_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="gcc is missing; on Debian: apt-get install gcc"):
        Environment(tmp_path).make()


@pytest.mark.parametrize("said", ["", "2 of 10", '{"name": "cap"}', '{"name": "cap", "status": "failed"}'])
def test_lines_that_do_not_say_passed_fail(said: str) -> None:
    with pytest.raises(FailedError):
        statuses(said)


def test_a_check_that_the_null_card_cannot_show_has_to_say_why() -> None:
    with pytest.raises(FailedError):
        statuses('{"name": "losses", "status": "not shown"}')
    said = '{"name": "losses", "status": "not shown", "reason": "all is zero"}\n{"name": "cap", "status": "passed"}'
    assert statuses(said) == ["losses: not shown: all is zero", "cap: passed"]


@pytest.mark.parametrize("summary", ["17 passed, 1 skipped in 3 s", "18 skipped in 1 s", "no tests ran in 0 s"])
def test_skipped_tests_are_not_passed_ones(summary: str) -> None:
    with pytest.raises(FailedError):
        parts.all_passed(f"...\n{summary}\n")
    assert parts.all_passed("18 passed, 2 warnings in 80.1s (0:01:20)") == "18 passed, 2 warnings in 80.1s (0:01:20)"

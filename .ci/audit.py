"""Are there known vulnerabilities in the pinned dependencies? Asks pip-audit, and says so where nobody can be asked.

``audit.py FOLDER`` installs pip-audit into a virtual environment at FOLDER, apart from the one that is audited. Ends
with 1 where a vulnerability is known, with 0 where none is, and with 0 and a line that begins with "audit skipped"
where pip-audit or its data can't be reached. pip-audit itself ends with 0 when it found no data on any package.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PIP_AUDIT = "pip-audit==2.10.1"
PINS = "constraints.txt"
SERVICES = ("pypi", "osv")
SECONDS = 300


class Answer(NamedTuple):
    """What pip-audit said: its exit code, and its two streams."""

    code: int
    out: str
    err: str


def verdict(answers: Sequence[Answer]) -> tuple[int, list[str]]:
    """The exit code, and the lines to print, of the first answer that holds data on any package."""
    why = "no advisory service was asked"
    for answer in answers:
        try:
            packages = json.loads(answer.out)["dependencies"]
        except (ValueError, KeyError, TypeError):
            why = _last_line(answer.err) or f"pip-audit ended with {answer.code} and no report"
            continue
        audited = [package for package in packages if "vulns" in package]
        if not audited:
            why = packages[0]["skip_reason"] if packages else f"{PINS} names no package"
            continue
        lines = [
            f"{package['name']} {package['version']}: {vulnerability['id']}"
            + (f", mended in {', '.join(vulnerability['fix_versions'])}" if vulnerability["fix_versions"] else "")
            for package in audited
            for vulnerability in package["vulns"]
        ]
        known = len(lines)
        missed = [package["name"] for package in packages if "vulns" not in package]
        if missed:
            lines.append(f"not audited, for want of data: {', '.join(missed)}")
        lines.append(f"audit: {len(audited)} pinned packages, {known} known vulnerabilities")
        return int(known > 0 or answer.code != 0), lines
    return 0, [f"audit skipped: no data on known vulnerabilities can be reached from here ({why})"]


def audit(ask: Callable[[str], Answer]) -> tuple[int, list[str]]:
    """Asks one service after the other until one has data."""
    answers: list[Answer] = []
    for service in SERVICES:
        answers.append(ask(service))
        code, lines = verdict(answers)
        if not lines[-1].startswith("audit skipped"):
            return code, lines
    return verdict(answers)


def installed(folder: Path) -> str | None:
    """Puts pip-audit into ``folder``; the reason where that fails."""
    ready = folder / ".ready"
    if ready.exists() and ready.read_text() == PIP_AUDIT:
        return None
    venv.create(folder, with_pip=True, clear=True)
    done = _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", PIP_AUDIT])
    if done.code == 0:
        ready.write_text(PIP_AUDIT)
        return None
    return _last_line(done.err) or f"pip ended with {done.code}"


def _run(command: Sequence[str]) -> Answer:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Answer(1, "", f"no answer within {SECONDS} s")
    return Answer(done.returncode, done.stdout, done.stderr)


def _last_line(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def main(folder: Path) -> int:
    missing = installed(folder)
    if missing:
        print(f"audit skipped: {PIP_AUDIT} cannot be installed here ({missing})")
        return 0
    options = ["--requirement", PINS, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    code, lines = audit(lambda service: _run([str(folder / "bin" / "pip-audit"), *options, "-s", service]))
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

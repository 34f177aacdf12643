"""What a part finds out, on disk line by line: one that is ended, or crashes, has said what it knew by then."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

Value = float | int | str | bool | None

NOTHING_COMPUTED = "the card computes nothing: what is read back is zero, and times are those of stand-ins"


class Notes:
    """A part's numbers, claims and reasons, each written to ``path`` at once.

    ``computes`` says whether the card computes at all. What needs that is noted with ``computed``, and left out, with
    the reason, where the card doesn't.
    """

    def __init__(self, path: Path, *, computes: bool) -> None:
        self.path, self.computes = path, computes

    def measure(self, name: str, value: Value, *, computed: bool = False) -> None:
        """A number under its dotted name, which ends with the unit; kept to five digits."""
        if self._shown(computed):
            self._write("number", [name, _short(value)])

    def check(self, claim: str, held: bool, *, computed: bool = False) -> None:
        """Whether a claim held; the part goes on, and has failed where one didn't."""
        if self._shown(computed):
            self._write("check", [claim, bool(held)])

    def leave_out(self, reason: str) -> None:
        """Why something can't be shown here; the part is then not passed."""
        self._write("left_out", reason)

    def fail(self, reason: str) -> None:
        """What went wrong."""
        self._write("failure", reason)

    def end(self) -> None:
        """The part came to its end; without it the process did not."""
        self._write("ended", True)

    def _shown(self, computed: bool) -> bool:
        if computed and not self.computes:
            self.leave_out(NOTHING_COMPUTED)
            return False
        return True

    def _write(self, kind: str, content: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([kind, content], allow_nan=False) + "\n")


@dataclass
class Noted:
    """The notes of a part, read back."""

    numbers: dict[str, Value] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: bool = False

    @classmethod
    def read(cls, path: Path) -> Noted:
        """Of a part that may have been ended while it wrote its last line, or before its first."""
        noted = cls()
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            kind, content = json.loads(line)
            match kind:
                case "number":
                    noted.numbers[content[0]] = content[1]
                case "check":
                    noted.checks[content[0]] = content[1] and noted.checks.get(content[0], True)
                case "left_out" if content not in noted.left_out:
                    noted.left_out.append(content)
                case "failure":
                    noted.failures.append(content)
                case "ended":
                    noted.ended = True
        return noted


def _short(value: Value) -> Value:
    """Five significant digits; a number that isn't finite as its name, for JSON has none for it."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else str(value)

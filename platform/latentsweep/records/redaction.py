"""Text without secrets, and without what a terminal would take for a command.

Everything that leaves the program by a log, a terminal, a record or a report and that holds somebody else's words
(an error of a server, an address, a file name) passes here first. Imports nothing but the standard library.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SHORTEST = 6
"""A variable's value of fewer characters isn't looked for: too much else would be hidden."""

_SECRET_NAME = re.compile(r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTHORIZATION", re.I)
_PLACE_NAME = re.compile(r"(FILE|DIR|PATH)$", re.I)
_USER_AND_PASSWORD = re.compile(r"://[^\s'\"]*@")
_NAMED = re.compile(
    r"(?P<name>\b[\w-]*(?:password|passwd|secret|token|signature|credential|(?:api|access|secret|private)[_-]?key)"
    r"['\"]?\s*[=:]\s*['\"]?)(?P<value>[^\s'\"&,;)}\]]+)",
    re.I,
)
_AUTHORIZATION = re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/_.~=-]{6,}")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def redact(text: object) -> str:
    """``text`` in one line, without secrets: for an error, a tag, a line of a log."""
    return " ".join(redact_lines(text).split())


def redact_lines(text: object) -> str:
    """``text`` with its line breaks, without secrets and control characters: for a traceback or the tail of a log.

    Hidden are the user and password of any address, the value of anything that is called a password, secret, token
    or key, and, wherever they stand, the values of this process's variables of such names and the passwords within
    its variables that are addresses.
    """
    line = str(text)
    for secret in secrets_of(os.environ):
        line = line.replace(secret, HIDDEN)
    line = _USER_AND_PASSWORD.sub(f"://{HIDDEN}@", line)
    line = _AUTHORIZATION.sub(rf"\1 {HIDDEN}", line)
    line = _NAMED.sub(rf"\g<name>{HIDDEN}", line)
    return printable(line)


def printable(text: object) -> str:
    """``text`` with its control characters written out: a file's name can't move the cursor, or the reading order."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(text).replace("\r\n", "\n"))


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets in the variables of an environment, the longest first."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name):
            found.add(value)
        if "://" in value and "@" in value:
            found |= _passwords(value)
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def _passwords(address: str) -> set[str]:
    """The password of an address, as it stands there and decoded."""
    try:
        password = urlsplit(address).password
    except ValueError:
        password = None
    if password is None:
        password = address.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return {password, unquote(password)} - {""}


class RedactingFormatter(logging.Formatter):
    """A log line, with its traceback if it has one, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redact_lines(super().format(record))

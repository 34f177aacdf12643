"""Text without secrets, and without what a terminal would take for a command.

Everything that leaves the program by a log, a terminal, a record or a report and that holds somebody else's words
(an error of a server, an address, a file name) passes here first. Takes time in proportion to the text, whatever it
is. Imports nothing but the standard library.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 6
"""A variable's value of fewer characters isn't looked for: too much else would be hidden."""

_KEYS = r"(?:access|account|api|encryption|private|secret|shared|signing|storage)[_.-]?key"
_WORDS = rf"passw(?:or)?d|passphrase|sshpass|secret|token|credentials?|signature|connection_?string|{_KEYS}"
"""What the name of a secret ends with."""
_SHORT_WORDS = r"(?:^|[_.-])(?:pwd|sig|sas)|_pass|[_.-](?:pat|auth)"
"""The same, as whole words: within other words they mean something else."""
_SECRET = re.compile(rf"(?:{_WORDS}|{_SHORT_WORDS})$", re.I)
_HEADER = re.compile(r"(?:authorization|cookie)$", re.I)
"""The name of a line that is secret to its end, but for its first word if that is one of :data:`_SCHEME`."""
_SCHEME = re.compile(r"(?:AWS4-HMAC-SHA256|Basic|Bearer|Digest|Negotiate|Token)\s+", re.I)
_WITHIN = r"PASSW|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AUTHORIZATION"
"""What the name of a variable with a secret holds anywhere."""
_VARIABLE = re.compile(rf"{_WITHIN}|(?:{_WORDS}|{_SHORT_WORDS})$", re.I)
_PLACE_NAME = re.compile(r"(FILE|DIR|PATH)$", re.I)

# Each begins where nothing before it could have begun it, and gives nothing back: no text is read twice.
_NAME = re.compile(r"(?<![\w.-])(?P<name>[\w.-]++)(?P<closed>\\?['\"])?+(?:\s*+[=:]>?+|(?<=[\w])(?P<option>\s))\s*+")
_QUOTED = re.compile(r"(?P<quote>\\?['\"])(?P<value>(?:(?!(?P=quote))(?:\\.|[^\n\\]))*+)")
_BARE = re.compile(r"[^\s'\"&,;)}\]]++")
_ADDRESS = re.compile(r"://[^\s'\"]++")
_AUTHORIZATION = re.compile(r"\b(Basic|[Bb]earer)\s++[A-Za-z0-9+/_.~=-]{6,}+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def redact(text: object) -> str:
    """``text`` in one line, without secrets: for an error, a tag, a line of a log."""
    return " ".join(redact_lines(text).split())


def redact_lines(text: object) -> str:
    """``text`` with its line breaks, without secrets and control characters: for a traceback or the tail of a log.

    Hidden are the user and password of any address, the value of anything that is called a password, secret, token,
    signature or key, what authorizes a request, and, wherever they stand, the values of this process's variables of
    such names and the passwords within its variables that are addresses.
    """
    line = str(text)
    for secret in _secrets_in(tuple(os.environ.items())):
        line = line.replace(secret, HIDDEN)
    line = _ADDRESS.sub(_without_user, line)
    line = _AUTHORIZATION.sub(rf"\1 {HIDDEN}", line)
    return printable(_without_values(line))


def _without_user(address: re.Match[str]) -> str:
    """What follows a scheme, its user and password hidden."""
    _, found, rest = address[0].rpartition("@")
    return f"://{HIDDEN}@{rest}" if found else address[0]


def _without_values(line: str) -> str:
    """The line; what has the name of a secret has no value."""
    parts, done = [], 0
    for found in _NAME.finditer(line):
        start, end = _value(line, found) if found.start() >= done else (0, 0)
        if start < end:
            parts += [line[done:start], HIDDEN]
            done = end
    return "".join([*parts, line[done:]])


def _value(line: str, found: re.Match[str]) -> tuple[int, int]:
    """Where the value of a name begins and ends; nowhere (0, 0) for the name of no secret."""
    name, place = found["name"], found.end()
    if found["option"] and not name.startswith("--"):
        return 0, 0
    header = _HEADER.search(name) is not None
    if not (header or _SECRET.search(name)) or (name.upper() in ("PWD", "OLDPWD") and line.startswith("/", place)):
        return 0, 0
    opening = line[found.start() - 1 : found.start()]
    if quoted := _QUOTED.match(line, place):
        place, end = quoted.span("value")
    elif opening in ("'", '"') and not found["closed"]:  # the quotes are around name and value
        end = _up_to("\n", line, place, _up_to(opening, line, place, len(line)))
    elif header:
        end = _up_to("\n", line, place, len(line))
    else:
        bare = _BARE.match(line, place)
        end = bare.end() if bare else place
    scheme = _SCHEME.match(line, place, end) if header else None
    return (scheme.end() if scheme else place), end


def _up_to(sign: str, line: str, place: int, end: int) -> int:
    """Where the sign stands first between two places; the second one where it doesn't."""
    found = line.find(sign, place, end)
    return end if found < 0 else found


def printable(text: object) -> str:
    """``text`` with its control characters written out: a file's name can't move the cursor, or the reading order."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(text).replace("\r\n", "\n"))


@functools.lru_cache(maxsize=1)
def _secrets_in(variables: tuple[tuple[str, str], ...]) -> list[str]:
    """:func:`secrets_of`, which takes longer than all else that is done to a line."""
    return secrets_of(dict(variables))


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets in the variables of an environment, the longest first; also as an address has them."""
    found: set[str] = set()
    for name, value in environment.items():
        if _VARIABLE.search(name) and not _PLACE_NAME.search(name) and name not in ("PWD", "OLDPWD"):
            found |= {value, quote(value, safe="", errors="surrogateescape")}
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

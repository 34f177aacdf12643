"""The log of a piece of work: a file that outlives its process and shows why the work failed."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from latentsweep.records.redaction import RedactingFormatter, redact, redact_lines
from latentsweep.storage.bounds import not_following
from trainables.errors import ConfigError
from trainables.loop.watchdog import watch

HANG_MINUTES = "LATENTSWEEP_HANG_MINUTES"
"""The environment variable that says after how many minutes without a step a worker counts as hung; 0: never."""

PATIENCE = 30.0
TAIL = 4000
"""Characters of a log that a failed run carries."""

_OURS = ("latentsweep", "trainables")


@contextlib.contextmanager
def noted(path: Path) -> Iterator[None]:
    """Appends what our loggers say to ``path``, and the stacks of a process that crashes or hangs.

    A process that hangs is ended. Work that ends well leaves no log. Raises :class:`ConfigError` as
    :func:`hang_minutes` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", opener=not_following) as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
        loggers = [logging.getLogger(name) for name in _OURS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        faulthandler.enable(file)
        try:
            with watch(60 * hang_minutes(), file):
                yield
        except BaseException as error:
            logging.getLogger(_OURS[0]).error("ended by %s: %s", type(error).__name__, error)
            raise
        finally:
            faulthandler.enable()
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
    path.unlink(missing_ok=True)


def tail(path: Path) -> str:
    """The last lines of a log, at most :data:`TAIL` characters; empty where there is none."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return shorten(text)


def shorten(text: str) -> str:
    """The last whole lines of a text, at most :data:`TAIL` characters, without secrets."""
    text = redact_lines(text)
    return text if len(text) <= TAIL else text[-TAIL:].partition("\n")[2]


def last_line(error: str) -> str:
    """The last line of a traceback that Ray passed on, in at most 300 characters, without secrets."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return redact(lines[-1])[:300] if lines else ""


def hang_minutes() -> float:
    """The minutes of :data:`HANG_MINUTES`; raises :class:`ConfigError` for anything but a number of minutes."""
    text = os.environ.get(HANG_MINUTES, str(PATIENCE))
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < 1e6:
        raise ConfigError(f"{HANG_MINUTES} must be a number of minutes, 0 for no limit; got {text!r}")
    return minutes

"""The channels of files that keep several contrasts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainables.errors import DataError

CHANNEL_NAME = re.compile(r"[\w+ -]{1,20}")


def channel_named(series: str | None, channels: Mapping[str, int]) -> int:
    """The number of a channel by its name, in either case; raises :class:`DataError` with the names for another."""
    for name, number in channels.items():
        if name.lower() == (series or "").lower():
            return number
    told = ", ".join(name for name in channels if CHANNEL_NAME.fullmatch(name))
    raise DataError(f"--series must be one of {told}; got {series!r}")

"""Why a file is left out: a verdict that needs none of the libraries that read files."""

from __future__ import annotations


class Reject(Exception):  # noqa: N818 - a verdict on a file, not a fault
    """Why a file or series is left out. ``broken`` files count towards the share that ends a preparation.

    The reason is a fixed text of this package: it holds nothing of a file's name or headers.
    """

    def __init__(self, reason: str, *, broken: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.broken = broken

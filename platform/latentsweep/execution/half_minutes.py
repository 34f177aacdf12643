"""How far work is, where no terminal shows it: a line when it begins, and one every half minute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

SECONDS = 30.0
"""Between two lines."""


class HalfMinutes:
    """Says what ``how_far`` returns every half minute of a ``with``, from a thread of its own.

    ``say`` gets each line; nothing is said where there is nothing to say.
    """

    def __init__(self, say: Callable[[str], None], how_far: Callable[[], str]) -> None:
        self.say, self.how_far = say, how_far
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(SECONDS):
            line = self.how_far()
            if line:
                self.say(line)

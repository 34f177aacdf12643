"""What a sweep makes of its hours: sizes of its trainings, trials, a confirmation, and what each of them takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.errors import ConfigError
from trainables.space import Value


@dataclass(frozen=True)
class Parts:
    """Seconds that one slot of the search takes for each part of a sweep."""

    reference: float
    autoencoder: float
    trial: float
    fresh: float
    """A denoiser of the confirmation, which has no rungs."""

    def search(self, autoencoders: int, trials: int, slots: int) -> float:
        """Seconds until the last trial has ended."""
        first = waves(autoencoders, slots) * self.autoencoder + self.reference / slots
        return first + waves(trials, slots) * self.trial

    def confirmation(self, autoencoders: int, denoisers: int, slots: int) -> float:
        """Seconds of so many fresh autoencoders and, after them, denoisers."""
        return waves(autoencoders, slots) * self.autoencoder + waves(denoisers, slots) * self.fresh


@dataclass(frozen=True)
class Schedule:
    """What a sweep of ``seconds`` does. Before anything was timed, only the seconds are known."""

    seconds: float
    sizes: Mapping[str, Value] = field(default_factory=dict)
    """The fields of the recipe that it sets."""
    own: Mapping[str, Value | None] = field(default_factory=dict)
    """What the recipe has there itself."""
    trials: int = 0
    configurations: int = 0
    """How many of the best are confirmed."""
    seeds: int = 0
    """With how many fresh seeds each."""
    autoencoders: int = 0
    slots: int = 1
    """Trainings at once."""
    parts: Parts = Parts(0.0, 0.0, 0.0, 0.0)

    @property
    def asked(self) -> int:
        """How many of the space's autoencoders the trials are expected to ask for."""
        return asked_autoencoders(self.trials, self.autoencoders)

    @property
    def taken(self) -> dict[str, float]:
        """Seconds of each part as planned, in the order in which they are done."""
        parts, slots = self.parts, self.slots
        again = fresh_autoencoders(self.configurations, self.seeds, self.autoencoders)
        return {
            "autoencoders": parts.search(self.asked, 0, slots),
            "trials": waves(self.trials, slots) * parts.trial,
            "confirmation": parts.confirmation(again, self.configurations * self.seeds, slots),
        }

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Schedule:
        """The inverse of :meth:`to_plain`; raises ``TypeError`` or ``KeyError`` for anything else."""
        return cls(**{**plain, "parts": Parts(**plain["parts"])})


def waves(count: int, slots: int) -> int:
    """How many times ``slots`` must be filled for ``count`` trainings."""
    return math.ceil(count / slots)


def asked_autoencoders(trials: int, kinds: int) -> int:
    """How many of ``kinds`` autoencoders so many trials ask for, on average, where each asks for any of them."""
    return round(kinds * (1 - (1 - 1 / kinds) ** trials)) if kinds else 0


def fresh_autoencoders(configurations: int, seeds: int, kinds: int) -> int:
    """How many autoencoders a confirmation trains at most, where the space has ``kinds`` of them."""
    return seeds * min(configurations, kinds)


def checked_seconds(hours: float, trials: int | None, confirm: int | None) -> float:
    """The hours in seconds; raises :class:`ConfigError` for none, and beside what the hours decide."""
    if not 0 < hours < math.inf:
        raise ConfigError(f"the time of a sweep must be above 0, got {hours:g} hours; give some")
    for option, value in (("--trials", trials), ("--confirm", confirm)):
        if value is not None:
            raise ConfigError(f"{option} {value} and --hours can't both be kept, since hours plan it; leave one out")
    return round(3600 * hours, 3)

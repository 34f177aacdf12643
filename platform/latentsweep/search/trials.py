"""The trials of a study: what the study keeps of each, and which of them stand for a training.

A *run* trial is one that a denoiser was trained for; a *point* is another threshold of it, told to the study without
any training (attribute ``of``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from latentsweep.search.pairing import PAIRING
from latentsweep.search.proposals import trained_part

REPLACES = "replaces"
"""The attribute of a trial that runs a lost one again, or goes on with a pruned one; it holds that one's number."""


def may_go_on(trial: FrozenTrial) -> bool:
    """Whether a trial was pruned by its score alone, and can go on from where it ended."""
    return trial.state == TrialState.PRUNED and "pruned_at" in trial.user_attrs and feasible(trial)


KEPT = ("metrics", PAIRING)
"""What the study keeps of a point beside its parameters."""

WARM_START = "warm_start"
"""The attribute of a study with the configurations of earlier sweeps that it tries first, by the keys of their runs,
and of a trial that runs one of them, with its key."""

COPIED = "copied"
"""The attribute of a trial that was pruned since it copied: what its last rung said, in words."""

RUNGS = "rungs"
"""The attribute of a trial with two objectives that holds what its rungs scored, by the step."""


@dataclass(frozen=True)
class Point:
    """One measured configuration: its parameters and metrics."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    pairing: Mapping[str, str] | None = None
    """:meth:`Pairing.to_plain`; None where it is not known."""

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study keeps of it beside its parameters."""
        known = {} if self.pairing is None else {PAIRING: dict(self.pairing)}
        return {"metrics": dict(self.metrics), **known}


def run_key(sweep: str, configuration: int | str) -> str:
    """The key under which the run of a sweep's configuration is recorded."""
    return f"{sweep}/trial-{configuration}"


def untouched(trial: FrozenTrial) -> bool:
    """Whether a trial is a configuration of an earlier sweep that nobody has asked for yet."""
    return WARM_START in trial.user_attrs and not trial.params


def feasible(trial: FrozenTrial) -> bool:
    """Whether no guard refuses a trial, as far as the study was told."""
    return all(excess <= 0 for excess in trial.constraints.values())


def without_points(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials of a study that a denoiser is trained for and that were not replaced."""
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    return [trial for trial in trials if "of" not in trial.user_attrs and trial.number not in replaced]


def tried(trials: Iterable[FrozenTrial]) -> set[tuple[tuple[str, Any], ...]]:
    """The configurations that the trials stand for."""
    return {trained_part(trial.params) for trial in trials if trial.params}


def family_of(trial: FrozenTrial) -> int:
    """The number of the trial whose denoiser this one shares."""
    return int(trial.user_attrs.get("of", trial.number))

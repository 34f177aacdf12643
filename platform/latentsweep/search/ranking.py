"""A study as it is read: its trials, and which of them are best. Nothing here changes a trial.

The study in the sweep's folder is the single truth about the search (``trials.py`` says what it keeps).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from latentsweep.metrics import KID, STEPS, objective_of
from latentsweep.search.choice import SearchConfig
from latentsweep.search.databases import storage, translate_errors
from latentsweep.search.optuna_internals import trial_of
from latentsweep.search.pairing import PAIRING, Pairing, paired_error
from latentsweep.search.proposals import distribution
from latentsweep.search.pruning import PRUNERS
from latentsweep.search.trials import REPLACES, WARM_START, family_of, may_go_on, tried, without_points
from latentsweep.stages import guards
from trainables.errors import StoreError
from trainables.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


DATABASE = '"$LATENTSWEEP_STUDY"'
"""The database of studies, as a shell has its address."""


class Ranking:
    """One Optuna study, asked what it holds."""

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        config: SearchConfig,
        seed: int,
        database: str = "",
        *,
        reading: bool = False,
    ) -> None:
        """Opens the study in ``folder`` or ``database``, and begins it where there is none.

        ``reading`` opens it for questions alone and begins none, so that the folder may be read-only. Raises
        :class:`~trainables.errors.StoreError` where it can't be opened.
        """
        self.folder, self.space, self.config, self.seed = folder, space, config, seed
        self.in_database = bool(database)
        self.distributions = {field: distribution(d) for field, d in space.dimensions.items()}
        with translate_errors(database):
            place = storage(folder, database, reading=reading)
            if reading:
                self.study = _loaded(folder.name, place)
            else:
                self.study = optuna.create_study(
                    study_name=folder.name,
                    storage=place,
                    directions=["minimize"] * len(config.objectives),
                    pruner=PRUNERS[config.pruner](),
                    load_if_exists=True,
                )
                _name_objectives(self.study, [objective_of(name).label for name in config.objectives])
        self.apart: frozenset[int] = frozenset()
        """Trials whose scores don't compare with the others': they are in no ranking, nor are their points."""

    @property
    def dashboard(self) -> str:
        """The command of Optuna's pages: nothing of this machine, nor a database's address with its password."""
        own = f"sqlite:///runs/sweeps/{self.folder.name}/study.db"
        return f"optuna-dashboard {DATABASE if self.in_database else own}"

    def trial(self, number: int) -> FrozenTrial:
        """One trial as the study has it."""
        return trial_of(self.study, number)

    def run_trials(self) -> list[FrozenTrial]:
        """Trials that a denoiser is trained for, one a configuration: points, and what was replaced, left out."""
        return without_points(self._trials())

    def pruned_before(self, trial: FrozenTrial) -> FrozenTrial | None:
        """The pruned trial that this one continues, or that the lost trial did that it replaces; None for none."""
        if REPLACES not in trial.user_attrs:
            return None
        replaced = self.trial(trial.user_attrs[REPLACES])
        return replaced if replaced.state == TrialState.PRUNED else self.pruned_before(replaced)

    def frozen(self) -> list[FrozenTrial]:
        """The pruned trials that this search may go on with.

        By ``hyperband`` none is: it keeps what a trial has passed with the trial's number.
        """
        if self.config.sampler != "gp" or len(self.config.objectives) > 1 or self.config.pruner == "hyperband":
            return []
        return [trial for trial in self.run_trials() if may_go_on(trial)]

    def thawed(self) -> dict[int, int]:
        """The pruned trials that others go on with, by number, each with the number of the other."""
        pairs = ((self.pruned_before(trial), trial.number) for trial in self._trials())
        return {pruned.number: number for pruned, number in pairs if pruned}

    def points_of(self, number: int) -> list[FrozenTrial]:
        """The other thresholds of a trial's pass."""
        of_trial = (t for t in self.study.get_trials(deepcopy=False) if t.user_attrs.get("of") == number)
        return [trial for trial in of_trial if trial.state == TrialState.COMPLETE and self._is_ours(trial)]

    @property
    def warm_start(self) -> Mapping[str, Mapping[str, Any]]:
        """The configurations of earlier sweeps that are tried first, by the keys of their runs."""
        return dict(self.study.user_attrs.get(WARM_START, {}))

    def finished(self) -> int:
        """How many run trials have ended, one way or another."""
        return sum(trial.state.is_finished() for trial in self.run_trials())

    def exhausted(self) -> bool:
        """Whether a denoiser of every configuration was asked for."""
        return self._all_tried(self.run_trials())

    def lacks(self, target: int) -> bool:
        """Whether something is left to run: a trial that hasn't ended, or one more of ``target`` in all."""
        trials = self.run_trials()
        return any(not trial.state.is_finished() for trial in trials) or (
            len(trials) < target and not self._all_tried(trials)
        )

    def measured(self) -> list[FrozenTrial]:
        """Every configuration with a score, points among them, best first; what the guards refuse is last.

        Those of trials that are :attr:`apart` are left out.
        """
        return sorted(self._ranked(), key=self._rank)

    def leader(self) -> FrozenTrial:
        """The first of :meth:`measured`, which must not be empty."""
        return min(self._ranked(), key=self._rank)

    def refusal(self, trial: FrozenTrial) -> str:
        """Why the guards refuse a measured trial, in words; empty where they don't, or the search has none.

        What they say of any search's measurements is :func:`~latentsweep.stages.guards.refusal`.
        """
        return self.refused(trial.user_attrs.get("metrics", {}))

    def refused(self, metrics: Mapping[str, float]) -> str:
        """The same of measurements."""
        return guards.refusal(metrics) if self.config.guarded else ""

    def feasible(self) -> list[FrozenTrial]:
        """Those of :meth:`measured` that no guard refuses."""
        return [trial for trial in self.measured() if not self.refusal(trial)]

    def best(self) -> list[FrozenTrial]:
        """The Pareto front of two objectives; of one the cheapest threshold within one standard error of the best.

        That error is of the difference of the two scores, see :meth:`paired_error`; where there is none, that of the
        best score. Nothing that the guards refuse is among them; where they refuse all, there is no best.
        """
        if len(self.config.objectives) > 1:
            return self._front()
        measured = self.feasible()
        if not measured:
            return []
        best = measured[0]
        unpaired = best.user_attrs["metrics"].get(objective_of(self.config.objectives[0]).error, 0.0)
        good = []
        for trial in measured:
            if family_of(trial) == family_of(best):
                paired = self.paired_error(trial, best)
                if trial.values[0] <= best.values[0] + (unpaired if paired is None else paired):
                    good.append(trial)
        return [min(good, key=lambda t: (t.user_attrs["metrics"].get(STEPS.name, 0.0), t.values[0]))]

    def paired_error(self, trial: FrozenTrial, other: FrozenTrial) -> float | None:
        """Standard error of the difference of two measured trials' scores, as :func:`~.pairing.paired_error` has it.

        None where KID is not the one objective.
        """
        if self.config.objectives != (KID.objective,):
            return None
        return paired_error(*(Pairing.from_plain(each.user_attrs.get(PAIRING)) for each in (trial, other)))

    def _complete(self) -> list[FrozenTrial]:
        return self._trials(TrialState.COMPLETE)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials of the study, in some states or all; those that another client of Optuna added are left out."""
        return [
            trial for trial in self.study.get_trials(deepcopy=False, states=states or None) if self._is_ours(trial)
        ]

    def _is_ours(self, trial: FrozenTrial) -> bool:
        """Whether a trial has dimensions of the space alone and, where it is complete, measurements."""
        measured = trial.state != TrialState.COMPLETE or isinstance(trial.user_attrs.get("metrics"), Mapping)
        return measured and trial.params.keys() <= self.distributions.keys()

    def _ranked(self) -> list[FrozenTrial]:
        return [trial for trial in self._complete() if family_of(trial) not in self.apart]

    def _front(self) -> list[FrozenTrial]:
        """The ranked trials, none refused, that no other one beats in one objective and equals or beats in all."""
        ranked = [trial for trial in self._ranked() if not self.refusal(trial)]

        def beaten(trial: FrozenTrial) -> bool:
            pairs = ([*zip(other.values, trial.values, strict=True)] for other in ranked)
            return any(all(a <= b for a, b in pair) and any(a < b for a, b in pair) for pair in pairs)

        return [trial for trial in ranked if not beaten(trial)]

    def _all_tried(self, runs: Iterable[FrozenTrial]) -> bool:
        size = self.space.size / max(1, len(self.space.thresholds))
        return math.isfinite(size) and len(tried(runs)) >= size

    def _rank(self, trial: FrozenTrial) -> tuple[bool, Sequence[float], int]:
        return bool(self.refusal(trial)), trial.values, trial.number


def _name_objectives(study: Study, names: Sequence[str]) -> None:
    """What other viewers of the study call its objectives; written where it differs, also in a study of before."""
    if study.metric_names != [*names]:
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            study.set_metric_names([*names])


def _loaded(name: str, place: str | RDBStorage) -> Study:
    """A study that is there; raises :class:`StoreError` where it isn't."""
    try:
        return optuna.load_study(study_name=name, storage=place)
    except KeyError:
        raise StoreError(
            f"a sweep's study must be where it was searched, and that of {name} isn't there; say where with "
            "--study-storage, or put back its study.db"
        ) from None
    except RuntimeError as error:  # so Optuna says that the tables are of another version than its own
        raise StoreError(
            f"a study must be in tables that Optuna {optuna.__version__} reads, and that of {name} isn't "
            f"({str(error).splitlines()[0]}); bring it there with `optuna storage upgrade`"
        ) from None

"""The private names of Optuna that the search uses are there, and mean what they meant."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from latentsweep.search import optuna_internals
from latentsweep.search.optuna_internals import CHECKED_WITH, annotate, put_back, trial_of

SEARCH = Path(optuna_internals.__file__).parent
STORAGE_METHODS = (
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_state_values",
    "set_trial_user_attr",
)


def test_this_version_of_optuna_was_checked() -> None:
    assert optuna.__version__ == CHECKED_WITH, "run this file, read Optuna's changes, then name the new version"


def test_every_private_name_exists() -> None:
    study = optuna.create_study()
    assert isinstance(study._storage, BaseStorage)
    assert isinstance(study._study_id, int)
    assert all(callable(getattr(study._storage, name)) for name in STORAGE_METHODS)


def test_an_interrupted_trial_is_put_back_and_asked_again(tmp_path: Path) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}")
    first = study.ask().number
    other = study.ask().number
    annotate(study, first, {"reason": "none", "step": 3})
    assert trial_of(study, first).user_attrs == {"reason": "none", "step": 3}
    put_back(study, first)
    assert (trial_of(study, first).state, trial_of(study, other).state) == (TrialState.WAITING, TrialState.RUNNING)
    assert study.ask().number == first


def test_no_other_module_of_the_search_reads_optunas_private_names() -> None:
    private = re.compile(r"\b(study|trial|storage|sampler)\._[a-z]")
    found = [path.name for path in SEARCH.glob("*.py") if private.search(path.read_text())]
    assert found == ["optuna_internals.py"]

"""Configurations out of sweeps: which of a sweep's trials is meant, and where its configuration came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, TrialState

from latentsweep import __version__
from latentsweep.configuration import CONFIG, Configuration, read_configuration
from latentsweep.metrics import objective_of
from latentsweep.search.confirmation import choice, confirmation, refusal
from latentsweep.search.plan import SweepPlan, threads_of
from latentsweep.search.study import Search
from latentsweep.search.sweeps import chosen_sweep, open_search
from latentsweep.search.trials import family_of, run_key
from latentsweep.stages import guards
from latentsweep.storage.home import Home
from trainables.errors import ConfigError, DataError
from trainables.loop.settings import Execution


def configuration_of(
    folder: Path,
    trial: int | None,
    run_id: Callable[[str, str], str | None] = lambda dataset, key: None,
    database: str = "",
    *,
    despite_guards: bool = False,
) -> Configuration:
    """A sweep's best configuration, or that of the number ``trial``, with where it came from.

    ``despite_guards`` takes what the guards refuse, too, and the best of that where they refuse all.

    The best is the confirmed one, where the sweep has a confirmation. The origin tells the score of ``selection``,
    which chance had a part in, from those ``confirmed`` with fresh seeds; the configuration's own seed is the
    sweep's, whose training is in the store.

    Raises :class:`DataError` where the trial has no result, and :class:`ConfigError` where one must be named or the
    guards refuse it.
    """
    plan, search = SweepPlan.read(folder), open_search(folder, database)
    found = _trial(search, folder, trial, despite_guards)
    refused = refusal(search, found)
    if refused and not despite_guards:
        raise ConfigError(_refusal_words(search, folder, found, refused))
    params = found.params
    metrics = found.user_attrs["metrics"]
    refused = refused or guards.refusal(metrics)
    numbers = dict.fromkeys((found.number, family_of(found)))  # before points had runs, that of the trial had all
    runs = (run_id(plan.dataset, run_key(folder.name, number)) for number in numbers)
    origin = {
        "sweep": folder.name,
        "trial": found.number,
        "pass": family_of(found),
        "parameters": dict(params),
        "run_id": next(filter(None, runs), None),
        "code": __version__,
        "dataset_fingerprint": plan.fingerprint,
        "objective": list(search.config.objectives),
        "split": "validation",
        "selection": {"seed": plan.seed, **dict(zip(search.config.objectives, found.values, strict=True))},
        "confirmed": _confirmed(search, found.number) or False,
        "scores": dict(sorted(metrics.items())),
        **({"refused": refused} if refused else {}),
    }
    execution = Execution(threads=threads_of(folder))
    return Configuration(plan.dataset, plan.seed, plan.recipe_of(params), execution, origin)


def words_of(origin: Mapping[str, Any], *, named: bool) -> str:
    """What a configuration is to its sweep, from its origin; ``named``: the user has chosen it by its number."""
    objective, confirmed = origin["objective"][0], origin["confirmed"]
    metric = objective_of(objective)
    score = f"{metric.label} {metric.format(origin['selection'][objective])}"
    if origin.get("refused"):
        return f"which the guards refuse, {origin['refused']}: {score}"
    found = f"{score} with the search's seed {origin['selection']['seed']}"
    if not confirmed:
        return f"{'chosen by its number' if named else 'the best of the search'} and not confirmed: {found}"
    seeds = ", ".join(map(str, confirmed["seeds"]))
    mean = (
        "a failure" if confirmed["mean"] is None else f"{metric.label} {metric.format(confirmed['mean'])} on average"
    )
    place = f"place {confirmed['rank']} of {confirmed['of']} confirmed" if named else "the confirmed best"
    return f"{place}: {mean} with the fresh seeds {seeds}, {found}"


NAMES_OF_A_RUN = (
    "a trained run is a YAML file, a model's folder, SWEEP/NUMBER as demo-small-1a2b3c4d/5, or a dataset that MLflow "
    "holds the champion of"
)
"""What a user may name; the last is its model's folder before :func:`configuration_at` is asked."""


class Named(NamedTuple):
    """What a user names as a trained run."""

    configuration: Configuration
    folder: Path | None = None
    """That of its model, if it is one."""
    results: Mapping[str, str] | None = None
    """The names of its results in the store, by stage, if it is a trial: also those of an earlier version."""


def configuration_at(home: Home, run: str) -> Named:
    """The configuration that ``run`` names, and where what was trained of it lies.

    ``run`` is a YAML file, a folder with a trained model, or ``SWEEP/NUMBER``. Raises :class:`DataError` for another
    text, and what reading the configuration raises.
    """
    path = Path(run)
    if path.is_dir():
        return Named(read_configuration(path / CONFIG), path)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return Named(read_configuration(path))
    name, _, number = run.rpartition("/")
    if name and number.isdigit() and (home.sweeps / name).is_dir():
        folder = chosen_sweep(home, None, name)
        found = configuration_of(folder, int(number), database=home.study, despite_guards=True)
        search = open_search(folder, home.study)
        return Named(found, results=SweepPlan.read(folder).results(search, search.trial(int(number))))
    raise DataError(f"{NAMES_OF_A_RUN}; got {run!r}")


def _confirmed(search: Search, trial: int) -> dict[str, Any] | None:
    """What the fresh seeds say of a trial; None where they weren't tried on it."""
    found = confirmation(search)
    row = found.row_of(trial) if found else None
    if found is None or row is None:
        return None
    return {
        "rank": found.rows.index(row) + 1,
        "of": len(found.rows),
        "seeds": list(found.seeds),
        "scores": list(row.scores),
        "mean": found.mean(row),
        "expected": found.expected if row is found.best else None,
        **({"failures": dict(row.failures)} if row.failures else {}),
    }


def _refusal_words(search: Search, folder: Path, trial: FrozenTrial, refused: str) -> str:
    if choice(search):
        what, other = f"configuration {trial.number} of {folder.name}", "name another with --number"
    else:
        every = "every confirmed configuration" if search.feasible() else "every configuration"
        what, other = f"{every} of {folder.name}, among them number {trial.number}", "search on with more --trials"
    return f"the guards refuse {what}: {refused}; {other}, or say {guards.DESPITE}"


def _trial(search: Search, folder: Path, number: int | None, despite_guards: bool) -> FrozenTrial:
    if number is None:
        found = confirmation(search)
        leading = [search.trial(row.trial) for row in found.rows[:1]] if found else search.measured()[:1]
        best = choice(search) or leading
        if not best:
            raise DataError(f"the sweep {folder.name} has no finished trial yet; run it again to go on")
        if len(best) > 1:
            numbers = ", ".join(str(trial.number) for trial in best)
            raise ConfigError(
                f"the sweep {folder.name} has several best configurations ({numbers}); choose one with --number"
            )
        return best[0]
    trials = search.study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise ConfigError(f"the sweep {folder.name} has the numbers 0 to {len(trials) - 1}, not {number}")
    if trials[number].state != TrialState.COMPLETE:
        later = search.thawed().get(number)
        raise DataError(
            f"configuration {number} of {folder.name} has no result: it is {trials[number].state.name.lower()}"
            + (f", and configuration {later} continued it" if later else "")
        )
    return trials[number]

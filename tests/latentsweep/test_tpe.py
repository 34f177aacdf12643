"""TPE looks at denoisers, each once, and proposes what a training has."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.search.tpe import TPEOfDenoisers
from latentsweep.search.trials import Point
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Range(0.0, 1.0), THRESHOLD: Choice((0.0, 0.05, 0.1))})


def measured(number: int, value: float, family: int | None = None, excess: float = 0.0) -> FrozenTrial:
    of = {} if family is None else {"of": family}
    trial = create_trial(value=value, user_attrs=of, constraints={"copies": excess})
    trial.number = number
    return trial


def seen(*trials: FrozenTrial) -> set[int]:
    return TPEOfDenoisers(trials, startup=1, seed=0).seen


def test_each_denoiser_counts_once_with_the_best_of_its_thresholds() -> None:
    first = [measured(0, 5.0), measured(1, 3.0, 0), measured(2, 4.0, 0)]
    assert seen(*first) == {1}
    pruned = create_trial(state=TrialState.PRUNED)
    pruned.number = 3
    assert seen(*first, pruned, measured(4, 1.0), measured(5, 0.5, 4, excess=1.0)) == {1, 3, 4}, "5 is refused"


def test_a_denoiser_that_the_guards_refuse_under_all_thresholds_is_seen_as_that() -> None:
    assert seen(measured(0, 5.0, excess=2.0), measured(1, 3.0, 0, excess=1.0)) == {1}


@pytest.mark.parametrize("reopened", [False, True])
def test_what_another_client_of_optuna_added_is_not_seen(tmp_path: Path, reopened: bool) -> None:
    config = SearchConfig(sampler="tpe", pruner="none", startup=2)
    asked = []
    for place, foreign in (("alone", 0), ("beside", 4)):
        (tmp_path / place).mkdir()
        search = Search(tmp_path / place, SPACE, config, 0)
        for _ in range(foreign):
            search.study.add_trial(create_trial(value=-100.0, params={}, distributions={}))
        for _ in range(6):
            if reopened:
                search = Search(tmp_path / place, SPACE, config, 0)
                search.requeue()
            number, params = search.ask() or pytest.fail("the space has no end")
            score = abs(params["diffusion.frequency_weight"] - 0.3)
            search.tell(number, [Point({**params, THRESHOLD: t}, {"gen/kid": score}) for t in SPACE.thresholds], {})
        asked.append([trial.params for trial in search.run_trials()])
    assert asked[0] == asked[1]


@pytest.mark.parametrize("best", [0.2, 0.7])
def test_denoisers_are_proposed_where_the_best_are_and_thresholds_of_all_kinds(tmp_path: Path, best: float) -> None:
    search = Search(tmp_path, SPACE, SearchConfig(sampler="tpe", pruner="none"), 0)
    asked = []
    for _ in range(40):
        number, params = search.ask() or pytest.fail("the space has no end")
        asked.append(params)
        score = abs(params["diffusion.frequency_weight"] - best)
        points = [Point({**params, THRESHOLD: each}, {"gen/kid": score + each}) for each in SPACE.thresholds]
        search.tell(number, points, {})
    late = [params["diffusion.frequency_weight"] for params in asked[20:]]
    assert math.fsum(abs(weight - best) for weight in late) / len(late) < 0.15, "at random it would be above 0.25"
    assert {params[THRESHOLD] for params in asked[20:]} == set(SPACE.thresholds)

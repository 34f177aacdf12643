"""What copies or collapses can't win: not in the search, the front, the confirmation or the registry."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from latentsweep.api import trainings
from latentsweep.commands import models
from latentsweep.execution.view import View
from latentsweep.search import confirmation, leaderboard, study
from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.stages import guards
from latentsweep_mlflow import registry
from trainables.errors import ConfigError
from trainables.recipes import Recipe
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace({"diffusion.frequency_weight": Range(0.0, 1.0), THRESHOLD: Choice((0.0, 0.05))})
HONEST = {
    "gen/samples": 64.0,
    "gen/near_copies": 1 / 64,
    "gen/near_copies_bound": 2 / 64,
    "gen/alike": 2 / 64,
    "gen/alike_bound": 4.2 / 64,
    "gen/diversity": 0.4,
    "gen/diversity_bound": 0.21,
}
COPYIST = HONEST | {"gen/near_copies": 0.58}
GREY = HONEST | {"gen/alike": 7 / 64}
DULL = HONEST | {"gen/diversity": 0.12}
OLD = {name: value for name, value in (COPYIST | GREY | DULL).items() if not name.endswith("_bound")}


def opened(folder: Path, **settings: Any) -> Search:
    folder.mkdir(exist_ok=True)
    return Search(folder, SPACE, SearchConfig(**{"sampler": "random", **settings}), seed=0)


def tell(
    search: Search, score: float, metrics: Mapping[str, float], stopped: Mapping[str, float] | None = None
) -> int:
    """A trial of two thresholds, the second of which costs 0.4 and saves half of the steps."""
    number, params = search.ask() or (0, {})
    told = [
        Point({**params, THRESHOLD: 0.0}, {"gen/kid": score, "gen/kid_se": 0.5, "gen/steps_mean": 50.0, **metrics}),
        Point(
            {**params, THRESHOLD: 0.05},
            {"gen/kid": score + 0.4, "gen/kid_se": 0.5, "gen/steps_mean": 25.0, **(stopped or metrics)},
        ),
    ]
    search.tell(number, told, {})
    return number


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (HONEST, ""),
        (COPYIST, "copies 37 of 64 (bound 2)"),
        (GREY, "collapsed: 7 of 64 alike (bound 4)"),
        (DULL, "collapsed: diversity 0.12 (bound 0.21)"),
        (COPYIST | {"gen/alike": 0.5}, "copies 37 of 64 (bound 2); collapsed: 32 of 64 alike (bound 4)"),
        (
            HONEST | {"gen/seconds_per_image": 2.04, "gen/seconds_per_image_bound": 2.0},
            "slow: 2.04 s an image (bound 2)",
        ),
        (HONEST | {"gen/seconds_per_image": 2.0, "gen/seconds_per_image_bound": 2.0}, ""),
        (HONEST | {"gen/seconds_per_image": 2.0}, ""),
        (OLD, ""),
        ({}, ""),
    ],
)
def test_a_refusal_says_what_was_measured_and_what_may_be_and_the_unknown_is_refused_by_none(
    metrics: Mapping[str, float], said: str
) -> None:
    assert guards.refusal(metrics) == said
    assert bool(said) == any(excess > 0 for excess in guards.constraints(metrics).values())


def test_a_reason_never_shows_a_value_as_its_own_bound() -> None:
    def said(**metrics: float) -> str:
        return guards.refusal({f"gen/{name}": value for name, value in metrics.items()})

    assert said(near_copies=25 / 200, near_copies_bound=24 / 200, samples=200) == "copies 25 of 200 (bound 24)"
    assert said(near_copies=25 / 200, near_copies_bound=24 / 200) == "copies 12.5 % (bound 12 %)"
    assert said(near_copies=0.1204, near_copies_bound=0.1203) == "copies 12.04 % (bound 12.03 %)"
    assert said(alike=0.0504, alike_bound=0.05) == "collapsed: 5.04 % alike (bound 5 %)"
    assert said(diversity=0.1399, diversity_bound=0.14) == "collapsed: diversity 0.1399 (bound 0.14)"
    even = {"rung/near_copies": 0.25, "rung/near_copies_bound": 0.25}
    assert guards.rung_words(even) == "copies 25 % (bound 25 %)", "it is at its bound and not beyond"


def test_at_its_bound_nothing_is_refused() -> None:
    even = HONEST | {name.removesuffix("_bound"): HONEST[name] for name in HONEST if name.endswith("_bound")}
    assert guards.refusals(even) == []
    assert all(excess <= 0 for excess in guards.constraints(even).values())


@pytest.mark.parametrize("refused", [COPYIST, GREY, DULL])
def test_what_is_refused_never_wins_however_low_its_score(tmp_path: Path, refused: Mapping[str, float]) -> None:
    search = opened(tmp_path / "s")
    low, honest, worst = tell(search, 1.0, refused), tell(search, 30.0, HONEST), tell(search, 40.0, refused)
    assert search.leader().number == honest
    assert [trial.user_attrs.get("of", trial.number) for trial in search.measured()][2:4] == [low, low]
    assert all(not search.refusal(trial) for trial in search.best())
    finalists = confirmation.finalists(search, 5)
    assert [trial.user_attrs.get("of", trial.number) for trial in finalists] == [honest]
    table = leaderboard.rows(search)
    assert [row["rank"] for row in table] == [1, 2, None, None, None, None]
    assert [bool(row["refused"]) for row in table] == [False, False, True, True, True, True]
    assert [row["pass"] for row in table][-2:] == [worst, worst]
    assert guards.refusal(refused) in leaderboard.as_markdown(table)
    best = search.study.best_trial
    assert best.number == honest or best.user_attrs["of"] == honest, "Optuna knows it, too"
    assert optuna.load_study(study_name="s", storage=search.study._storage).best_trial.value == 30.0


def test_a_refused_threshold_leaves_the_others_of_its_pass(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    tell(search, 10.0, HONEST, stopped=GREY)
    tell(search, 30.0, HONEST)
    assert [trial.params[THRESHOLD] for trial in search.best()] == [0.0], "the stopped one is within the error"
    assert len(search.feasible()) == 3


def test_what_draws_too_slowly_never_wins_where_a_most_is_stated(tmp_path: Path) -> None:
    slow, fast = HONEST | {"gen/seconds_per_image": 0.8}, HONEST | {"gen/seconds_per_image": 0.4}
    search = opened(tmp_path / "s", most_seconds=0.5)
    tell(search, 10.0, slow, stopped=fast)
    tell(search, 30.0, slow)
    assert [trial.params[THRESHOLD] for trial in search.best()] == [0.05], "the stopped one is fast enough"
    assert len(search.feasible()) == 1
    assert "slow: 0.8 s an image (bound 0.5)" in leaderboard.as_markdown(leaderboard.rows(search))
    assert search.study.best_trial.params[THRESHOLD] == 0.05, "Optuna knows it, too"
    anything = opened(tmp_path / "any")
    first = tell(anything, 10.0, slow)
    assert [trial.user_attrs.get("of", trial.number) for trial in anything.best()] == [first]
    with pytest.raises(ConfigError, match=r"--most-seconds 0\.5 is a guard, and --despite-guards refuses nothing"):
        SearchConfig(most_seconds=0.5, guarded=False)


def test_where_all_are_refused_there_is_no_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = opened(tmp_path / "s")
    tell(search, 10.0, COPYIST)
    assert search.best() == confirmation.choice(search) == confirmation.finalists(search, 5) == []
    assert search.leader().values == [10.0]
    leaderboard.show(leaderboard.rows(search), leaderboard.counts(search), {})
    assert "the guards refuse all" in capsys.readouterr().out


def test_nothing_refused_is_on_a_pareto_front(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", objectives=("kid", "steps"))
    tell(search, 1.0, COPYIST)
    honest = tell(search, 30.0, HONEST)
    assert {trial.user_attrs.get("of", trial.number) for trial in search.best()} == {honest}


def test_a_search_without_guards_refuses_nothing_and_is_another_search(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", guarded=False)
    copyist = tell(search, 1.0, COPYIST)
    tell(search, 30.0, HONEST)
    assert search.best()[0].user_attrs.get("of", copyist) == copyist
    number, _ = search.ask() or (0, {})
    assert not search.report(number, 5, {"rung/kid": 1.0, "rung/near_copies": 1.0, "rung/near_copies_bound": 0.1})
    table = leaderboard.rows(search)
    assert "refused" not in table[0]
    assert [(row["rank"], row["guards"]) for row in table[:2]] == [
        (rank, "copies 37 of 64 (bound 2)") for rank in (1, 2)
    ]
    assert "copies 37 of 64 (bound 2); " in leaderboard.gather_fields(table)[0][0]["configuration"]
    assert SearchConfig().identity() != SearchConfig(guarded=False).identity()
    assert "guarded" not in SearchConfig().identity(), "a sweep of an older version keeps its name"


@pytest.mark.parametrize(
    "settings", [{"pruner": "none"}, {"objectives": ("kid", "steps")}, {"objectives": ("steps",)}]
)
def test_who_copies_at_a_rung_is_pruned_by_any_search_and_told_as_infeasible(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    search = opened(tmp_path / "s", **settings)
    number, _ = search.ask() or (0, {})
    clean = {"rung/kid": 90.0, "rung/near_copies": 2 / 64, "rung/near_copies_bound": 2 / 64}
    assert not search.report(number, 100, clean)
    assert not search.report(number, 150, {"rung/kid": 80.0}), "a rung of an older version"
    for _ in range(2):
        assert search.report(number, 200, clean | {"rung/kid": 50.0, "rung/near_copies": 0.25})
    search.prune(number, {})
    trial = search.trial(number)
    assert trial.state == TrialState.PRUNED
    assert trial.user_attrs["copied"] == "copies 25 % (bound 3.1 %)"
    assert trial.constraints == {"near_copies": pytest.approx(0.25 - 2 / 64)}
    assert leaderboard.copyists(search) == (
        f"ended early since they copy training slices: trial {number} at step 200: copies 25 % (bound 3.1 %)"
    )


def test_what_is_refused_prunes_no_honest_trial(tmp_path: Path) -> None:
    search, told = opened(tmp_path / "s", startup=2), (COPYIST, DULL, HONEST, HONEST)

    def ended(at_rung: float, metrics: Mapping[str, float]) -> bool:
        number, params = search.ask() or (0, {})
        pruned = search.report(number, 100, {"rung/kid": at_rung})
        search.tell(number, [Point({**params, THRESHOLD: t}, {"gen/kid": 1.0, **metrics}) for t in (0.0, 0.05)], {})
        return pruned

    scores = (1.0, 2.0, 50.0, 60.0)
    assert not any(ended(*each) for each in zip(scores, told, strict=True)), "too few honest ones had ended"
    assert not ended(54.0, HONEST), "the median of the honest is 55, of all 26"
    assert ended(58.0, HONEST)


def test_a_trial_that_is_said_to_be_pruned_is_infeasible_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = opened(tmp_path / "s")
    number, _ = search.ask() or (0, {})

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "constrain", killed)
    rung = {"rung/kid": 50.0, "rung/near_copies": 0.25, "rung/near_copies_bound": 2 / 64}
    with pytest.raises(KeyboardInterrupt):
        search.report(number, 200, rung)
    assert "pruned_at" not in search.trial(number).user_attrs


@pytest.mark.slow
def test_tpe_takes_refused_configurations_for_bad_ones(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", sampler="tpe", startup=4)
    for _ in range(12):
        number, params = search.ask() or (0, {})
        heavy = params["diffusion.frequency_weight"] > 0.5
        metrics = {"gen/kid": 1.0 if heavy else 50.0, **(COPYIST if heavy else HONEST)}
        search.tell(number, [Point({**params, THRESHOLD: t}, metrics) for t in (0.0, 0.05)], {})
    asked = [(search.ask() or (0, {}))[1]["diffusion.frequency_weight"] for _ in range(12)]
    assert sum(weight > 0.5 for weight in asked) < 6


def test_the_live_view_shows_copies_beside_the_score() -> None:
    text = StringIO()
    view = View(Console(file=text, width=120), "sweep", target=2, steps=500)
    view.started(0, {})
    view.heard(0, 200, 54.3, "copies 25 % (bound 3.1 %)")
    view.heard(0, 300, None)
    Console(file=text, width=120).print(view.render())
    assert "54.3, copies 25 % (bound 3.1 %)" in text.getvalue()


def trained(tmp_path: Path, metrics: Mapping[str, float], recipe: Recipe | None = None) -> Any:
    """What a training gave, as far as its registration reads it."""
    job = SimpleNamespace(
        name="scans-1234",
        home=SimpleNamespace(root=tmp_path),
        dataset=SimpleNamespace(name="scans"),
        folder=tmp_path / "model",
        last="test",
        configuration=SimpleNamespace(recipe=recipe or Recipe()),
    )
    scores = {"gen/kid": 54.3, **metrics}
    return SimpleNamespace(job=job, scores=scores, judged=scores, refused=guards.refusal(scores), comparable="ref1")


def test_a_copyist_is_registered_only_where_it_is_said_and_is_never_the_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, Any]] = []

    def register_model(home: Path, **named: Any) -> registry.Registered:
        given.append(named)
        return registry.Registered(1, False, None, "")

    monkeypatch.setattr(registry, "register_model", register_model)
    copyist = trained(tmp_path, COPYIST)
    assert trainings.register(copyist, "run", despite_guards=False) is None
    with pytest.raises(ConfigError, match=r"copies 37 of 64 \(bound 2\).*--despite-guards"):
        models.check_registered(copyist, None, wanted=True)
    models.check_registered(copyist, None, wanted=False)
    assert not given
    models.check_registered(copyist, trainings.register(copyist, "run", despite_guards=True), wanted=True)
    joint = Recipe().replace(**{"data.mask": True})
    trainings.register(trained(tmp_path, HONEST, joint), "run", despite_guards=False)
    assert [named["masks"] for named in given] == [False, True]
    assert [named["tags"] for named in given] == [{"latentsweep.guards": "copies 37 of 64 (bound 2)"}, {}]
    tags = {registry._SCORE: "1.0", registry._OBJECTIVE: "kid", **given[0]["tags"]}
    assert registry._compare(tags, None)[0] is False

"""The search: no repeats, resumption, points of a pass, pruning, and the choice of the best."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import optuna
import optuna_dashboard
import pytest
from optuna.trial import TrialState

from latentsweep.execution.worker import failure, points_of
from latentsweep.metrics import OBJECTIVES
from latentsweep.pages.tables import records_as_csv
from latentsweep.search import leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.pairing import PAIRING, Pairing
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from trainables.errors import INFRASTRUCTURE, ConfigError, DataError, DiskError, LatentsweepError
from trainables.recipes import SMOKE
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Choice((0.0, 0.1, 0.3)),
        THRESHOLD: Choice((0.0, 0.05)),
    }
)


def opened(folder: Path, space: SearchSpace = SPACE, **settings: object) -> Search:
    folder.mkdir(exist_ok=True)
    return Search(folder, space, SearchConfig(**settings), seed=0)  # type: ignore[arg-type]


def points(params: dict[str, object], score: float, error: float = 0.5, apart: float | None = None) -> list[Point]:
    """What one pass gives: stopping early saves half the steps and costs 0.4.

    ``apart`` is the paired error of the difference; None where nothing was recorded to pair by.
    """
    return [
        Point(
            {**params, THRESHOLD: threshold},
            {"gen/kid": score + (0.4 if threshold else 0.0), "gen/kid_se": error, "gen/steps_mean": steps},
            None if apart is None else paired(apart if threshold else 0.0),
        )
        for threshold, steps in ((0.0, 50.0), (0.05, 25.0))
    ]


def paired(apart: float, shared: str = "reference/1 seed 0") -> dict[str, str]:
    """What pairs a configuration with another: its error to one whose ``apart`` is smaller is the difference."""
    images = apart * np.array([0.5, -0.5, 0.5, -0.5]) * np.sqrt(3)
    return Pairing(images, np.array([40.0, 60.0]), np.array([2.0, 3.0]), shared).to_plain()


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_no_denoiser_is_asked_for_twice_and_all_are_found(tmp_path: Path, sampler: str) -> None:
    search = opened(tmp_path / "s", sampler=sampler)
    seen = set()
    while asked := search.ask():
        number, params = asked
        seen.add((params["vae.latent_channels"], params["diffusion.frequency_weight"]))
        search.tell(number, points(params, score=number), {})
    assert len(seen) == 6
    assert len(search.run_trials()) == 6
    assert len(search.measured()) == 12, "every threshold of every pass is told to the study"
    assert search.exhausted()


def test_an_interrupted_trial_waits_and_is_asked_first_with_the_same_parameters(tmp_path: Path) -> None:
    first = opened(tmp_path / "s")
    number, params = first.ask() or (None, {})
    assert number is not None
    first.report(number, 5, {"rung/kid": 3.0})

    again = opened(tmp_path / "s")
    assert again.requeue() == 1
    assert again.ask() == (number, params)
    assert again.trial(number).intermediate_values == {5: 3.0}
    assert not again.report(number, 5, {"rung/kid": 3.0}), "a rung that is reported again changes nothing"


def test_what_waits_is_asked_though_the_target_is_reached_and_nothing_more(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    first, second = search.ask(2), search.ask(2)
    assert first is not None
    assert second is not None
    assert search.ask(2) is None
    search.wait(first[0])
    assert search.ask(2) == first
    assert search.ask(2) is None


def test_reading_the_study_is_not_repeated_for_every_trial_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    original = optuna.Study.get_trials

    def counted(study: optuna.Study, *arguments: object, **named: object) -> object:
        reads.append(study)
        return original(study, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(optuna.Study, "get_trials", counted)
    search = opened(tmp_path / "s")
    numbers = []
    for _ in range(3):
        number, params = search.ask() or (0, {})
        search.tell(number, points(params, score=number), {})
        reads.clear()
        opened(tmp_path / "s").requeue()
        numbers.append(len(reads))
    assert len(set(numbers)) == 1, f"reads when the study is opened after 1, 2 and 3 trials: {numbers}"


def test_a_crash_between_the_decision_and_its_record_loses_neither(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    pruned, _ = search.ask() or (None, {})
    told, params = search.ask() or (None, {})
    assert pruned is not None
    assert told is not None
    search._asked[pruned].set_user_attr("pruned_at", 7)
    other = points(params, 1.0)[1] if params[THRESHOLD] == 0.0 else points(params, 1.0)[0]
    search._annotate(
        told,
        {
            "metrics": dict(points(params, 1.0)[0].metrics),
            "points": [{"params": dict(other.params), "metrics": dict(other.metrics)}],
        },
    )
    search.study.tell(told, [1.0])

    again = opened(tmp_path / "s")
    again.requeue()
    again.requeue()
    assert again.trial(pruned).state == TrialState.PRUNED
    assert len([t for t in again.measured() if t.user_attrs.get("of") == told]) == 1


def test_what_the_infrastructure_lost_waits_again_and_what_the_configuration_lost_does_not(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    lost, params = search.ask() or (0, {})
    search.fail(lost, "the worker was lost", INFRASTRUCTURE)
    diverged, _ = search.ask() or (0, {})
    search.fail(diverged, "the loss is no longer finite", "divergence")
    assert search.finished() == 2

    again = opened(tmp_path / "s")
    assert again.requeue() == 1
    again.requeue()
    number, same = again.ask() or (0, {})
    assert same == params
    assert {trial.number for trial in again.run_trials()} == {diverged, number}
    assert again.finished() == 1


@pytest.mark.parametrize(("error", "kind"), [(ConfigError, "configuration"), (DataError, "data")])
def test_what_a_trial_refuses_has_its_class_and_is_not_tried_again(
    tmp_path: Path, error: type[LatentsweepError], kind: str
) -> None:
    search = opened(tmp_path / "s")
    refused, _ = search.ask() or (0, {})
    told = failure(error("it must be otherwise"), None)
    assert told["class"] == kind
    search.fail(refused, told["reason"], told["class"])
    assert opened(tmp_path / "s").requeue() == 0


def test_a_full_disk_ends_a_sweep_on_it_and_is_tried_again_beside_a_bucket() -> None:
    error = DiskError("No space left on device")
    assert failure(error, None, "/runs/store")["class"] == "disk"
    with pytest.raises(DiskError):
        failure(error, None, "s3://team/store")


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_seeded_search_proposes_the_same_in_one_go_and_in_two(tmp_path: Path, sampler: str) -> None:
    space = SearchSpace({"diffusion.frequency_weight": Range(0.0, 1.0), "vae.latent_channels": Choice((4, 8))})

    def propose(search: Search, count: int) -> None:
        for _ in range(count):
            number, params = search.ask() or (0, {})
            search.tell(number, [Point(params, {"gen/kid": params["diffusion.frequency_weight"]})], {})

    propose(opened(tmp_path / "one", space, startup=2, sampler=sampler), 8)
    propose(opened(tmp_path / "two", space, startup=2, sampler=sampler), 3)
    propose(opened(tmp_path / "two", space, startup=2, sampler=sampler), 5)
    one, two = ([t.params for t in opened(tmp_path / name, space).run_trials()] for name in ("one", "two"))
    assert one == two
    assert len({tuple(params.values()) for params in one}) == 8


def test_the_worse_half_is_pruned_once_enough_have_finished(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", startup=2)
    for score in (1.0, 2.0):
        number, params = search.ask() or (0, {})
        assert not search.report(number, 5, {"rung/kid": 100.0 * score}), "nothing is pruned before that"
        search.tell(number, points(params, score), {})
    number, _ = search.ask() or (0, {})
    assert search.report(number, 5, {"rung/kid": 1000.0})
    search.prune(number, {})
    number, _ = search.ask() or (0, {})
    assert not search.report(number, 5, {"rung/kid": 50.0})
    assert search.trial(number - 1).state != TrialState.COMPLETE


def test_a_trial_without_a_finite_score_fails_and_is_never_complete(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, [Point(params, {"gen/fid": 3.0})], {})
    trial = search.trial(number)
    assert trial.state == TrialState.FAIL
    assert "no finite kid" in trial.user_attrs["reason"]


def test_the_best_is_the_cheapest_threshold_within_one_standard_error(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 3.0, error=0.5), {})
    assert search.measured()[0].params[THRESHOLD] == 0.0
    assert search.leader() == search.measured()[0]
    assert search.best()[0].params[THRESHOLD] == 0.05, "0.4 worse is within 0.5, at half the steps"

    sure = opened(tmp_path / "t")
    number, params = sure.ask() or (0, {})
    sure.tell(number, points(params, 3.0, error=0.1), {})
    assert sure.best()[0].params[THRESHOLD] == 0.0


@pytest.mark.parametrize(("apart", "chosen"), [(0.5, 0.05), (0.3, 0.0), (0.0, 0.0)])
def test_a_threshold_worse_by_more_than_one_paired_error_is_never_chosen(
    tmp_path: Path, apart: float, chosen: float
) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 3.0, error=18.0, apart=apart), {})
    best, other = search.measured()
    assert search.paired_error(other, best) == pytest.approx(apart, abs=0.01)
    assert search.best()[0].params[THRESHOLD] == chosen, "0.4 worse, and 18 is the error of each score"
    assert PAIRING not in best.user_attrs["metrics"]


@pytest.mark.slow
def test_the_chosen_threshold_is_within_one_paired_error_whatever_the_scores(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    space = SearchSpace({"vae.latent_channels": Choice((4, 8)), THRESHOLD: Choice((0.0, 0.1, 0.2, 0.3, 0.4))})
    for case in range(8):
        search = opened(tmp_path / f"s{case}", space)
        number, params = search.ask() or (0, {})
        found = [
            Point(
                {**params, THRESHOLD: threshold},
                {"gen/kid": score, "gen/kid_se": 18.0, "gen/steps_mean": 50 - 100 * threshold},
                paired(apart),
            )
            for threshold, score, apart in zip(
                space.thresholds, draw.normal(20, 2, 5), draw.normal(0, 2, 5), strict=True
            )
        ]
        search.tell(number, found, {})
        leader, (best,) = search.leader(), search.best()
        error = search.paired_error(best, leader)
        assert error is not None
        assert best.values[0] - leader.values[0] <= error
        for trial in search.measured():
            other = search.paired_error(trial, leader)
            assert other is not None
            if trial.user_attrs["metrics"]["gen/steps_mean"] < best.user_attrs["metrics"]["gen/steps_mean"]:
                assert trial.values[0] - leader.values[0] > other, "a cheaper one is too far away"


def test_scores_that_share_no_slices_or_are_no_kid_are_taken_as_independent(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    near, far = points(params, 3.0, error=0.5, apart=0.1)
    search.tell(number, [near, dataclasses.replace(far, pairing=paired(0.1, "other slices"))], {})
    assert search.paired_error(*search.measured()) is None
    assert search.best()[0].params[THRESHOLD] == 0.05, "0.4 worse is within the error of the best, 0.5"

    other = opened(tmp_path / "t", objectives=("steps",))
    number, params = other.ask() or (0, {})
    other.tell(number, points(params, 3.0, apart=0.1), {})
    assert other.paired_error(*other.measured()) is None


def test_what_pairs_points_is_kept_by_the_study_and_through_a_crash(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    found = points(params, 1.0, apart=0.3)
    own, other = sorted(found, key=lambda point: dict(point.params) != params)
    others = [{"params": dict(other.params), **other.attributes}]
    search._annotate(number, {**own.attributes, "points": others})
    search.study.tell(number, [own.metrics["gen/kid"]])

    again = opened(tmp_path / "s")
    again.requeue()
    assert again.paired_error(*again.measured()) == pytest.approx(0.3, abs=0.01)
    assert all(PAIRING in trial.user_attrs for trial in again.measured())


def test_a_workers_points_bring_what_pairs_them() -> None:
    recipe = SMOKE.replace(**{"sampling.early_stop_threshold": 0.05, "sampling.threshold_grid": (0.0, 0.05)})
    keys = SimpleNamespace(reference=SimpleNamespace(name="reference/1"))
    pipeline: Any = SimpleNamespace(keys=keys, seed=7, recipe=recipe)
    kernels = {"kernel_by_image": [0.001, 0.002], "kernel_by_subject": {"b": [0.03, 2], "a": [0.04, 3]}}
    measured = [{"threshold": threshold, "metrics": {"gen/kid": 1.0}} for threshold in (0.0, 0.05)]
    entry: Any = SimpleNamespace(summary={"points": [{**point, **kernels} for point in measured]})
    old: Any = SimpleNamespace(summary={"points": measured})
    found = points_of(pipeline, {THRESHOLD: 0.0}, entry)
    assert [point["params"] for point in found] == [{THRESHOLD: 0.0}, {THRESHOLD: 0.05}]
    assert found[0][PAIRING] == {
        "images": "1.00 2.00",
        "sums": "40.00 30.00",
        "sizes": "3 2",
        "shared": "reference/1 seed 7",
    }
    assert [point["params"] for point in points_of(pipeline, {"vae.epochs": 1}, entry)] == [{"vae.epochs": 1}]
    assert all(PAIRING not in point for point in points_of(pipeline, {THRESHOLD: 0.0}, old))


def test_two_objectives_give_a_pareto_front(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", objectives=("kid", "steps"))
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 3.0), {})
    assert {trial.params[THRESHOLD] for trial in search.best()} == {0.0, 0.05}


def finished(search: Search, first: float, second: float, names: Sequence[str] = ("kid", "memorisation")) -> int:
    """A trial that has these scores at its rung and its end; its number."""
    number, params = search.ask() or (0, {})
    rung = {OBJECTIVES[name].at_rungs: value for name, value in zip(names, (first, second), strict=True)}
    assert not search.report(number, 5, rung)
    metrics = {OBJECTIVES[name].name: value for name, value in zip(names, (first, second), strict=True)}
    search.tell(number, [Point(params, metrics)], {})
    return number


@pytest.mark.slow
def test_with_two_objectives_a_trial_ends_that_is_behind_the_median_in_both(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", objectives=("kid", "memorisation"), startup=2)
    finished(search, 10.0, 0.3)
    finished(search, 20.0, 0.1)
    number, _ = search.ask() or (0, {})
    for kid, copies in ((16.0, 0.1), (9.0, 0.5)):
        other, _ = search.ask() or (0, {})
        assert not search.report(other, 5, {"rung/kid": kid, "rung/near_copies": copies}), "ahead in one"
    assert not search.report(number, 2, {"rung/kid": 90.0, "rung/near_copies": 0.0}), "nobody has such a rung"
    assert search.report(number, 5, {"rung/kid": 15.1, "rung/near_copies": 0.21}), "it copied less before"
    assert search.trial(number).user_attrs["pruned_at"] == 5
    search.prune(number, {})
    assert search.trial(number).state.name == "PRUNED"


@pytest.mark.parametrize(
    ("second", "pruner", "ends"), [("steps", "median", True), ("dice", "median", False), ("fid", "none", False)]
)
def test_what_a_training_does_not_decide_spares_no_trial_and_what_no_rung_measures_spares_all(
    tmp_path: Path, second: str, pruner: str, ends: bool
) -> None:
    search = opened(tmp_path / "s", objectives=("kid", second), startup=1, pruner=pruner)
    for score in (10.0, 20.0):
        number, params = search.ask() or (0, {})
        told = search.report(number, 5, {"rung/kid": score, "rung/fid": score})
        assert told == (ends and score == 20.0)
        if score == 10.0:
            search.tell(number, [Point(params, {"gen/kid": score, OBJECTIVES[second].name: score})], {})


def test_other_viewers_of_a_study_read_names_for_its_objectives(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", objectives=("kid", "steps"))
    assert search.study.metric_names == ["KID ×1000", "mean steps"]


def test_a_study_of_before_gets_names_when_it_goes_on_and_none_from_who_reads_it(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 3.0), {})
    unnamed = search.study._storage
    unnamed.set_study_system_attr(search.study._study_id, "study:metric_names", [])
    reading = Search(tmp_path / "s", SPACE, SearchConfig(), seed=0, reading=True)
    assert reading.study.metric_names == []
    again = opened(tmp_path / "s")
    assert again.study.metric_names == ["KID ×1000"]
    assert [trial.values for trial in again.measured()] == [trial.values for trial in search.measured()]


def test_a_metric_of_a_plug_in_is_minimised_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "latentsweep.search.choice.installed", lambda kind: {"blur": None} if kind == "metrics" else {}
    )
    search = opened(tmp_path / "s", objectives=("blur",), startup=1)
    assert search.study.metric_names == ["blur"]
    for score in (3.0, 2.0, 4.0):
        number, params = search.ask() or (0, {})
        assert not search.report(number, 5, {"rung/kid": score}), "no rung measures it"
        search.tell(number, [Point(params, {"gen/kid": -score, "gen/blur": score})], {})
    assert search.best()[0].values == [2.0]
    shown = leaderboard.rows(search)
    assert [row["gen/blur"] for row in shown] == [2.0, 3.0, 4.0]
    with pytest.raises(ConfigError, match=r"among kid, fid, memorisation, steps, dice, blur; got 'beauty'"):
        SearchConfig(objectives=("beauty",))


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="among kid, fid"):
        SearchConfig(objectives=("beauty",))
    with pytest.raises(ConfigError, match="two different ones"):
        SearchConfig(objectives=("kid", "kid"))


def test_the_leaderboard_ranks_what_was_measured(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    for score in (5.0, 1.0, 3.0, 2.0, 4.0):
        number, params = search.ask() or (0, {})
        search.tell(number, points(params, score), {})
    table = leaderboard.rows(search)
    assert [row["gen/kid"] for row in table] == sorted(row["gen/kid"] for row in table)
    assert sum(row["best"] for row in table) == 1
    assert records_as_csv(table).count("\n") == 11
    assert records_as_csv(table).startswith("rank,trial,pass,best,")
    assert leaderboard.as_markdown(table).count("\n") == 12
    shares = leaderboard.importances(search)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_people_see_one_number_for_a_configuration_and_scores_as_their_metrics_round_them(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 5.0), {})
    table = leaderboard.rows(search)
    assert sorted(row["trial"] for row in table) == [0, 1], "each threshold has a number of its own in the study"
    shown = leaderboard.as_markdown(table).splitlines()[0]
    assert shown.startswith("| # | best |")
    assert "rank" not in shown
    assert "pass" not in shown
    row = {"trial": 1, "gen/kid": 257.83, "gen/kid_se": 14.254, "gen/near_copies": 0.0, "gen/fid": None}
    assert leaderboard.cells(row) == ["1", "257.8", "14.3", "0.0%", "–"]


def test_a_switch_is_shown_by_a_word_and_the_best_alone_by_a_star() -> None:
    row = {"trial": 3, "best": True, "diffusion.whiten": False, "diffusion.position_condition": True}
    assert leaderboard.cells(row) == ["3", "★", "no", "yes"]
    assert leaderboard.cells({**row, "best": False})[1] == ""


def test_the_fields_that_are_searched_by_default_have_columns_of_their_own_in_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderboard, "WIDTH", 80)
    fields = {THRESHOLD: 0.03, "vae.latent_channels": 16}
    fields |= {"diffusion.frequency_weight": 0.1, "diffusion.cutmix_probability": 0.25}
    scores = dict.fromkeys(leaderboard.METRICS, 257.8) | {"gen/near_copies": 0.016}
    table = [{"rank": 1, "trial": 16, "pass": 14, "best": True, **fields, **scores}]
    leaderboard.show(table, {"complete": 1, "pruned": 0, "failed": 0, "points": 1}, {})
    said = capsys.readouterr().out
    assert "configuration " not in said
    assert said.splitlines()[3].split()[:6] == ["16", "★", "0.03", "16", "0.1", "0.25"]


def test_rows_too_wide_for_the_terminal_show_what_differs_last_and_every_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {f"diffusion.regularisation_{letter}": 0.25 for letter in "abcdef"}
    table = [
        {"rank": rank, "trial": rank, "pass": rank, "best": rank == 1, "vae.latent_channels": channels}
        | {"diffusion.timestep_sampling": "uniform", **fields, **dict.fromkeys(leaderboard.METRICS, 87.5 + rank)}
        for rank, channels in ((1, 4), (2, 16))
    ]
    state = {"complete": 2, "pruned": 0, "failed": 0, "points": 2}
    leaderboard.show(table, state, {})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= leaderboard.WIDTH
    assert lines[1].split() == ["KID", "mean", "near"], "headings are folded"
    assert lines[2].split()[-1] == "configuration"
    assert [line.split()[-2:] for line in lines[3:5]] == [["channels", "4"], ["channels", "16"]]
    assert [line.count("88.5") for line in lines[3:5]] == [len(leaderboard.METRICS) - 1, 0]
    assert "8850.0%" in lines[3], "a share is written in per cent"
    assert lines[5].startswith("all of these: timestep sampling uniform, regularisation a 0.25")


def test_a_dimension_of_lists_is_searched_and_read_back(tmp_path: Path) -> None:
    space = SearchSpace({"vae.widths": Choice(((8, 16), (8, 16, 32))), "vae.latent_channels": Choice((2, 16))})
    search, seen = opened(tmp_path / "s", space), set()
    while asked := search.ask():
        number, params = asked
        vae = SMOKE.replace(**params).vae
        seen.add((vae.widths, vae.latent_channels))
        search.tell(number, [Point(params, {"gen/kid": float(vae.compression)})], {})
    assert seen == {(widths, channels) for widths in ((8, 16), (8, 16, 32)) for channels in (2, 16)}
    (best,) = opened(tmp_path / "s", space).best()
    assert best.params["vae.widths"] == "[8, 16]"


def test_optuna_opens_the_study_by_itself(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 2.0), {})
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 's' / 'study.db'}")
    assert study.best_value == 2.0


def test_optuna_dashboard_shows_the_study(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = search.ask() or (0, {})
    search.tell(number, points(params, 2.0), {})
    answered: list[str] = []
    server = optuna_dashboard.wsgi(f"sqlite:///{tmp_path / 's' / 'study.db'}")
    environment: dict[str, str] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(environment)
    body = b"".join(server(environment, lambda status, *others: answered.append(status)))
    assert answered == ["200 OK"]
    assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["s"]

"""What a new search learns from the home's earlier ones: which configurations it tries first, and that it says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from small_dataset import plant
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.jobs.sweep import Sweep
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.search.choice import SearchConfig
from latentsweep.search.confirmation import begin, note, plan_runs
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.sweeps import open_search, sweeps
from latentsweep.search.trials import WARM_START, Point
from latentsweep.search.warm_start import first_configurations
from latentsweep.stages.guards import REFUSED
from latentsweep.storage.home import Home, write_json
from trainables.errors import ConfigError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE
from trainables.space import THRESHOLD, Choice, Dimension, Range, SearchSpace

DIMENSIONS: dict[str, Dimension] = {
    "vae.latent_channels": Choice((2, 4, 8)),
    "diffusion.frequency_weight": Range(0.0, 0.3),
    THRESHOLD: Choice((0.0, 0.05)),
}
Made = tuple[SweepPlan, Search]
Make = Callable[..., Made]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "runs")


@pytest.fixture
def make(home: Home) -> Make:
    """Makes a sweep whose trials scored as given, by channels and frequency weight."""
    turns = iter(range(1, 100))

    def make(
        scores: Mapping[tuple[int, float], float],
        dataset: str = "scans",
        dimensions: Mapping[str, Dimension] = DIMENSIONS,
        copies: float = 0.0,
        **search: Any,
    ) -> Made:
        turn = next(turns)
        plan = SweepPlan(
            dataset, "f" * 64, "smoke", SMOKE, SearchSpace(dimensions), SearchConfig(**search), turn, "a"
        )
        folder = home.writable(home.sweeps / plan.name)
        write_json(folder / "sweep.json", {**plan.to_plain(), "turn": turn})
        found = Search(folder, plan.space, plan.search, plan.seed)
        for (channels, weight), score in scores.items():
            params = {"vae.latent_channels": channels, "diffusion.frequency_weight": weight, THRESHOLD: 0.0}
            params = {field: value for field, value in params.items() if field in dimensions}
            found.study.enqueue_trial(params)
            asked = found.ask()
            assert asked
            metrics = {f"gen/{name}": score for name in ("kid", "fid")}
            metrics |= {
                "gen/kid_se": 0.1,
                "gen/near_copies": copies,
                "gen/near_copies_bound": 0.1,
                "gen/samples": 64.0,
            }
            found.tell(asked[0], [Point(asked[1], metrics)], {})
        return plan, found

    return make


def test_the_best_of_earlier_sweeps_come_first_those_of_the_same_dataset_before_others(
    home: Home, make: Make
) -> None:
    other = make({(4, 0.1): 5.0, (2, 0.0): 6.0}, dataset="others")[0].name
    older = make({(8, 0.2): 30.0, (4, 0.2): 20.0})[0].name
    newer = make({(8, 0.3): 40.0})[0].name
    plan = make({})[0]
    found = first_configurations(home, plan, 20)
    assert list(found) == [f"{newer}/trial-0", f"{older}/trial-1", f"{other}/trial-0"]
    assert found[f"{older}/trial-1"] == {
        "vae.latent_channels": 4,
        "diffusion.frequency_weight": 0.2,
        THRESHOLD: 0.0,
    }
    assert list(first_configurations(home, plan, 8)) == list(found)[:2], "at most a quarter of the trials"
    assert first_configurations(home, plan, 3) == {}


def test_a_configuration_is_taken_once_whoever_found_it(home: Home, make: Make) -> None:
    make({(8, 0.3): 4.0, (2, 0.1): 5.0})
    make({(8, 0.3): 3.0})
    found = first_configurations(home, make({})[0], 40)
    assert [params["vae.latent_channels"] for params in found.values()] == [8, 2]


def test_a_value_becomes_the_nearest_that_the_space_has_or_the_configuration_is_left_out(
    home: Home, make: Make
) -> None:
    make({(8, 0.3): 3.0})
    narrow = {"vae.latent_channels": Choice((2, 4)), "diffusion.frequency_weight": Range(0.0, 0.1)}
    (params,) = first_configurations(home, make({}, dimensions=narrow)[0], 20).values()
    assert params == {"vae.latent_channels": 4, "diffusion.frequency_weight": 0.1}
    further = {"vae.latent_channels": Choice((8,)), "diffusion.steps": Range(100, 400)}
    (params,) = first_configurations(home, make({}, dimensions=further)[0], 20).values()
    assert params == {"vae.latent_channels": 8, "diffusion.steps": 400}, "the smoke recipe's 600, as far as it can be"
    words = {"vae.latent_channels": Choice((8,)), "diffusion.prediction": Choice(("none such",))}
    assert first_configurations(home, make({}, dimensions=words)[0], 20) == {}


@pytest.mark.slow
def test_what_tells_nothing_of_this_search_is_passed_over(
    home: Home, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make({(8, 0.3): 3.0}, objectives=("fid",))
    make({(8, 0.3): 3.0}, copies=0.5)
    make({(8, 0.3): 3.0}, copies=0.5, guarded=False)
    threshold = {THRESHOLD: Choice((0.0, 0.05)), "sampling.steps": Choice((10, 20))}
    make({(8, 0.3): 3.0}, dimensions=threshold)
    plan = make({})[0]
    assert first_configurations(home, plan, 20) == {}, "another objective, refused by the guards, no field in common"
    broken = make({(4, 0.1): 3.0})[0].name
    (home.sweeps / broken / "study.db").write_bytes(b"no database")
    with caplog.at_level(logging.WARNING):
        assert first_configurations(home, plan, 20) == {}
    assert f"{broken} is passed over" in caplog.text
    caplog.clear()
    torn = make({(4, 0.1): 3.0})[0].name
    path = home.sweeps / torn / "study.db"
    path.write_bytes(path.read_bytes()[:8192] + bytes(len(path.read_bytes()) - 8192))
    with caplog.at_level(logging.WARNING):
        assert first_configurations(home, plan, 20) == {}
    assert f"{torn} is passed over" in caplog.text
    assert len(first_configurations(home, make({}, guarded=False)[0], 20)) == 1, "nothing guards that search"


def test_what_fresh_seeds_confirmed_comes_first_and_what_they_refused_is_left_out(home: Home, make: Make) -> None:
    plan, search = make({(8, 0.3): 3.0, (4, 0.2): 4.0, (2, 0.1): 5.0})
    begin(search, search.feasible(), (7,))
    for run, score in zip(plan_runs(plan, search.feasible(), (7,)), (9.0, None, 2.0), strict=True):
        refused = None if score else {"reason": "copies 37 of 64 (bound 2)", "class": REFUSED}
        note(search, run, score, refused)
    found = first_configurations(home, make({})[0], 20)
    assert [params["vae.latent_channels"] for params in found.values()] == [2, 8]


def test_lists_are_taken_as_the_earlier_space_wrote_them(home: Home, make: Make) -> None:
    lists = {"diffusion.widths": Choice(("[16,32,64]", "[32,64,128]")), "vae.latent_channels": Choice((4, 8))}
    _, search = make({}, dimensions=lists)
    search.study.enqueue_trial({"diffusion.widths": "[16,32,64]", "vae.latent_channels": 8})
    number, params = search.ask() or (-1, {})
    search.tell(number, [Point(params, {"gen/kid": 3.0, "gen/kid_se": 0.1})], {})
    assert list(first_configurations(home, make({}, dimensions=lists)[0], 20).values()) == [params]


def test_a_random_search_and_one_without_a_warm_start_try_none(home: Home, make: Make) -> None:
    make({(8, 0.3): 3.0})
    assert first_configurations(home, make({}, sampler="random")[0], 20) == {}
    assert first_configurations(home, make({}, warm_start=0)[0], 20) == {}
    assert len(first_configurations(home, make({}, warm_start=1)[0], 20)) == 1


def test_no_sweep_has_another_name_for_it() -> None:
    assert SearchConfig(warm_start=0).identity() == SearchConfig().identity()


@pytest.mark.slow
def test_they_are_asked_first_and_chosen_once(make: Make) -> None:
    plan, search = make({})
    first = {"vae.latent_channels": 8, "diffusion.frequency_weight": 0.25, THRESHOLD: 0.05}
    second = {"vae.latent_channels": 2, "diffusion.frequency_weight": 0.125, THRESHOLD: 0.0}
    chosen = {"earlier/trial-3": first, "earlier/trial-0": second}
    assert search.begin_with(lambda: chosen) == chosen
    number, params = search.ask() or (-1, {})
    assert params == first
    assert search.trial(number).user_attrs[WARM_START] == "earlier/trial-3"

    again = Search(search.folder, plan.space, plan.search, plan.seed)
    again.requeue()
    assert again.begin_with(lambda: {"other/trial-1": second}) is None, "it was chosen before"
    asked = [again.ask() for _ in range(3)]
    assert [each[1] for each in asked[:2] if each] == [first, second]
    assert asked[2]
    assert asked[2][1] not in (first, second)
    assert len(again.run_trials()) == 3


def test_what_a_kill_left_out_is_made_up_for(make: Make) -> None:
    plan, search = make({})
    chosen = {
        f"earlier/trial-{number}": {"vae.latent_channels": 8, "diffusion.frequency_weight": weight, THRESHOLD: 0.0}
        for number, weight in enumerate((0.1, 0.2))
    }
    search.study.set_user_attr(WARM_START, chosen)
    (name, params), *_ = chosen.items()
    search.study.enqueue_trial(params, user_attrs={WARM_START: name})
    again = Search(search.folder, plan.space, plan.search, plan.seed)
    again.begin_with(dict)
    assert [trial.user_attrs[WARM_START] for trial in again.run_trials()] == list(chosen)
    assert {trial.state for trial in again.run_trials()} == {TrialState.WAITING}


def test_a_search_that_began_without_them_goes_on_without(make: Make) -> None:
    _, search = make({(4, 0.1): 3.0})
    assert search.begin_with(lambda: {"earlier/trial-0": {}}) is None
    assert len(search.run_trials()) == 1


@pytest.mark.slow
def test_a_sweep_says_what_it_tries_first_and_goes_on_with_it(
    home: Home, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        raise ConfigError("it began")

    earlier = make({(8, 0.3): 3.0, (4, 0.1): 5.0})[0].name
    plant(home)
    monkeypatch.setattr("latentsweep.jobs.job.cluster", start)
    space = home.root.parent / "space.yaml"
    space.write_text("dimensions: {vae.latent_channels: [4, 8], diffusion.frequency_weight: {low: 0.0, high: 0.5}}")
    words = ["sweep", "--dataset", "tiny", "--recipe", "smoke", "--space", str(space), "--trials", "8"]
    words += ["--device", "cpu", "--no-mlflow", "--home", str(home.root)]
    first = f"tried first      {earlier}/trial-0, {earlier}/trial-1, the best of earlier sweeps"
    dry = [*words, "--dry-run"]
    assert first in CliRunner().invoke(app, dry, env={"COLUMNS": "200"}).output
    said = [CliRunner().invoke(app, words).output for _ in range(2)]
    told = f"note: the first trials are the best of earlier sweeps, {earlier}/trial-0, {earlier}/trial-1; "
    assert f"{told}--warm-start 0 tries none" in said[0]
    assert "it began" in said[1]
    assert "earlier sweeps" not in said[1]
    (folder,) = (folder for folder in sweeps(home) if folder.name != earlier)
    assert first in CliRunner().invoke(app, dry, env={"COLUMNS": "200"}).output, "they wait still"
    assert "tried first" not in CliRunner().invoke(app, [*dry, "--seed", "1", "--warm-start", "0"]).output
    waiting = open_search(folder).run_trials()
    assert [trial.user_attrs[WARM_START] for trial in waiting] == [f"{earlier}/trial-0", f"{earlier}/trial-1"]
    without = CliRunner().invoke(app, [*words, "--warm-start", "0"]).output
    assert "note: this sweep began with the best of earlier ones" in without
    assert len(sweeps(home)) == 2
    (folder / "study.db").unlink()
    without = CliRunner().invoke(app, [*words, "--warm-start", "0"]).output
    assert "it began" in without
    assert "earlier" not in without
    assert open_search(folder).run_trials() == []


def test_a_sweep_of_hours_leaves_out_what_there_is_no_time_for(home: Home, make: Make) -> None:
    plan, search = make({})
    first = {"vae.latent_channels": 8, "diffusion.frequency_weight": 0.25, THRESHOLD: 0.05}
    second = {"vae.latent_channels": 2, "diffusion.frequency_weight": 0.125, THRESHOLD: 0.0}
    search.begin_with(lambda: {"earlier/trial-3": first, "earlier/trial-0": second})
    sweep = Sweep(home, plan, InceptionWeights(Path("none"), "a" * 64), MemoryRecorder())
    assert sweep._unfinished(1), "they are trials as others"
    sweep.deadline = SimpleNamespace(another=lambda: False)  # type: ignore[assignment]
    assert not sweep.waiting()
    assert not sweep._unfinished(1)
    search.ask()
    search.requeue()
    assert sweep.waiting(), "one of them was interrupted"
    assert sweep._unfinished(1)

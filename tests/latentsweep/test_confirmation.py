"""Confirmation: fresh seeds, the ranking in simulated sweeps, what the study keeps, and what export says of it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import cli
from rich.console import Console
from small_dataset import plant
from swept import stages_in, study_of, sweep_words
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import read_configuration
from latentsweep.execution.packing import Packing
from latentsweep.jobs import forecast as forecasts
from latentsweep.jobs.job import Runtime
from latentsweep.jobs.sweep import Sweep
from latentsweep.records.descriptions import describe_sweep
from latentsweep.records.recorder import MemoryRecorder
from latentsweep.records.sweep import SweepRecord
from latentsweep.report import write_report
from latentsweep.report.confirmation import CAPTION
from latentsweep.search import confirmation_table, leaderboard
from latentsweep.search.choice import SearchConfig
from latentsweep.search.confirmation import (
    ATTRIBUTE,
    CONFIGURATIONS,
    FEWEST_TRIALS,
    NOTHING,
    SEEDS,
    Extent,
    begin,
    choice,
    confirmation,
    finalists,
    fresh_seeds,
    missing,
    note,
    plan_runs,
    wanted,
)
from latentsweep.search.confirmed import centre, expectation, order_by_standing, standing
from latentsweep.search.export import configuration_of, words_of
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.stages.guards import REFUSED
from latentsweep.storage.home import Home, read_json, write_json
from latentsweep.storage.store import Store
from trainables.errors import INFRASTRUCTURE, CapacityError, ConfigError, UnfinishedError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import recipe_named
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Range(0.0, 1.0),
        THRESHOLD: Choice((0.0, 0.05)),
    }
)
RUNTIME = Runtime(Packing(1, 1, 0.0, 0.0), Console(quiet=True))
DIVERGED = {"reason": "the loss is no longer finite", "class": "divergence", "log": ""}


@dataclasses.dataclass(frozen=True)
class Swept:
    """A sweep whose trials scored 20, 21, … and 0.05 more with an early stop, within the error."""

    home: Home
    plan: SweepPlan
    search: Search

    @property
    def folder(self) -> Path:
        return self.home.sweeps / self.plan.name

    def tell(self, trials: int, measured: str = "") -> None:
        """Trials that ended; the study has the keys of their results where ``measured`` is "today" or "before"."""
        for _ in range(trials):
            place, (number, params) = self.search.finished(), self.search.ask() or (0, {})
            points = [
                Point(
                    {**params, THRESHOLD: threshold},
                    {
                        "gen/kid": 20.0 + place + threshold,
                        "gen/kid_se": 0.1,
                        "gen/steps_mean": 25.0 if threshold else 50.0,
                    },
                )
                for threshold in (0.0, 0.05)
            ]
            keys = self.plan.keys(params)
            if measured == "before":
                keys["evaluation"] = dataclasses.replace(keys.evaluation, version=2)
            self.search.tell(number, points, {"keys": keys.names()} if measured else {})

    def confirm(self, count: int, seeds: int, score: Callable[[int, int], float | None]) -> int:
        """Confirms as the job does; ``score`` of a trial's place and a seed's, None for a divergence.

        Returns how many runs that took.
        """
        found = wanted(self.search, self.plan, Extent(count, seeds))
        begin(self.search, found.finalists, found.seeds)
        places = [trial.number for trial in found.finalists]
        for run in found.missing:
            value = score(places.index(run.trial), found.seeds.index(run.seed))
            note(self.search, run, value, DIVERGED if value is None else None)
        return len(found.missing)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Swept]:
    def made(trials: int, objectives: tuple[str, ...] = ("kid",), **search: bool) -> Swept:
        recipe = recipe_named("smoke").replace(**{"sampling.threshold_grid": SPACE.thresholds})
        config = SearchConfig(objectives=objectives, sampler="random", **search)
        plan = SweepPlan("scans", "f" * 64, "smoke", recipe, SPACE, config, 7, "a" * 64)
        home = Home(tmp_path / "runs")
        folder = home.writable(home.sweeps / plan.name)
        write_json(folder / "sweep.json", {**plan.to_plain(), "threads": 1})
        swept = Swept(home, plan, Search(folder, plan.space, plan.search, plan.seed))
        swept.tell(trials)
        return swept

    return made


def job(swept: Swept, extent: Extent = NOTHING) -> Sweep:
    """The sweep, whose confirmation is to reach as far as ``extent``."""
    sweep = Sweep(swept.home, swept.plan, InceptionWeights(Path("none"), "a" * 64), MemoryRecorder())
    sweep.extent = extent
    return sweep


def simulated(sweeps: int, configurations: int, seeds: int, noise: str) -> dict[str, float]:
    """Sweeps of 24 configurations with one seed each, and the ``configurations`` best of each confirmed.

    The true log KID has a standard deviation of 6 to 10 %, that of a seed around it one of 5 to 8 %: skewed noise
    (gamma, skewness 1), of which one seed in ten is "bad", 1 to 5 standard deviations worse, or normal noise. Returns
    the mean regret (log KID above the true best) of an unconfirmed choice and of the confirmed one, the standard
    error of their ratio, and the mean error of the search's score, of the confirmed mean and of what is expected.
    """
    rng, rows = np.random.default_rng(0), []
    for _ in range(sweeps):
        truth = rng.normal(0, rng.uniform(0.06, 0.10), 24)
        spread = rng.uniform(0.05, 0.08)

        def draw(shape: tuple[int, ...], spread: float = spread) -> Any:
            if noise == "normal":
                return spread * rng.normal(size=shape)
            skewed = (rng.gamma(4.0, 1.0, shape) - 4.0) / 2.0
            if noise == "bad":
                skewed += (rng.random(shape) < 0.1) * rng.uniform(1.0, 5.0, shape) - 0.3
            return spread * skewed / (1.0 if noise == "skewed" else np.sqrt(1 + 0.1 * (9 + 16 / 12) - 0.09))

        found = truth + draw((24,))
        order = np.argsort(found)[:configurations]
        selection = (20 * np.exp(found[order])).tolist()
        fresh = (20 * np.exp(truth[order, None] + draw((configurations, seeds)))).tolist()
        (best, *_), logs = order_by_standing(selection, fresh)
        told = [selection[0], centre(fresh[best], logs), expectation(selection, fresh, logs) or np.nan]
        errors = np.log(np.array(told) / 20) - truth[order[[0, best, best]]]
        rows.append([truth[order[0]] - truth.min(), truth[order[best]] - truth.min(), *errors])
    one, confirmed, *errors = np.array(rows).T
    ratio = confirmed.mean() / one.mean()
    return {
        "ratio": ratio,
        "error": np.std(confirmed - ratio * one) / np.sqrt(sweeps) / one.mean(),
        **dict(zip(("search", "mean", "expected"), (error.mean() for error in errors), strict=True)),
        "expected_error": np.std(errors[2]) / np.sqrt(sweeps),
    }


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["bad", "skewed", "normal"])
def test_confirmation_takes_two_fifths_of_the_regret_and_says_what_to_expect_within_a_percent(noise: str) -> None:
    found = simulated(6000, CONFIGURATIONS, SEEDS, noise)
    assert found["search"] < -0.03, "the search's own score of its best is too good"
    assert abs(found["expected"]) + 2 * found["expected_error"] < 0.01
    assert found["ratio"] <= 0.60, found


def test_fresh_seeds_are_not_the_sweeps_nor_those_of_a_sweep_or_study_with_a_small_seed() -> None:
    found = [fresh_seeds(seed, 8) for seed in range(50)]
    flat = [seed for seeds in found for seed in seeds]
    assert len(set(flat)) == len(flat)
    assert min(flat) > 1_000_000
    assert fresh_seeds(7, 2) == fresh_seeds(7, 5)[:2] == (1_000_010, 2_000_013)


def test_the_best_are_confirmed_by_default_from_twelve_trials_on(make: Callable[..., Swept]) -> None:
    plan = make(0).plan
    usual = Extent(CONFIGURATIONS, SEEDS)
    assert Extent.of(None, SEEDS, plan, FEWEST_TRIALS) == usual
    assert Extent.of(None, SEEDS, plan, FEWEST_TRIALS - 1).configurations == 0
    assert Extent.of(4, 3, plan, 2) == Extent(4, 3)
    assert Extent.of(0, SEEDS, plan, 40).configurations == 0
    small = dataclasses.replace(plan, space=SearchSpace({"vae.latent_channels": Choice((4, 8))}))
    assert Extent.of(None, SEEDS, small, 40).configurations == 0, "the space ends after two trials"
    two = dataclasses.replace(plan, search=SearchConfig(objectives=("kid", "steps")))
    assert Extent.of(3, SEEDS, two, 40).configurations == 0


def test_finalists_are_denoisers_each_with_the_threshold_that_the_search_takes(make: Callable[..., Swept]) -> None:
    search = make(4).search
    found = finalists(search, 3)
    assert [trial.values[0] for trial in found] == [20.05, 21.0, 22.0]
    assert [trial.params[THRESHOLD] for trial in found] == [0.05, 0.0, 0.0]
    assert found[0].number == search.best()[0].number


def test_every_run_has_keys_of_its_own_seed(make: Callable[..., Swept]) -> None:
    swept = make(2)
    runs = plan_runs(swept.plan, finalists(swept.search, 2), fresh_seeds(7, 2))
    assert len({run.keys.denoiser.name for run in runs}) == 4
    own = {swept.plan.keys(trial.params).denoiser.name for trial in swept.search.measured()}
    assert not own & {run.keys.denoiser.name for run in runs}
    assert len({run.keys.reference.name for run in runs}) == 1, "all are measured against the same real slices"


def test_the_confirmed_best_is_taken_where_there_is_one(make: Callable[..., Swept]) -> None:
    swept = make(4)
    first = swept.search.best()[0].number
    assert [trial.number for trial in choice(swept.search)] == [first]
    swept.confirm(3, 2, lambda place, seed: [26.0, 21.0, 24.0][place] + seed)
    found = confirmation(swept.search)
    assert found
    assert [row.selection for row in found.rows] == [21.0, 20.05, 22.0]
    assert found.best == found.rows[0]
    assert found.mean(found.rows[0]) == pytest.approx((21 * 22) ** 0.5)
    assert [trial.number for trial in choice(swept.search)] == [found.rows[0].trial] != [first]
    starred = [row["trial"] for row in leaderboard.rows(swept.search) if row["best"]]
    again = [row["trial"] for row in leaderboard.confirmed_rows(swept.search) if row["best"]]
    assert starred == again == [found.rows[0].trial]


def test_one_bad_seed_does_not_undo_what_the_others_say() -> None:
    order, logs = order_by_standing([20.0, 21.0], [[20.5, 40.0], [23.0, 23.5]])
    assert (order, logs) == ([0, 1], True)
    assert order_by_standing([20.0, 21.0], [[30.0], [21.0]])[0] == [1, 0], "of two seeds neither is left out"


def test_the_caption_says_from_how_many_scores_the_worst_is_left_out() -> None:
    assert centre([20.0, 30.0], logs=True) == pytest.approx(standing([20.0, 30.0], logs=True))
    assert centre([20.0, 30.0], logs=True) == pytest.approx(standing([20.0, 30.0, 40.0], logs=True))
    assert "of three or more the worst is left out" in CAPTION
    assert "but the worst" not in CAPTION, "of two scores neither is left out"


def test_a_score_of_zero_or_less_makes_all_means_arithmetic() -> None:
    order, logs = order_by_standing([2.0, 1.0], [[3.0, 4.0], [-0.5, 1.5]])
    assert (order, logs) == ([1, 0], False)
    assert centre([-1.0, 2.0], logs=False) == 0.5


def test_what_is_expected_comes_of_seeds_that_had_no_part_in_the_choice() -> None:
    selection, fresh = [10.0, 10.0], [[10.0, 16.0], [16.0, 10.0]]
    assert expectation(selection, fresh, logs=True) == pytest.approx(16.0), "each seed chooses what the other refutes"
    assert expectation([10.0], [[12.0]], logs=True) is None


def test_a_diverged_seed_makes_a_configuration_the_last_and_is_said(make: Callable[..., Swept]) -> None:
    swept = make(3)
    swept.confirm(2, 2, lambda place, seed: None if (place, seed) == (0, 1) else 20.0 + 10 * place)
    found = confirmation(swept.search)
    assert found
    assert found.best
    assert found.rows[-1].failures == {2_000_013: DIVERGED["reason"]}
    assert found.best.selection == 21.0
    assert found.mean(found.rows[-1]) is None
    said = " ".join(confirmation_table.words(swept.search))
    assert f"Configuration {found.rows[-1].trial} failed with the seed 2000013: the loss is no longer finite." in said
    assert confirmation_table.rows(found)[-1]["seed_2000013"] == "failed"


def test_where_all_fail_the_searchs_own_best_is_taken(make: Callable[..., Swept]) -> None:
    swept = make(3)
    swept.confirm(2, 2, lambda place, seed: None)
    assert choice(swept.search) == swept.search.best()
    assert "its own best is taken" in confirmation_table.words(swept.search)[0]


COPIES = {"reason": "copies 37 of 64 (bound 2)", "class": REFUSED}


def refuse(swept: Swept, count: int, failure: Callable[[int, int], dict[str, str] | None]) -> None:
    """Confirms with two seeds; ``failure`` of a trial's place and a seed's, None for a score."""
    found = wanted(swept.search, swept.plan, Extent(count, 2))
    begin(swept.search, found.finalists, found.seeds)
    places = [trial.number for trial in found.finalists]
    for run in found.missing:
        note(swept.search, run, 25.0, failure(places.index(run.trial), found.seeds.index(run.seed)))


def test_where_the_guards_refuse_all_with_a_fresh_seed_nothing_is_taken_or_exported(
    make: Callable[..., Swept], capsys: pytest.CaptureFixture[str]
) -> None:
    swept = make(3)
    first = swept.search.best()[0]
    refuse(swept, 2, lambda place, seed: COPIES if seed else None)
    assert choice(swept.search) == []
    leaderboard.show(leaderboard.rows(swept.search), leaderboard.counts(swept.search), {})
    assert "refuse each of the best with a fresh seed: none is the best" in capsys.readouterr().out
    found = confirmation(swept.search)
    assert found
    assert [row["seed_2000013"] for row in confirmation_table.rows(found)] == ["refused"] * 2
    said = confirmation_table.words(swept.search)
    assert "the guards refuse all, and none is taken" in said[0]
    assert said[1].endswith("was refused by the guards with the seed 2000013: copies 37 of 64 (bound 2).")
    with pytest.raises(ConfigError, match=r"refuse every confirmed configuration of .*: copies 37 of 64"):
        configuration_of(swept.folder, None)
    with pytest.raises(ConfigError, match="the guards refuse every confirmed"):
        configuration_of(swept.folder, first.number)
    taken = configuration_of(swept.folder, None, despite_guards=True)
    assert taken.origin["refused"] == "copies 37 of 64 (bound 2) with the seed 2000013"


def test_where_all_fail_what_the_guards_refuse_gives_way_to_what_they_do_not(make: Callable[..., Swept]) -> None:
    swept = make(3)
    refuse(swept, 2, lambda place, seed: None if seed else (COPIES, DIVERGED)[place])
    found = confirmation(swept.search)
    assert found
    assert [row.trial for row in found.unrefused] == [choice(swept.search)[0].number]
    assert choice(swept.search) != swept.search.best()
    assert f"configuration {found.unrefused[0].trial} is taken" in confirmation_table.words(swept.search)[0]


def test_a_confirmation_goes_on_with_what_is_missing_alone(make: Callable[..., Swept]) -> None:
    swept = make(4)
    best, seeds = finalists(swept.search, 2), fresh_seeds(7, 2)
    begin(swept.search, best, seeds)
    runs = plan_runs(swept.plan, best, seeds)
    note(swept.search, runs[0], 30.0)
    assert confirmation(swept.search) is None, "three of four runs haven't ended"
    assert confirmation_table.words(swept.search)[0].startswith("The best are not confirmed yet")
    again = dataclasses.replace(swept, search=Search(swept.folder, SPACE, swept.plan.search, 7))
    assert missing(again.search, runs) == runs[1:]
    assert again.confirm(2, 2, lambda place, seed: 25.0 - place) == 3
    found = confirmation(again.search)
    assert found
    assert sorted(score for row in found.rows for score in row.scores if score) == [24.0, 24.0, 25.0, 30.0]
    assert again.confirm(2, 2, lambda place, seed: 0.0) == 0
    assert again.confirm(2, 3, lambda place, seed: 26.0) == 2, "a further seed for each"
    assert again.confirm(3, 3, lambda place, seed: 27.0) == 3, "a further configuration"


def test_more_trials_are_confirmed_anew_and_earlier_rows_stay(make: Callable[..., Swept]) -> None:
    swept = make(3)
    swept.confirm(2, 2, lambda place, seed: 25.0 + place)
    number, params = swept.search.ask() or (0, {})
    swept.search.tell(number, [Point(params, {"gen/kid": 10.0, "gen/kid_se": 0.1})], {})
    assert f"Configuration {number} has come to the front since and isn't confirmed" in " ".join(
        confirmation_table.words(swept.search)
    )
    assert swept.confirm(2, 2, lambda place, seed: 25.5) == 4, "another threshold now stands for the former leader"
    found = confirmation(swept.search)
    assert found
    assert len(found.rows) == 3
    assert found.best
    assert found.best.trial == number


def test_export_tells_the_score_of_the_search_from_those_of_fresh_seeds(make: Callable[..., Swept]) -> None:
    swept = make(3)
    before = configuration_of(swept.folder, None)
    assert before.origin["confirmed"] is False
    assert before.origin["selection"] == {"seed": 7, "kid": 20.05}
    assert words_of(before.origin, named=False) == (
        "the best of the search and not confirmed: KID ×1000 20.1 with the search's seed 7"
    )
    swept.confirm(2, 2, lambda place, seed: 30.0 - 8 * place)
    after = configuration_of(swept.folder, None)
    assert after.seed == 7, "its training is in the store"
    assert after.origin["selection"] == {"seed": 7, "kid": 21.0}
    told = after.origin["confirmed"]
    assert (told["rank"], told["of"], told["seeds"]) == (1, 2, [1_000_010, 2_000_013])
    assert told["scores"] == [22.0, 22.0]
    assert told["mean"] == pytest.approx(22.0)
    assert told["expected"] == pytest.approx(22.0)
    assert words_of(after.origin, named=False) == (
        "the confirmed best: KID ×1000 22.0 on average with the fresh seeds 1000010, 2000013, KID ×1000 21.0 with "
        "the search's seed 7"
    )
    after.write(swept.folder / "best.yaml")
    assert read_configuration(swept.folder / "best.yaml").origin == after.origin
    other = configuration_of(swept.folder, before.origin["trial"])
    assert words_of(other.origin, named=True).startswith("place 2 of 2 confirmed: KID ×1000 30.0 on average")
    (third,) = [trial.number for trial in swept.search.measured() if trial.values[0] == 22.0]
    assert words_of(configuration_of(swept.folder, third).origin, named=True).startswith(
        "chosen by its number and not"
    )


def test_two_objectives_export_the_front_as_before(make: Callable[..., Swept]) -> None:
    swept = make(2, objectives=("kid", "steps"))
    assert confirmation_table.words(swept.search) == []
    trial = swept.search.best()[0].number
    origin = configuration_of(swept.folder, trial).origin
    assert set(origin["selection"]) == {"seed", "kid", "steps"}
    assert origin["confirmed"] is False


def test_two_objectives_confirm_nothing_and_say_so_where_it_was_asked_for(tmp_path: Path) -> None:
    plant(Home(tmp_path / "runs"))
    words = ["sweep", "--dataset", "tiny", "--recipe", "smoke", "--dry-run", "--home", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, [*words, "--objective", "kid", "--objective", "steps", "--confirm", "2"])
    assert done.exit_code == 0
    assert "note: nothing is confirmed, since two objectives have no single best" in done.stderr
    assert "confirm" not in done.stdout


def test_what_a_confirmation_costs_is_known_at_most_and_exactly_once_the_trials_have_ended(
    make: Callable[..., Swept],
) -> None:
    swept = make(2)

    def told(search: Search | None, target: int, extent: Extent) -> Any:
        store = Store.of(swept.home)
        return forecasts.cost_of_confirmation(swept.plan, store, search, target, 2, lambda key, recipe: 60.0, extent)

    found = told(None, 20, Extent(5, 2))
    assert found["lacking"] == {
        "vae": 4,
        "latents": 4,
        "reference": 0,
        "reconstruction": 4,
        "denoiser": 10,
        "samples": 10,
        "evaluation": 10,
    }
    assert found["seconds"] == 60 * (4 + 4 + 4 + 10 + 10 + 10) / 2
    assert forecasts.confirmation_words(found) == (
        "the best 5 with 2 fresh seeds, 1000010, 2000013: at most 10 denoisers and 4 autoencoders more to train, "
        "time about 21 min"
    )
    assert told(swept.search, 20, Extent(5, 2)) == found, "more trials are to come"
    assert told(swept.search, 20, Extent()) is None
    swept.confirm(1, 2, lambda place, seed: 20.0)
    assert told(swept.search, 2, Extent(2, 2))["lacking"]["denoiser"] == 2, "one of two is confirmed already"


@pytest.mark.slow
def test_a_report_shows_the_confirmation_and_its_command_repeats_it(make: Callable[..., Swept]) -> None:
    swept = make(4)
    swept.confirm(3, 2, lambda place, seed: 26.0 - 2 * place)
    html, markdown, table = (path.read_text() for path in write_report(swept.home, swept.plan.name))
    found = confirmation(swept.search)
    assert found
    assert found.best
    for page in (html, markdown):
        assert (
            f"configuration {found.best.trial} ranks first of 3: KID ×1000 22.0, the mean of all its seeds but"
            in page
        )
        assert "Confirmed" in page
        assert "seed 2000013" in page
        assert "--trials 4 --confirm 3" in page
    assert f"| ★ | {found.best.trial} | 22.0 | 22.0 | 22.0 | 22.0 | 22.0 |" in markdown
    (chosen,) = [row for row in csv.DictReader(table.splitlines()) if row["chosen"] == "True"]
    assert int(chosen["trial"]) == found.best.trial
    assert "the chosen threshold is the cheapest" not in markdown, "it is another denoiser's"


def test_mlflow_is_told_the_confirmed_scores_apart(make: Callable[..., Swept]) -> None:
    swept, recorder = make(3), MemoryRecorder()
    swept.confirm(2, 2, lambda place, seed: 30.0 - 8 * place)
    record = SweepRecord(recorder, swept.plan, Store.of(swept.home), swept.search)
    recorder.open_run(record.name, name=record.name, kind="sweep")
    record.leaderboard(swept.folder, {})
    told = {name: value for name, _, _, value in recorder.runs[record.name].points}
    assert told["final/kid"] == 21.0, "the score of the search"
    assert told["confirmed/kid"] == pytest.approx(22.0)
    assert told["confirmed/kid_expected"] == pytest.approx(22.0)
    assert told["confirmed/trial"] == choice(swept.search)[0].number


def test_the_description_of_a_sweep_shows_the_mean_of_the_fresh_seeds_before_the_score_that_chose(
    make: Callable[..., Swept],
) -> None:
    swept = make(3)
    swept.confirm(2, 2, lambda place, seed: (30.0, 25.0)[place] + seed)
    text = describe_sweep(swept.plan, swept.search)
    assert "confirmed with 2 fresh seeds:**" in text
    assert "KID ×1000 25.5 with fresh seeds; the search had found KID ×1000 21.0 ± 0.1" in text


def test_a_sweep_that_runs_again_takes_from_the_store_what_an_interruption_kept_from_the_study(
    make: Callable[..., Swept],
) -> None:
    swept = make(3)
    sweep = job(swept, Extent(2, 2))
    runs = plan_runs(swept.plan, finalists(swept.search, 2), fresh_seeds(7, 2))
    for run in runs[:3]:
        points = [
            {"threshold": threshold, "metrics": {} if run is runs[2] else {"gen/kid": 25.0 + threshold}}
            for threshold in SPACE.thresholds
        ]
        sweep.store.obtain(run.keys.evaluation, lambda folder, points=points: {"points": points})
    assert sweep._begin_confirmation() == runs[3:]
    assert sweep._wanted().missing == runs[3:]
    assert sweep._note_end(runs[3], {**DIVERGED, "class": INFRASTRUCTURE}).startswith("failed")
    assert sweep._wanted().missing == runs[3:], "a lost worker's run is tried again"
    assert sweep._note_end(runs[3], DIVERGED).startswith("failed")
    assert sweep._begin_confirmation() == []
    found = confirmation(sweep.search)
    assert found
    assert [dict(row.failures) for row in found.rows] == [
        {2_000_013: "no finite kid was measured"},
        {2_000_013: DIVERGED["reason"]},
    ]
    assert {name for run in runs for name in run.keys.names()} <= set(read_json(sweep.folder / "uses.json", []))


@pytest.mark.parametrize(
    ("guarded", "said"),
    [(True, "failed: copies 37 of 64 (bound 2)"), (False, "done, KID ×1000 25.0, copies 37 of 64 (bound 2)")],
)
def test_a_fresh_run_that_copies_is_refused_or_in_a_search_without_guards_named(
    make: Callable[..., Swept], guarded: bool, said: str
) -> None:
    sweep = job(make(3, guarded=guarded), Extent(1, 1))
    (run,) = sweep._begin_confirmation()
    measured = {"gen/kid": 25.0, "gen/near_copies": 37 / 64, "gen/near_copies_bound": 2 / 64, "gen/samples": 64.0}
    points = [{"threshold": threshold, "metrics": measured} for threshold in SPACE.thresholds]
    sweep.store.obtain(run.keys.evaluation, lambda folder: {"points": points})
    assert sweep._note_end(run, None) == said


def test_a_finished_confirmation_is_found_again_after_an_interrupted_larger_one(make: Callable[..., Swept]) -> None:
    swept = make(3)
    swept.confirm(2, 2, lambda place, seed: 25.0 + place)
    before = confirmation(swept.search)
    assert before
    for larger in (Extent(2, 3), Extent(3, 2)):
        assert job(swept, larger)._begin_confirmation()
        assert confirmation(swept.search) is None
        assert job(swept, NOTHING)._begin_confirmation() == []
        assert confirmation(swept.search) is None, "nothing was asked for"
        assert job(swept, Extent(2, 2))._begin_confirmation() == []
        assert confirmation(swept.search) == before
    assert job(swept, Extent(1, 2))._begin_confirmation() == []
    assert confirmation(swept.search) == before, "a smaller extent hides nothing"


def test_only_a_divergence_is_a_configurations_own_failure(make: Callable[..., Swept]) -> None:
    swept = make(3)
    sweep = job(swept, Extent(1, 2))
    first, second = sweep._begin_confirmation()
    too_little = {"reason": "it takes 30 GiB, and the card has 24 GiB", "class": CapacityError.kind, "log": ""}
    for failure in (too_little, None):
        assert "it is tried again when the sweep goes on" in sweep._note_end(first, failure)
        assert sweep._wanted().missing == [first, second]
    assert sweep.undecided == f"{first.name}: its measurement is not in the store"
    assert sweep._note_end(second, DIVERGED) == f"failed: {DIVERGED['reason']}"
    assert sweep._wanted().missing == [first]


def test_a_sweep_that_lacks_a_training_of_its_best_says_how_many_and_why(
    make: Callable[..., Swept], monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = make(3)
    sweep = job(swept)
    monkeypatch.setattr("latentsweep.jobs.sweep.targets.lint_plan", lambda *_: [])
    monkeypatch.setattr(Runtime, "ray", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        "latentsweep.jobs.sweep.measure", lambda job, runs, packing, view, ended, before: ended(*runs, None)
    )
    with pytest.raises(UnfinishedError) as told:
        sweep.run(3, RUNTIME, Extent(1, 1))
    (run,) = sweep._wanted().missing
    assert str(told.value) == (
        f"the sweep was stopped with 1 training of its best to confirm (the last failure was {run.name}: its "
        "measurement is not in the store); nothing is lost, and the same command goes on"
    )


def test_a_sweep_that_an_earlier_version_measured_asks_for_nothing_new(make: Callable[..., Swept]) -> None:
    swept = make(0)
    swept.tell(2, measured="today")
    assert swept.plan.outdated(swept.search) == []
    swept.tell(1, measured="before")
    sweep, recorder = job(swept), MemoryRecorder()
    sweep.record = SweepRecord(recorder, swept.plan, sweep.store, sweep.search)
    refused = (
        f"all trials of a sweep must be measured in one way, and an earlier version measured 1 of those of "
        f"{swept.plan.name}; they can still be shown and exported: to go on, start the search anew with another "
        f"--seed, or move {swept.folder} away"
    )
    with pytest.raises(ConfigError) as told:
        sweep.run(4, RUNTIME, Extent(2, 2))
    assert str(told.value) == refused
    with pytest.raises(ConfigError) as told:
        forecasts.forecast(swept.plan, swept.home, 4, RUNTIME.packing, RUNTIME.packing, lambda *_: 0.0)
    assert str(told.value) == refused
    assert (swept.search.finished(), recorder.runs) == (3, {}), "nothing was asked for or recorded"


def test_a_finished_sweep_that_an_earlier_version_measured_is_answered_and_not_confirmed(
    make: Callable[..., Swept], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = make(0)
    swept.tell(3, measured="before")
    monkeypatch.setattr("latentsweep.jobs.sweep.targets.lint_plan", lambda *_: [])
    job(swept).run(3, dataclasses.replace(RUNTIME, console=Console(stderr=True)), Extent(2, 2))
    assert capsys.readouterr().err == (
        "note: the best are not confirmed, since an earlier version measured this sweep's trials, and scores of "
        "today don't compare with theirs\n"
    )
    assert ATTRIBUTE not in swept.search.study.user_attrs
    assert len((swept.folder / "leaderboard.csv").read_text().splitlines()) == 7


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_confirms_its_best_once_and_export_says_so(measured_demo: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(measured_demo, tmp_path / "runs"))
    words = sweep_words(tmp_path, "demo", 2)
    (tmp_path / "space.yaml").write_text("dimensions: {sampling.steps: [4, 8]}")
    words += ["--confirm", "2", "--confirm-seeds", "1"]
    planned = cli(home, *(word for word in words if word != "--json"), "--dry-run").stdout
    assert "the best 2 with 1 fresh seed, 1000003: at most 2 denoisers and 1 autoencoder more" in planned
    assert "without the confirmation" in planned
    said = json.loads(cli(home, *words).stdout)
    counts = stages_in(home)
    assert (counts["vae"], counts["denoiser"], counts["evaluation"]) == (2, 2, 4), "both trials share each denoiser"
    assert [row["rank"] for row in said["confirmed"]] == [1, 2]
    assert all(row["mean"] == pytest.approx(row["seed_1000003"]) for row in said["confirmed"])
    study_of(home, said["sweep"]).set_user_attr(ATTRIBUTE, {})
    again = cli(home, *words)
    assert json.loads(again.stdout)["confirmed"] == said["confirmed"], "the store has all of it"
    assert stages_in(home) == counts
    told = cli(home, "export", "--dataset", "demo", "--to", tmp_path / "best.yaml").stdout
    best = said["confirmed"][0]
    assert f"configuration {best['trial']} of {said['sweep']}, the confirmed best: KID ×1000" in told
    assert read_configuration(tmp_path / "best.yaml").origin["confirmed"]["mean"] == pytest.approx(best["mean"])
    folder = home / "sweeps" / said["sweep"]
    assert "Confirmed:" in (folder / "leaderboard.md").read_text()
    assert len((folder / "confirmed.csv").read_text().splitlines()) == 3

"""The contest of picture quality: budgets are filled, cells are kept and found again, and copies never win."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from quality import BUDGETS, CONTENDERS
from quality_cells import ATTEMPTS, Cell, Cells, Cost, Phase, Plan, mean_of, measure_cost, spend
from quality_ours import ALWAYS, settings_at
from quality_table import LOOKS, Result, best_peer, draw_curves, rows_of, table

from trainables.recipes import recipe_named

PLAN = Plan("diffusers", 60, 0, {"rate": 3.0})


class Machine:
    """A training on a made-up clock: each phase takes a second at each run, and so many for each step."""

    def __init__(self, shares: Mapping[str, float], steps: Mapping[str, float], slower: float = 1.0) -> None:
        self.shares, self.seconds, self.slower = shares, steps, slower
        self.now, self.runs = 0.0, list[tuple[str, int]]()

    def run(self, phase: str, steps: int) -> None:
        busy = self.slower if steps > 100 else 1.0
        self.now += (1.0 + steps * self.seconds[phase]) * busy
        self.runs.append((phase, steps))

    def draw(self, count: int) -> np.ndarray:
        return np.zeros((count, 8, 8), np.uint8)


def cell(name: str, budget: int, kid: float, copies: float = 0.0, seed: int = 0) -> Cell:
    metrics = {"gen/kid": kid, "gen/near_copies": copies, "gen/recall": 0.05}
    plan = Plan(name, budget, seed, {})
    return Cell(plan, {"denoiser": Phase(100, 1.01 * budget)}, 1, 5.0, 200, metrics, kid, "a machine")


def result(name: str, budget: int, kid: float, copies: float = 0.0) -> Result:
    return Result(name, name, budget, 1.0, [cell(name, budget, kid + seed, copies, seed) for seed in range(3)])


def test_the_cost_of_a_step_is_told_from_that_of_a_run() -> None:
    cost = measure_cost(lambda steps: 2.0 + 0.25 * steps, shortest=10.0)
    assert cost == pytest.approx((2.0, 0.25))
    assert cost.steps(60.0) == 232
    assert Cost(0.0, 100.0).steps(60.0) == 1


def test_a_long_start_does_not_end_the_short_runs_before_their_steps_count() -> None:
    noise = iter([0.0, 0.3, 0.0, 0.3] * 10)
    cost = measure_cost(lambda steps: 5.0 + 0.05 * steps + next(noise), shortest=3.0)
    assert cost.step == pytest.approx(0.05, rel=0.15)


def test_validations_that_the_shortest_runs_have_no_steps_for_are_not_taken_for_steps() -> None:
    cost = measure_cost(lambda steps: 3.0 + 0.1 * steps + min(steps, 4), shortest=3.0)
    assert cost == pytest.approx((7.0, 0.1))


def test_an_autoencoder_that_missed_its_share_is_trained_again() -> None:
    machine = Machine({"autoencoder": 0.5, "denoiser": 0.5}, {"autoencoder": 0.1, "denoiser": 0.1}, slower=1.4)
    spent, attempts = spend(machine, 60.0, lambda: machine.now)
    assert spent["autoencoder"].seconds == pytest.approx(30.0, abs=3.0)
    assert attempts > 1


def test_two_phases_fill_the_budget_and_the_last_has_what_is_left() -> None:
    machine = Machine({"autoencoder": 0.25, "denoiser": 0.75}, {"autoencoder": 0.7, "denoiser": 0.1})
    spent, attempts = spend(machine, 60.0, lambda: machine.now)
    assert sum(phase.seconds for phase in spent.values()) == pytest.approx(60.0, abs=0.1)
    assert spent["autoencoder"] == pytest.approx((20, 15.0), abs=0.7)
    assert attempts == 1


def test_a_training_that_missed_its_budget_is_done_again_with_other_steps() -> None:
    machine = Machine({"denoiser": 1.0}, {"denoiser": 0.1}, slower=1.3)
    spent, attempts = spend(machine, 60.0, lambda: machine.now)
    assert attempts == 2
    assert spent["denoiser"].seconds == pytest.approx(60.0, rel=0.02)


def test_a_machine_that_never_keeps_its_pace_ends_the_attempts() -> None:
    class Erratic(Machine):
        def run(self, phase: str, steps: int) -> None:
            super().run(phase, steps)
            self.now += 100.0 if steps > 100 and len(self.runs) % 2 else 0.0

    machine = Erratic({"denoiser": 1.0}, {"denoiser": 0.1})
    _, attempts = spend(machine, 60.0, lambda: machine.now)
    assert attempts <= ATTEMPTS


def test_a_plan_has_one_name_and_every_difference_another() -> None:
    assert PLAN.name == Plan("diffusers", 60, 0, {"rate": 3.0}).name
    others = [
        dataclasses.replace(PLAN, **change)
        for change in ({"contender": "monai"}, {"budget": 240}, {"seed": 1}, {"settings": {"rate": 1.0}})
    ]
    assert len({PLAN.name, *(other.name for other in others)}) == 5


def test_a_kept_cell_is_found_again_with_its_images(tmp_path: Path) -> None:
    cells, kept = Cells(tmp_path / "cells", tmp_path / "published"), cell("diffusers", 60, 300.0)
    images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    assert cells.find(kept.plan) is None
    cells.keep(kept, images)
    assert cells.find(kept.plan) == kept
    assert (cells.images(kept.plan) == images).all()


def test_a_published_cell_is_found_from_any_folder_and_has_no_images(tmp_path: Path) -> None:
    published, kept = tmp_path / "published", cell("diffusers", 60, 300.0)
    first, second = Cells(tmp_path / "first", published), Cells(tmp_path / "second", published)
    first.keep(kept, np.zeros((1, 8, 8), np.uint8))
    assert second.find(kept.plan) is None
    first.publish()
    assert second.find(kept.plan) == kept
    assert second.images(kept.plan) is None


def test_a_cell_that_was_interrupted_is_not_there(tmp_path: Path) -> None:
    cells, plan = Cells(tmp_path / "cells", tmp_path / "published"), cell("diffusers", 60, 300.0).plan
    np.savez_compressed(cells.folder / f"{plan.name}.npz", images=np.zeros((1, 8, 8), np.uint8))
    (cells.folder / f"{plan.name}.new").write_text("{")
    assert cells.find(plan) is None


def test_a_cell_off_its_budget_says_so() -> None:
    kept = cell("diffusers", 60, 300.0)
    assert kept.on_budget
    assert not dataclasses.replace(kept, phases={"denoiser": Phase(100, 64.0)}).on_budget


def test_one_seed_has_no_standard_error() -> None:
    assert np.isnan(mean_of([3.0]).error)
    assert mean_of([1.0, 2.0, 3.0]) == pytest.approx((2.0, 3**-0.5, 3))


def test_a_contender_that_copies_is_marked_and_is_not_the_best_peer() -> None:
    results = [result("diffusers", 240, 200.0), result("monai", 240, 90.0, copies=0.1), result("ours", 240, 50.0)]
    best = best_peer(results, 240)
    assert best is not None
    assert best.name == "diffusers"
    assert [line for line in table(results) if "copies**" in line] == [
        line for line in table(results) if "| monai |" in line
    ]


@pytest.mark.parametrize(
    ("kid", "copies", "holds"), [(50.0, 0.0, True), (50.0, 0.03, False), (61.0, 0.0, False), (58.0, 0.0, True)]
)
def test_ours_wins_only_below_both_limits_and_without_copies(kid: float, copies: float, holds: bool) -> None:
    (row,) = rows_of([result("diffusers", 240, 200.0), result("ours", 240, kid, copies)])
    assert row["holds"] is holds


def test_ours_does_not_win_against_a_peer_that_is_too_near() -> None:
    (row,) = rows_of([result("diffusers", 240, 90.0), result("ours", 240, 50.0)])
    assert row["holds"] is False
    assert "0.56 times" in str(row["measured"])


def test_the_curves_show_every_contender_in_three_panels() -> None:
    results = [result(name, budget, 100.0) for name in CONTENDERS for budget in BUDGETS]
    figure = draw_curves(results, {"kid": 10.0, "recall": 0.6})
    assert len(figure.axes) == 3
    assert len(figure.axes[1].get_legend().get_texts()) == len(CONTENDERS) + 1
    assert set(LOOKS) == set(CONTENDERS)


@pytest.mark.parametrize("budget", BUDGETS)
def test_our_recipe_is_a_configuration_at_every_budget(budget: int) -> None:
    stated = settings_at(budget)
    recipe = recipe_named(stated["recipe"]).replace(**{**ALWAYS, **stated["changes"]})
    assert recipe.data.image_size == 64
    assert 0 < stated["autoencoder_share"] < 1
    assert settings_at(budget + 1)["changes"] == stated["changes"]

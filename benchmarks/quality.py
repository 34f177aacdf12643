"""A contest of picture quality at equal CPU time: ours, diffusers, MONAI and slim-diff, each as its users train it.

All train on the training split of the 865 real slices that LATENTSWEEP_TEST_DATA names, at 64×64, split by subject,
for the CPU seconds of a budget on one core. 200 images of each are measured against the same test slices by the same
evaluator. The peers' learning rates are theirs, ×3 or ×10, chosen by the validation KID of seed 0 at 1 minute.
Every cell (contender, budget, seed) is kept in ``--folder`` and never computed twice; the same command goes on where
it was interrupted, and ``--only``, ``--budget`` and ``--seeds`` run a part. Whatever is there is in the report, which
also publishes the numbers of its cells in benchmarks/reports/quality: these aren't computed again anywhere. All takes
about 15 hours of one core, two thirds of them for the peers at their published widths.

    python benchmarks/quality.py --folder ~/quality --report
    python benchmarks/quality.py --folder ~/quality --only ours --budget 60
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import quality_ours
import torch
from quality_cells import Cell, Cells, Plan, Training, spend
from quality_data import CONFIG, Data, open_data
from quality_diffusers import Diffusers
from quality_monai import Monai
from quality_slim_diff import SlimDiff
from quality_table import Result, draw_curves, report_of, rows_of
from timing import machine, write_report

from trainables.figures import image_grid

BUDGETS = (60, 240, 960)
SEEDS = (0, 1, 2)
RATES = (1.0, 3.0, 10.0)
SHOWN = 36
PUBLISHED = Path(__file__).parent / "reports" / "quality"


@dataclass(frozen=True)
class Contender:
    """How a contender trains."""

    title: str
    build: Callable[[Mapping[str, Any], Data, int], Training]
    settings: Callable[[int], dict[str, Any]]
    """Of a budget: all that the training depends on."""
    tuned: bool = True
    """Whether a factor of its learning rates is chosen, ``rate`` in its settings."""


def peer(title: str, build: Callable[..., Training], batch: int, *, narrow: bool = False) -> Contender:
    """One of the other contenders."""
    settings = {"narrow": narrow, "batch": batch, "sampling_steps": 25, "version": 1}
    return Contender(title, build, lambda budget: dict(settings))


CONTENDERS = {
    "diffusers-narrow": peer("diffusers, narrow", Diffusers, 8, narrow=True),
    "monai-narrow": peer("MONAI, narrow", Monai, 16, narrow=True),
    "slim-diff-narrow": peer("slim-diff, narrow", SlimDiff, 8, narrow=True),
    "diffusers": peer("diffusers", Diffusers, 4),
    "monai": peer("MONAI", Monai, 8),
    "slim-diff": peer("slim-diff", SlimDiff, 4),
    "ours": Contender("ours", quality_ours.Ours, quality_ours.settings_at, tuned=False),
}


class Contest:
    """The cells of a folder, and what computes those that are missing."""

    def __init__(self, folder: Path) -> None:
        self.cells, self.folder = Cells(folder / "cells", PUBLISHED), folder

    @cached_property
    def data(self) -> Data:
        """The slices."""
        return open_data(self.folder)

    def plan(self, name: str, budget: int, seed: int, rate: float) -> Plan:
        """The plan of a cell."""
        contender = CONTENDERS[name]
        return Plan(name, budget, seed, contender.settings(budget) | ({"rate": rate} if contender.tuned else {}))

    def find_rate(self, name: str, budget: int, *, compute: bool) -> float | None:
        """The factor whose cell of seed 0 has the lowest validation KID; None where one is missing."""
        if not CONTENDERS[name].tuned:
            return RATES[0]
        kids = {}
        for rate in RATES:
            plan = self.plan(name, budget, SEEDS[0], rate)
            cell = self.compute(plan) if compute else self.cells.find(plan)
            if cell is None:
                return None
            kids[rate] = cell.validation_kid if math.isfinite(cell.validation_kid) else math.inf
        return min(kids, key=lambda rate: kids[rate])

    def compute(self, plan: Plan) -> Cell:
        """The cell of a plan, computed where it is missing."""
        found = self.cells.find(plan)
        if found is not None:
            return found
        torch.set_num_threads(1)
        started = time.monotonic()
        training = CONTENDERS[plan.contender].build(plan.settings, self.data, plan.seed)
        phases, attempts = spend(training, plan.budget)
        began = time.process_time()
        images = training.draw(CONFIG.samples)
        sampling = time.process_time() - began
        metrics, validation = self.data.measure(images)
        cell = Cell(plan, phases, attempts, sampling, len(images), metrics, validation, machine(torch.device("cpu")))
        self.cells.keep(cell, images)
        said = ", ".join(f"{name} {phase.steps} steps {phase.seconds:.1f} s" for name, phase in phases.items())
        print(
            f"{plan.name}: KID {metrics['gen/kid']:.1f} (validation {validation:.1f}), near copies "
            f"{metrics['gen/near_copies']:.3f}; {said}; sampling {sampling:.0f} s, wall "
            f"{time.monotonic() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return cell

    def results(self) -> list[Result]:
        """Every contender and budget of which there are cells, by the chosen rates."""
        found = []
        for name, contender in CONTENDERS.items():
            rate = self.find_rate(name, BUDGETS[0], compute=False)
            if rate is None:
                continue
            for budget in BUDGETS:
                cells = [self.cells.find(self.plan(name, budget, seed, rate)) for seed in SEEDS]
                found.append(
                    Result(name, contender.title, budget, rate, [cell for cell in cells if cell is not None])
                )
        return [result for result in found if result.cells]

    def draw_grids(self, results: list[Result]) -> None:
        """A picture of the first images of each contender at each budget, in the folder; of published cells, none."""
        for result in results:
            images = self.cells.images(result.cells[0].plan)
            if images is not None:
                image_grid(images[:SHOWN]).save(self.folder / f"grid-{result.name}-{result.budget}s.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where cells, data and pictures are kept")
    parser.add_argument("--only", help=f"contenders, by default all: {','.join(CONTENDERS)}")
    parser.add_argument("--budget", help="CPU seconds, by default 60,240,960; others aren't in the report")
    parser.add_argument("--seeds", help="seeds, by default 0,1,2")
    parser.add_argument("--none", action="store_true", help="compute nothing, report what is there")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-quality.md")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(CONTENDERS)
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        parser.error(f"--only must name contenders, got {', '.join(unknown)}; take {', '.join(CONTENDERS)}")
    budgets = [int(each) for each in arguments.budget.split(",")] if arguments.budget else BUDGETS
    seeds = [int(each) for each in arguments.seeds.split(",")] if arguments.seeds else SEEDS
    contest = Contest(arguments.folder.expanduser())
    for budget in [] if arguments.none else budgets:
        for name in names:
            rate = contest.find_rate(name, min(budget, BUDGETS[0]), compute=True)
            for seed in seeds:
                contest.compute(contest.plan(name, budget, seed, rate or RATES[0]))

    results = contest.results()
    if not results:
        print("no cells of the contest's budgets yet", file=sys.stderr)
        return 0
    contest.draw_grids(results)
    figure = draw_curves(results, contest.data.reference("test").floor)
    for ending in ("png", "svg"):
        figure.savefig(contest.folder / f"quality.{ending}")
    text = report_of(results, contest.data, " ".join(sys.argv[1:]))
    rows = rows_of(results)
    sys.stdout.write(text)
    if arguments.report:
        write_report("quality", text, rows)
        contest.cells.publish()
    return int(any(row["holds"] is False for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())

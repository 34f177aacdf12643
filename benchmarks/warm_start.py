"""What a search gains by what earlier sweeps found, on data that resemble theirs and on data that don't (simulated).

An earlier sweep searches one world; then another is searched twice, with the earlier one's best configurations first,
and without. How much the second world resembles the first is its *likeness*: what autoencoders are worth there is the
first world's worth, times the likeness, plus something of its own, so that the variance stays; the denoiser's best
frequency weight and CutMix probability move from the first world's to anywhere.

Counted are the GPU hours until the best configuration that a search has measured is within one standard error of the
best of the space. The search is real, the stages only take time, and the scores are **synthetic**: see
``simulation.py`` and ``autoencoders.py``. Ends with exit code 1 where a row doesn't hold.

    python benchmarks/warm_start.py --report
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from autoencoders import CONCURRENT, SPACES, TRIALS, ManyAutoencoders, good, spread
from simulation import STANDARD_ERROR, Costs, plan_of, swept
from timing import publish, verdicts

from latentsweep.search.choice import SearchConfig
from latentsweep.search.study import Search
from trainables.loop.seeds import derived_seed

SEEDS, EARLIER = 24, 24
LIKENESSES = (1.0, 0.8, 0.5, 0.0)
SPACE = SPACES[8]
COSTS = dataclasses.replace(Costs(), vae=Costs().denoiser)
FEW = 3
"""Trials that a warm start may cost where it misleads."""


@dataclass(frozen=True)
class Another(ManyAutoencoders):
    """A world that resembles the one of seed ``first`` by ``likeness``, from 0 to 1."""

    first: int = 0
    likeness: float = 0.0

    def _worth(self, values: tuple[tuple[str, Any], ...]) -> float:
        theirs = ManyAutoencoders(self.first, self.space)._worth(values)
        return self.likeness * theirs + math.sqrt(1 - self.likeness**2) * super()._worth(values)

    @property
    def best(self) -> tuple[float, float]:
        own = derived_seed(self.seed, "best")
        drawn = np.random.default_rng(own).uniform((0.0, 0.0), (0.3, 0.5))
        frequency, cutmix = self.likeness * np.array(super().best) + (1 - self.likeness) * drawn
        return float(frequency), float(cutmix)


def best_of(world: ManyAutoencoders) -> dict[str, dict[str, Any]]:
    """What a sweep of :data:`EARLIER` trials hands on."""
    kept: list[Search] = []

    def over(search: Search) -> bool:
        kept[:] = [search]
        return False

    swept(plan_of(SPACE, SearchConfig(), world.seed), EARLIER, CONCURRENT, world, COSTS, over=over)
    found = kept[0].feasible()[: SearchConfig.warm_start]
    return {f"earlier/trial-{trial.number}": dict(trial.params) for trial in found}


def until_found(world: ManyAutoencoders, warm_start: Mapping[str, Mapping[str, Any]]) -> float:
    """GPU hours of a sweep; infinite where so many trials don't find a good configuration."""
    found = False

    def over(search: Search) -> bool:
        nonlocal found
        measured = search.measured()
        found = bool(measured) and good(world, measured[0].params)
        return found

    plan = plan_of(SPACE, SearchConfig(), world.seed)
    outcome = swept(plan, TRIALS, CONCURRENT, world, COSTS, over=over, warm_start=warm_start)
    return outcome.compute if found else math.inf


def hours_with(likeness: float, handed: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> list[float]:
    """GPU hours with a warm start by what the earlier sweep of each seed handed on."""
    return [until_found(Another(1000 + seed, SPACE, seed, likeness), first) for seed, first in handed.items()]


def rows_of(found: Mapping[float, tuple[Sequence[float], Sequence[float]]]) -> list[dict[str, Any]]:
    """The rows that are held to; each of ``found`` has the hours without a warm start and with one."""
    medians = {each: tuple(map(statistics.median, pair)) for each, pair in found.items()}
    gains = {each: without / with_one for each, (without, with_one) in medians.items()}
    trial = COSTS.denoiser + COSTS.vae
    lost = max((with_one - without) / trial for without, with_one in medians.values())
    return [
        {
            "what": "GPU time until a good configuration is found, with the best of an earlier sweep on data of a "
            "likeness of 0.8 and more",
            "against": "a search that knows no earlier one",
            "at_least": "less time",
            "measured": ", ".join(f"{gains[each]:.2f} times less at {each:g}" for each in LIKENESSES if each >= 0.8),
            "holds": min(gains[each] for each in LIKENESSES if each >= 0.8) > 1,
        },
        {
            "what": "what it loses where the earlier data tell less, whatever their likeness",
            "against": "a search that knows no earlier one",
            "at_least": f"at most {FEW} trials with an autoencoder each",
            "measured": f"{max(0.0, lost):.1f} trials",
            "holds": lost <= FEW,
        },
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="searches of each kind")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-warm-start.md")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    handed = {seed: best_of(ManyAutoencoders(seed, SPACE)) for seed in range(arguments.seeds)}
    nothing: dict[int, dict[str, dict[str, Any]]] = {seed: {} for seed in handed}
    found, lines = dict[float, tuple[list[float], list[float]]](), list[str]()
    for likeness in LIKENESSES:
        found[likeness] = hours_with(likeness, nothing), hours_with(likeness, handed)
        lines.append(f"| {likeness:g} | {' | '.join(map(spread, found[likeness]))} |")
        print(lines[-1], file=sys.stderr, flush=True)
    rows = rows_of(found)
    text = [
        *verdicts(rows),
        "",
        "GPU hours until the best configuration that a search has measured is, without noise, within one "
        f"standard error ({STANDARD_ERROR:g}) of the best of the space: medians of {arguments.seeds} seeds with "
        f"their quartiles. The space has 8 autoencoders, each as dear as a denoiser ({COSTS.denoiser:g} hours); "
        f"{CONCURRENT} at once, at most {TRIALS} trials, {EARLIER} in the earlier sweep, of which the best "
        f"{SearchConfig.warm_start} are tried first. The search is real, the stages only take time, and **the "
        "scores are synthetic**: see `benchmarks/warm_start.py`.",
        "",
        "| likeness | without | with |",
        "| --- | --- | --- |",
        *lines,
    ]
    return publish(
        "warm-start",
        "The best of earlier sweeps first",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("optuna",),
        simulated=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())

"""What a search takes until it has found a good configuration, where autoencoders are many or dear (simulated clock).

Four ways to search the same spaces, two trials at once:

- *priced*: a sweep with ``--sampler gp --pruner gp``, which weighs what an autoencoder costs;
- *asked for*: a sweep as it is by default, which trains an autoencoder when a trial asks for it;
- *all first*: the default's search, with every autoencoder of the space trained before the first trial;
- *trial by trial*: plain Ray Tune with its ``OptunaSearch`` and ASHA at their defaults, where each trial trains an
  autoencoder of its own.

Counted are the GPU hours until the best configuration that a search has measured is, without noise, within one
standard error of the best of the space. The search and the scheduler are real, the stages only take time, and the
scores are **synthetic**: see ``simulation.py``, and :class:`ManyAutoencoders` for what autoencoders are worth. Ends
with exit code 1 where a row doesn't hold.

    python benchmarks/autoencoders.py --report
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from simulation import CONTROLLER, SPACE, STANDARD_ERROR, Costs, Life, World, plan_of, run, swept
from timing import publish, verdicts

from latentsweep.search.choice import SearchConfig
from latentsweep.search.proposals import distribution
from latentsweep.search.study import Search
from trainables.loop.records import even_steps
from trainables.loop.seeds import derived_seed
from trainables.recipes import PAPER
from trainables.space import Choice, Range, SearchSpace

SEEDS, CONCURRENT, TRIALS = 24, 2, 64
DEFAULT = SearchConfig()
RATIOS = (0.3, 1.0, 3.0)
"""What an autoencoder costs, in denoisers."""

DENOISER = {"diffusion.frequency_weight": Range(0.0, 0.3), "diffusion.cutmix_probability": Range(0.0, 0.5)}
DIMENSIONS = {
    "vae.latent_channels": Choice((4, 8)),
    "vae.kl_weight": Choice((1e-6, 1e-5)),
    "vae.warp_share": Choice((0.0, 0.5)),
    "vae.learning_rate": Choice((1e-4, 3e-4)),
}
SPACES = {
    2**count: SearchSpace({**dict(itertools.islice(DIMENSIONS.items(), count)), **DENOISER}) for count in (3, 4)
}
"""Spaces by how many autoencoders they have."""


@dataclass(frozen=True)
class ManyAutoencoders(World):
    """Autoencoders that differ, beside the denoiser's two questions of :class:`World`.

    Each dimension of the autoencoder has an effect of its own, which is normal with a standard deviation of 2, and
    each autoencoder one that no dimension explains, with a standard deviation of 1; the best has none of either.
    """

    space: SearchSpace = SPACES[8]

    def truth(self, params: Mapping[str, Any]) -> float:
        frequency, cutmix = params["diffusion.frequency_weight"], params["diffusion.cutmix_probability"]
        best_frequency, best_cutmix = self.best
        denoiser = 4 * ((frequency - best_frequency) / 0.2) ** 2 + 3 * ((cutmix - best_cutmix) / 0.3) ** 2
        return float(10 + self._worth(self._named(params)) - self.least + denoiser)

    @property
    def best(self) -> tuple[float, float]:
        """The best weight of the frequency loss, and the best probability of CutMix."""
        return 0.1, 0.3

    @functools.cached_property
    def least(self) -> float:
        """The worth of the best autoencoder."""
        fields = self.space.touching("vae")
        grid = itertools.product(*(d.values for d in fields.values() if isinstance(d, Choice)))
        return min(self._worth(tuple(zip(fields, values, strict=True))) for values in grid)

    def _named(self, params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple((field, params[field]) for field in self.space.touching("vae"))

    def _worth(self, values: tuple[tuple[str, Any], ...]) -> float:
        effects = [2 * normal(self.seed, pair) for pair in values]
        return sum(effects) + normal(self.seed, values)


@functools.cache
def normal(seed: int, what: tuple[Any, ...]) -> float:
    """A number drawn for ``what``, the same whoever asks."""
    return float(np.random.default_rng(derived_seed(seed, str(what))).standard_normal())


def good(world: World, params: Mapping[str, Any]) -> bool:
    """Whether a configuration is within one standard error of the best of its space, whose score is 10."""
    return world.truth(params) <= 10 + STANDARD_ERROR


def until_found(
    world: World, space: SearchSpace, costs: Costs, seed: int, *, eager: bool = False, search: SearchConfig = DEFAULT
) -> float:
    """GPU hours of a sweep; infinite where so many trials don't find it."""
    found = False

    def over(study: Search) -> bool:
        nonlocal found
        measured = study.measured()
        found = bool(measured) and good(world, measured[0].params)
        return found

    outcome = swept(plan_of(space, search, seed), TRIALS, CONCURRENT, world, costs, eager=eager, over=over)
    return outcome.compute if found else math.inf


def until_found_by_trials(world: World, space: SearchSpace, costs: Costs, seed: int) -> float:
    """GPU hours of plain Ray Tune; a trial reports at the rungs of our trials and at its end."""
    distributions = {field: distribution(dimension) for field, dimension in space.dimensions.items()}
    searcher = OptunaSearch(distributions, metric="score", mode="min", seed=seed)
    scheduler = ASHAScheduler(
        metric="score",
        mode="min",
        time_attr="step",
        max_t=PAPER.diffusion.steps,
        grace_period=even_steps(PAPER.diffusion.steps, PAPER.evaluation.rungs + 1)[0],
    )
    total, evaluation = PAPER.diffusion.steps, PAPER.evaluation
    steps, names, scores = even_steps(total, evaluation.rungs + 1), map(str, range(TRIALS)), list[tuple[float, Any]]()

    def life(name: str, params: Mapping[str, Any]) -> Life:
        trial: Any = SimpleNamespace(trial_id=name, config=params)
        scheduler.on_trial_add(CONTROLLER, trial)
        before, own = 0, costs.reference + costs.vae + costs.encoding
        for step in steps:
            last = step == total
            images = evaluation.samples if last else evaluation.rung_samples
            yield own + (step - before) / total * costs.denoiser + costs.drawn(images, 1)
            before, own = step, 0.0
            score = world.measured(params)["gen/kid"] if last else world.on_the_way(params, step)["rung/kid"]
            result = {"step": step, "score": score, "training_iteration": step}
            if last:
                scores.append((score, params))
            elif scheduler.on_trial_result(CONTROLLER, trial, result) == TrialScheduler.STOP:
                break
        scheduler.on_trial_complete(CONTROLLER, trial, result)
        searcher.on_trial_complete(name, result)

    def begin() -> Life | None:
        name = next(names, None)
        params = searcher.suggest(name) if name else None
        return life(name, params) if name and params else None

    def over() -> bool:
        return bool(scores) and good(world, min(scores, key=lambda each: each[0])[1])

    compute, _ = run(begin, CONCURRENT, over)
    return compute if over() else math.inf


WAYS: dict[str, Callable[[World, SearchSpace, Costs, int], float]] = {
    "priced": functools.partial(until_found, search=SearchConfig(sampler="gp", pruner="gp")),
    "asked for": until_found,
    "all first": functools.partial(until_found, eager=True),
    "trial by trial": until_found_by_trials,
}


def hours_of(way: str, worlds: Sequence[World], space: SearchSpace, costs: Costs) -> list[float]:
    """What one way took in each world."""
    return [WAYS[way](world, space, costs, world.seed) for world in worlds]


def spread(hours: Sequence[float]) -> str:
    """The median with the quartiles, and how many searches found nothing good."""
    low, high = (sorted(hours)[round(part * (len(hours) - 1))] for part in (0.25, 0.75))
    missed = sum(map(math.isinf, hours))
    return f"{statistics.median(hours):.0f} ({low:.0f} … {high:.0f})" + (f", {missed} not found" if missed else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="searches of each kind")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-autoencoders.md")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    seeds = range(arguments.first, arguments.first + arguments.seeds)

    lines, against = [], dict[str, list[float]]({way: [] for way in WAYS})
    for (count, space), ratio in itertools.product(SPACES.items(), RATIOS):
        costs = dataclasses.replace(Costs(), vae=ratio * Costs().denoiser)
        found = {way: hours_of(way, [ManyAutoencoders(seed, space) for seed in seeds], space, costs) for way in WAYS}
        medians = {way: statistics.median(hours) for way, hours in found.items()}
        for way in WAYS:
            against[way].append(medians[way] / medians["priced"])
        cells = " | ".join(spread(hours) for hours in found.values())
        times = " | ".join(f"{against[way][-1]:.2f}×" for way in WAYS if way != "priced")
        lines.append(f"| {count} | {ratio:g} | {cells} | {times} |")
        print(lines[-1], file=sys.stderr, flush=True)
    own = [World(seed) for seed in seeds]
    paper = {way: hours_of(way, own, SPACE, Costs()) for way in WAYS if way != "trial by trial"}
    worse = statistics.median(paper["priced"]) / statistics.median(paper["asked for"])
    rows = [
        {
            "what": "GPU time until a good configuration is found, 8 and 16 autoencoders (simulated clock)",
            "against": "all autoencoders first",
            "at_least": "2 times less",
            "measured": f"{min(against['all first']):.2f} to {max(against['all first']):.2f} times less",
            "holds": min(against["all first"]) >= 2,
        },
        {
            "what": "the same",
            "against": "plain Ray Tune, OptunaSearch and ASHA, trial by trial",
            "at_least": "3 times less",
            "measured": f"{min(against['trial by trial']):.2f} to {max(against['trial by trial']):.2f} times less",
            "holds": min(against["trial by trial"]) >= 3,
        },
        {
            "what": "the same on the paper's four dimensions, two autoencoders",
            "against": "the default",
            "at_least": "at most 1.10 times as much",
            "measured": f"{worse:.2f} times as much",
            "holds": worse <= 1.1,
        },
    ]
    head = (
        "autoencoders",
        "cost of one, in denoisers",
        *WAYS,
        *(f"{way}: times as much" for way in WAYS if way != "priced"),
    )
    text = [
        *verdicts(rows),
        "",
        "GPU hours until the best configuration that a search has measured is, without noise, within one "
        f"standard error ({STANDARD_ERROR:g}) of the best of the space. Medians of {len(seeds)} seeds with their "
        f"quartiles; {CONCURRENT} at once, at most {TRIALS} trials. A denoiser takes {Costs().denoiser:g} hours. "
        "The search and the schedulers are real, the stages only take time, and **the scores are synthetic**: "
        "see `benchmarks/autoencoders.py` and `benchmarks/simulation.py`.",
        "",
        f"| {' | '.join(head)} |",
        "|" + " --- |" * len(head),
        *lines,
        "",
        "The paper's four dimensions, with two autoencoders of 62 hours:",
        "",
        *(f"- {way}: {spread(hours)}" for way, hours in paper.items()),
    ]
    return publish(
        "autoencoders",
        "Autoencoders that trials ask for",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("optuna",),
        simulated=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())

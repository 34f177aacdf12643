"""A search on a simulated clock: the study, searcher and scheduler of a sweep, with stages that only take time.

What is real: :class:`~latentsweep.search.study.Search` (TPE, the pruner, its database), the searcher and the
scheduler that Ray Tune calls, the plan's list of shared autoencoders, and the steps of the rungs. What is simulated:
how long a stage takes, and what its result scores. The scores are **synthetic**: a smooth function of the
configuration plus noise.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna

from latentsweep.execution.tuning import StudyScheduler, StudySearcher
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.proposals import distribution
from latentsweep.search.study import Search
from trainables.loop.progress import even_steps
from trainables.loop.seeds import derived_seed
from trainables.recipes import PAPER
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Range(0.0, 0.3),
        "diffusion.cutmix_probability": Range(0.0, 0.5),
        THRESHOLD: Choice((0.0, 0.01, 0.02, 0.05, 0.1)),
    }
)
"""The paper's four questions; with ranges, no two trials ask for the same denoiser."""

STANDARD_ERROR = 1.4
"""Of a KID ×1000 from 200 images, as measured between draws of real slices."""


@dataclass(frozen=True)
class Costs:
    """Hours on the paper's card, an RTX 3060, of each stage of one configuration."""

    vae: float = 220 * 17 / 60
    """220 epochs of 17 minutes (the paper's)."""
    encoding: float = 17 / 60 / 6
    """The encoder's forward pass over the data once; assumed a sixth of an epoch."""
    denoiser: float = 8.5
    """100,000 steps (the paper's)."""
    image: float = 5 / 3600
    """One image of 50 steps (the paper's)."""
    measuring: float = 0.2 / 3600
    """Decoding and Inception features of one image, at most: 0.17 s of it were measured on two CPU cores."""

    @property
    def reference(self) -> float:
        """Features of the real slices and of as many more for the floor."""
        return 2 * PAPER.evaluation.samples * self.measuring

    def drawn(self, images: int, thresholds: int) -> float:
        """A sampling pass that nothing stops early, whose images are measured under so many thresholds."""
        return images * (self.image + thresholds * self.measuring)

    @property
    def alone(self) -> float:
        """A trial run the usual way: every stage of its own, one threshold."""
        own = self.reference + self.vae + self.encoding + self.denoiser
        return own + self.drawn(PAPER.evaluation.samples, 1)


@dataclass(frozen=True)
class World:
    """What configurations score: synthetic, in units of KID ×1000, the same for whoever asks.

    The score of a finished configuration is 10 + 3·[C = 4] + 4·((λ − 0.1)/0.2)² + 3·((p − 0.3)/0.3)² + 20·τ plus
    noise; after a share f of its training it is f^−γ times that, γ in 0.4 … 0.6 by configuration, so that curves
    cross. The noise is normal, with the standard error of KID at 200 images, more at a rung's fewer images.
    """

    seed: int

    def truth(self, params: Mapping[str, Any]) -> float:
        """Without noise."""
        frequency, cutmix = params["diffusion.frequency_weight"], params["diffusion.cutmix_probability"]
        channels = 3.0 if params["vae.latent_channels"] == 4 else 0.0
        return float(
            10
            + channels
            + 4 * ((frequency - 0.1) / 0.2) ** 2
            + 3 * ((cutmix - 0.3) / 0.3) ** 2
            + 20 * params[THRESHOLD]
        )

    def measured(self, params: Mapping[str, Any]) -> dict[str, float]:
        """The metrics of a finished configuration; the thresholds of one denoiser share their noise."""
        noise = STANDARD_ERROR * self._random(params, "end").standard_normal()
        steps = PAPER.sampling.steps * (1 - 4 * params[THRESHOLD])
        return {"gen/kid": self.truth(params) + noise, "gen/kid_se": STANDARD_ERROR, "gen/steps_mean": steps}

    def on_the_way(self, params: Mapping[str, Any], step: int) -> dict[str, float]:
        """The score at a rung, without early stop."""
        share = step / PAPER.diffusion.steps
        slowness = self._random(params, "curve").uniform(0.4, 0.6)
        error = STANDARD_ERROR * (PAPER.evaluation.samples / PAPER.evaluation.rung_samples) ** 0.5
        noise = error * self._random(params, step).standard_normal()
        return {"rung/kid": self.truth({**params, THRESHOLD: 0.0}) * share**-slowness + noise}

    def _random(self, params: Mapping[str, Any], *what: object) -> np.random.Generator:
        trained = sorted((name, value) for name, value in params.items() if name != THRESHOLD)
        return np.random.default_rng(derived_seed(self.seed, str(trained), *map(str, what)))


@dataclass(frozen=True)
class Outcome:
    """What a search took, in hours of one card and of the clock, and the configuration with the best score."""

    compute: float
    wall: float
    found: Mapping[str, Any]
    trials: int
    pruned: int = 0


CONTROLLER: Any = None
"""Tune's controller, which our scheduler doesn't ask for anything."""

Life = Iterator[float]
"""A trial on the clock: yields the hours until it next reports, and reports when it is asked to go on."""


def run(begin: Callable[[], Life | None], concurrent: int) -> tuple[float, float]:
    """Runs trials, ``concurrent`` at once, until none is left; returns hours of compute and of the clock."""
    now, compute = 0.0, 0.0
    order, waiting = itertools.count(), list[tuple[float, int, Life]]()
    more = True
    while more or waiting:
        while more and len(waiting) < concurrent:
            life = begin()
            if life is None:
                more = False
            else:
                heapq.heappush(waiting, (now, next(order), life))
        if not waiting:
            break
        now, _, life = heapq.heappop(waiting)
        hours = next(life, None)
        if hours is not None:
            compute += hours
            heapq.heappush(waiting, (now + hours, next(order), life))
    return compute, now


class Silent:
    """A listener to trials that says nothing."""

    def wanted(self) -> bool:
        return True

    def started(self, number: int, params: Mapping[str, Any]) -> None: ...

    def heard(self, number: int, result: Mapping[str, Any]) -> None: ...

    def lost(self, number: int, error: str) -> tuple[str, str]:
        return error, ""

    def ended(self, number: int) -> None: ...


def plan_of(space: SearchSpace, search: SearchConfig, seed: int) -> SweepPlan:
    """The plan of a sweep with the paper's recipe."""
    space.check(PAPER)
    recipe = PAPER.replace(**{"sampling.threshold_grid": space.thresholds})
    return SweepPlan("simulated", "simulated", "paper", recipe, space, search, seed, "simulated")


def shared(folder: Path, plan: SweepPlan, target: int, concurrent: int, world: World, costs: Costs) -> Outcome:
    """A sweep as latentsweep runs it: what trials share first, then the trials, pruned at rungs."""
    folder.mkdir(parents=True)
    search = Search(folder, plan.space, plan.search, plan.seed)
    searcher = StudySearcher(search, target, Silent())
    scheduler = StudyScheduler(searcher)
    total, evaluation, thresholds = (
        plan.recipe.diffusion.steps,
        plan.recipe.evaluation,
        plan.recipe.sampling.thresholds,
    )
    rungs = even_steps(total, evaluation.rungs + 1)[:-1]
    autoencoder = costs.vae + costs.encoding + evaluation.samples * costs.measuring
    stages = [costs.reference, *[autoencoder] * len(plan.autoencoders())]
    names = itertools.count()

    def life(name: str, config: dict[str, Any]) -> Life:
        params, done = config["params"], 0
        for step in rungs:
            yield (step - done) / total * costs.denoiser + costs.drawn(evaluation.rung_samples, 1)
            done = step
            result: dict[str, Any] = {"records": [{"step": step, **world.on_the_way(params, step)}]}
            trial: Any = SimpleNamespace(config=config)
            if scheduler.on_trial_result(CONTROLLER, trial, result) == StudyScheduler.STOP:
                searcher.on_trial_complete(name, result)
                return
        yield (total - done) / total * costs.denoiser + costs.drawn(evaluation.samples, len(thresholds))
        each = [{**params, THRESHOLD: threshold} for threshold in thresholds]
        points = [{"params": params, "metrics": world.measured(params)} for params in each]
        searcher.on_trial_complete(name, {"points": points, "keys": plan.keys(params).names()})

    def begin() -> Life | None:
        name = str(next(names))
        config: Any = searcher.suggest(name)
        return None if config == StudySearcher.FINISHED else life(name, config)

    first = run(lambda: iter([stages.pop()]) if stages else None, concurrent)
    then = run(begin, concurrent)
    states = [trial.state.name for trial in search.run_trials()]
    found = search.measured()[0].params
    return Outcome(first[0] + then[0], first[1] + then[1], found, len(states), states.count("PRUNED"))


def trial_by_trial(
    space: SearchSpace, target: int, concurrent: int, world: World, costs: Costs, seed: int
) -> Outcome:
    """The usual way: Optuna's TPE over all four dimensions, each trial with every stage of its own, to its end."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed))
    distributions = {field: distribution(dimension) for field, dimension in space.dimensions.items()}

    def life(trial: optuna.Trial) -> Life:
        yield costs.alone
        study.tell(trial, world.measured(trial.params)["gen/kid"])

    def begin() -> Life | None:
        return life(study.ask(distributions)) if len(study.trials) < target else None

    compute, wall = run(begin, concurrent)
    return Outcome(compute, wall, study.best_params, len(study.trials))

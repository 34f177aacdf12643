"""A search on a simulated clock: the study, searcher and scheduler of a sweep, with stages that only take time.

What is real: :class:`~latentsweep.search.study.Search` (TPE, the pruner; its database in memory), the searcher and
the scheduler that Ray Tune calls, what trials share, and the steps of the rungs. What is simulated: how long a stage
takes, and what its result scores. The scores are **synthetic**: a smooth function of the
configuration plus noise.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import optuna

from latentsweep.execution.shared_stages import Work
from latentsweep.execution.tuning import StudyScheduler, StudySearcher, TrialListener
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.priced import Prices
from latentsweep.search.proposals import distribution, trained_part
from latentsweep.search.study import Search
from latentsweep.stages.table import VAE
from trainables.loop.records import even_steps
from trainables.loop.seeds import derived_seed
from trainables.recipes import PAPER, Recipe
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
        steps = PAPER.sampling.steps * (1 - 4 * params.get(THRESHOLD, 0.0))
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


NOTHING_NOW: Life = iter(())
"""What a search begins where all that is left waits for what runs."""


def run(
    begin: Callable[[], Life | None], concurrent: int, over: Callable[[], bool] = lambda: False
) -> tuple[float, float]:
    """Runs trials, ``concurrent`` at once, until none is left or it is ``over``.

    Returns hours of compute, with the part that what runs has had of its own, and of the clock.
    """
    now, compute = 0.0, 0.0
    order, waiting = itertools.count(), list[tuple[float, int, Life]]()
    more = True
    while (more or waiting) and not over():
        while more and len(waiting) < concurrent:
            life = begin()
            if life is NOTHING_NOW:
                break
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
    return compute - sum(until - now for until, *_ in waiting), now


class Silent(TrialListener):
    """A listener to trials that says nothing."""

    def wanted(self) -> bool:
        return True

    def lost(self, number: int, error: str) -> tuple[str, str]:
        return error, ""


class Sharing(Silent):
    """A listener to the trials of a sweep whose store begins empty."""

    def __init__(self, plan: SweepPlan) -> None:
        self.plan, self.stored = plan, set[str]()
        self.works: dict[str, Sequence[Work]] = {}

    def shared(self, params: Mapping[str, Any]) -> Sequence[Work]:
        values = {field: params[field] for field in self.plan.space.touching("data", "vae")}
        if str(values) not in self.works:  # which takes longer than all else of a simulated trial
            self.works[str(values)] = Work.of(self.plan.keys(params), self.plan.keys(values), values)
        return self.works[str(values)]

    def has(self, work: Work) -> bool:
        return work.name in self.stored

    def work_ended(self, work: Work, failure: Mapping[str, str] | None) -> None:
        self.stored.add(work.name)


def plan_of(space: SearchSpace, search: SearchConfig, seed: int) -> SweepPlan:
    """The plan of a sweep with the paper's recipe."""
    space.check(PAPER)
    recipe = PAPER.replace(**{"sampling.threshold_grid": space.thresholds})
    return SweepPlan("simulated", "simulated", "paper", recipe, space, search, seed, "simulated")


def in_memory(plan: SweepPlan) -> Search:
    """The search of a plan, whose study no database keeps."""
    with mock.patch("latentsweep.search.ranking.storage", return_value=optuna.storages.InMemoryStorage()):
        return Search(Path(plan.name), plan.space, plan.search, plan.seed)


def swept(
    plan: SweepPlan,
    target: int,
    concurrent: int,
    world: World,
    costs: Costs,
    *,
    eager: bool = False,
    over: Callable[[Search], bool] = lambda search: False,
    warm_start: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Outcome:
    """A sweep as latentsweep runs it: trials, pruned at rungs, and what they share when they ask for it.

    An ``eager`` one computes first all that the trials of its space can share. It ends early where it is ``over``.
    What is ``warm_start`` is as :meth:`Search.begin_with` takes it.
    """
    search, listener = in_memory(plan), Sharing(plan)
    search.begin_with(lambda: warm_start)
    search.prices = Prices(
        plan.recipe.diffusion.steps, lambda: costs.vae / costs.denoiser if search.finished() else 1.0
    )
    searcher = StudySearcher(search, target, listener)
    searcher.set_max_concurrency(concurrent)
    scheduler = StudyScheduler(searcher)
    total, evaluation, thresholds = (
        plan.recipe.diffusion.steps,
        plan.recipe.evaluation,
        plan.recipe.sampling.thresholds,
    )
    rungs = even_steps(total, evaluation.rungs + 1)[:-1]
    autoencoder = costs.vae + costs.encoding + evaluation.samples * costs.measuring
    names = itertools.count()
    trained = dict[tuple[tuple[str, Any], ...], int]()

    def hours(stages: Sequence[str]) -> float:
        return autoencoder if VAE.name in stages else costs.reference

    def work(name: str, config: dict[str, Any]) -> Life:
        yield hours(config["stages"])
        searcher.on_trial_complete(name, {"computed": True})

    def life(name: str, config: dict[str, Any]) -> Life:
        params = config["params"]
        own = trained_part(params)
        for step in rungs:
            if step > trained.get(own, 0):
                yield (step - trained.get(own, 0)) / total * costs.denoiser + costs.drawn(evaluation.rung_samples, 1)
                trained[own] = step
            result: dict[str, Any] = {"records": [{"step": step, **world.on_the_way(params, step)}]}
            trial: Any = SimpleNamespace(trial_id=name, config=config)
            if scheduler.on_trial_result(CONTROLLER, trial, result) == StudyScheduler.STOP:
                searcher.on_trial_complete(name, result)
                return
        left = (total - trained.get(own, 0)) / total
        yield left * costs.denoiser + costs.drawn(evaluation.samples, len(thresholds))
        each = [{**params, THRESHOLD: threshold} for threshold in thresholds] if plan.space.thresholds else [params]
        points = [{"params": params, "metrics": world.measured(params)} for params in each]
        searcher.on_trial_complete(name, {"points": points, "keys": []})

    def begin() -> Life | None:
        name = str(next(names))
        config: Any = searcher.suggest(name)
        if config == StudySearcher.FINISHED:
            return None
        if config is None:
            return NOTHING_NOW
        return (work if "stages" in config else life)(name, config)

    first = (0.0, 0.0)
    if eager:
        every = {work.name: work for recipe in plan.autoencoders().values() for work in shared_by(plan, recipe)}
        listener.stored |= every.keys()
        stages = [hours([key.stage for key in work.keys]) for work in every.values()]
        first = run(lambda: iter([stages.pop()]) if stages else None, concurrent)
    then = run(begin, concurrent, lambda: over(search))
    states = [trial.state.name for trial in search.run_trials()]
    measured = search.measured()
    return Outcome(
        first[0] + then[0],
        first[1] + then[1],
        measured[0].params if measured else {},
        len(states),
        states.count("PRUNED"),
    )


def shared_by(plan: SweepPlan, recipe: Recipe) -> list[Work]:
    """What the trials share that have the autoencoder of ``recipe``."""
    keys = plan.keys_of(recipe)
    return Work.of(keys, keys, {})


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

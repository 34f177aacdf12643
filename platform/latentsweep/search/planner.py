"""From the time of single steps and images to the schedule of a sweep that was given hours.

The rule. Where the time is r times what :data:`USUAL_TRIALS` trials of the recipe's own sizes take,
:data:`USUAL_TRIALS` · √r trials are planned, and the sizes of the trainings fill the time: trials and sizes grow
together. So few are usual because trainings that are too short draw nothing, and because those that are pruned leave
time for more. An autoencoder trains a third as long as a denoiser. Where a bound of the sizes is reached, the number
of trials fills the time.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from operator import attrgetter

from latentsweep.search.schedule import Parts, Schedule, asked_autoencoders, fresh_autoencoders
from trainables.autoencoder.batch import steps_per_epoch
from trainables.autoencoder.training import vae_steps
from trainables.errors import ConfigError
from trainables.recipes import Recipe
from trainables.space import Value

USUAL_TRIALS = 10
"""Trials of a sweep whose time holds them at the recipe's own sizes."""

LONGEST = 1 / 12
"""The time of a trial over that of the sweep, at most, where the denoiser has more steps than the recipe's own: with
few long trials the end of the sweep depends on one of them."""

FEWEST_TRIALS = 4
"""A budget that doesn't hold so many trials, and a confirmation of the best, at the smallest sizes is refused."""

SHARE = 1 / 3
"""The time of an autoencoder's training over that of a denoiser's."""

LEAST, MOST = 0.1, 4.0
"""The steps of a training, over those of the recipe."""

FEWEST_STEPS = 100
"""The steps of a training, at least, where the recipe itself has no fewer."""

RUNGS = 0.25
"""The time in which a trial is scored at its rungs, over that of its training, at most."""

WARMUP = 0.1
"""The denoiser's steps of warm-up over all its steps, at most."""

EXTENTS = ((24, (5, 2)), (12, (3, 2)), (8, (2, 1)), (0, (1, 1)))
"""From how many trials on so many of the best are confirmed, with so many fresh seeds each."""

BEGIN, END = 12.0, 5.0
"""Seconds that a sweep takes to start Ray and to write its tables; a few more or less are made up for on the way."""

STEPS, VAE_STEPS, EPOCHS = "diffusion.steps", "vae.max_steps", "vae.epochs"
WARMUP_STEPS, RUNG_COUNT = "diffusion.warmup_steps", "evaluation.rungs"


@dataclass(frozen=True)
class Costs:
    """Seconds that one slot of the search takes for the pieces of a sweep, whatever its sizes."""

    vae_step: float
    denoiser_step: float
    reference: float
    """The features of the real slices, once."""
    encoding: float
    """What follows an autoencoder's training: its latents, and the scores of its reconstructions."""
    rung: float
    """A trial's score on the way."""
    ending: float
    """What follows a denoiser's training: its samples and their scores."""


@dataclass(frozen=True)
class Planner:
    """Plans a sweep of ``recipe``: ``fixed`` are the fields that may not be changed, ``slices`` those that train."""

    recipe: Recipe
    costs: Costs
    fixed: Collection[str]
    slices: int
    autoencoders: int
    reachable: int
    """The most trials that the space has different denoisers for."""
    slots: int
    confirms: bool = True
    """Whether the best are confirmed: not with two objectives."""

    def plan(self, seconds: float, elapsed: float = 0.0) -> Schedule:
        """The schedule of ``seconds``, of which ``elapsed`` have passed.

        Raises :class:`ConfigError` where they don't hold :data:`FEWEST_TRIALS` trials of the smallest sizes and a
        confirmation of the best.
        """
        left = seconds - elapsed - BEGIN - END
        fewest = min(FEWEST_TRIALS, self.reachable)
        low, high = self._range()
        if (least := self._wall(fewest, low)) > left:
            needed = 1.05 * (least + elapsed + BEGIN + END)
            raise ConfigError(
                f"the time of a sweep must hold {fewest} trials of the smallest sizes and one confirmation: "
                f"got {in_hours(seconds)}, and it takes {in_hours(needed)} here; give that, or a smaller recipe"
            )
        own = self.costs.denoiser_step * self.recipe.diffusion.steps
        usual = self._wall(min(USUAL_TRIALS, self.reachable), own)
        wanted = round(USUAL_TRIALS * math.sqrt(left / usual))
        trials = max(fewest, min(self.reachable, wanted))
        while self._wall(trials, low) > left:
            trials -= 1
        if STEPS not in self.fixed:
            high = min(high, max(own, LONGEST * seconds - self.costs.ending))
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self._wall(trials, middle) <= left else (low, middle)
        while trials < self.reachable and self._wall(trials + 1, low) <= left:
            trials += 1
        sizes = self._sizes(low)
        return Schedule(
            seconds,
            sizes,
            {name: attrgetter(name)(self.recipe) for name in sizes},
            trials,
            *self._extent(trials),
            self.autoencoders,
            self.slots,
            self._parts(low),
        )

    def _range(self) -> tuple[float, float]:
        """The times of a denoiser's training at which both trainings have their fewest and their most steps."""
        denoiser = [steps * self.costs.denoiser_step for steps in self._bounds(self.recipe.diffusion.steps)]
        autoencoder = [steps * self.costs.vae_step / SHARE for steps in self._bounds(self._own_vae_steps)]
        return min(denoiser[0], autoencoder[0]), max(denoiser[1], autoencoder[1])

    @property
    def _own_vae_steps(self) -> int:
        return vae_steps(self.recipe.vae, self.slices)

    def _bounds(self, own: int) -> tuple[int, int]:
        return min(own, max(FEWEST_STEPS, math.ceil(LEAST * own))), int(MOST * own)

    def _steps(self, time: float) -> tuple[int, int]:
        """Steps of an autoencoder and of a denoiser whose training takes ``time`` seconds, within their bounds."""
        first, then = self._own_vae_steps, self.recipe.diffusion.steps
        if not {VAE_STEPS, EPOCHS} & set(self.fixed):
            first = _clamp(SHARE * time / self.costs.vae_step, *self._bounds(first))
        if STEPS not in self.fixed:
            then = _clamp(time / self.costs.denoiser_step, *self._bounds(then))
        return first, then

    def _rungs(self, steps: int) -> int:
        own = self.recipe.evaluation.rungs
        if RUNG_COUNT in self.fixed or not self.costs.rung:
            return own
        return min(own, int(RUNGS * steps * self.costs.denoiser_step / self.costs.rung))

    def _sizes(self, time: float) -> dict[str, Value]:
        """The fields that a schedule sets where they aren't fixed."""
        first, then = self._steps(time)
        epochs = math.ceil(first / steps_per_epoch(self.recipe.vae, self.slices))
        sizes: dict[str, Value] = {}
        if not {VAE_STEPS, EPOCHS} & set(self.fixed):
            sizes |= {VAE_STEPS: first, **({EPOCHS: epochs} if epochs > self.recipe.vae.epochs else {})}
        warmup = min(self.recipe.diffusion.warmup_steps, int(WARMUP * then))
        wanted = {STEPS: then, WARMUP_STEPS: warmup, RUNG_COUNT: self._rungs(then)}
        return sizes | {name: value for name, value in wanted.items() if name not in self.fixed}

    def _parts(self, time: float) -> Parts:
        costs, (first, then) = self.costs, self._steps(time)
        fresh = then * costs.denoiser_step + costs.ending
        return Parts(
            costs.reference,
            first * costs.vae_step + costs.encoding,
            fresh + self._rungs(then) * costs.rung,
            fresh,
        )

    def _extent(self, trials: int) -> tuple[int, int]:
        """Configurations and seeds of the confirmation."""
        return next(extent for fewest, extent in EXTENTS if trials >= fewest) if self.confirms else (0, 0)

    def _wall(self, trials: int, time: float) -> float:
        """Seconds of the sweep with so many trials, whose denoisers train for ``time``."""
        parts, (configurations, seeds) = self._parts(time), self._extent(trials)
        again = fresh_autoencoders(configurations, seeds, self.autoencoders)
        found = parts.search(asked_autoencoders(trials, self.autoencoders), trials, self.slots)
        return found + parts.confirmation(again, configurations * seeds, self.slots)


def in_hours(seconds: float) -> str:
    """A budget in words, rounded up to hundredths of an hour, or to tenths of a minute below one hour."""
    if seconds < 3600:
        return f"{math.ceil(seconds / 6 - 1e-9) / 10:g} minutes"
    return f"{math.ceil(seconds / 36 - 1e-9) / 100:g} hours"


def _clamp(value: float, low: int, high: int) -> int:
    return max(low, min(high, int(value)))

"""Equal wall time: from the measured time of a step to each arm's numbers of steps, kept once in a study's folder."""

from __future__ import annotations

import dataclasses
import datetime
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentsweep.ablation.design.contrasts import Arm, Design
from latentsweep.ablation.design.plan import AblationPlan, ArmRun
from latentsweep.pages.numbers import number
from latentsweep.pages.repetition import differences, machine
from latentsweep.storage.home import read_json, write_json
from latentsweep.storage.store import Store
from trainables.autoencoder.batch import steps_per_epoch
from trainables.autoencoder.training import vae_steps
from trainables.config import fingerprint
from trainables.errors import ConfigError, DataError
from trainables.recipes import Recipe
from trainables.space import Value

FILE = "walltime.json"
EQUAL = 0.10
"""The longest mean wall time may be this share above the shortest: beyond that, arms are said not to be equal."""

SECONDS = 12.0
"""The length of a measurement, at most a tenth of a run; a slow step takes longer."""

FREE = {
    "vae": ("learning_rate", "weight_decay", "epochs", "max_steps", "kl_anneal_epochs", "validations"),
    "diffusion": ("learning_rate", "weight_decay", "steps", "warmup_steps", "ema_decay", "ema_warmup", "validations"),
}
"""Fields that a step takes no more or less time for, so that arms which differ in them alone are timed once."""


@dataclass(frozen=True)
class Allotment:
    """What an arm's trainings get: seconds of a step, as measured, and the steps that fill the minutes."""

    vae_step: float
    vae_steps: int
    denoiser_step: float
    denoiser_steps: int
    changes: Mapping[str, Value]
    """What that makes of the arm's recipe."""

    @property
    def minutes(self) -> tuple[float, float]:
        """Planned for the autoencoder and for the denoiser."""
        return self.vae_step * self.vae_steps / 60, self.denoiser_step * self.denoiser_steps / 60


@dataclass(frozen=True)
class WallTime:
    """A study's allotments by arm, and the conditions under which the steps were timed."""

    arms: Mapping[str, Allotment]
    threads: int
    at_once: int
    machine: str
    measured: str

    @classmethod
    def read(cls, folder: Path) -> WallTime | None:
        """What :meth:`write` left in a study's folder; None where nothing was measured yet.

        Raises :class:`DataError` for damage.
        """
        plain = read_json(folder / FILE, None)
        if plain is None:
            return None
        try:
            return cls(**{**plain, "arms": {name: Allotment(**each) for name, each in plain["arms"].items()}})
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder / FILE} must hold the steps of a study's arms and cannot be read ({type(error).__name__}); "
                "put back a copy of it, or move it away to have them measured and all runs trained anew"
            ) from error

    @classmethod
    def now(cls, arms: Mapping[str, Allotment], threads: int, at_once: int) -> WallTime:
        """Measured now, on this machine."""
        measured = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(arms, threads, at_once, machine(), measured)

    def write(self, folder: Path) -> None:
        """Keeps it for all later runs of the study."""
        write_json(folder / FILE, dataclasses.asdict(self))

    @property
    def changes(self) -> dict[str, Mapping[str, Value]]:
        """What becomes of each arm's recipe."""
        return {name: each.changes for name, each in self.arms.items()}

    @property
    def words(self) -> str:
        """How the steps were timed."""
        return (
            f"steps timed on {self.measured} ({self.machine}), {self.at_once} at once with "
            f"{number(self.threads, 'thread')} each; validation, checkpoints and evaluation are not counted"
        )


def timings(design: Design) -> dict[str, tuple[Arm, str]]:
    """All that must be timed, an arm and a section each, by what the time of a step depends on."""
    found: dict[str, tuple[Arm, str]] = {}
    for arm in design.arms:
        for section in FREE:
            found.setdefault(cost_key(arm.recipe, section), (arm, section))
    return found


def cost_key(recipe: Recipe, section: str) -> str:
    """What the time of a step of a section depends on."""
    own = {name: value for name, value in getattr(recipe, section).identity().items() if name not in FREE[section]}
    latent = [recipe.vae.latent_channels, recipe.latent_size] if section == "diffusion" else []
    return fingerprint([section, recipe.data.identity(), own, latent])


def allotted(
    design: Design, minutes: float, seconds: Mapping[str, float], slices: Mapping[str, int]
) -> dict[str, Allotment]:
    """The steps that ``minutes`` leave each arm, by ``seconds`` of a step (:func:`timings`), by the arm's name.

    The two trainings share the minutes as they do in the arm's own recipe. Arms of one autoencoder take the split of
    the first of them, so that it stays one. ``slices`` are the training split's sizes by ``data.split``. Raises
    :class:`ConfigError` where a training would not get a single step.
    """
    vaes: dict[str, int] = {}
    found = {}
    for arm in design.arms:
        recipe, count = arm.recipe, slices[arm.recipe.data.split]
        vae, denoiser = (seconds[cost_key(recipe, section)] for section in ("vae", "diffusion"))
        share = vae_steps(recipe.vae, count) * vae
        share /= share + recipe.diffusion.steps * denoiser
        first = int(60 * minutes * share / vae)
        first = vaes.setdefault(fingerprint([recipe.data.identity(), recipe.vae.identity()]), first)
        then = int((60 * minutes - first * vae) / denoiser)
        if first < 1 or then < 1:
            raise ConfigError(
                f"--minutes {minutes:g} leaves {arm.name!r} {first} steps of {vae:.3g} s for its autoencoder and "
                f"{max(0, then)} of {denoiser:.3g} s for its denoiser; give more minutes, or a smaller scale by --set"
            )
        changes: dict[str, Value] = {"vae.max_steps": first, "diffusion.steps": then}
        per_epoch = steps_per_epoch(recipe.vae, count)
        if first > recipe.vae.epochs * per_epoch:
            changes["vae.epochs"] = math.ceil(first / per_epoch)
        found[arm.name] = Allotment(vae, first, denoiser, then, changes)
    return found


def differing(design: Design, wall: WallTime | None) -> dict[str, Mapping[str, Value]]:
    """In what each arm differs from the reference, by its name, with the steps that are trained."""
    if wall is None:
        return {arm.name: arm.changes for arm in design.arms}
    trained = {arm.name: arm.recipe.replace(**wall.arms[arm.name].changes) for arm in design.arms}
    return {name: differences(trained[design.reference.name], recipe) for name, recipe in trained.items()}


def spent(runs: Sequence[ArmRun], store: Store) -> dict[str, list[tuple[float, float]]]:
    """Minutes that each arm's autoencoders and denoisers took, seed by seed, where both are there, by its name."""
    found: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        vae, denoiser = store.find(run.keys.vae), store.find(run.keys.denoiser)
        if vae and denoiser:
            found.setdefault(run.arm.name, []).append((vae.seconds / 60, denoiser.seconds / 60))
    return found


def inequality(took: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Which arms' trainings took how much longer than others', in words; empty for 10 % or less."""
    means = {name: statistics.fmean(map(sum, each)) for name, each in took.items()}
    if len(means) < 2:
        return ""
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    longer = means[most] / means[least] - 1
    if longer <= EQUAL:
        return ""
    return (
        f"The arms' wall times were not equal: the trainings of {most} took {means[most]:.3g} minutes on average, "
        f"{100 * longer:.0f} % more than the {means[least]:.3g} of {least}."
    )


def forecast(plan: AblationPlan, wall: WallTime | None) -> dict[str, Any]:
    """What a dry run says of the minutes."""
    steps = {name: dict(each.changes) for name, each in wall.arms.items()} if wall else None
    return {"minutes": plan.minutes, "steps": steps, "timed": wall.words if wall else None}


def outcome(plan: AblationPlan, wall: WallTime, took: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """What was planned and taken, as JSON: minutes of (autoencoder, denoiser), of each seed where taken."""
    arms = {
        name: {
            "steps": dict(each.changes),
            "planned": each.minutes,
            "taken": list(took.get(name, ())),
        }
        for name, each in wall.arms.items()
    }
    return {"minutes": plan.minutes, "arms": arms, "unequal": inequality(took)}

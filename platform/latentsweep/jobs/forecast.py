"""What a sweep or a training would do, before it does it: what the store has, memory, packing, time."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from latentsweep.configuration import Configuration
from latentsweep.execution.packing import Packing, as_line, to_plain
from latentsweep.jobs.train import name_of
from latentsweep.pages.numbers import duration, number
from latentsweep.search.confirmation import NOTHING, Extent, fresh_seeds, wanted
from latentsweep.search.plan import SweepPlan
from latentsweep.search.schedule import Schedule
from latentsweep.search.study import Search
from latentsweep.search.sweeps import open_search
from latentsweep.search.trials import WARM_START, untouched
from latentsweep.search.warm_start import first_configurations
from latentsweep.stages.keys import Keys
from latentsweep.stages.table import DENOISER, SHARED, STAGES, VAE
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.recipes import Recipe

Seconds = Callable[[StageKey, Recipe], float]
"""How long a result of a recipe takes, :meth:`latentsweep.jobs.timing.StageTimes.of`."""

SIZES = (
    "widths", "adversarial_weight", "adversarial_width", "patch_size", "blocks", "steps", "epochs", "max_steps",
    "batch_size", "samples", "bootstrap",
)  # fmt: skip
"""Fields on which the seconds of a stage depend."""


def forecast(
    plan: SweepPlan,
    home: Home,
    trials: int,
    packing: Packing,
    planned: Packing,
    seconds_of: Seconds,
    extent: Extent = NOTHING,
) -> dict[str, Any]:
    """Numbers of what is to be done and what is there already; nothing is started or made.

    ``planned`` is the packing on a card: ``packing`` itself, where there is one. ``seconds_of`` is asked for what
    isn't there. ``extent`` is what is confirmed; of trials that an earlier version measured, nothing is. Raises
    :class:`~trainables.errors.ConfigError` where others would follow those.
    """
    store, folder = Store.of(home), home.sweeps / plan.name
    keys = [plan.keys_of(recipe) for recipe in plan.autoencoders().values()]
    search = open_search(folder, home.study) if (folder / "sweep.json").exists() else None
    finished, target = search.finished() if search else 0, plan.reachable(trials)
    remaining = max(0, target - finished)
    if search and plan.outdated(search):
        extent = NOTHING
        if remaining:
            plan.check_outdated(search, home)
    one = plan.keys_of(plan.recipe)
    results: dict[str, int] = {}
    seconds = 0.0
    for stage in map(STAGES.__getitem__, one):
        wanted = {each[stage.name].name for each in keys}
        there = sum(store.find(name) is not None for name in wanted) if stage in SHARED else 0
        lacking = min(len(wanted) - there, remaining) if stage in SHARED else remaining
        if stage.planned:
            results[stage.planned] = there + lacking
            results |= {f"{stage.planned}_in_store": there} if stage in SHARED else {}
        if lacking:
            seconds += lacking * seconds_of(one[stage.name], plan.recipe)
    return {
        "sweep": plan.name,
        "dataset": plan.dataset,
        "recipe": plan.recipe_name,
        **results,
        "trials": target,
        "trials_asked": trials,
        "trials_finished": finished,
        "tried_first": first_of(plan, home, target, search),
        "denoisers_to_train_at_most": remaining + (len(search.frozen()) if search and remaining else 0),
        "thresholds_in_one_pass": len(plan.recipe.sampling.thresholds),
        "configurations": None if math.isinf(plan.space.size) else int(plan.space.size),
        "concurrent": packing.concurrent,
        "threads": packing.threads,
        "memory": to_plain(planned),
        "memory_line": as_line(planned) + ("" if packing.gpu_share else f"; {packing.without_card}"),
        "seconds": round(seconds / packing.concurrent),
        "confirmation": cost_of_confirmation(plan, store, search, target, packing.concurrent, seconds_of, extent),
        "steps": {"diffusion": plan.recipe.diffusion.steps, "vae_epochs": plan.recipe.vae.epochs},
        **({"schedule": plan.schedule.to_plain()} if plan.schedule else {}),
    }


def first_of(plan: SweepPlan, home: Home, target: int, search: Search | None) -> list[str]:
    """The keys of the runs whose configurations a sweep tries first, as far as it hasn't asked for them."""
    if search:
        return [trial.user_attrs[WARM_START] for trial in search.run_trials() if untouched(trial)]
    return list(first_configurations(home, plan, target))


def forecast_training(
    configuration: Configuration,
    keys: Mapping[str, Keys],
    home: Home,
    packing: Packing,
    planned: Packing,
    seconds_of: Seconds,
) -> dict[str, Any]:
    """Which results of a training the store has and lacks, what it takes of a card, and how long it may take.

    ``keys`` are those of :func:`~latentsweep.jobs.train.checked_keys`. Nothing is started or made.
    """
    store, recipe = Store.of(home), configuration.recipe
    named = {key.name: key for each in keys.values() for key in each.values()}
    lacking = [name for name in named if not store.find(name)]
    seconds = sum(seconds_of(named[name], recipe) for name in lacking)
    return {
        "training": name_of(configuration.dataset, list(keys.values())[-1]),
        "dataset": configuration.dataset,
        "in_store": [name for name in named if name not in lacking],
        "lacking": lacking,
        "steps": {"diffusion": recipe.diffusion.steps, "vae_epochs": recipe.vae.epochs},
        "threads": configuration.execution.threads,
        "memory": to_plain(planned),
        "memory_line": as_line(planned) + ("" if packing.gpu_share else f"; {packing.without_card}"),
        "seconds": round(seconds),
    }


def training_text(plan: Mapping[str, Any]) -> str:
    """The forecast of a training for people."""
    by_stage = {
        there: ", ".join(dict.fromkeys(name.split("/")[0] for name in plan[there])) or "nothing"
        for there in ("in_store", "lacking")
    }
    lines = [
        ("training", f"{plan['training']} (nothing is started by --dry-run)"),
        ("dataset", plan["dataset"]),
        ("in the store", by_stage["in_store"]),
        ("to compute", by_stage["lacking"]),
        ("denoiser", f"{plan['steps']['diffusion']} steps"),
        ("memory", plan["memory_line"]),
        ("time", time_words(plan["seconds"])),
    ]
    return "\n".join(f"{name:<16} {value}" for name, value in lines)


def cost_of_confirmation(
    plan: SweepPlan,
    store: Store,
    search: Search | None,
    target: int,
    concurrent: int,
    seconds_of: Seconds,
    extent: Extent,
) -> dict[str, Any] | None:
    """The results that a confirmation lacks, by stage, at most, and its seconds; None where nothing is confirmed.

    They are known once the ``target`` of trials has ended. Before, each configuration may have any of the space's
    autoencoders. ``concurrent`` trainings run at once.
    """
    count = min(extent.configurations, target)
    if not count:
        return None
    seeds, own = fresh_seeds(plan.seed, extent.seeds), plan.keys_of(plan.recipe)
    if search and search.finished() >= target:
        runs = wanted(search, plan, Extent(count, extent.seeds)).missing
        names = {key.name for run in runs for key in run.keys.values() if not store.find(key)}
        lacking = {stage: sum(name.startswith(f"{stage}/") for name in names) for stage in own}
    else:
        kinds = min(count, len(plan.autoencoders()))
        lacking = {name: len(seeds) * (kinds if STAGES[name] in SHARED else count) for name in own}
    again = dataclasses.replace(plan, seed=seeds[0]).keys_of(plan.recipe)
    seconds = 0.0
    for name in own:
        lacking[name] *= again[name].name != own[name].name  # what no seed is part of is there since the search
        if lacking[name]:
            seconds += lacking[name] * seconds_of(again[name], plan.recipe)
    return {
        "configurations": count,
        "seeds": list(seeds),
        "lacking": lacking,
        "seconds": round(seconds / concurrent),
    }


def mean_seconds(entries: Iterable[Entry], like: StageKey, default: float) -> float:
    """Mean cost of the results of a stage whose sizes are those of ``like``; ``default`` where there are none."""

    def sizes(inputs: Mapping[str, Any]) -> list[Any]:
        sections = [value for value in inputs.values() if isinstance(value, Mapping)]
        return [[section.get(name) for name in SIZES] for section in (inputs, *sections)]

    seconds = [
        entry.seconds
        for entry in entries
        if entry.manifest["stage"] == like.stage and sizes(entry.manifest["inputs"]) == sizes(like.inputs)
    ]
    return statistics.fmean(seconds) if seconds else default


def as_text(plan: Mapping[str, Any]) -> str:
    """The forecast for people."""
    time, again = time_words(plan["seconds"]), plan["confirmation"]
    named = [stage.planned for stage in STAGES.values() if stage.planned]
    shared = [name for name in named if f"{name}_in_store" in plan]
    detail = {"samplings": f", each one pass for {plan['thresholds_in_one_pass']} thresholds"}
    first = ", ".join(plan["tried_first"])
    few = f" (the space has no more; {plan['trials_asked']} were asked for)"
    trials = f"{plan['trials']}{few if plan['trials'] < plan['trials_asked'] else ''}"
    lines = [
        ("sweep", f"{plan['sweep']} (nothing is started by --dry-run)"),
        ("dataset, recipe", f"{plan['dataset']}, {plan['recipe']}"),
        *(
            [("schedule", "\n".join(schedule_lines(Schedule.from_plain(plan["schedule"]))))]
            if "schedule" in plan
            else []
        ),
        *((name, f"at most {plan[name]} to have, {plan[f'{name}_in_store']} in the store") for name in shared),
        (
            "trials",
            f"{trials}, {plan['trials_finished']} ended; at most "
            f"{plan['denoisers_to_train_at_most']} denoisers to train, {plan['steps']['diffusion']} steps each",
        ),
        *([("tried first", f"{first}, the best of earlier sweeps")] if first else []),
        *((name, f"{plan[name]}{detail.get(name, '')}") for name in named if name not in shared),
        *([("to confirm", confirmation_words(again))] if again else []),
        ("at once", f"{number(plan['concurrent'], 'trial')} of {number(plan['threads'], 'thread')}"),
        ("memory", plan["memory_line"]),
        ("time", f"{time}, without the confirmation" if again else time),
    ]
    return "\n".join(f"{name:<16} {value}" for name, value in lines)


def confirmation_words(again: Mapping[str, Any]) -> str:
    """What a confirmation costs."""
    seeds, lacking = again["seeds"], again["lacking"]
    trainings = f"{number(lacking[DENOISER.name], 'denoiser')} and {number(lacking[VAE.name], 'autoencoder')}"
    return (
        f"the best {again['configurations']} with {number(len(seeds), 'fresh seed')}, "
        f"{', '.join(map(str, seeds))}: at most {trainings} more to train, time {time_words(again['seconds'])}"
    )


def schedule_lines(schedule: Schedule, spent: float = 0.0) -> list[str]:
    """What hours became, as a table of what each part takes; ``spent`` seconds have passed in earlier runs."""
    parts, again = schedule.taken, (schedule.configurations, schedule.seeds)
    sizes = ", ".join(f"{name} {value}" for name, value in schedule.sizes.items())
    confirmed = f"the best {again[0]}, {number(again[1], 'fresh seed')} each" if again[0] else "nothing"
    rows = [
        ("autoencoders", _of(schedule.asked, schedule.autoencoders), parts["autoencoders"]),
        ("trials", f"{schedule.trials}, {schedule.slots} at once", parts["trials"]),
        ("to confirm", confirmed, parts["confirmation"]),
    ]
    gone = f", of which {duration(spent)} have passed" if spent else ""
    head = f"planned for {duration(schedule.seconds)}{gone}: {sizes or 'the recipe as it is'}"
    return [head, *(f"  {name:<14} {what:<36} about {duration(seconds)}" for name, what, seconds in rows)]


def _of(some: int, every: int) -> str:
    """So many of all, or all."""
    return str(every) if some == every else f"{some} of {every}"


def time_words(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    return f"about {duration(seconds)}"

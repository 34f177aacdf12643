"""What a sweep would do, before it does it: trainings, what the store has, memory, packing, time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentsweep.execution.packing import Packing, as_line, to_plain
from latentsweep.search.export import open_search
from latentsweep.search.plan import SweepPlan
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store


def forecast(plan: SweepPlan, home: Home, trials: int, packing: Packing, planned: Packing) -> dict[str, Any]:
    """Numbers of what is to be done and what is there already; nothing is started or made.

    ``planned`` is the packing on a card: ``packing`` itself, where there is one.
    """
    store, folder = Store.of(home), home.sweeps / plan.name
    keys = [plan.keys_of(recipe) for recipe in plan.autoencoders().values()]
    finished = open_search(folder, home.study).finished() if (folder / "sweep.json").exists() else 0
    possible = plan.space.size / max(1, len(plan.space.thresholds))
    target = int(min(trials, possible))
    remaining = max(0, target - finished)
    timed = {
        "autoencoder": mean_seconds(store, "vae", plan.recipe.vae.identity(), "vae"),
        "denoiser": mean_seconds(store, "denoiser", plan.recipe.diffusion.identity(), "diffusion"),
        "evaluation": mean_seconds(store, "evaluation", {"bootstrap": plan.recipe.evaluation.bootstrap}, None),
    }
    missing = sum(store.find(key.vae) is None for key in keys)
    seconds = None
    if timed["denoiser"] is not None and (timed["autoencoder"] is not None or not missing):
        each = timed["denoiser"] + (timed["evaluation"] or 0.0)
        seconds = ((timed["autoencoder"] or 0.0) * missing + each * remaining) / packing.concurrent
    return {
        "sweep": plan.name,
        "dataset": plan.dataset,
        "recipe": plan.recipe_name,
        "autoencoders": len(keys),
        "autoencoders_in_store": len(keys) - missing,
        "encodings": len(keys),
        "encodings_in_store": sum(store.find(key.latents) is not None for key in keys),
        "trials": target,
        "trials_finished": finished,
        "denoisers_to_train_at_most": remaining,
        "thresholds_in_one_pass": len(plan.recipe.sampling.thresholds),
        "samplings": remaining,
        "configurations": None if possible == float("inf") else int(plan.space.size),
        "concurrent": packing.concurrent,
        "threads": packing.threads,
        "memory": to_plain(planned),
        "memory_line": as_line(planned) + ("" if packing.gpu_share else f"; {packing.without_card}"),
        "seconds": None if seconds is None else round(seconds),
        "steps": {"diffusion": plan.recipe.diffusion.steps, "vae_epochs": plan.recipe.vae.epochs},
    }


def mean_seconds(store: Store, stage: str, like: Mapping[str, Any], section: str | None) -> float | None:
    """Mean cost of the stored results of a stage whose widths, steps and batch are those of ``like``."""
    names = ("widths", "blocks", "steps", "epochs", "max_steps", "batch_size", "bootstrap")

    def size(inputs: Mapping[str, Any]) -> list[Any]:
        return [inputs.get(name) for name in names]

    def alike(entry: Entry) -> bool:
        inputs = entry.manifest["inputs"]
        return entry.manifest["stage"] == stage and size(inputs[section] if section else inputs) == size(like)

    seconds = [entry.seconds for entry in store.entries() if alike(entry)]
    return sum(seconds) / len(seconds) if seconds else None


def as_text(plan: Mapping[str, Any]) -> str:
    """The forecast for people."""
    seconds = plan["seconds"]
    time = "unknown until a stage of this size was timed" if seconds is None else f"about {seconds / 60:.0f} min"
    lines = [
        ("sweep", f"{plan['sweep']} (nothing is started by --dry-run)"),
        ("dataset, recipe", f"{plan['dataset']}, {plan['recipe']}"),
        ("autoencoders", f"{plan['autoencoders']} to have, {plan['autoencoders_in_store']} in the store"),
        ("encodings", f"{plan['encodings']} to have, {plan['encodings_in_store']} in the store"),
        (
            "trials",
            f"{plan['trials']}, {plan['trials_finished']} ended; at most "
            f"{plan['denoisers_to_train_at_most']} denoisers to train, {plan['steps']['diffusion']} steps each",
        ),
        ("samplings", f"{plan['samplings']}, each one pass for {plan['thresholds_in_one_pass']} thresholds"),
        ("at once", f"{plan['concurrent']} trials of {plan['threads']} threads"),
        ("memory", plan["memory_line"]),
        ("time", time),
    ]
    return "\n".join(f"{name:<16} {value}" for name, value in lines)

"""How trials share the machine: which cards are used, how many trials share one, what each may allocate."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from trainables.errors import CardError, ConfigError
from trainables.loop.cards import WAY_OUT
from trainables.loop.cards import memory as memory_of_cards
from trainables.loop.machine import cores
from trainables.loop.settings import GIB as GIB
from trainables.loop.settings import MOST_THREADS, Execution
from trainables.recipes import Recipe
from trainables.resources.ladder import describe_rung, rungs
from trainables.resources.memory import CONTEXT, NAMES, Memory, batch_size, predict_memory, refusal

DEFAULT_CARD = 6.0
"""GiB of the card that a sweep is planned for where no option names another."""

MEANINGS = {
    "optimizer": "optimiser (AdamW's two moments)",
    "average": "average (EMA), or best weights",
    "data": "training set and batch",
    "workspace": "workspace",
    "step": "peak of a training step",
    "measuring": "peak of measuring on the way",
    "peak": "peak of both",
    "need": f"need, with reserve and {CONTEXT / GIB:g} GiB for CUDA",
}
"""The parts of a training's memory in words, where their names are not enough."""

JOB_DEVICES = ("auto", "cpu", "cuda")
"""What trainings that Ray runs may name: Ray gives each of them its card."""

MOST_ON_CPU = 4
"""Trials at once without a card. If there were more, all would begin before the search has learnt anything."""


@dataclass(frozen=True)
class Card:
    """A card of this machine: its index, its memory, and what of it other processes leave free, in bytes."""

    index: int
    total: int
    free: int


@dataclass(frozen=True)
class Need:
    """What a training takes: the rung of the ladder that it is planned to start on, and its memory there."""

    section: str
    execution: Execution
    memory: Memory
    batch: int

    @property
    def rung(self) -> str:
        """The rung in words."""
        return describe_rung(self.execution, self.batch)


@dataclass(frozen=True)
class Packing:
    """How trials share the machine. Shares are parts of one card, 0 without CUDA.

    Ray takes one share for all cards, so every card that is used holds equally many trials.
    """

    concurrent: int
    threads: int
    gpu_share: float
    vae_share: float
    needs: Mapping[str, Need] = field(default_factory=dict)
    """What a training takes, by its section of the recipe; empty without CUDA."""
    card_bytes: int = 0
    """The memory that is shared out: the least of the cards that are used."""
    per_card: int = 0
    """Trials on a card at once."""
    autoencoders_per_card: int = 0
    cards: tuple[int, ...] = ()
    """The cards that are used."""
    left_out: tuple[int, ...] = ()
    """The cards that are too small, or too full."""
    execution: Execution = field(default_factory=Execution)
    """What the trainings run under, apart from threads and memory."""
    cores: int = MOST_THREADS
    """The most threads that one training may have: the cores of this machine, or of a cluster's smallest node."""

    @property
    def holds(self) -> int:
        """Trials that a card could hold at once."""
        return self.card_bytes // self.needs["diffusion"].memory.need if self.needs else 0

    def memory_gib(self, section: str) -> float | None:
        """What a process may allocate on its card in a training of ``section``, in GiB; None without CUDA."""
        sharing = self.per_card if section == "diffusion" else self.autoencoders_per_card
        if not sharing:
            return None
        return (self.card_bytes // sharing - CONTEXT) / GIB

    def limited(self, section: str, execution: Execution) -> Execution:
        """``execution`` held to its part of a card."""
        return execution.replace(memory_gib=self.memory_gib(section))

    @property
    def without_card(self) -> str:
        """Why trainings run on the CPU, in words."""
        return "no CUDA card is used" if self.execution.device == "cpu" else "no CUDA card here"

    @property
    def visible_devices(self) -> str | None:
        """``CUDA_VISIBLE_DEVICES`` for a Ray that is to use these cards alone; None where it may see all."""
        if not self.left_out:
            return None
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        return ",".join(visible[index] if any(visible) else str(index) for index in self.cards)

    def left_out_line(self) -> str | None:
        """Which cards aren't used, and why; None where all are."""
        if not self.left_out:
            return None
        names, used = (", ".join(map(str, which)) for which in (self.left_out, self.cards))
        least = max(self.per_card * self.needs["diffusion"].memory.need, self.needs["vae"].memory.need)
        return (
            f"note: not used: card {names}, with less than the {least / GIB:.1f} GiB free that "
            f"{self.per_card} at a time take; used: card {used}"
        )


def pack_trials(
    recipe: Recipe,
    *,
    concurrent: int | None,
    card_gib: float | None,
    execution: Execution | None = None,
    slices: int = 0,
    present: Sequence[Card] | None = None,
    available: int | None = None,
) -> Packing:
    """How many trials run at once and what each gets, from the memory that its trainings need.

    ``slices`` is the size of the training split, which the loops keep on the card; ``present`` the cards to plan
    for and ``available`` the CPU cores, by default those of this machine. A training that no card holds is planned
    on the first rung of the ladder that one does hold. Raises :class:`ConfigError` where none does, and
    :class:`CardError` where the ``execution`` is to have a card and none is here.
    """
    if card_gib is not None and not card_gib > 0:
        raise ConfigError(f"--card-gib must be above 0, got {card_gib:g}")
    if concurrent is not None and concurrent < 1:
        raise ConfigError(f"--concurrent must be at least 1, got {concurrent}")
    available, execution = available or cores(), execution or Execution()
    if execution.device not in JOB_DEVICES:
        raise ConfigError(
            f"the device of a job must be one of {', '.join(JOB_DEVICES)}, since Ray gives each training its card; "
            f"got {execution.device!r}: choose among cards by CUDA_VISIBLE_DEVICES"
        )
    present = cards(execution.device) if present is None else present
    if not present:
        if execution.device.startswith("cuda"):
            raise CardError(f"the device is to be {execution.device!r}, and no CUDA card is there; {WAY_OUT}")
        at_once = min(concurrent or MOST_ON_CPU, available)
        return Packing(at_once, max(1, available // at_once), 0.0, 0.0, execution=execution, cores=available)
    limit = int((card_gib or DEFAULT_CARD) * GIB)
    room = {card.index: min(card.free, limit) for card in present}
    largest = max(room.values())
    needs = {section: need(recipe, section, execution, largest, slices=slices) for section in ("vae", "diffusion")}
    trial, autoencoder = needs["diffusion"].memory.need, needs["vae"].memory.need
    usable = {index: free for index, free in room.items() if free >= max(trial, autoencoder)}
    wanted = min(concurrent or available, available)
    per_card, used = shared_by(usable, trial, wanted)
    at_once = min(wanted, per_card * len(used))
    card = min(usable[index] for index in used)
    autoencoders = min(per_card, card // autoencoder)
    return Packing(
        at_once,
        max(1, available // at_once),
        round_down(1 / per_card),
        round_down(1 / autoencoders),
        needs,
        card,
        per_card,
        autoencoders,
        tuple(used),
        tuple(sorted(set(room) - set(used))),
        execution,
        available,
    )


def shared_by(room: dict[int, int], each: int, wanted: int) -> tuple[int, list[int]]:
    """How many trials of ``each`` bytes share a card, and which cards: those that give the most trials at once.

    ``room`` are the bytes of each card. All cards that are used hold equally many, since a share is one number.
    Where fewer than the most are ``wanted``, no more share a card than must.
    """
    choices = []
    for per_card in range(1, max(room.values()) // each + 1):
        holding = [index for index, free in room.items() if free >= per_card * each]
        choices.append((min(wanted, per_card * len(holding)), -per_card, holding))
    _, negative, holding = max(choices, key=lambda choice: choice[:2])
    return -negative, holding


def need(recipe: Recipe, section: str, execution: Execution, room: int, *, slices: int = 0) -> Need:
    """What a training takes on the first rung that ``room`` bytes of a card hold.

    Raises :class:`ConfigError` where no rung fits.
    """
    batch = batch_size(recipe, section, slices)
    for rung in rungs(execution, batch):
        memory = predict_memory(recipe, section, rung, device="cuda", slices=slices)
        if memory.need <= room:
            return Need(section, rung, memory, batch)
    raise ConfigError(
        f"the card has {room / GIB:.2f} GiB for a process, {CONTEXT / GIB:g} of them for CUDA itself: "
        + refusal(section, memory, describe_rung(rung, batch), max(0.0, (room - CONTEXT) / GIB))
    )


def cards(device: str = "auto") -> list[Card]:
    """The cards of this machine that trainings on ``device`` may use; none for the CPU.

    They are asked from a process of its own, since the question takes memory on every card. Raises
    :class:`CardError` where the installed PyTorch can't use one of them.
    """
    if device == "cpu" or not torch.cuda.device_count():
        return []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            sizes: Sequence[tuple[int, int]] = pool.submit(memory_of_cards).result()
        except BrokenExecutor as error:
            raise CardError(
                f"the process that asked the cards for their memory ended; see what nvidia-smi says, or {WAY_OUT}"
            ) from error
    return [Card(index, total, free) for index, (free, total) in enumerate(sizes)]


def round_down(share: float) -> float:
    """A share of a card, rounded down to ten-thousandths, as Ray counts, so that all shares fit."""
    return math.floor(share * 10_000) / 10_000


def planned_cards(card_gib: float | None, count: int = 1) -> list[Card]:
    """``count`` cards to plan for that aren't here, of ``card_gib`` or :data:`DEFAULT_CARD`."""
    size = int((card_gib or DEFAULT_CARD) * GIB)
    return [Card(index, size, size) for index in range(count)]


def as_line(packing: Packing) -> str:
    """What a trial and an autoencoder take, and how they share a card."""
    parts = [
        f"{packing.needs[section].memory.need / GIB:.2f} GiB {what} ({packing.needs[section].rung})"
        for what, section in (("a trial", "diffusion"), ("an autoencoder", "vae"))
    ]
    return (
        f"{', '.join(parts)}, predicted; a card of {packing.card_bytes / GIB:.4g} GiB holds {packing.holds} "
        f"at a time; {packing.per_card} would run here, with {packing.gpu_share:.4g} of it each"
    )


def as_table(packing: Packing) -> str:
    """The memory of both trainings by part, in MiB, and how they share a card, for people."""
    names = [field.name for field in dataclasses.fields(Memory)]
    rows = [("", *(NAMES[section] for section in packing.needs))]
    rows.append(("rung", *(each.rung for each in packing.needs.values())))
    for name in (*names, "peak", "need"):
        sizes = (getattr(each.memory, name) for each in packing.needs.values())
        rows.append((MEANINGS.get(name, name), *(f"{size / 2**20:,.0f} MiB" for size in sizes)))
    caps = (packing.memory_gib(section) or 0.0 for section in packing.needs)
    rows.append(("allocator's cap", *(f"{cap * 1024:,.0f} MiB" for cap in caps)))
    width = max(len(row[1]) for row in rows) + 2
    lines = [f"{row[0]:<40} {row[1]:<{width}} {row[2]}" for row in rows]
    return "\n".join([*lines, "", as_line(packing)])


def to_plain(packing: Packing) -> dict[str, Any]:
    """The memory side of a packing, as JSON."""
    return {
        "card_gib": round(packing.card_bytes / GIB, 2),
        "holds": packing.holds,
        "trials_per_card": packing.per_card,
        "autoencoders_per_card": packing.autoencoders_per_card,
        "gpu_share": packing.gpu_share,
        "vae_share": packing.vae_share,
        "cards": list(packing.cards),
        "cards_left_out": list(packing.left_out),
        "trainings": {
            section: {
                "rung": each.rung,
                "micro_batch": each.execution.micro_batch,
                "checkpointed": each.execution.checkpoint_activations,
                "need_gib": round(each.memory.need / GIB, 2),
                "peak_gib": round(each.memory.peak / GIB, 2),
                "cap_gib": packing.memory_gib(section),
                "parts_bytes": dataclasses.asdict(each.memory) | {"context": CONTEXT},
            }
            for section, each in packing.needs.items()
        },
    }

"""What a stage is: a row that says what its result depends on, and the function that computes the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentsweep.datasets.slices import JOINT
from latentsweep.storage.entries import Entry, StageKey
from trainables.loop.records import Record
from trainables.recipes import Recipe

if TYPE_CHECKING:
    from latentsweep.stages.context import Context


@dataclass(frozen=True)
class Identity:
    """All that the results of one configuration depend on."""

    recipe: Recipe
    dataset: str
    """The dataset's fingerprint, with that of its masks where a recipe may read them."""
    seed: int
    weights: str
    """The SHA-256 of the Inception network."""
    split: str = "validation"
    """The held-out slices that images are measured against."""

    @property
    def slices(self) -> dict[str, Any]:
        """The part of a key that says which slices are read, without their masks."""
        data = self.recipe.data
        alone = data.replace(mask=False) if data.mask else data
        return {"dataset": self.dataset.split(JOINT)[0], "data": alone.identity()}

    @property
    def learned(self) -> dict[str, Any]:
        """The part of a key that says what an autoencoder learns: slices, and their masks where they are learned."""
        if not self.recipe.data.mask:
            return self.slices
        return {"dataset": self.dataset, "data": self.recipe.data.identity()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Stage:
    """A row of the table of stages; all else that the program knows of a stage follows from it."""

    name: str
    """The folder of the store, and the first part of every result's name."""
    version: int
    """Raised when the stage's code changes its result. Results of an older version are then computed again."""
    title: str
    """What people call one result."""
    fields: Callable[[Identity], Mapping[str, Any]]
    """What the result depends on, beyond the results that it is computed from."""
    run: Callable[[Context, Path], dict[str, Any]]
    """Writes the result's files into a folder and returns its summary: small, JSON."""
    inputs: tuple[Stage, ...] = ()
    """The stages whose results ``run`` reads."""
    replay: Callable[[Context, Entry], list[Record]] | None = None
    """For a training: returns the records of a finished one. None for other stages."""
    planned: str = ""
    """What a dry run calls the results that are to be computed; it does not list a stage without a name here."""
    wanted: Callable[[Recipe], bool] = lambda recipe: True
    """Whether a configuration has this result."""
    pictured: bool = False
    """Whether the result has pictures, in its folder ``FIGURES``."""

    def follows(self, other: Stage) -> bool:
        """Whether this stage reads results of ``other``, itself or through its inputs."""
        return any(each is other or each.follows(other) for each in self.inputs)

    def key(self, identity: Identity) -> StageKey:
        """The key of the result. It holds the keys of the stage's inputs.

        An input that another input already depends on is left out: it is inside that key.
        """
        last = [each for each in self.inputs if not any(other.follows(each) for other in self.inputs)]
        return StageKey(self.name, self.version, self.fields(identity), tuple(each.key(identity) for each in last))

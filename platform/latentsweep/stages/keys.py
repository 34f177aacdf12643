"""The keys of a configuration's results."""

from __future__ import annotations

from latentsweep.stages.stage import Identity
from latentsweep.stages.table import TABLE
from latentsweep.storage.entries import StageKey
from trainables.recipes import Recipe


class Keys(dict[str, StageKey]):
    """The key of each result that a configuration has, in the table's order, also as an attribute: ``keys.vae``."""

    def __getattr__(self, stage: str) -> StageKey:
        try:
            return self[stage]
        except KeyError:
            raise AttributeError(f"there is no stage {stage!r}") from None

    def names(self) -> list[str]:
        """All of them, as the store names them."""
        return [key.name for key in self.values()]


def keys_of(recipe: Recipe, dataset: str, seed: int, weights: str, split: str = "validation") -> Keys:
    """The keys of ``recipe`` on the dataset with fingerprint ``dataset``, measured on ``split``.

    A recipe that learns masks needs their fingerprint, too, as ``fingerprint_of`` of the dataset gives it.

    ``weights`` is the SHA-256 of the Inception network. None of the results needs to be there.
    """
    identity = Identity(recipe, dataset, seed, weights, split)
    return Keys({stage.name: stage.key(identity) for stage in TABLE if stage.wanted(recipe)})

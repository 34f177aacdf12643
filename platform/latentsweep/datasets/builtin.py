"""The built-in dataset, prepared where it is first asked for."""

from __future__ import annotations

from collections.abc import Callable

from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.storage.home import Home

BUILT_IN = "demo"


def prepared_dataset(home: Home, name: str, tell: Callable[[str], None]) -> PreparedDataset:
    """The dataset of that name, the built-in one made on the spot; raises :class:`DataError` for another."""
    if name == BUILT_IN and not (home.datasets / name).exists():
        from latentsweep.datasets.preparation import prepare

        home.writable(home.datasets)
        tell("preparing demo, the built-in dataset")
        return prepare(name, home=home.root, source=None)
    return open_dataset(home.datasets, name)

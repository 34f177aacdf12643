"""A trained model in Python: found by its name, and drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from latentsweep.api.places import dataset_of, home_of
from latentsweep.configuration import CONFIG, Configuration, read_configuration
from latentsweep.jobs.trained import trained_model
from latentsweep.search.export import NAMES_OF_A_RUN
from latentsweep.storage.home import Home
from trainables.errors import ConfigError, DataError
from trainables.loop.settings import Execution
from trainables.recipes import Recipe

if TYPE_CHECKING:
    from latentsweep.stages.model_folder import Drawn, TrainedModel


@dataclass(frozen=True)
class Model:
    """A trained autoencoder and denoiser, ready to draw slices."""

    trained: TrainedModel
    """The networks themselves, and how latents are scaled."""
    execution: Execution
    """How it runs: device, threads, precision."""

    @property
    def recipe(self) -> Recipe:
        """The configuration of both trainings, of sampling and of the evaluation."""
        return self.trained.recipe

    @property
    def size(self) -> int:
        """The side S of a slice in pixels."""
        return self.recipe.data.image_size

    def sample(self, count: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
        """Draws ``count`` slices, uint8 (count, S, S), 0 is black; the first with ``seed``, the next with the next.

        A seed gives the same slice whatever else is drawn with it. Raises :class:`~trainables.errors.ConfigError`
        for a ``count`` below 1 or a ``seed`` below 0.
        """
        return self.draw(count, seed=seed).images

    def draw(self, count: int, *, seed: int = 0, lesion: str = "", labels: Mapping[str, str] | None = None) -> Drawn:
        """Slices as :meth:`sample` draws them, with their lesion masks where the model has learnt them.

        ``images`` and ``masks`` are uint8 (count, S, S), a mask 255 for lesion and 0 elsewhere; ``masks`` is None of
        a model without. ``lesion`` is ``none``, ``small`` or ``large``, for a model that was told of lesions, and
        ``labels`` are such as ``{"grade": "HGG"}``, for one that was told these; by default each slice has those of a
        training slice. Raises :class:`~trainables.errors.ConfigError` as :meth:`sample` does, and for a ``lesion`` or
        ``labels`` that the model didn't learn.
        """
        if count < 1 or seed < 0:
            raise ConfigError(f"count must be 1 or more and seed 0 or more, got {count} and {seed}; choose others")
        return self.trained.drawn(range(seed, seed + count), self.execution, lesion, labels)


def load(
    run: str | Path,
    *,
    device: str | None = None,
    home: str | Path | Home = "runs",
    store: str = "",
    study_storage: str = "",
) -> Model:
    """The trained model that ``run`` names.

    ``run`` is the folder of a model, of ``train`` or of MLflow's registry; a configuration's file, as ``export``
    writes it; ``SWEEP/NUMBER``; or the name of a dataset, whose champion MLflow holds. ``device`` is ``cpu``,
    ``cuda`` or ``auto``; by default the one that the model's configuration names.

    ::

        import latentsweep
        model = latentsweep.load("demo")
        images = model.sample(8, seed=0)  # uint8 (8, S, S)

    Raises :class:`~trainables.errors.DataError` where there is no such model or it isn't trained, and
    :class:`~trainables.errors.ConfigError` for a configuration that can't be read.
    """
    place = home_of(home, store, study_storage)
    found = model_folder_of(place, str(run))
    model, execution = trained_model(place, found, lambda name: dataset_of(place, name, shown=False), device)
    return Model(model, execution)


def model_folder_of(home: Home, run: str) -> str:
    """The folder of a model that MLflow holds, where ``run`` is one's or the name of its dataset; else ``run``.

    A folder that holds no model, as one of raw scans, is none where a dataset of its name has a champion. Raises
    :class:`~trainables.errors.DataError` for a text that is no file, folder or sweep and no such dataset.
    """
    path = Path(run)
    if path.is_dir():
        for config in path.glob(f"artifacts/*/{CONFIG}"):
            return str(config.parent)
    if path.is_file() or (path / CONFIG).exists() or "/" in run or path.suffix in (".yaml", ".yml"):
        return run
    from latentsweep_mlflow.registry import champion_folder

    folder = champion_folder(home.root, run)
    if folder is not None:
        return str(folder)
    if path.is_dir():
        return run
    raise DataError(f"{NAMES_OF_A_RUN}; got {run!r}")


def configuration_in(config: str | Path | Configuration) -> Configuration:
    """The configuration itself, or that of a file; raises :class:`~trainables.errors.ConfigError` for another."""
    return config if isinstance(config, Configuration) else read_configuration(Path(config))

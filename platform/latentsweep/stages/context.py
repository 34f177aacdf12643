"""How a result is computed: one configuration on one dataset, and what its stages compute with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from latentsweep.datasets.slices import PreparedDataset, Slices
from latentsweep.stages.results import FIGURES, RECORDS
from latentsweep.stages.stage import Identity, Stage
from latentsweep.storage.entries import Entry
from latentsweep.storage.store import Store
from trainables.data.images import lesions, resize
from trainables.data.settings import check_label
from trainables.loop import execution as ex
from trainables.loop.records import Record, Report, ignore_report
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.resources.ladder import climb
from trainables.resources.memory import batch_size, rung_that_fits

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

WEIGHTS = "weights.safetensors"

Trained = TypeVar("Trained")


@dataclass(frozen=True)
class Context:
    """One configuration on one dataset, and the means to compute its results."""

    store: Store
    dataset: PreparedDataset
    recipe: Recipe
    seed: int
    execution: Execution
    weights: InceptionWeights
    split: str = "validation"
    report: Report = ignore_report
    """Gets the records of a training at each checkpoint."""
    scored: bool = False
    """Whether the denoiser is measured at the rungs of its training, for the pruner."""

    @property
    def identity(self) -> Identity:
        """What the keys are made of."""
        read = self.dataset.fingerprint_of(masks=self.recipe.data.mask)
        return Identity(self.recipe, read, self.seed, self.weights.sha256, self.split)

    def slices(self, split: str, size: int = 0) -> Slices:
        """The slices of a split under the recipe's rule, at ``size``, or at the recipe's size.

        Where the recipe learns masks, they come along, 255 for lesion and 0 elsewhere. Raises
        :class:`~trainables.errors.ConfigError` where the prepared slices are smaller, or no mask has the label.
        """
        data = self.recipe.data
        slices, side = self.dataset.load(split, rule=data.rule, masks=data.mask), size or data.image_size
        masks = None
        if slices.masks is not None:
            if split == "train":
                check_label(slices.masks, data.mask_label)
            masks = lesions(slices.masks, side, data.mask_label)
        images = resize(slices.images, side)
        return dataclasses.replace(slices, images=images, masks=masks)

    def obtain(self, stage: Stage, report: Report | None = None, *, rungs: bool = False) -> Entry:
        """Returns the result from the store. If it is missing, obtains the inputs, then computes and stores it.

        ``report`` gets the records of a training, also those of one that was in the store. With ``rungs`` the
        denoiser is measured during its training. Raises :class:`~trainables.errors.StoreError` where the store can't
        be written, and what the stage itself raises.
        """
        key, computed = stage.key(self.identity), False

        def keep(records: Sequence[Record]) -> None:
            self.store.keep_checkpoint(key)  # so that any machine finds it, before it is reported
            if report:
                report(records)

        def compute(folder: Path) -> dict[str, Any]:
            nonlocal computed
            computed = True
            return stage.run(dataclasses.replace(self, report=keep, scored=rungs), folder)

        entry = self.store.find(key)
        if entry is None:
            for each in stage.inputs:  # before the store's clock starts: their time is not in this result's cost
                self.obtain(each)
            entry = self.store.obtain(key, compute)
        if report and stage.replay and not computed:
            report(stage.replay(self, entry))
        return entry

    def assist(self, stage: Stage, *, rungs: bool = False) -> None:
        """Computes along with the worker that obtains a training; keeps nothing. ``rungs`` as it has them."""
        key = stage.key(self.identity)
        self.store.fetch_checkpoint(key)
        stage.run(dataclasses.replace(self, scored=rungs), self.store.workspace(key.name))


def train_within_memory(
    context: Context,
    folder: Path,
    section: str,
    title: str,
    slices: int,
    train: Callable[[Execution], tuple[Trained, list[Record]]],
) -> tuple[Trained, list[Record], dict[str, Any]]:
    """Trains on the first rung of the memory ladder that fits, and writes the records.

    Returns what was trained, its records, and how it was computed, for the summary. ``section`` is that of the
    recipe. Raises :class:`~trainables.errors.CapacityError` where no rung fits.
    """
    batch = batch_size(context.recipe, section, slices)
    first = rung_that_fits(context.recipe, section, context.execution, slices=slices)
    (trained, records), climbed = climb(train, first, batch, f"the {title}")
    if ex.rank() == 0:
        (folder / RECORDS).write_text(json.dumps(records))
    precision = getattr(context.recipe, section).precision
    how = {"memory": climbed.to_plain(), "execution": ex.summary_of(climbed.execution, precision, batch)}
    return trained, records, how


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    """Writes ``figures/<name>.png`` below ``folder``, of a figure by :func:`~trainables.figures.style.new_figure`.

    ``Figure.savefig`` would write the same, but draws a figure once more to arrange it.
    """
    (folder / FIGURES).mkdir(exist_ok=True)
    canvas, path = cast("FigureCanvasAgg", figure.canvas), folder / FIGURES / f"{name}.png"
    canvas.print_png(path, metadata={"Software": "latentsweep"})  # type: ignore[no-untyped-call]


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices at equal distances in ``range(count)``."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(wanted, count))}) if count else []

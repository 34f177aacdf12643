"""What a stage is: a row that says what its result depends on, and the function that computes the result."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from latentsweep.datasets.slices import JOINT, PreparedDataset, Slices
from latentsweep.storage.entries import Entry, StageKey
from latentsweep.storage.store import Store
from trainables.data import check_label
from trainables.images import lesions, resize
from trainables.loop import execution as ex
from trainables.loop.records import Record, Report, ignore_report, without_scores
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import Recipe
from trainables.resources.ladder import climb
from trainables.resources.memory import batch_size, rung_that_fits

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

WEIGHTS = "weights.safetensors"
RECORDS = "records.json"
FIGURES = "figures"

Trained = TypeVar("Trained")


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


def records_of(entry: Entry, *, rungs: bool = True) -> list[Record]:
    """The records of a finished training, without the scores at its rungs if ``rungs`` is False."""
    records: list[Record] = entry.json(RECORDS)
    return records if rungs else without_scores(records)


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


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that JSON can store and a page can show."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

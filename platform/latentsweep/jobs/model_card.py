"""The card of a trained model: README.md of its folder, as model hubs read it, with a grid of generated slices."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from latentsweep.configuration import scalar
from latentsweep.datasets.ledger import earlier_words
from latentsweep.datasets.slices import PreparedDataset, Rule
from latentsweep.metrics import COMPARED, MEMORISATION, PSNR, SSIM, Metric
from latentsweep.pages.numbers import UNKNOWN, number
from latentsweep.pages.repetition import differences, flat
from latentsweep.pages.tables import Table
from latentsweep.pages.templates import environment
from latentsweep.stages import guards
from latentsweep.stages.samples import IMAGES
from trainables.figures import image_grid
from trainables.loop.checkpoint import load_tensors
from trainables.loop.files import replace_whole
from trainables.measures.memorisation import near_copy_threshold, nearest
from trainables.measures.reference import Reference
from trainables.recipes import IMPROVED, Recipe

if TYPE_CHECKING:
    from latentsweep.jobs.train import Training
    from latentsweep.stages.pipeline import Pipeline

CARD, PICTURE = "README.md", "grid.png"
SHOWN = 16
"""Slices in the grid."""
UNSTATED = "license: unknown"
"""What the card says of the weights' licence until a user states one in it."""
_LICENCE = "license"
"""What the names of the entries begin with that state it."""
_MARK = "\n<!-- latentsweep wrote this card: {digest} -->\n"
_MARKED = re.compile(_MARK.format(digest="([0-9a-f]{64})").strip() + r"\s*$")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """The first of the measured slices (N, H, W) that aren't near copies, and how many of them were left out."""

    images: np.ndarray
    left_out: int


def write_card(training: Training, pipeline: Pipeline) -> Path:
    """Writes the card and its grid into the model's folder, and returns the card's path.

    A licence that a user stated in an earlier card stays. A card that was edited beyond that is left as it is, with a
    note in the log. ``pipeline`` is that of the split that counts.
    """
    folder = training.job.folder
    path = folder / CARD
    if is_edited(path):
        log.warning("%s was edited, so it stays as it is; take it away to have it written anew", path)
        return path
    grid = grid_of(pipeline)
    (folder / PICTURE).unlink(missing_ok=True)
    if len(grid.images):
        image_grid(grid.images).save(folder / PICTURE)
    text = card(training, grid, licence=stated_licence(path))
    replace_whole(path, text + _MARK.format(digest=_digest(text)))
    return path


def grid_of(pipeline: Pipeline) -> Grid:
    """The slices to show, in the order in which they were measured; none where near copies can't be told."""
    recipe, samples = pipeline.recipe, pipeline.samples()
    tensors = load_tensors(samples.file(IMAGES))[0]
    row = list(samples.summary["thresholds"]).index(recipe.sampling.early_stop_threshold)
    images = tensors["images"][tensors["index"][row]].numpy()
    null = Reference.load(pipeline.reference().folder).null
    if not len(null):
        return Grid(images[:0], 0)
    training, limit = pipeline.slices("train").images, near_copy_threshold(null)
    shown: list[np.ndarray] = []
    seen, start, many = 0, 0, SHOWN
    while start < len(images) and len(shown) < SHOWN:
        some = images[start : start + many]
        for image, distance in zip(some, nearest(some, training).distances, strict=True):
            if len(shown) < SHOWN:
                seen += 1
                shown += [image] if distance > limit else []
        start, many = start + many, 2 * many  # each search prepares all training slices
    return Grid(np.stack(shown) if shown else images[:0], seen - len(shown))


def stated_licence(path: Path) -> str:
    """The entries of the licence in an earlier card, as YAML; else that none is stated."""
    try:
        front, _ = _parts(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return UNSTATED
    stated = {name: value for name, value in front.items() if name.startswith(_LICENCE) and value is not None}
    return yaml.safe_dump(stated, sort_keys=False, allow_unicode=True).strip() if stated else UNSTATED


def is_edited(path: Path) -> bool:
    """Whether a card says anything but what was last written, a licence apart; False where there is none."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return False
    except UnicodeDecodeError:
        return True
    mark = _MARKED.search(text)
    return mark is None or mark[1] != _digest(text[: mark.start()])


def _digest(text: str) -> str:
    """SHA-256 over a card without the entries of its licence."""
    front, body = _parts(text)
    rest = {name: value for name, value in front.items() if not name.startswith(_LICENCE)}
    return hashlib.sha256(json.dumps([rest, body.rstrip()], sort_keys=True, default=str).encode()).hexdigest()


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """The entries that a card begins with, and the rest; no entries where it doesn't begin with a mapping in YAML."""
    front, end, body = text.removeprefix("---\n").partition("\n---\n")
    try:
        found = yaml.safe_load(front) if end and text.startswith("---\n") else None
    except yaml.YAMLError:
        found = None
    return ({str(name): value for name, value in found.items()}, body) if isinstance(found, dict) else ({}, text)


def card(training: Training, grid: Grid, *, licence: str = UNSTATED) -> str:
    """The text of the card."""
    job = training.job
    configuration, rule = job.configuration, job.configuration.recipe.data.rule
    origin, recipe = configuration.origin, configuration.recipe
    template = environment("latentsweep.pages").get_template("model_card.md.j2")
    return template.render(
        name=job.name,
        dataset=job.dataset.name,
        fingerprint=job.fingerprint,
        side=recipe.data.image_size,
        masks=recipe.data.mask,
        told_of_lesions=recipe.diffusion.lesion_condition,
        labels=recipe.diffusion.label_condition,
        foreign=[*recipe.diffusion.chosen_plugins("denoiser"), *recipe.sampling.chosen_plugins("sampler")],
        seed=configuration.seed,
        licence=licence,
        picture=PICTURE if len(grid.images) else "",
        shown=number(len(grid.images), "slice"),
        left_out=grid.left_out,
        splits=Table.of(("split", "slices", "subjects"), split_rows(job.dataset, rule)),
        apart=rule != "slice",
        last=job.last,
        scores={
            split: Table.of(
                ("measure", "better", "generated", "95 % interval", "floor (real slices)", "reconstructions"),
                score_rows(training.metrics(split)),
            )
            for split in training.evaluations
        },
        guards=Table.of(
            ("guard", "split", "measured", "bound", ""),
            guard_rows({split: training.metrics(split) for split in training.evaluations}),
        ),
        refused=training.refused,
        memorisation=MEMORISATION.format(training.scores.get(MEMORISATION.name)),
        earlier="" if training.earlier is None else earlier_words(job.dataset.name, training.earlier),
        recipe=Table.of(("field", "default of a sweep", "this model"), recipe_rows(recipe), code=True),
        origin=f"{origin['sweep']}, configuration {origin['trial']}" if {"sweep", "trial"} <= set(origin) else "",
        licence_stated=licence != UNSTATED,
    )


def score_rows(metrics: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """What generated slices, real ones and reconstructions score, a row for each measure that is known."""
    for metric in (*COMPARED, PSNR, SSIM):
        own = "" if metric in (PSNR, SSIM) else metric.name
        names = (own, metric.floor, metric.reconstructed if own else metric.name)
        if any(name in metrics for name in names):
            found, floor, decoded = (metric.format(metrics.get(name)) for name in names)
            yield metric.label, metric.better or "", found, interval_words(metric, metrics), floor, decoded


def guard_rows(by_split: Mapping[str, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    """Each guard on each split that was measured: the value, its bound, and whether it refuses."""
    for split, metrics in by_split.items():
        beyond = guards.constraints(metrics)
        for guard in guards.GUARDS:
            metric = guard.metric
            if metric.stem in beyond:
                bound = f"{'at least' if guard.least else 'at most'} {metric.format(metrics[metric.bound])}"
                verdict = "refused" if beyond[metric.stem] > 0 else "passed"
                yield metric.label, split, metric.format(metrics[metric.name]), bound, verdict


def split_rows(dataset: PreparedDataset, rule: Rule) -> Iterator[tuple[str, ...]]:
    """How many slices and subjects each split holds; subjects are unknown where slices were split."""
    slices, subjects = dataset.counts(rule), dataset.subjects_by_split(rule)
    for split in dataset.splits(rule):
        yield split, str(slices[split]), UNKNOWN if rule == "slice" else str(subjects[split])


def recipe_rows(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """The fields in which a recipe differs from the default of a sweep; those of a plug-in have none there."""
    default = flat(IMPROVED)
    for field, value in differences(IMPROVED, recipe).items():
        yield field, scalar(default[field]) if field in default else UNKNOWN, scalar(value)


def interval_words(metric: Metric, metrics: dict[str, float]) -> str:
    """The 95 % interval of a metric as a cell; a dash where none is known."""
    ends = metric.interval(metrics)
    return UNKNOWN if ends is None else f"{metric.format(ends[0])} to {metric.format(ends[1])}"

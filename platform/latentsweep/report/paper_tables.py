"""The paper's two tables: recorded trainings, measured on the test split, beside the paper's row of their dataset.

What is known of the paper is in :data:`PAPER`; the rest is a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from latentsweep import stages
from latentsweep.configuration import CONFIG, Configuration, read_configuration
from latentsweep.datasets.ledger import earlier_words, uses
from latentsweep.lints.targets import passing_over
from latentsweep.metrics import (
    FID,
    KID,
    PAPER_PSNR,
    PAPER_SSIM,
    PSNR,
    REFERENCE_SAMPLES,
    SAMPLES,
    SPREAD,
    SSIM,
    Metric,
)
from latentsweep.pages.numbers import UNKNOWN, fixed
from latentsweep.pages.tables import Row, Table, as_latex
from latentsweep.stages import guards
from latentsweep.stages.table import LATENTS
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store

QUALITY: Mapping[Metric, str] = {
    SAMPLES: ".0f",
    REFERENCE_SAMPLES: ".0f",
    PAPER_SSIM: ".4f",
    PAPER_PSNR: ".2f",
    FID: ".2f",
    KID: ".1f",
    SSIM: ".4f",
    PSNR: ".2f",
}
"""The scores of Table II, at the paper's decimals."""

WITH_SPREAD = (PAPER_SSIM, PAPER_PSNR, SSIM, PSNR)
"""Those that are means over slices, and stand with their standard deviation."""

WITH_FLOOR = (FID, KID)
"""Those that have a column beside them for what real slices score."""


@dataclass(frozen=True)
class Published:
    """What the paper says of one dataset."""

    slices: int
    vae: float
    """The autoencoder's best validation loss."""
    denoiser: float
    """The denoiser's best validation loss."""
    reduction: float
    """The share by which the denoiser's validation loss fell, from the untrained network's on."""
    scores: Mapping[str, float]
    """Of Table II, by the names that they have here, and with ``_sd``."""

    @property
    def untrained(self) -> float:
        """The denoiser's loss that the reduction begins at."""
        return self.denoiser / (1 - self.reduction)


def published_scores(ssim: tuple[float, float], psnr: tuple[float, float], fid: float) -> dict[str, float]:
    """A row of the paper's Table II: means and standard deviations over slices, and the FID."""
    means_and_spreads = {
        metric.name + suffix: value
        for metric, values in ((PAPER_SSIM, ssim), (PAPER_PSNR, psnr))
        for suffix, value in zip(("", SPREAD), values, strict=True)
    }
    return {SAMPLES.name: 200, REFERENCE_SAMPLES.name: 200, FID.name: fid, **means_and_spreads}


PAPER = {
    "brats_flair": Published(31_938, 0.0036, 10.35, 0.825, published_scores((0.6573, 0.0447), (16.11, 1.69), 147.53)),
    "brats_t1ce": Published(8_149, 0.0062, 2.67, 0.948, published_scores((0.1377, 0.0717), (11.49, 1.45), 395.33)),
    "kaggle": Published(
        1_616,
        0.0297,
        7.84,
        0.863,
        published_scores((0.1437, 0.0494), (13.32, 2.48), 317.17) | {SSIM.name: 0.2534, PSNR.name: 5.52},
    ),
}
"""The paper's own values, by the name that the dataset has here."""

LOSSES_HEADER = (
    "dataset",
    "training",
    "slices",
    *(head for part in ("VAE", "diffusion") for head in (f"{part}, untrained", f"{part}, best", "reduction")),
)

LOSSES_CAPTION = (
    "Validation losses of the autoencoder (reconstruction and weighted KL) and of the denoiser (MSE of its target, "
    "without the frequency loss): of the untrained network, the best, and the reduction from one to the other. "
    "Older trainings did not record the untrained loss: theirs is of the first validation, with its step, and the "
    "reduction is then too small. The paper's untrained losses are computed from its reductions. Relative "
    "reductions of the denoiser's loss can be compared with the paper's, whose total is with squared_l2 a multiple "
    "of the MSE. Not comparable are the losses themselves, since the paper doesn't state how they are reduced, and "
    "anything across other numbers of slices or another split rule (the paper's is by slice)."
)
QUALITY_CAPTION = (
    "Generated slices on the test split; means and standard deviations are over slices. SSIM and PSNR are taken "
    "the paper's way, from generated slice i and real slice i, two images that have nothing to do with each other: "
    "they say nothing about quality; those of reconstructions do. Not comparable are FIDs of other numbers of "
    "generated or real slices, since a FID falls with either and has the floor that as many real slices reach (the "
    "paper: 200; here the real ones are the whole test split, as many as the column says); scores under another "
    "split rule, since a split by slice tests on patients that were trained on; and models of other numbers of "
    "slices (Table I)."
)


class PaperTables(NamedTuple):
    """Table I, losses, and Table II, quality of the generated slices."""

    losses: Table
    quality: Table

    def as_markdown(self) -> str:
        """Both as Markdown."""
        return "\n".join(table.as_markdown() for table in self)

    def as_latex(self) -> str:
        """Both as LaTeX tables, which LaTeX numbers itself."""
        return as_latex(table.as_latex(numbered=True) for table in self)


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recorded training and those of its results that the store still has."""

    name: str
    configuration: Configuration
    entries: list[Entry]

    def row(self, cells: tuple[str, ...]) -> Row:
        """A row of a table."""
        return Row(self.configuration.dataset, "training", (self.name, *cells))

    def entry(self, stage: str) -> Entry | None:
        """The result of a stage; None where it was freed."""
        return next((entry for entry in self.entries if entry.name.startswith(f"{stage}/")), None)

    def records(self, stage: str) -> Sequence[Mapping[str, float]]:
        """The records of a training; none where its result was freed."""
        entry = self.entry(stage)
        found: Sequence[Mapping[str, float]] = entry.json(stages.RECORDS) if entry else []
        return found

    def scores(self, store: Store) -> dict[str, float]:
        """The measurements on the test split; empty where they are not in the store."""
        for entry in self.entries:
            if entry.name.startswith("evaluation/") and split_of(store, entry) == "test":
                return stages.metrics_of(entry, self.configuration.recipe)
        return {}


def paper_tables(home: Home) -> PaperTables:
    """Both tables: the trainings that ``train`` recorded in this home, and the paper's rows."""
    store = Store.of(home)
    trainings = list(recorded(home, store))
    losses = rows_of({each: losses_row(each) for each in trainings}, published_losses)
    quality = rows_of({each: quality_row(each, store) for each in trainings}, published_quality)
    use = earlier_uses(home, store, trainings)
    notes = tuple(refusals(store, trainings))
    return PaperTables(
        Table("Table I", LOSSES_CAPTION, LOSSES_HEADER, losses),
        Table("Table II", f"{QUALITY_CAPTION}{use}", quality_header(), quality, notes),
    )


def refusals(store: Store, trainings: Sequence[Recorded]) -> Iterator[str]:
    """Which trainings the guards refuse and why, a sentence each."""
    for training in trainings:
        if refused := guards.refusal(training.scores(store)):
            yield f"The guards refuse {training.name}: {refused}."


def earlier_uses(home: Home, store: Store, trainings: Sequence[Recorded]) -> str:
    """How often each dataset's test split was used by others than these trainings, a sentence each."""
    fingerprints: dict[str, set[str]] = {}
    for training in trainings:
        if training.scores(store):
            inputs = [entry.manifest["inputs"] for entry in training.entries]
            own = {str(each["dataset"]) for each in inputs if "dataset" in each}
            fingerprints.setdefault(training.configuration.dataset, set()).update(own)
    told, names = "", {training.name for training in trainings}
    for dataset, known in sorted(fingerprints.items()):
        others = {use.name for each in known for use in uses(home, each)} - names
        words = earlier_words(dataset, len(others))
        told += f" {words[0].upper()}{words[1:]}."
    return told


def rows_of(
    own: Mapping[Recorded, tuple[str, ...]], published: Callable[[Published], tuple[str, ...]]
) -> tuple[Row, ...]:
    """The trainings on each of the paper's datasets with its row below them, then those on other datasets."""
    rows = []
    for name, values in PAPER.items():
        rows += [training.row(cells) for training, cells in own.items() if training.configuration.dataset == name]
        rows.append(Row(name, "paper", ("the paper", *published(values))))
    rows += [training.row(cells) for training, cells in own.items() if training.configuration.dataset not in PAPER]
    return tuple(rows)


def recorded(home: Home, store: Store) -> Iterator[Recorded]:
    """The trainings of a home, by dataset and name; one whose configuration can't be read is named in a warning."""
    read = []
    for folder in sorted(path.parent for path in home.trained.glob(f"*/{CONFIG}")):
        with passing_over(f"the training {folder.name}"):
            read.append((read_configuration(folder / CONFIG), folder))
    for configuration, folder in sorted(read, key=lambda each: (each[0].dataset, each[1].name)):
        found = [store.find(name) for name in read_json(folder / "uses.json", [])]
        yield Recorded(folder.name, configuration, [entry for entry in found if entry])


def split_of(store: Store, entry: Entry) -> str | None:
    """The split whose slices a measurement was made with; None where that was freed."""
    waiting = [entry]
    while waiting:
        current = waiting.pop()
        if current.name.startswith("reference/"):
            return str(current.summary["split"])
        waiting += [found for found in (store.find(name) for name in current.manifest["upstream"]) if found]
    return None


def losses_row(training: Recorded) -> tuple[str, ...]:
    """The numbers of a training in Table I."""
    latents = training.entry(LATENTS.name)
    cells = [f"{latents.summary['rows']:,}" if latents else UNKNOWN]
    for stage, name in (("vae", "val/loss"), ("denoiser", "val/mse")):
        cells += losses_cells([record for record in training.records(stage) if name in record], name)
    return tuple(cells)


def losses_cells(records: Sequence[Mapping[str, float]], name: str) -> tuple[str, ...]:
    """The untrained loss, the best after it, and the reduction, of a training's validations."""
    if not records:
        return (UNKNOWN,) * 3
    step, first = records[0]["step"], records[0][name]
    lowest = min((record[name] for record in records if record["step"]), default=first)
    reduction = f"{fixed(100 * (1 - lowest / first), 1)} %" if first > 0 else UNKNOWN
    return (f"{first:.4g} (step {step:,.0f})" if step else f"{first:.4g}", f"{lowest:.4g}", reduction)


def published_losses(values: Published) -> tuple[str, ...]:
    """The paper's numbers in Table I; of the autoencoder it gives the best loss alone."""
    untrained, reduction = f"≈ {values.untrained:.0f}", f"{100 * values.reduction:.1f} %"
    return (f"{values.slices:,}", UNKNOWN, f"{values.vae:g}", UNKNOWN, untrained, f"{values.denoiser:g}", reduction)


def quality_header() -> tuple[str, ...]:
    """The headings of Table II."""
    headings = []
    for metric in QUALITY:
        headings.append(f"{metric.label} ± sd" if metric in WITH_SPREAD else metric.label)
        headings += [f"{metric.label} floor"] if metric in WITH_FLOOR else []
    return ("dataset", "training", "split rule", *headings)


def quality_row(training: Recorded, store: Store) -> tuple[str, ...]:
    """The numbers of a training in Table II."""
    return (f"by {training.configuration.recipe.data.rule}", *quality_cells(training.scores(store)))


def published_quality(values: Published) -> tuple[str, ...]:
    """The paper's numbers in Table II."""
    return ("by slice", *quality_cells(values.scores))


def quality_cells(scores: Mapping[str, float]) -> tuple[str, ...]:
    """The cells of the scores, with a dash for what is not known."""
    cells = []
    for metric, style in QUALITY.items():
        mean, sd, floor = (
            format(scores[name], style) if name in scores else UNKNOWN
            for name in (metric.name, metric.name + SPREAD, metric.floor)
        )
        known = metric in WITH_SPREAD and mean != UNKNOWN
        cells += [f"{mean} ± {sd}" if known else mean, *([floor] if metric in WITH_FLOOR else [])]
    return tuple(cells)

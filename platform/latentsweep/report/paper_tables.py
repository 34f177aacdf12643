"""The paper's two tables from recorded trainings, measured on the test split, with the paper's own values beside.

Only the paper's values in :data:`PAPER_LOSSES` and :data:`PAPER_QUALITY` are known here; the rest is a dash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from latentsweep import stages
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.datasets.ledger import earlier_words, uses
from latentsweep.metrics import FID, KID, PAPER_PSNR, PAPER_SSIM, SAMPLES
from latentsweep.pages.numbers import UNKNOWN
from latentsweep.pages.tables import Row, Table, as_latex
from latentsweep.stages.model_folder import CONFIG
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store

LOSSES_HEADER = (
    "dataset",
    "training",
    *(head for part in ("VAE", "diffusion") for head in (f"{part}, first", f"{part}, best", "reduction")),
)
PAPER_LOSSES = ("its datasets", "the paper", UNKNOWN, UNKNOWN, UNKNOWN, "≈ 60", "7.84", "82–95 %")

QUALITY = {
    SAMPLES.name: (SAMPLES.label, ".0f"),
    PAPER_SSIM.name: (PAPER_SSIM.label, ".3f"),
    PAPER_PSNR.name: (PAPER_PSNR.label, ".2f"),
    FID.name: (FID.label, ".2f"),
    FID.floor: (f"{FID.label} floor", ".2f"),
    KID.name: (KID.label, ".1f"),
}
"""The scores of Table II with their headings, at the paper's decimals."""

QUALITY_HEADER = ("dataset", "training", "split rule", *(heading for heading, _ in QUALITY.values()))
PAPER_QUALITY = ("not known which", "the paper", "by slice", "200", UNKNOWN, UNKNOWN, "317.17", UNKNOWN, UNKNOWN)

PAPER_SLICES = {"brats_flair": 31_938, "brats_t1ce": 8_149, "kaggle": 1_616}
"""Slices that the paper had of each dataset."""

LOSSES_CAPTION = (
    "Validation losses of the autoencoder (reconstruction and weighted KL) and of the denoiser (MSE of its target, "
    "without the frequency loss): at the first validation, the best, and the reduction from one to the other. Losses "
    "of different reductions, targets and latent spaces aren't comparable, and the paper doesn't state its own; only "
    "the relative reductions are. Known of the paper: the denoiser's loss from about 60 to 7.84, reductions of 82 to "
    "95 % over its datasets."
)
QUALITY_CAPTION = (
    "Generated slices on the test split. SSIM and PSNR are taken the paper's way, from generated slice i and real "
    "slice i, two images that have nothing to do with each other: they say nothing about quality. FID depends on the "
    "number of images and has the floor that as many real slices reach. Known of the paper: 200 generated slices and "
    "a FID of 317.17, of which dataset is not known here; its datasets had {slices} slices."
)


class PaperTables(NamedTuple):
    """Table I, losses, and Table II, quality of the generated slices; the last row of each is the paper's."""

    losses: Table
    quality: Table

    def as_markdown(self) -> str:
        """Both as Markdown."""
        return "\n".join(table.as_markdown() for table in self)

    def as_latex(self) -> str:
        """Both as LaTeX tables, which LaTeX numbers itself."""
        return as_latex(table.as_latex(numbered=True) for table in self)


@dataclass(frozen=True)
class Recorded:
    """A recorded training and those of its results that the store still has."""

    name: str
    configuration: Configuration
    entries: list[Entry]

    def records(self, stage: str) -> Sequence[Mapping[str, float]]:
        """The records of a training; none where its result was freed."""
        entry = next((entry for entry in self.entries if entry.name.startswith(f"{stage}/")), None)
        found: Sequence[Mapping[str, float]] = entry.json(stages.RECORDS) if entry else []
        return found

    def scores(self, store: Store) -> dict[str, float]:
        """The measurements on the test split; empty where they are not in the store."""
        for entry in self.entries:
            if entry.name.startswith("evaluation/") and split_of(store, entry) == "test":
                return stages.metrics_of(entry, self.configuration.recipe)
        return {}


def paper_tables(home: Home) -> PaperTables:
    """Both tables, a row for each training that ``train`` recorded in this home, and one for the paper."""
    store = Store.of(home)
    trainings = list(recorded(home, store))
    slices = ", ".join(f"{count:,} ({name})" for name, count in PAPER_SLICES.items())
    losses = rows_of([losses_row(each) for each in trainings], PAPER_LOSSES)
    quality = rows_of([quality_row(each, store) for each in trainings], PAPER_QUALITY)
    use = earlier_uses(home, store, trainings)
    return PaperTables(
        Table("Table I", LOSSES_CAPTION, LOSSES_HEADER, losses),
        Table("Table II", f"{QUALITY_CAPTION.format(slices=slices)}{use}", QUALITY_HEADER, quality),
    )


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


def rows_of(own: Sequence[tuple[str, ...]], paper: tuple[str, ...]) -> tuple[Row, ...]:
    """The trainings' rows and, apart from them, the paper's."""
    return (*(Row(row[0], "training", row[1:]) for row in own), Row(paper[0], "paper", paper[1:]))


def recorded(home: Home, store: Store) -> Iterator[Recorded]:
    """The trainings of a home, by dataset and name."""
    folders = [path.parent for path in home.trained.glob(f"*/{CONFIG}")]
    read = [(read_configuration(folder / CONFIG), folder) for folder in folders]
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
    """A row of Table I."""
    cells: list[str] = []
    for stage, name in (("vae", "val/loss"), ("denoiser", "val/mse")):
        values = [record[name] for record in training.records(stage) if name in record]
        if not values:
            cells += [UNKNOWN] * 3
            continue
        first, lowest = values[0], min(values)
        reduction = f"{100 * (1 - lowest / first):.0f} %" if first > 0 else UNKNOWN
        cells += [f"{first:.4g}", f"{lowest:.4g}", reduction]
    return (training.configuration.dataset, training.name, *cells)


def quality_row(training: Recorded, store: Store) -> tuple[str, ...]:
    """A row of Table II."""
    scores = training.scores(store)
    cells = [format(scores[name], style) if name in scores else UNKNOWN for name, (_, style) in QUALITY.items()]
    rule = f"by {training.configuration.recipe.data.rule}"
    return (training.configuration.dataset, training.name, rule, *cells)

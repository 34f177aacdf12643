"""The paper's two tables from recorded trainings, measured on the test split, with the paper's own values beside.

Of the paper's values only those in :data:`PAPER_LOSSES` and :data:`PAPER_QUALITY` are known here; the rest is a dash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latentsweep import stages
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.metrics import FID, KID, PAPER_PSNR, PAPER_SSIM, SAMPLES
from latentsweep.stages.model_folder import CONFIG
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home, read_json
from latentsweep.storage.store import Store

UNKNOWN = "–"

LOSSES_HEADER = (
    "dataset",
    "training",
    "VAE, first",
    "VAE, best",
    "reduction",
    "diffusion, first",
    "diffusion, best",
    "reduction",
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


@dataclass(frozen=True)
class Table:
    """A table with its caption; cells are text, the last row the paper's."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def as_markdown(self) -> str:
        """As Markdown."""
        lines = [f"**{self.title}.** {self.caption}", "", row_of(self.header), "|" + " --- |" * len(self.header)]
        return "\n".join([*lines, *(row_of(row) for row in self.rows)]) + "\n"

    def as_latex(self) -> str:
        """As a LaTeX table; needs the package booktabs."""
        columns = "ll" + "r" * (len(self.header) - 2)
        own, paper = self.rows[:-1], self.rows[-1]
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{escaped(self.caption)}}}",
                rf"  \begin{{tabular}}{{{columns}}}",
                r"    \toprule",
                f"    {latex_row(self.header)}",
                r"    \midrule",
                *(f"    {latex_row(row)}" for row in own),
                *([r"    \midrule"] if own else []),
                f"    {latex_row(paper)}",
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ]
        )


@dataclass(frozen=True)
class PaperTables:
    """Table I, losses, and Table II, quality of the generated slices."""

    losses: Table
    quality: Table

    def as_markdown(self) -> str:
        """Both as Markdown."""
        return f"{self.losses.as_markdown()}\n{self.quality.as_markdown()}"

    def as_latex(self) -> str:
        """Both as LaTeX tables for the package booktabs."""
        return f"% \\usepackage{{booktabs}}\n{self.losses.as_latex()}\n{self.quality.as_latex()}"


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
                return stages.measured(entry, self.configuration.recipe)
        return {}


def paper_tables(home: Home) -> PaperTables:
    """Both tables, a row for each training that ``train`` recorded in this home, and one for the paper."""
    store = Store.of(home)
    trainings = list(recorded(home, store))
    slices = ", ".join(f"{count:,} ({name})" for name, count in PAPER_SLICES.items())
    return PaperTables(
        Table("Table I", LOSSES_CAPTION, LOSSES_HEADER, [*(losses_row(each) for each in trainings), PAPER_LOSSES]),
        Table(
            "Table II",
            QUALITY_CAPTION.format(slices=slices),
            QUALITY_HEADER,
            [*(quality_row(each, store) for each in trainings), PAPER_QUALITY],
        ),
    )


def recorded(home: Home, store: Store) -> Iterator[Recorded]:
    """The trainings of a home, by dataset and name."""
    folders = [path.parent for path in home.trained.glob(f"*/{CONFIG}")]
    read = [(read_configuration(folder / CONFIG), folder) for folder in folders]
    for configuration, folder in sorted(read, key=lambda each: (each[0].dataset, each[1].name)):
        found = [store.find(name) for name in used_by(folder)]
        yield Recorded(folder.name, configuration, [entry for entry in found if entry])


def used_by(folder: Path) -> list[str]:
    """The names of the results that a training refers to."""
    path = folder / "uses.json"
    names: list[str] = read_json(path, [])
    return names


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
        cells += [
            f"{first:.4g}",
            f"{lowest:.4g}",
            f"{1 - lowest / first:.0%}".replace("%", " %") if first > 0 else UNKNOWN,
        ]
    return (training.configuration.dataset, training.name, *cells)


def quality_row(training: Recorded, store: Store) -> tuple[str, ...]:
    """A row of Table II."""
    scores = training.scores(store)
    cells = [format(scores[name], style) if name in scores else UNKNOWN for name, (_, style) in QUALITY.items()]
    rule = f"by {training.configuration.recipe.data.split}"
    return (training.configuration.dataset, training.name, rule, *cells)


def row_of(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def latex_row(cells: Sequence[str]) -> str:
    """A row of a LaTeX table."""
    return " & ".join(escaped(cell) for cell in cells) + r" \\"


LATEX: dict[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "–": "--",
    "×": r"$\times$",
    "≈": r"$\approx$",
}


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found.group()], text)

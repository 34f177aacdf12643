"""The best trial's pictures, each with how to read it, small enough together for one file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from latentsweep import stages
from latentsweep.pages.charts import data_uri
from latentsweep.stages.results import DICE_BY_PATIENTS
from latentsweep.stages.table import PICTURED
from latentsweep.storage.entries import Entry

BUDGET = 3_500_000
"""Bytes of PNG that all pictures may take together; base64 makes a third more of them."""

WIDEST = 1200
"""Pixels beyond which a picture is never shown."""

GENERATED = "generated_threshold_"

CAPTIONS = {
    GENERATED: (
        "Generated beside real",
        "Left: images of this configuration, none picked by hand; right: real held-out slices. Compare sharpness, "
        "plausible anatomy and variety, not single pairs.",
    ),
    "nearest_neighbours": (
        "Nearest training slices",
        "The generated images closest to a training slice, that slice, and the difference: almost black means "
        "that the model repeats what it was trained on.",
    ),
    "reconstructions": (
        "What the autoencoder keeps",
        "Held-out slices, their reconstructions and the error: what the autoencoder loses.",
    ),
    "trajectory": (
        "From noise to image",
        "One sample on its way, its latent above and the image it would become below, from pure noise (left) to the "
        "end (right).",
    ),
    "power_spectra": (
        "Spatial frequencies",
        "Where the generated curve falls below the real one at high frequencies, images are too smooth; where it "
        "lies above, they hold noise or patterns.",
    ),
    "pairwise_distances": (
        "Variety",
        "Distances between images: if the generated curve lies left of the real one, generated images resemble each "
        "other more than real slices do.",
    ),
    "latents": (
        "Latents, real and generated",
        "Generated latents should cover the same ranges and the same region as real ones; a shift or a narrow cloud "
        "is the denoiser's error.",
    ),
    "latents_autoencoder": (
        "Latents of the autoencoder",
        "How much each latent channel carries; channels with hardly any KL are unused.",
    ),
    DICE_BY_PATIENTS: (
        "Dice by the share of real patients",
        "How well networks find lesions that were trained on so much of the real patients, alone and with generated "
        "slices beside them. Where the two lie apart by more than their spread, generated slices change something.",
    ),
    "early_stop": (
        "Early stop",
        "Quality (left) and denoiser evaluations (right) under each threshold: a threshold pays where the left curve "
        "is still low and the right one already is.",
    ),
    "diffusion_training": (
        "Training of the denoiser",
        "The validation curve should still fall or lie flat at the end; a rise means overfitting, a steep end that "
        "more steps would help.",
    ),
    "vae_training": (
        "Training of the autoencoder",
        "Reconstruction error and KL on training and validation slices; a gap that widens means overfitting.",
    ),
}
"""Heading and reading aid of each picture by its file's name, in the order in which they are shown."""

LEADING = (GENERATED, "nearest_neighbours")
"""What the names of the pictures begin with that a page opens with."""

OF_GENERATED = ("nearest_neighbours", "power_spectra", "pairwise_distances", "latents")
"""Pictures that are drawn under one threshold alone, which the result names."""

STAGES = {stage.name: f"its {stage.title}" for stage in reversed(PICTURED)}
"""The stages whose results hold pictures, and what the page calls them."""


class Picture(NamedTuple):
    """A PNG with its heading and caption."""

    name: str
    heading: str
    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """As a data URI."""
        return data_uri(self.png)


def pictures(entries: Mapping[str, Entry], threshold: float) -> list[Picture]:
    """Every picture of a trial's results, of the generated images only those under its own ``threshold``."""
    own = stages.figure_of(threshold)
    paths: dict[str, Path] = {}
    for stage in reversed(STAGES):
        if stage in entries:
            paths |= {path.stem: path for path in sorted((entries[stage].folder / stages.FIGURES).glob("*.png"))}
    shown = {name: path for name, path in paths.items() if not name.startswith(GENERATED) or name == own}
    drawn_from = entries["evaluation"].summary.get("shown") if "evaluation" in entries else None
    ordered = sorted(shown.items(), key=lambda item: place(item[0]))
    return fit_pictures([picture(name, path.read_bytes(), drawn_from) for name, path in ordered])


def missing(entries: Mapping[str, Entry], names: Mapping[str, str]) -> list[str]:
    """A sentence for each result with pictures that is not in the store."""
    return [
        f"The pictures of {words} are not here: {names[stage]} is not in the store (freed, damaged, or "
        "of an older version)."
        for stage, words in STAGES.items()
        if stage in names and stage not in entries
    ]


def picture(name: str, png: bytes, drawn_from: float | None = None) -> Picture:
    """A picture with the words that belong to its name; ``drawn_from`` is the threshold of the images it shows."""
    kind = GENERATED if name.startswith(GENERATED) else name
    heading, caption = CAPTIONS.get(kind, (name.replace("_", " ").capitalize(), "A figure of this configuration."))
    if kind == GENERATED:
        heading += f", early-stop threshold {name.removeprefix(GENERATED)}"
    if kind in OF_GENERATED and drawn_from is not None:
        heading += f", early-stop threshold {drawn_from:g}"
    return Picture(name, heading, caption, png)


def place(name: str) -> tuple[int, str]:
    """Where a picture stands among the others."""
    kind = GENERATED if name.startswith(GENERATED) else name
    return ([*CAPTIONS, kind].index(kind), name)


def fit_pictures(found: list[Picture], budget: int = BUDGET) -> list[Picture]:
    """The pictures within ``budget`` bytes together: as they are, else with 256 colours, else smaller as well."""
    scale = 1.0
    shown = found
    while sum(len(each.png) for each in shown) > budget and scale > 0.1:
        shown = [each._replace(png=reduce_picture(each.png, scale)) for each in found]
        scale *= 0.75
    return shown


def reduce_picture(png: bytes, scale: float) -> bytes:
    """The picture in 256 colours, at most ``WIDEST`` pixels wide, times ``scale``."""
    with Image.open(io.BytesIO(png)) as image:
        factor = min(1.0, WIDEST / image.width) * scale
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS) if factor < 1 else image.convert("RGB")
        buffer = io.BytesIO()
        small.quantize(256).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()

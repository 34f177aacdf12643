"""Our contender: the product's own stages, each result from its store, with the recipe of ``quality.yaml``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from quality_cells import Bytes
from quality_data import SIDE, Data

from latentsweep.stages.pipeline import Pipeline
from latentsweep.stages.samples import IMAGES
from latentsweep.storage.store import Store
from trainables.loop.checkpoint import load_tensors
from trainables.loop.settings import Execution
from trainables.recipes import Recipe, recipe_named

FILE = Path(__file__).with_suffix("").with_name("quality.yaml")
ALWAYS = {"data.image_size": SIDE, "data.split": "subject", "evaluation.rungs": 0}


def settings_at(budget: int) -> dict[str, Any]:
    """Recipe, differences and the autoencoder's share of the time at a budget; one that the file doesn't name has
    those of the nearest that it names."""
    stated = yaml.safe_load(FILE.read_text())
    nearest = min(stated["budgets"], key=lambda named: abs(named - budget))
    return {
        "version": stated["version"],
        "recipe": stated["recipe"],
        "autoencoder_share": stated["autoencoder_share"],
        "changes": {**stated["all"], **stated["budgets"][nearest]},
    }


class Ours:
    """A training of ours. The time that its stages need to read, write and draw their figures counts."""

    def __init__(self, settings: Mapping[str, Any], data: Data, seed: int) -> None:
        share = settings["autoencoder_share"]
        self.shares = {"autoencoder": share, "denoiser": 1 - share}
        self.data, self.seed = data, seed
        self.recipe: Recipe = recipe_named(settings["recipe"]).replace(**{**ALWAYS, **settings["changes"]})
        self.folder = tempfile.TemporaryDirectory()
        self.autoencoder, self.current = Path(self.folder.name) / "autoencoder", Path(self.folder.name) / "current"

    def run(self, phase: str, steps: int) -> None:
        """Trains from the start: no run finds what an earlier one left, but a denoiser's finds the autoencoder."""
        shutil.rmtree(self.current, ignore_errors=True)
        if phase == "autoencoder":
            self.recipe = self.recipe.replace(**{"vae.max_steps": steps})
            self.pipeline().vae()
            shutil.rmtree(self.autoencoder, ignore_errors=True)
            shutil.copytree(self.current, self.autoencoder)
        else:
            shutil.copytree(self.autoencoder, self.current)
            self.recipe = self.recipe.replace(**{"diffusion.steps": steps})
            self.pipeline().denoiser()

    def pipeline(self, **changes: Any) -> Pipeline:
        """All stages, from the store."""
        recipe = self.recipe.replace(**changes)
        return Pipeline(Store(self.current), self.data.dataset, recipe, self.seed, Execution(), self.data.weights)

    def draw(self, count: int) -> Bytes:
        samples = self.pipeline(**{"evaluation.samples": count}).samples()
        images: Bytes = load_tensors(samples.file(IMAGES))[0]["images"].numpy()
        return images

"""The slices of the contest: the 865 real ones at 64×64, split by subject, and the evaluator that all share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from quality_cells import Bytes

from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.pseudonyms import KEY_BYTES, KEY_FILE
from latentsweep.datasets.slices import PreparedDataset, Slices, open_dataset
from latentsweep.storage.home import Home
from trainables.data.images import resize
from trainables.errors import DataError
from trainables.measures.distances import kernel_distance
from trainables.measures.evaluation import EvaluationConfig, evaluate_generated
from trainables.measures.inception import InceptionExtractor
from trainables.measures.memorisation import near_copy_threshold, nearest
from trainables.measures.reference import Reference, build_reference
from trainables.measures.weights import InceptionWeights, find_weights

SOURCE = Path(os.environ.get("LATENTSWEEP_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
NAME = "kaggle"
SIDE = 64
CONFIG = EvaluationConfig(samples=200)
DRAW_SEED = 0
"""Of the slices of the floor, and of the bootstrap."""


@dataclass(frozen=True)
class Data:
    """The prepared dataset, and the home that it is in."""

    dataset: PreparedDataset
    home: Path

    @cached_property
    def training(self) -> Slices:
        """The slices that contenders train on, at 64×64."""
        return self.load("train")

    @cached_property
    def positions(self) -> torch.Tensor:
        """Each training slice's place in its volume, (N,) from 0 to 1; 0.5 for the only slice of a volume."""
        index = self.training.indices.astype(np.float64)
        found = np.full(len(index), 0.5)
        volumes = np.array(
            [" ".join(pair) for pair in zip(self.training.subjects, self.training.volumes, strict=True)]
        )
        for volume in np.unique(volumes):
            here = volumes == volume
            low, high = index[here].min(), index[here].max()
            if high > low:
                found[here] = (index[here] - low) / (high - low)
        return torch.from_numpy(found).float()

    def load(self, split: str) -> Slices:
        """The slices of a split by subject, at 64×64."""
        slices = self.dataset.load(split)
        return Slices(resize(slices.images, SIDE), slices.subjects, slices.volumes, slices.indices)

    @cached_property
    def weights(self) -> InceptionWeights:
        """Those of the evaluator's network."""
        return find_weights()

    @cached_property
    def extractor(self) -> InceptionExtractor:
        """The evaluator's network."""
        return InceptionExtractor(self.weights)

    def reference(self, split: str) -> Reference:
        """The real slices of a split and their floor, computed once and kept in the home."""
        folder = self.home / f"reference-{split}"
        if not (folder / "reference.json").exists():
            held = self.load(split)
            build_reference(
                held.images, held.subjects, self.training.images, self.training.subjects, self.extractor,
                samples=CONFIG.samples, bootstrap=CONFIG.bootstrap, seed=DRAW_SEED,
            ).save(folder)  # fmt: skip
        return Reference.load(folder)

    def measure(self, images: Bytes) -> tuple[dict[str, float], float]:
        """All measures of generated images against the test split, and their KID ×1000 against the validation one."""
        features, neighbours = self.extractor.features(images), nearest(images, self.training.images)
        metrics = evaluate_generated(images, features, neighbours, self.reference("test"), CONFIG, seed=DRAW_SEED)
        held = self.reference("validation")
        kid = 1000 * kernel_distance(features, held.features, None, held.subjects)
        return {name: float(value) for name, value in metrics.items()}, float(kid)

    @property
    def near_copies_bound(self) -> float:
        """The share of near copies that slices of new patients may have, by those of the test split.

        The upper 95 % limit of their share (Clopper and Pearson 1934).
        """
        from scipy.stats import beta

        null = self.reference("test").null
        near = int(np.sum(null <= near_copy_threshold(null)))
        return float(beta.ppf(0.95, near + 1, len(null) - near))


def open_data(home: Path) -> Data:
    """The dataset in ``home``, prepared there where it is missing."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        return Data(open_dataset(Home(home).datasets, NAME), home)
    except DataError:
        if not (home / KEY_FILE).exists():
            (home / KEY_FILE).write_bytes(bytes(KEY_BYTES))  # so that subjects have one order on every machine
        return Data(prepare(NAME, home=home, source=SOURCE / "rsna_miccai", size=128), home)

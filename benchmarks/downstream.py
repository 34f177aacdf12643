"""Whether generated slices help to train a segmentation network, over the folds of a dataset with masks.

For each fold a configuration is trained and measured downstream on the fold's own test patients; then all test
patients are judged together. What the store has is not computed again, so the command can be stopped and goes on:

    python cli.py data prepare brats_masks --source ~/brats --home runs
    python benchmarks/downstream.py masks.yaml --home runs --folds 5

Prints the table and the sentence of ``evaluate --downstream``. The folds' generators and networks share training
patients, so intervals over the patients of all folds are a little too narrow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentsweep.ablation.page import downstream
from latentsweep.ablation.statistics.downstream import Usefulness
from latentsweep.configuration import Configuration, read_configuration
from latentsweep.datasets.slices import open_dataset
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.measures.inception import find_weights


def of_fold(configuration: Configuration, home: Home, fold: int, folds: int) -> Mapping[str, Any]:
    """The downstream comparison of a configuration on the test patients of a fold; ``folds`` 1 is the own split."""
    changes = {"data.folds": folds, "data.fold": fold, "downstream.measured": True}
    pipeline = Pipeline(
        Store.of(home),
        open_dataset(home.datasets, configuration.dataset),
        configuration.recipe.replace(**changes),
        configuration.seed,
        configuration.execution,
        find_weights(None),
        "test",
    )
    return pipeline.downstream().summary


def pool(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One comparison of the held-out patients of several, networks with the same seed, arm and share together."""
    rows = [
        {
            **first[0],
            "slices": sum(row["slices"] for row in first) / len(first),
            **{score: [value for row in first for value in row[score]] for score in ("dice", "hausdorff")},
        }
        for first in zip(*(summary["rows"] for summary in summaries), strict=True)
    ]
    return {"rows": rows, **{name: sum(each[name] for each in summaries) for name in ("drawn", "copies")}}


def main(words: Sequence[str]) -> None:
    """Runs the study that the command line names, fold by fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--home", type=Path, default=Path("runs"))
    parser.add_argument("--folds", type=int, default=5)
    asked = parser.parse_args(words)
    configuration, found = read_configuration(asked.config), []
    for fold in range(asked.folds):
        found.append(of_fold(configuration, Home(asked.home), fold, asked.folds))
        usefulness = Usefulness.of(pool(found))
        print(f"after {fold + 1} of {asked.folds} folds: {downstream.sentence(usefulness)}", flush=True)
    print(downstream.table(usefulness).as_markdown())
    print(downstream.CAVEAT)


if __name__ == "__main__":
    main(sys.argv[1:])

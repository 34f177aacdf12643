"""Folds of a prepared dataset: every subject is tested once, by a rule that depends on the slices' content alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.overview import export_pngs
from latentsweep.datasets.png import encode
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import PreparedDataset, open_dataset
from latentsweep.datasets.splits import SPLITS, fold_splits, parts_of
from latentsweep.lints.data import survey
from latentsweep.search.plan import check_fit
from latentsweep.search.spaces import SearchSpace
from trainables.data.settings import DataConfig, Fold
from trainables.errors import ConfigError, DataError
from trainables.recipes import SMOKE
from trainables.space import Choice

SIZES = [int(size) for size in np.random.default_rng(0).integers(4, 26, 41)]
"""Slices of each of 41 subjects."""


def planted(folder: Path, sizes: list[int], prefix: str = "p") -> PreparedDataset:
    """A dataset of subjects with so many slices each, all in the stored train split."""
    from made_up_manifest import made_up

    image = encode(np.zeros((64, 64), np.uint8))
    rows = [
        SliceRow(f"{prefix}{(7 * subject) % 97}", f"v{subject}", index, "train", "train", image)
        for subject, size in enumerate(sizes)
        for index in range(size)
    ]
    place = folder / "datasets" / "mine"
    place.mkdir(parents=True)
    manifest = made_up() | {"version": 1, "name": "mine", "settings": {"size": 64}}
    write_manifest(place, manifest | {"shards": write_shards(place, rows)})
    return open_dataset(place.parent, "mine")


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_every_subject_is_in_the_test_split_of_one_fold(folds: int) -> None:
    labels = [fold_splits(SIZES, fold, folds) for fold in range(folds)]
    assert all(Counter(each)["test"] == 1 for each in zip(*labels, strict=True))
    assert all(set(each) == set(SPLITS) for each in labels)


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_the_parts_have_about_equally_many_slices(folds: int) -> None:
    filled: Counter[int] = Counter()
    for part, size in zip(parts_of(SIZES, folds), SIZES, strict=True):
        filled[part] += size
    assert max(filled.values()) - min(filled.values()) <= max(SIZES) / 3


def test_validation_is_15_percent_of_the_subjects_that_a_fold_does_not_test_and_at_least_one() -> None:
    labels = Counter(fold_splits(SIZES, 1, 5))
    assert labels["validation"] == round(0.15 * (41 - labels["test"]))
    assert Counter(fold_splits([3, 3, 3], 0, 3)) == {"test": 1, "validation": 1, "train": 1}


def test_subjects_of_one_size_are_parted_by_the_seed_and_not_by_their_order() -> None:
    parts = parts_of([5] * 30, 3)
    assert Counter(parts) == {0: 10, 1: 10, 2: 10}
    assert parts[:10] != [0] * 10
    assert parts != parts_of([5] * 30, 3, seed=43)


def test_the_slices_of_a_fold_are_what_its_counts_say_and_no_subject_is_in_two_splits(tmp_path: Path) -> None:
    dataset, fold = planted(tmp_path, SIZES), Fold(2, 5)
    parts = {split: dataset.load(split, rule=fold) for split in SPLITS}
    assert {split: len(part) for split, part in parts.items()} == dataset.counts(fold)
    assert {split: len(set(part.subjects)) for split, part in parts.items()} == dataset.subjects_by_split(fold)
    assert sum(len(set(part.subjects)) for part in parts.values()) == len(SIZES)
    assert dataset.splits(fold) == list(SPLITS)


def test_a_fold_is_the_same_under_another_key_of_pseudonyms(tmp_path: Path) -> None:
    one, other = (planted(tmp_path / prefix, SIZES, prefix) for prefix in ("a", "z"))
    of_volumes = [
        {split: sorted(set(each.load(split, rule=Fold(0, 3)).volumes)) for split in SPLITS} for each in (one, other)
    ]
    assert of_volumes[0] == of_volumes[1]


def test_lints_and_exports_see_the_fold(tmp_path: Path) -> None:
    dataset, fold = planted(tmp_path, [3, 3, 3, 3]), Fold(1, 2)
    assert Counter(survey(dataset, fold).splits.tolist()) == dataset.counts(fold)
    assert export_pngs(dataset, tmp_path / "pngs", split="test", rule=fold) == 6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folds": 3, "fold": 3}, "data.fold must be below data.folds"),
        ({"fold": 1}, "data.fold must be below data.folds"),
        ({"folds": 3, "split": "slice"}, "needs data.split=subject"),
        ({"folds": 0}, "at least 1"),
    ],
)
def test_a_fold_that_can_not_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)  # type: ignore[arg-type]


def test_without_folds_the_rule_is_the_split_that_is_stored() -> None:
    assert (DataConfig().rule, DataConfig(split="slice").rule) == ("subject", "slice")
    assert DataConfig(folds=5, fold=1).rule == Fold(1, 5)
    assert set(DataConfig().identity()) == {"image_size", "split"}


def test_more_folds_than_the_subjects_can_fill_are_refused_with_the_numbers(tmp_path: Path) -> None:
    dataset = planted(tmp_path, [3, 3, 3])
    check_fit(SMOKE.replace(**{"data.folds": 3, "data.fold": 2}), dataset)
    with pytest.raises(DataError, match=r"by subject, fold 3 of 4 .* has 0; prepare more subjects, or take fewer"):
        check_fit(SMOKE.replace(**{"data.folds": 4, "data.fold": 3}), dataset)
    with pytest.raises(DataError, match="fewer folds"):
        check_fit(SMOKE.replace(**{"data.folds": 2}), dataset)


@pytest.mark.parametrize("field", ["data.fold", "data.folds"])
def test_a_search_over_folds_is_refused_since_its_scores_are_of_other_patients(field: str) -> None:
    with pytest.raises(ConfigError, match="other patients don't compare"):
        SearchSpace({field: Choice((1, 2))}).check(SMOKE.replace(**{"data.folds": 5}))

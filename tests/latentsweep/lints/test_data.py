"""Lints of datasets, on planted slices and on real ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.lints import dataset_lints
from latentsweep.lints.twins import (
    COARSE_LIMIT,
    Thumbnails,
    ThumbnailsOf,
    features,
    nearest_coarse,
    thumbnails,
    twins,
)


def only(findings: list[Any], code: str) -> Any:
    (found,) = [found for found in findings if found.code == code]
    return found


def codes(findings: list[Any]) -> list[str]:
    return [found.code for found in findings]


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def test_the_split_by_slice_is_told_with_how_many_test_slices_training_has_seen(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    rows = [
        ("a", "train", "train", brain(0)),
        ("a", "train", "test", brain(1)),
        ("b", "validation", "validation", brain(2)),
        ("c", "test", "test", brain(3)),
    ]
    dataset = planted("mine", rows)
    assert codes(dataset_lints(dataset, "subject")) == ["few-subjects"]
    found = only(dataset_lints(dataset, "slice"), "subjects-across-splits")
    assert found.evidence.startswith("1 of 3 subjects")
    assert "1 of 2 test slices" in found.evidence


def test_a_subject_in_two_splits_by_subject_is_a_fault_too(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    dataset = planted("mine", [("a", "train", "train", brain(0)), ("a", "test", "train", brain(1))])
    assert codes(dataset_lints(dataset, "subject")) == ["subjects-across-splits", "few-subjects"]


def test_a_split_of_few_patients_is_told_by_name_and_number_and_an_absent_one_is_not(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    rows = [(f"p{i}", "train" if i else "validation", "train", brain(i)) for i in range(4)]
    found = only(dataset_lints(planted("mine", rows), "subject"), "few-subjects")
    assert found.evidence == "of 4 subjects, the validation split holds 1, fewer than 3"
    assert codes(dataset_lints(planted("others", rows), "slice")) == []


def test_equal_slices_are_counted_across_splits_only(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    rows = [
        ("a", "train", "train", brain(0)),
        ("b", "test", "test", brain(0)),
        ("c", "train", "train", brain(1)),
        ("d", "train", "train", brain(1)),
    ]
    found = only(dataset_lints(planted("mine", rows), "subject"), "identical-across-splits")
    assert found.evidence.startswith("2 of 4 slices")
    assert "(1 different images)" in found.evidence


def test_recompressed_copies_of_other_subjects_are_counted_across_splits_only(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    rows = [
        ("a", "train", "train", brain(0)),
        ("a", "train", "train", brain(1)),
        ("b", "train", "train", jpeg(brain(1))),
        ("c", "validation", "train", brain(2)),
        ("d", "test", "train", jpeg(brain(0))),
        ("d", "test", "train", jpeg(brain(2))),
        ("e", "test", "train", brain(3)),
    ]
    found = only(dataset_lints(planted("mine", rows), "subject"), "near-identical-across-splits")
    assert found.evidence.startswith("2 of 4 validation and test slices, of 1 of 3 subjects")


def test_slices_of_a_subject_in_several_splits_are_no_copies_of_others(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    rows = [
        ("a", "train", "train", brain(0)),
        ("a", "train", "test", jpeg(brain(0))),
        ("b", "test", "test", brain(2)),
    ]
    assert codes(dataset_lints(planted("mine", rows), "slice")) == ["subjects-across-splits", "few-subjects"]


def test_shared_patients_in_the_same_splits_are_a_note_and_in_others_a_warning(
    planted: Callable[..., PreparedDataset], rows: Callable[..., Any]
) -> None:
    mine, alike = planted("mine", rows(range(10))), planted("alike", rows(range(10)))
    swapped = planted("swapped", rows([*range(9, -1, -1)]))
    alone, crossed = (only(dataset_lints(mine, "subject", [other]), "shared-patients") for other in (alike, swapped))
    assert (alone.severity, crossed.severity) == ("note", "warning")
    assert alone.evidence.startswith(
        "10 of 10 slices, of 10 of 10 subjects, have a near-identical one in alike; 0 of"
    )
    assert "in swapped; 8 of them" in crossed.evidence


def test_each_other_dataset_is_reported_by_itself_and_never_the_dataset_itself(
    planted: Callable[..., PreparedDataset], rows: Callable[..., Any]
) -> None:
    mine = planted("mine", rows(range(10)))
    others = [mine, planted("one", rows(range(3))), planted("two", rows(range(20, 25))), planted("three", rows([9]))]
    found = [found.evidence.split("in ")[1].split(";")[0] for found in dataset_lints(mine, "subject", others)]
    assert found == ["one", "three"]


def test_an_intensity_range_hardly_used_is_told(
    planted: Callable[..., PreparedDataset], rows: Callable[..., Any]
) -> None:
    dim = planted("dim", rows(range(10), lambda image: (image * 0.5).astype(np.uint8)))
    highest = max(int(row[3].max()) for row in rows(range(10))) // 2
    evidence = only(dataset_lints(dim, "subject"), "saturated-range").evidence
    assert 100 < int(evidence.rsplit(" ", 1)[1]) <= highest


def test_only_training_slices_are_judged_for_their_range(
    planted: Callable[..., PreparedDataset], brain: Callable[..., np.ndarray]
) -> None:
    bright = np.minimum(brain(9).astype(np.uint16) * 3, 255).astype(np.uint8)
    rows = [(f"p{i}", "train", "train", brain(i)) for i in range(4)]
    rows += [(f"q{i}", "test", "test", bright) for i in range(3)]
    assert codes(dataset_lints(planted("mine", rows), "subject")) == []


def test_a_blank_slice_is_nobodys_twin_and_no_slices_have_none() -> None:
    blank, noise = np.zeros((2, 64, 64), np.uint8), np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    assert twins(blank, blank).tolist() == [-1, -1]
    assert twins(noise, noise).tolist() == [0, 1, 2]
    assert twins(noise[:0], noise).tolist() == []
    assert twins(noise, noise[:0]).tolist() == [-1, -1, -1]


def test_slices_that_are_alike_only_coarsely_are_no_twins(brain: Callable[..., np.ndarray]) -> None:
    random = np.random.default_rng(0)
    # Detail that each 2×2 pixels average away.
    detail = [np.kron(random.choice([-50, 50], (32, 32)), [[1, -1], [-1, 1]]) for _ in range(2)]
    first, second = ((brain(0).clip(50, 205) + one).astype(np.uint8) for one in detail)
    coarse = [features(image[None], 32, 9) for image in (first, second)]
    assert float((coarse[0] * coarse[1]).sum()) > COARSE_LIMIT
    assert twins(first[None], second[None]).tolist() == [-1]


def test_the_nearest_slice_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from latentsweep.lints import twins as module

    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (count, 32, 32), np.uint8) for count in (7, 23))
    queries = module.features(first, 32, 9)
    correlations = queries @ module.features(second, 32, 9).T
    monkeypatch.setattr(module, "ROWS", 2)
    nearest, likeness = nearest_coarse(queries, second)
    assert nearest.tolist() == correlations.argmax(axis=1).tolist()
    np.testing.assert_allclose(likeness, correlations.max(axis=1), rtol=1e-5)


def test_small_slices_have_twins_too(planted: Callable[..., PreparedDataset], rows: Callable[..., Any]) -> None:
    def quarter(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((24, 24), Image.Resampling.BOX))

    mine, small = planted("mine", rows(range(10))), planted("small", rows(range(10), quarter))
    for one, other in ((mine, small), (small, mine)):
        evidence = only(dataset_lints(one, "subject", [other]), "shared-patients").evidence
        assert evidence.startswith("10 of 10 slices")


@pytest.fixture(scope="module")
def real(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreparedDataset]:
    home = tmp_path_factory.mktemp("home")
    folders = {"kaggle": "rsna_miccai", "t1ce": "nifti_t1ce", "brats_flair": "brats", "brats_t1ce": "brats"}
    prepared = {name: prepare(name, home=home, source=test_data / folders[name], jobs=1) for name in folders}
    return prepared | {"demo": prepare("demo", home=home, jobs=1)}


@pytest.mark.slow
def test_real_datasets_split_by_subject_are_clean_but_for_a_split_of_one_patient(
    real: dict[str, PreparedDataset],
) -> None:
    expected = {"kaggle": [], "brats_flair": ["few-subjects"], "demo": []}
    found = {name: dataset_lints(real[name], "subject", list(real.values())) for name in expected}
    assert {name: codes(findings) for name, findings in found.items()} == expected
    assert found["brats_flair"][0].evidence == "of 2 subjects, the validation split holds 1, fewer than 3"


@pytest.mark.slow
def test_real_slices_of_a_split_by_slice_share_their_patients(real: dict[str, PreparedDataset]) -> None:
    found = only(dataset_lints(real["kaggle"], "slice"), "subjects-across-splits")
    assert "130 of 130 test slices" in found.evidence


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half the size": lambda image: np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)),
    "gamma 0.6": lambda image: (255 * (image / 255) ** 0.6).astype(np.uint8),
    "gamma 1.6": lambda image: (255 * (image / 255) ** 1.6).astype(np.uint8),
    "a narrower window": lambda image: np.clip(image * 1.4 - 20, 0, 255).astype(np.uint8),
    "JPEG": jpeg,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kaggle", "t1ce", "brats_flair"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_slices_are_found_and_slices_of_other_patients_are_not(
    real: dict[str, PreparedDataset], name: str, change: str
) -> None:
    slices = real[name].load("all")
    subjects = np.asarray(slices.subjects)
    ours = np.isin(subjects, np.unique(subjects)[::2])
    small = thumbnails(slices.images)
    changed = thumbnails(np.stack([CHANGES[change](image) for image in slices.images[ours]]))
    found = twins(changed, small)
    assert np.mean(found >= 0) > 0.99
    assert (subjects[found] == subjects[ours])[found >= 0].all()
    assert (twins(changed, small[~ours]) == -1).all()


def test_thumbnails_in_a_file_are_those_in_memory() -> None:
    images = np.random.default_rng(0).integers(0, 256, (600, 80, 80), dtype=np.uint8)
    kept = Thumbnails()
    for start in (0, 290):
        kept.append(images[start : start + (290 if start == 0 else 310)])
    whole = thumbnails(images)
    assert (len(kept), kept.shape) == (600, whole.shape)
    mask = np.arange(600) % 7 == 0
    odd = np.arange(1, 600, 2)
    for which in (slice(5, 300), slice(590, 700), slice(0, 0), np.array([299, 0, 31])):
        np.testing.assert_array_equal(kept[which], whole[which])
        np.testing.assert_array_equal(ThumbnailsOf(kept, odd)[which], whole[odd][which])
    np.testing.assert_array_equal(kept[mask], whole[mask])
    np.testing.assert_array_equal(twins(kept, kept), twins(whole, whole))

"""References are drawn, measured and kept as stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_images import SIZE, Shrunk, named, slices, small_reference

from trainables.errors import DataError, StoreError
from trainables.measures.distances import frechet_distance, kernel_distance
from trainables.measures.reference import Reference, build_reference


@pytest.fixture
def reference() -> Reference:
    return small_reference()


def test_all_held_out_slices_are_the_reference_and_a_seeded_draw_of_the_others_is_the_floor(
    reference: Reference,
) -> None:
    np.testing.assert_array_equal(reference.images, slices(40, 0))
    np.testing.assert_array_equal(reference.features, Shrunk().features(slices(40, 0)))
    assert reference.subjects == named(40, "v")
    assert len(reference.null) == 40
    assert reference.extractor == "shrunk"
    assert reference.floor["samples"] == len(reference.floor_images) == SIZE["samples"]
    again = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=0)
    other = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=1)
    assert again.sha == reference.sha == other.sha
    assert again.floor == reference.floor != other.floor


def test_the_floor_is_for_as_many_slices_as_are_generated_and_not_as_are_held_out() -> None:
    few = build_reference(slices(10, 0), named(10, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=0)
    assert few.floor["samples"] == SIZE["samples"]
    fewer = build_reference(slices(40, 0), named(40, "v"), slices(8, 1), named(8, "t"), Shrunk(), **SIZE, seed=0)
    assert (fewer.floor["samples"], fewer.floor["shared_subjects"]) == (8, 0)


def test_the_floor_compares_with_training_slices_of_other_subjects() -> None:
    subjects = ["v0"] * 20 + named(40, "t")
    other = slices(60, 1)
    other[:20] = 255
    built = build_reference(slices(40, 0), named(40, "v"), other, subjects, Shrunk(), **SIZE, seed=0)
    assert built.floor["shared_subjects"] == 0
    assert built.floor_features.max() < 1
    assert built.floor["fid"] == pytest.approx(frechet_distance(built.floor_features, built.features))
    places = [int(np.flatnonzero((other == image).all((1, 2)))[0]) for image in built.floor_images]
    assert [subjects[place] for place in places] == built.floor_subjects
    by_subject = kernel_distance(built.floor_features, built.features, built.floor_subjects, built.subjects)
    assert built.floor["kid"] == pytest.approx(1000 * by_subject)


def test_a_floor_of_any_number_is_spread_over_the_subjects() -> None:
    other = np.zeros((60, 16, 16), np.uint8)
    subjects = ["many"] * 50 + [f"t{i}" for i in range(10)]
    other[:50] = 200
    built = build_reference(slices(40, 0), named(40, "v"), other, subjects, Shrunk(), **SIZE, seed=0)
    assert (built.floor_features[:11].max(axis=1) > 0).sum() == 1


def test_a_split_by_slice_uses_the_same_subjects_and_says_so() -> None:
    built = build_reference(slices(40, 0), named(40, "s"), slices(60, 1), named(60, "s", 6), Shrunk(), **SIZE, seed=0)
    assert built.floor["shared_subjects"] == 1
    assert built.floor["samples"] == 24
    assert set(built.floor_subjects) <= set(built.subjects)
    by_subject = kernel_distance(built.floor_features, built.features, built.floor_subjects, built.subjects)
    assert built.floor["kid"] == pytest.approx(1000 * by_subject)


def test_no_training_slices_leave_no_floor_and_one_held_out_slice_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    none = np.zeros((0, 16, 16), np.uint8)
    assert build_reference(slices(9, 0), named(9, "v"), none, [], Shrunk(), **SIZE, seed=0).floor == {}
    assert "no floor" in caplog.text
    with pytest.raises(DataError, match="at least 2 held-out slices"):
        build_reference(slices(1, 0), ["v"], slices(9, 1), named(9, "t"), Shrunk(), **SIZE, seed=0)


def test_a_reference_survives_saving(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("another file of the folder")
    reference.save(tmp_path)
    loaded = Reference.load(tmp_path)
    for name in ("features", "images", "null", "floor_images", "floor_features"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(reference, name))
        assert getattr(loaded, name).dtype == getattr(reference, name).dtype
    assert (loaded.subjects, loaded.floor_subjects, loaded.real, loaded.floor, loaded.extractor, loaded.sha) == (
        reference.subjects,
        reference.floor_subjects,
        reference.real,
        reference.floor,
        reference.extractor,
        reference.sha,
    )
    assert (tmp_path / "kept").exists()


@pytest.mark.parametrize("damage", ["absent", "cut", "not json", "another image"])
def test_a_damaged_reference_is_a_store_error(reference: Reference, tmp_path: Path, damage: str) -> None:
    reference.save(tmp_path)
    tensors, description = tmp_path / "reference.safetensors", tmp_path / "reference.json"
    if damage == "absent":
        tensors.unlink()
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif damage == "not json":
        description.write_text("{")
    else:
        description.write_text(description.read_text().replace(reference.sha, "0" * 16))
    with pytest.raises(StoreError, match="move it away to build it again"):
        Reference.load(tmp_path)

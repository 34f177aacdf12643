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


def test_a_reference_is_a_seeded_draw_of_the_number_asked_for(reference: Reference) -> None:
    assert reference.images.shape == (24, 16, 16)
    assert len(reference.subjects) == 24
    assert reference.extractor == "shrunk"
    held_out = slices(40, 0)
    places = [int(np.flatnonzero((held_out == image).all((1, 2)))[0]) for image in reference.images]
    assert places == sorted(set(places))
    assert [f"v{place // 4}" for place in places] == reference.subjects
    again = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=0)
    other = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=1)
    assert again.sha == reference.sha != other.sha
    assert again.floor == reference.floor


def test_all_slices_are_the_reference_where_there_are_fewer() -> None:
    few = build_reference(slices(10, 0), named(10, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=0)
    np.testing.assert_array_equal(few.images, slices(10, 0))
    assert few.floor["samples"] == SIZE["samples"], "the floor is for as many as are generated, not as are held out"


def test_the_floor_compares_with_training_slices_of_other_subjects() -> None:
    subjects = ["v0"] * 20 + named(40, "t")
    other = slices(60, 1)
    other[:20] = 255
    built = build_reference(slices(40, 0), named(40, "v"), other, subjects, Shrunk(), **SIZE, seed=0)
    assert built.floor["shared_subjects"] == 0
    assert built.floor_features.max() < 1
    assert built.floor["fid"] == pytest.approx(frechet_distance(built.floor_features, built.features))
    assert built.floor["kid"] == pytest.approx(1000 * kernel_distance(built.floor_features, built.features))


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
    assert (loaded.subjects, loaded.real, loaded.floor, loaded.extractor, loaded.sha) == (
        reference.subjects,
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
    with pytest.raises(StoreError, match="remove it to build it again"):
        Reference.load(tmp_path)

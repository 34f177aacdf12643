"""References are drawn and kept as stated; generated images and reconstructions get honest, finite numbers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trainables.distances import frechet_distance, kernel_distance
from trainables.errors import DataError, StoreError
from trainables.evaluation import (
    EvaluationConfig,
    Reference,
    build_reference,
    distances,
    evaluate_generated,
    evaluate_reconstructions,
)

CONFIG = EvaluationConfig(samples=24, bootstrap=20)


class Shrunk:
    """A stand-in for the Inception network: the image reduced to 4×4."""

    id = "shrunk"

    def features(self, images: np.ndarray) -> np.ndarray:
        count, side, _ = images.shape
        return (
            images.reshape(count, 4, side // 4, 4, side // 4).mean((2, 4)).reshape(count, 16).astype(np.float32) / 255
        )


def slices(count: int, seed: int, *, shift: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, 4, 4)).repeat(4, axis=1).repeat(4, axis=2)
    return (coarse + generator.integers(0, 20, (count, 16, 16)) + shift).astype(np.uint8)


def named(count: int, prefix: str, each: int = 4) -> list[str]:
    return [f"{prefix}{i // each}" for i in range(count)]


@pytest.fixture
def reference() -> Reference:
    return build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), CONFIG, seed=0)


def measure(images: np.ndarray, reference: Reference, **extra: object) -> dict[str, float]:
    return evaluate_generated(images, Shrunk().features(images), reference, slices(60, 1), CONFIG, **extra)  # type: ignore[arg-type]


def test_a_reference_is_a_seeded_draw_of_the_number_asked_for(reference: Reference) -> None:
    assert reference.images.shape == (24, 16, 16)
    assert len(reference.subjects) == 24
    assert reference.extractor == "shrunk"
    held_out = slices(40, 0)
    places = [int(np.flatnonzero((held_out == image).all((1, 2)))[0]) for image in reference.images]
    assert places == sorted(set(places))
    assert [f"v{place // 4}" for place in places] == reference.subjects
    again = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), CONFIG, seed=0)
    other = build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), CONFIG, seed=1)
    assert again.sha == reference.sha != other.sha
    assert again.floor == reference.floor


def test_all_slices_are_the_reference_where_there_are_fewer() -> None:
    few = build_reference(slices(10, 0), named(10, "v"), slices(60, 1), named(60, "t"), Shrunk(), CONFIG, seed=0)
    np.testing.assert_array_equal(few.images, slices(10, 0))
    assert few.floor["samples"] == CONFIG.samples, "the floor is for as many as are generated, not as are held out"


def test_the_floor_compares_with_training_slices_of_other_subjects() -> None:
    subjects = ["v0"] * 20 + named(40, "t")
    other = slices(60, 1)
    other[:20] = 255
    built = build_reference(slices(40, 0), named(40, "v"), other, subjects, Shrunk(), CONFIG, seed=0)
    assert built.floor["shared_subjects"] == 0
    assert built.floor_features.max() < 1
    assert built.floor["fid"] == pytest.approx(frechet_distance(built.floor_features, built.features))
    assert built.floor["kid"] == pytest.approx(1000 * kernel_distance(built.floor_features, built.features))


def test_a_floor_of_any_number_is_spread_over_the_subjects() -> None:
    other = np.zeros((60, 16, 16), np.uint8)
    subjects = ["many"] * 50 + [f"t{i}" for i in range(10)]
    other[:50] = 200
    built = build_reference(slices(40, 0), named(40, "v"), other, subjects, Shrunk(), CONFIG, seed=0)
    assert (built.floor_features[:11].max(axis=1) > 0).sum() == 1
    assert built.floor_at(11)["samples"] == 11
    assert built.floor_at(1) == {}
    assert built.floor_at(1000)["samples"] == built.floor["samples"]


def test_a_split_by_slice_uses_the_same_subjects_and_says_so() -> None:
    built = build_reference(slices(40, 0), named(40, "s"), slices(60, 1), named(60, "s", 6), Shrunk(), CONFIG, seed=0)
    assert built.floor["shared_subjects"] == 1
    assert built.floor["samples"] == 24


def test_no_training_slices_leave_no_floor_and_one_held_out_slice_is_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    none = np.zeros((0, 16, 16), np.uint8)
    assert build_reference(slices(9, 0), named(9, "v"), none, [], Shrunk(), CONFIG, seed=0).floor == {}
    assert "no floor" in caplog.text
    with pytest.raises(DataError, match="at least 2 held-out slices"):
        build_reference(slices(1, 0), ["v"], slices(9, 1), named(9, "t"), Shrunk(), CONFIG, seed=0)


def test_a_reference_survives_saving(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("another file of the folder")
    reference.save(tmp_path)
    loaded = Reference.load(tmp_path)
    for name in ("features", "images", "floor_features"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(reference, name))
        assert getattr(loaded, name).dtype == getattr(reference, name).dtype
    assert (loaded.subjects, loaded.floor, loaded.extractor, loaded.sha) == (
        reference.subjects,
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


def test_generated_images_get_every_number_and_all_are_finite(reference: Reference) -> None:
    result = measure(slices(20, 5), reference, steps_used=np.full(20, 25), seconds=40.0)
    assert set(result) == {
        "gen/fid",
        "gen/kid",
        "gen/kid_se",
        "gen/fid_floor",
        "gen/kid_floor",
        "gen/samples_floor",
        "gen/samples",
        "gen/reference_samples",
        "gen/diversity",
        "gen/diversity_real",
        "gen/ms_ssim",
        "gen/ms_ssim_real",
        "gen/memorisation",
        "gen/near_copies",
        "gen/steps_mean",
        "gen/seconds_per_image",
        "gen/paper_ssim",
        "gen/paper_psnr",
    }
    assert all(type(value) is float and math.isfinite(value) for value in result.values())
    assert (result["gen/samples"], result["gen/reference_samples"]) == (20, 24)
    assert (result["gen/steps_mean"], result["gen/seconds_per_image"]) == (25, 2)
    assert result["gen/fid_floor"] == reference.floor_at(20)["fid"] != reference.floor["fid"]
    assert result == measure(slices(20, 5), reference, steps_used=np.full(20, 25), seconds=40.0)


def test_a_good_generator_is_near_the_floor_and_a_shifted_one_is_far(reference: Reference) -> None:
    good, bad = measure(slices(24, 5), reference), measure(slices(24, 5, shift=36), reference)
    assert abs(good["gen/kid"] - good["gen/kid_floor"]) < 4 * good["gen/kid_se"]
    assert bad["gen/kid"] > good["gen/kid"] + 4 * good["gen/kid_se"]
    assert bad["gen/fid"] > good["gen/fid"]


def test_a_generator_that_copies_or_collapses_is_told_by_its_numbers(reference: Reference) -> None:
    honest, copied = measure(slices(24, 5), reference), measure(slices(60, 1)[:24], reference)
    assert copied["gen/memorisation"] == 0
    assert copied["gen/near_copies"] == 1
    assert honest["gen/memorisation"] == pytest.approx(1, abs=0.1)
    collapsed = measure(slices(1, 5).repeat(24, axis=0), reference)
    assert collapsed["gen/diversity"] == pytest.approx(0, abs=1e-6)
    assert collapsed["gen/ms_ssim"] == pytest.approx(1, abs=1e-5)
    assert collapsed["gen/diversity_real"] == honest["gen/diversity_real"] > 0


@pytest.mark.parametrize("level", [0, 255])
def test_saturated_images_give_finite_numbers(reference: Reference, level: int) -> None:
    result = measure(np.full((8, 16, 16), level, np.uint8), reference)
    assert all(math.isfinite(value) for value in result.values())


def test_a_score_on_the_way_is_the_same_distance_as_at_the_end(reference: Reference) -> None:
    images = slices(8, 5)
    scores = distances(Shrunk().features(images), reference, CONFIG)
    result = measure(images, reference)
    assert scores == {name: result[f"gen/{name}"] for name in ("fid", "kid", "kid_se")}


def test_too_few_or_mismatched_images_are_one_line_errors(reference: Reference) -> None:
    one, two = slices(1, 5), slices(2, 5)
    with pytest.raises(DataError, match="at least 2 images"):
        measure(one, reference)
    with pytest.raises(DataError, match="as many as their features"):
        evaluate_generated(two, Shrunk().features(one), reference, None, CONFIG)
    with pytest.raises(DataError, match="uint8"):
        evaluate_generated(two / 255, Shrunk().features(two), reference, None, CONFIG)


def test_perfect_reconstructions_are_capped_and_not_infinite() -> None:
    images = slices(3, 0)
    result = evaluate_reconstructions(images, (images / 127.5 - 1).astype(np.float32))
    assert result["recon/ssim"] == pytest.approx(1, abs=1e-6)
    assert result["recon/psnr"] == 100
    assert result["recon/mse"] < 1e-12
    assert result["recon/psnr_sd"] == 0


def test_reconstruction_numbers_are_per_image_means_and_deviations() -> None:
    images = np.full((2, 16, 16), 128, np.uint8)
    signed = images / 127.5 - 1
    result = evaluate_reconstructions(images, signed + np.array([0.2, 0.02])[:, None, None])
    assert result["recon/psnr"] == pytest.approx(30, abs=1e-3)
    assert result["recon/psnr_sd"] == pytest.approx(20 / math.sqrt(2), abs=1e-3)
    assert result["recon/mse"] == pytest.approx((0.04 + 0.0004) / 2, rel=1e-6)


def test_reconstructions_beyond_their_range_are_clipped_and_broken_ones_refused() -> None:
    images = np.full((1, 16, 16), 255, np.uint8)
    result = evaluate_reconstructions(images, np.full((1, 16, 16), 1.5, np.float32))
    assert result["recon/psnr"] == 100
    assert result["recon/ssim_sd"] == 0
    with pytest.raises(DataError, match="diverged"):
        evaluate_reconstructions(images, np.full((1, 16, 16), np.nan, np.float32))
    with pytest.raises(DataError, match="as many"):
        evaluate_reconstructions(images, np.zeros((2, 16, 16), np.float32))
    with pytest.raises(DataError, match="at least one"):
        evaluate_reconstructions(images[:0], np.zeros((0, 16, 16), np.float32))


def test_reading_the_configuration_imports_no_torchmetrics() -> None:
    code = "import sys, trainables.evaluation; assert 'torchmetrics' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0

"""Generated images and reconstructions get honest, finite numbers."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_images import SIZE, Shrunk, slices, small_reference

from trainables.errors import DataError
from trainables.measures.evaluation import (
    PAIR_SEED,
    EvaluationConfig,
    compare_reconstructions,
    evaluate_generated,
    evaluate_reconstructions,
)
from trainables.measures.memorisation import nearest
from trainables.measures.reference import Reference, fid_and_kid, spread_over

CONFIG = EvaluationConfig(**SIZE)
ROOT = Path(__file__).parents[2]
USED = np.repeat([25, 15], [15, 5])
REMAINING = np.repeat([0.0, 0.15, 0.16], [15, 3, 2])


@pytest.fixture
def reference() -> Reference:
    return small_reference()


def measure(images: np.ndarray, reference: Reference, **extra: object) -> dict[str, float]:
    neighbours = nearest(images, slices(60, 1))
    return evaluate_generated(images, Shrunk().features(images), neighbours, reference, CONFIG, **extra)  # type: ignore[arg-type]


def test_generated_images_get_every_number_and_all_are_finite(reference: Reference) -> None:
    result = measure(slices(20, 5), reference, steps_used=USED, steps=25, seconds=40.0, remaining=REMAINING)
    against_real = {"fid", "fid_low", "fid_high", "kid", "kid_se", "kid_low", "kid_high"}
    against_real |= {"precision", "recall", "spectrum_distance", "swd"}
    assert set(result) == {f"gen/{name}" for name in against_real} | {
        f"gen/{name}_floor" for name in against_real
    } | {
        "gen/samples_floor",
        "gen/samples",
        "gen/reference_samples",
        "gen/diversity",
        "gen/diversity_real",
        "gen/diversity_bound",
        "gen/alike",
        "gen/alike_bound",
        "gen/ms_ssim",
        "gen/ms_ssim_real",
        "gen/high_frequency_share",
        "gen/high_frequency_share_real",
        "gen/memorisation",
        "gen/near_copies",
        "gen/near_copies_bound",
        "gen/steps_mean",
        "gen/stopped",
        "gen/unfinished",
        "gen/seconds_per_image",
        "gen/paper_ssim",
        "gen/paper_psnr",
        "gen/paper_ssim_sd",
        "gen/paper_psnr_sd",
    }
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for name in result:
        assert f"`{re.sub('(_(floor|real|low|high|se|sd|bound))+$', '', name)}`" in documented, name
    assert all(type(value) is float and math.isfinite(value) for value in result.values())
    assert (result["gen/samples"], result["gen/reference_samples"]) == (20, 40)
    assert (result["gen/steps_mean"], result["gen/stopped"], result["gen/seconds_per_image"]) == (22.5, 0.25, 2)
    assert result["gen/fid_floor"] == reference.floor["fid"]
    assert result["gen/kid_low"] < result["gen/kid"] < result["gen/kid_high"]
    assert result["gen/fid_low"] < result["gen/fid"] < result["gen/fid_high"]
    assert result["gen/unfinished"] == 0.1, "two of twenty are further than 0.15"
    again = measure(slices(20, 5), reference, steps_used=USED, steps=25, seconds=40.0, remaining=REMAINING)
    assert result == again


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
    assert (collapsed["gen/alike"], honest["gen/alike"]) == (1, 1 / 24)
    assert collapsed["gen/diversity_real"] == honest["gen/diversity_real"] > 0


@pytest.mark.parametrize("level", [0, 255])
def test_saturated_images_give_finite_numbers(reference: Reference, level: int) -> None:
    result = measure(np.full((8, 16, 16), level, np.uint8), reference)
    assert all(math.isfinite(value) for value in result.values())


def test_the_papers_pairs_are_of_many_subjects_and_have_a_spread(reference: Reference) -> None:
    result = measure(reference.images[:10], reference)
    assert result["gen/paper_ssim"] < 0.9, "generated slice i isn't paired with the real slice that stands at i"
    assert result["gen/paper_ssim_sd"] > 0
    assert result["gen/paper_psnr_sd"] > 0
    partners = spread_over(reference.subjects, np.random.default_rng(PAIR_SEED))[:10]
    assert len({reference.subjects[i] for i in partners}) == 10
    exact = measure(reference.images[partners], reference)
    assert exact["gen/paper_ssim"] == pytest.approx(1, abs=1e-6)
    assert (exact["gen/paper_psnr"], exact["gen/paper_psnr_sd"]) == (100, 0)


def test_a_score_on_the_way_is_the_same_distance_as_at_the_end(reference: Reference) -> None:
    images = slices(8, 5)
    scores = fid_and_kid(Shrunk().features(images), reference, bootstrap=CONFIG.bootstrap)
    result = measure(images, reference)
    assert scores == {name: result[f"gen/{name}"] for name in scores}


def test_too_few_or_mismatched_images_are_one_line_errors(reference: Reference) -> None:
    one, two = slices(1, 5), slices(2, 5)
    with pytest.raises(DataError, match="at least 2 images"):
        measure(one, reference)
    with pytest.raises(DataError, match="as many as their features"):
        evaluate_generated(two, Shrunk().features(one), nearest(two, two), reference, CONFIG)
    with pytest.raises(DataError, match="uint8"):
        evaluate_generated(two / 255, Shrunk().features(two), nearest(two, two), reference, CONFIG)


def test_the_reconstructions_of_a_perfect_autoencoder_score_the_floor(reference: Reference) -> None:
    images, perfect = reference.floor_images, reference.floor_features
    result = compare_reconstructions(images, perfect, reference, CONFIG)
    for name in ("fid", "kid", "precision", "recall", "spectrum_distance", "swd"):
        assert result[f"recon/{name}"] == pytest.approx(reference.floor[name])
    faded = images // 4
    worse = compare_reconstructions(faded, Shrunk().features(faded), reference, CONFIG)
    assert worse["recon/kid"] > result["recon/kid"] + 2 * result["recon/kid_se"]


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


@pytest.mark.slow
def test_reading_the_configuration_imports_no_torchmetrics() -> None:
    modules = "trainables.measures.evaluation, trainables.autoencoder.training"
    code = f"import sys, {modules}; assert 'torchmetrics' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0

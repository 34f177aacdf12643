"""Segmentation networks on real and generated slices: shares of patients, agreement by patient, copies left out."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from disc_dataset import disc
from PIL import Image

from trainables.errors import ConfigError, DataError
from trainables.loop.settings import Execution
from trainables.measures.downstream.arms import Labelled, compare_generated, compare_real, leave_out_copies
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC, measure_arms, scores_of
from trainables.measures.downstream.segmenter import segment, train_segmenter
from trainables.measures.downstream.settings import DownstreamConfig
from trainables.measures.memorisation import nearest
from trainables.measures.overlap import agree_by_patient, hausdorff_95
from trainables.recipes import SMOKE

CPU = torch.device("cpu")
TINY = DownstreamConfig(widths=(8, 16), steps=60, seeds=2, fractions=(0.25, 1.0), learning_rate=5e-3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    Execution(device="cpu", threads=1).prepare()


def discs(first: int, patients: int, each: int = 6) -> Labelled:
    """Slices with bright discs of so many patients."""
    pairs = [disc(number, 32) for number in range(first, first + patients * each)]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    return Labelled(images, np.where(masks, 255, 0).astype(np.uint8), [f"p{k // each}" for k in range(len(pairs))])


def square(side: int, top: int, left: int, size: int) -> np.ndarray:
    mask = np.zeros((1, side, side), np.uint8)
    mask[0, top : top + size, left : left + size] = 255
    return mask


def test_the_hausdorff_distance_of_a_shifted_mask_is_the_shift() -> None:
    one = square(32, 8, 8, 10)
    assert hausdorff_95(one, one) == 0
    assert hausdorff_95(one, square(32, 8, 11, 10)) == 3
    assert hausdorff_95(square(32, 8, 11, 10), one) == 3


def test_a_stray_pixel_does_not_make_the_hausdorff_distance() -> None:
    one = square(64, 10, 10, 20)
    stray = one.copy()
    stray[0, 60, 60] = 255
    assert hausdorff_95(one, stray) == 0


def test_distances_are_taken_within_a_slice_and_pooled_over_a_patients_slices() -> None:
    truth = np.concatenate([square(32, 8, 8, 10), square(32, 8, 8, 10)])
    found = np.concatenate([square(32, 8, 8, 10), square(32, 8, 12, 10)])
    assert hausdorff_95(truth, found) == 4
    assert hausdorff_95(truth, found[::-1]) == 4


def test_masks_without_lesion_have_stated_scores() -> None:
    empty, some = np.zeros((1, 32, 32), np.uint8), square(32, 8, 8, 10)
    truth, found = np.concatenate([empty, empty, some]), np.concatenate([empty, some, empty])
    agreed = agree_by_patient(truth, found, ["both", "invented", "missed"])
    assert agreed.patients == ("both", "invented", "missed")
    assert agreed.dice.tolist() == [1, 0, 0]
    assert agreed.hausdorff.tolist() == [0, math.hypot(32, 32), math.hypot(32, 32)]


def test_dice_is_of_all_slices_of_a_patient_together() -> None:
    truth = np.concatenate([square(32, 8, 8, 10), square(32, 8, 8, 2), square(32, 0, 0, 4)])
    found = np.concatenate([square(32, 8, 8, 10), square(32, 20, 20, 2), square(32, 0, 0, 4)])
    assert agree_by_patient(truth, found, ["a", "a", "b"]).dice.tolist() == [200 / 208, 1.0]


def test_a_larger_share_of_the_patients_holds_the_smaller_and_seeds_draw_others() -> None:
    real = discs(0, 20)
    quarter, half, whole = (real.of_some(share, 3) for share in (0.25, 0.5, 1.0))
    assert [len(set(each.patients)) for each in (quarter, half, whole)] == [5, 10, 20]
    assert set(quarter.patients) < set(half.patients)
    assert len(quarter) == 30, "all slices of a patient"
    assert set(real.of_some(0.25, 4).patients) != set(quarter.patients)
    assert len(set(real.of_some(0.01, 3).patients)) == 1


def test_a_network_learns_to_segment_and_is_the_same_again() -> None:
    training, held_out = discs(0, 6), discs(500, 2)
    networks = [train_segmenter(TINY, training.images, training.masks, seed=0, device=CPU) for _ in range(2)]
    found, again = (segment(network, held_out.images, CPU) for network in networks)
    assert agree_by_patient(held_out.masks, found, held_out.patients).dice.mean() > 0.8
    assert np.array_equal(found, again)
    assert set(np.unique(found)) == {0, 255}


def test_every_arm_has_a_row_for_each_share_and_seed_and_all_have_the_same_steps() -> None:
    real, held_out, short = discs(0, 8), discs(500, 3), TINY.replace(steps=2)
    rows = compare_real(short, real, held_out, CPU) + compare_generated(short, real, discs(900, 4), held_out, CPU)
    keys = [(row["arm"], row["fraction"], row["seed"], row["slices"]) for row in rows]
    assert keys == [
        *((REAL, share, seed, slices) for share, slices in ((0.25, 12), (1.0, 48)) for seed in (0, 1)),
        *((SYNTHETIC, 0.0, seed, 24) for seed in (0, 1)),
        *((BOTH, share, seed, slices) for share, slices in ((0.25, 36), (1.0, 72)) for seed in (0, 1)),
    ]
    assert scores_of(rows, BOTH, 0.25).shape == (2, 3)
    assert measure_arms(rows, drawn=24, copies=6)["gen/downstream_copies"] == 0.25


def brain_slices(folder: Path, patients: int) -> tuple[np.ndarray, list[str]]:
    """Four slices (N, 64, 64) of each of so many real patients, and whose each is."""
    images, names = [], []
    for path in sorted(folder.glob("*/*_flair.nii*"))[:patients]:
        volume = np.asarray(nibabel.load(path).dataobj, np.float32)
        lesions = np.asarray(nibabel.load(str(path).replace("_flair", "_seg")).dataobj).sum(axis=(0, 1))
        for place in np.linspace(*np.flatnonzero(lesions)[[0, -1]], 6).astype(int)[1:-1]:
            plane = np.clip(volume[:, :, place] / max(1.0, float(np.percentile(volume, 99.5))), 0, 1)
            images.append(np.asarray(Image.fromarray((255 * plane).astype(np.uint8)).resize((64, 64))))
            names.append(path.parent.name)
    return np.stack(images), names


@pytest.mark.slow
def test_planted_copies_are_left_out_and_slices_of_other_patients_are_not(test_data: Path) -> None:
    """At least 99 % of training slices, flipped, shifted by up to 3 pixels, under noise of 10 grey levels, and with
    all three, are left out; at most 1 % of other patients' slices."""
    images, names = brain_slices(test_data / "brats_masks", 48)
    of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    number = np.array([of[name] for name in names])
    training, held_out, others = (images[number % 3 == part] for part in range(3))
    random, null = np.random.default_rng(0), nearest(held_out, training).distances

    def shifted(slices: np.ndarray) -> np.ndarray:
        moves = random.integers(-3, 4, (len(slices), 2))
        return np.stack([np.roll(each, move, (0, 1)) for each, move in zip(slices, moves, strict=True)])

    def noisy(slices: np.ndarray) -> np.ndarray:
        return np.clip(slices + random.normal(0, 10, slices.shape), 0, 255).astype(np.uint8)

    flipped = training[:, :, ::-1]
    planted = np.concatenate([flipped, shifted(training), noisy(training), noisy(shifted(flipped))])
    real = Labelled(training, training)
    kept = len(
        leave_out_copies(Labelled(np.concatenate([planted, others]), np.concatenate([planted, others])), real, null)
    )
    alone = len(leave_out_copies(Labelled(others, others), real, null))
    assert alone >= 0.99 * len(others)
    assert kept - alone <= 0.01 * len(planted)


@pytest.mark.slow
def test_where_all_drawn_slices_are_copies_they_alone_find_no_lesion() -> None:
    real, held_out = discs(0, 4), discs(500, 3)
    kept = leave_out_copies(real, real, nearest(held_out.images, real.images).distances)
    assert len(kept) == 0
    rows = compare_real(TINY, real, held_out, CPU) + compare_generated(TINY, real, kept, held_out, CPU)
    assert (scores_of(rows, SYNTHETIC, 0.0) == 0).all()
    assert (scores_of(rows, BOTH, 1.0) == scores_of(rows, REAL, 1.0)).all()
    metrics = measure_arms(rows, drawn=24, copies=24)
    assert (metrics["gen/downstream_dice_loss"], metrics["gen/downstream_copies"]) == (1.0, 1.0)


def test_masks_of_another_size_and_no_slices_are_refused() -> None:
    images = np.zeros((3, 32, 32), np.uint8)
    for pictures, masks in ((images, images[:, :16, :16]), (images[:0], images[:0])):
        with pytest.raises(DataError, match="with a mask of their size each, at least one, got"):
            train_segmenter(TINY, pictures, masks, seed=0, device=CPU)


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.25, 1.0), (0.25, 0.25, 1.0)])
def test_shares_of_patients_end_with_all_of_them(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"downstream\.fractions must be ascending shares"):
        DownstreamConfig(fractions=fractions)


def test_a_recipe_without_masks_is_not_measured_so() -> None:
    with pytest.raises(ConfigError, match=r"needs data\.mask, since segmentation is learned of lesion masks"):
        SMOKE.replace(**{"downstream.measured": True})


def test_the_section_is_in_no_identity_where_nothing_is_measured_by_it() -> None:
    masks = SMOKE.replace(**{"data.mask": True, "downstream.steps": 7})
    assert "downstream" not in masks.identity()
    measured = masks.replace(**{"downstream.measured": True}).identity()["downstream"]
    assert measured["steps"] == 7
    assert "measured" not in measured

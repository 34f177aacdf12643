"""What generated slices are worth as training data: known answers, intervals, and the sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from disc_dataset import disc
from downstream import pool

from latentsweep.ablation.page.downstream import sentence, table
from latentsweep.ablation.statistics.downstream import Estimate, Usefulness, estimate_mean, estimate_ratio
from trainables.loop.settings import Execution
from trainables.measures.downstream.arms import Labelled, compare_generated, compare_real
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC
from trainables.measures.downstream.settings import DownstreamConfig

CPU = torch.device("cpu")
TINY = DownstreamConfig(widths=(8, 16), steps=30, seeds=2, fractions=(0.25, 1.0), learning_rate=5e-3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    Execution(device="cpu", threads=1).prepare()


def discs(first: int, patients: int, each: int = 5) -> Labelled:
    pairs = [disc(number, 32) for number in range(first, first + patients * each)]
    images, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    names = [f"p{number // each}" for number in range(len(pairs))]
    return Labelled(images, np.where(masks, 255, 0).astype(np.uint8), names)


def compared(generated: Labelled) -> Usefulness:
    """What it is worth beside the real slices of eight patients, on five others."""
    real, held_out = discs(0, 8), discs(500, 5)
    rows = compare_real(TINY, real, held_out, CPU) + compare_generated(TINY, real, generated, held_out, CPU)
    return Usefulness.of({"rows": rows, "drawn": len(generated), "copies": 0})


@pytest.mark.slow
def test_real_slices_under_another_name_reach_all_of_the_real_dice() -> None:
    real, order = discs(0, 8), np.random.default_rng(0).permutation(40)
    found = compared(Labelled(real.images[order], real.masks[order]))
    assert found.ratio is not None
    assert found.ratio.low is not None
    assert found.ratio.high is not None
    assert found.ratio.low <= 1 <= found.ratio.high
    assert found.ratio.value == pytest.approx(1, abs=0.15)


@pytest.mark.slow
def test_noise_reaches_nothing() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 32, 32)).astype(np.uint8)
    masks = np.where(random.random((40, 32, 32)) < 0.1, 255, 0).astype(np.uint8)
    found = compared(Labelled(images, masks))
    assert found.ratio is not None
    assert found.ratio.value < 0.1


def rows(scores: dict[tuple[str, float], np.ndarray]) -> list[dict[str, Any]]:
    """The rows of networks with these scores (S, G), by arm and share."""
    return [
        {"arm": arm, "fraction": share, "seed": seed, "slices": 10, "dice": own.tolist(), "hausdorff": own.tolist()}
        for (arm, share), each in scores.items()
        for seed, own in enumerate(each)
    ]


def summary(gain: Sequence[float], alone: float = 0.6) -> dict[str, Any]:
    """A comparison of three seeds and eight patients, whose gains at a quarter are ``gain`` (8,)."""
    real = np.linspace(0.6, 0.8, 8) + np.array([[-0.01], [0.0], [0.01]])
    scores = {
        (REAL, 0.25): real - 0.2,
        (REAL, 1.0): real,
        (SYNTHETIC, 0.0): alone * real / 0.7,
        (BOTH, 0.25): real - 0.2 + np.asarray(gain),
        (BOTH, 1.0): real,
    }
    return {"rows": rows(scores), "drawn": 50, "copies": 3}


def test_a_gain_whose_interval_leaves_out_0_is_told_as_one() -> None:
    found = Usefulness.of(summary([0.09, 0.1, 0.11, 0.1, 0.12, 0.1, 0.08, 0.1]))
    assert found.gains[0.25].value == pytest.approx(0.1)
    said = sentence(found)
    assert said.startswith("Generated slices alone reach 0.86 [")
    assert "adding them to 25% of the patients gains 0.100 [0.0" in said
    assert said.endswith("3 of 50 generated slices were near copies and were left out.")


def test_a_loss_is_told_by_its_size_and_what_cannot_be_told_is_said() -> None:
    lost = sentence(Usefulness.of(summary([-0.09, -0.1, -0.11, -0.1, -0.12, -0.1, -0.08, -0.1])))
    assert "loses 0.100 [0.0" in lost
    unclear = sentence(Usefulness.of(summary([0.3, -0.3, 0.1, -0.1, 0.2, -0.15, 0.05, -0.05])))
    assert "can't tell" in unclear


def test_every_arm_stands_in_the_table_with_its_interval() -> None:
    shown = table(Usefulness.of(summary([0.1] * 8)))
    assert [row.name for row in shown.rows].count("real and generated slices") == 2
    assert shown.rows[2].cells[0] == "none"
    assert all("[" in row.cells[2] for row in shown.rows)


def test_folds_are_judged_by_all_their_patients_together() -> None:
    folds = [summary([0.1] * 8), summary([0.2] * 8)]
    found = Usefulness.of(pool(folds))
    assert (found.seeds, found.patients, found.drawn, found.copies) == (3, 16, 100, 6)
    assert found.gains[0.25].value == pytest.approx(0.15)


def test_a_single_patient_has_no_interval() -> None:
    scores = np.array([[0.5], [0.6]])
    assert estimate_mean(scores) == Estimate(pytest.approx(0.55))
    assert estimate_ratio(scores, scores) == Estimate(1.0)


def test_a_real_dice_of_0_leaves_no_ratio() -> None:
    nothing = np.zeros((2, 4))
    same = {(REAL, 1.0): nothing, (SYNTHETIC, 0.0): nothing, (BOTH, 1.0): nothing}
    found = Usefulness.of({"rows": rows(same), "drawn": 5, "copies": 0})
    assert found.ratio is None
    assert "there is no share of it to reach" in sentence(found)
    assert found.gains[1.0] == Estimate(0.0, 0.0, 0.0)


def test_intervals_hold_the_truth_where_seeds_and_patients_differ() -> None:
    """Three seeds and ten patients: of 300 comparisons, the intervals of a ratio of 0.8 and of a gain of 0.05 hold it
    in at least 93 %."""
    random, held = np.random.default_rng(0), [0, 0]
    for _ in range(300):
        patients = random.normal(0.7, 0.1, 10)
        noise = random.normal(0, 0.02, (2, 3, 1)) + random.normal(0, 0.03, (2, 3, 10))
        real, alone = patients + noise[0], 0.8 * patients + random.normal(0, 0.04, 10) + noise[1]
        ratio, gain = estimate_ratio(alone, real), estimate_mean(alone - 0.8 * real + 0.05)
        for place, (found, truth) in enumerate(((ratio, 0.8), (gain, 0.05))):
            assert found.low is not None
            assert found.high is not None
            held[place] += found.low <= truth <= found.high
    assert min(held) >= 0.93 * 300, held

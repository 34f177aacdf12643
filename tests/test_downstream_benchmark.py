"""The study of segmentation networks: folds are pooled, and lesions are compared with what is around them."""

from __future__ import annotations

import numpy as np
from downstream import brighter_shares, pool


def test_a_bright_lesion_a_dark_one_and_none_are_told_apart() -> None:
    images = np.full((4, 16, 16), 100, dtype=np.uint8)
    masks = np.zeros_like(images)
    masks[:3, 6:10, 6:10] = 255
    images[0, 6:10, 6:10] = 200
    images[1, 6:10, 6:10] = 50
    images[2, 6:8, 6:10] = 200
    shares = brighter_shares(images, masks)
    assert shares[:3].tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(shares[3])


def test_the_background_is_no_surround() -> None:
    images = np.zeros((1, 16, 16), dtype=np.uint8)
    images[0, :, :8] = 150
    masks = np.zeros_like(images)
    masks[0, 6:10, 4:8] = 255
    images[0, 6:10, 4:8] = 100
    assert brighter_shares(images, masks).tolist() == [0.0]


def test_the_patients_of_all_folds_are_judged_together() -> None:
    def fold(dice: list[float]) -> dict[str, object]:
        row = {"arm": "real", "fraction": 1.0, "seed": 0, "slices": 10 * len(dice), "dice": dice, "hausdorff": dice}
        return {"rows": [row], "drawn": 5, "copies": 1}

    pooled = pool([fold([0.5, 0.6]), fold([0.7])])
    assert pooled["rows"] == [
        {
            "arm": "real",
            "fraction": 1.0,
            "seed": 0,
            "slices": 15.0,
            "dice": [0.5, 0.6, 0.7],
            "hausdorff": [0.5, 0.6, 0.7],
        }
    ]
    assert (pooled["drawn"], pooled["copies"]) == (10, 2)

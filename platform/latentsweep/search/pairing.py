"""How far apart two configurations of a sweep are for sure: the error of the difference of their KIDs, paired.

Configurations of a sweep share the real slices and the noise, image i of each begins with the same seed. Much of what
moves one score moves the other with it, so the error of the difference is far below the errors of the two.

Legend: N generated images, G subjects of the real slices, k the kernel of KID, all values ×1000.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PAIRING = "pairing"
"""The attribute of a trial, and the entry of a point, that :meth:`Pairing.to_plain` is kept in."""

IMAGES, SUBJECTS = "kernel_by_image", "kernel_by_subject"
"""Where the point of an evaluation has the two, not multiplied by 1000 (``stages/evaluation.py``)."""


@dataclass(frozen=True, eq=False)
class Pairing:
    """What pairing needs of one configuration."""

    images: Floats
    """(N,): for each image the mean of k over the other images less the mean of k over the real slices."""
    sums: Floats
    """(G,): for each subject the sum over its slices of the mean of k over the images."""
    sizes: Floats
    """(G,): how many slices each subject has."""
    shared: str = ""
    """Which real slices and which noise; two configurations are paired only where both have the same."""

    @classmethod
    def of(cls, point: Mapping[str, Any], shared: str) -> Self | None:
        """From a point of an evaluation's summary, subjects in the order of their names; None of an older one."""
        if IMAGES not in point:
            return None
        subjects = np.array([value for _, value in sorted(point[SUBJECTS].items())], dtype=np.float64)
        return cls(1000 * np.asarray(point[IMAGES], np.float64), 1000 * subjects[:, 0], subjects[:, 1], shared)

    def to_plain(self) -> dict[str, str]:
        """The same as short texts for the study, without a subject's name; two decimals, as KID is shown with one."""
        values = {"images": self.images, "sums": self.sums}
        texts = {name: " ".join(f"{value:.2f}" for value in each) for name, each in values.items()}
        return {**texts, "sizes": " ".join(f"{size:.0f}" for size in self.sizes), "shared": self.shared}

    @classmethod
    def from_plain(cls, plain: Mapping[str, str] | None) -> Self | None:
        """Reads :meth:`to_plain`; None of None."""
        if plain is None:
            return None
        images, sums, sizes = (np.array(plain[name].split(), np.float64) for name in ("images", "sums", "sizes"))
        return cls(images, sums, sizes, plain["shared"])

    def matches(self, other: Pairing) -> bool:
        """Whether both have the same real slices and noise, and subjects enough to say how those differ."""
        return (
            self.shared == other.shared
            and len(self.images) == len(other.images) > 1
            and len(self.sizes) > 1
            and np.array_equal(self.sizes, other.sizes)
        )


def paired_error(first: Pairing | None, second: Pairing | None) -> float | None:
    """Standard error of the difference of two KIDs (×1000) between draws of subjects and of images; None where one
    is not known, or they don't match.

    KID is A + B − 2C, the mean kernels among the images, among the real slices, and between both. B is the same for
    both configurations. To first order image i moves KID by 2(hᵢ − mean h)/N and subject g by −2(S_g − n_g C)/Σn,
    with h = ``images``, S = ``sums`` and n = ``sizes``, and of two configurations the difference of these counts. The
    sum of their squares is the variance of a joint bootstrap of subjects and image indices (Efron and Tibshirani
    1993, the infinitesimal jackknife), without the noise of its resamples. Two factors free it of a bias in small
    numbers: N/(N − 1), and 1/(1 − 2Σp³/Σp² + Σp²) with the subjects' shares p = n/Σn, which is G/(G − 1) for subjects
    of one size: what the spread around a mean of a few subjects lacks, whose slices are alike.

    Against the spread over draws of both, on Inception features of 865 real slices and 10 or 20 subjects: 0.96 to 1.0
    of it where the configurations differ, 1.2 where they are the same but for chance. On made-up features with eight
    skewed subjects of unequal size it is 0.83. It doesn't cover another seed of the training.
    """
    if first is None or second is None or not first.matches(second):
        return None
    images = first.images - second.images
    sums, sizes = first.sums - second.sums, first.sizes
    share = sizes / sizes.sum()
    subjects = (sums - share * sums.sum()) / sizes.sum()
    square = (share**2).sum()
    by_image = images.var(ddof=1) / len(images)
    by_subject = (subjects**2).sum() / (1 - 2 * (share**3).sum() / square + square)
    return 2 * math.sqrt(float(by_image + by_subject))

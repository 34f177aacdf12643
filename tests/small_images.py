"""Small slices, their subjects, and a stand-in for the Inception network."""

from __future__ import annotations

import numpy as np

from trainables.measures.reference import Reference, build_reference

SIZE = {"samples": 24, "bootstrap": 20}


class Shrunk:
    """The image reduced to 4×4, in place of Inception features."""

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


def small_reference() -> Reference:
    return build_reference(slices(40, 0), named(40, "v"), slices(60, 1), named(60, "t"), Shrunk(), **SIZE, seed=0)

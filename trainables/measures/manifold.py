"""Precision (fidelity) and recall (coverage) of generated features against real ones.

Legend: n real and m generated images, d features (2048 for Inception).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.errors import ConfigError, DataError
from trainables.measures.distances import Features, checked_features

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 3
"""Neighbours that span a manifold: the choice of Kynkäänniemi et al. 2019, section 2."""


def precision_recall(real: Features, generated: Features, *, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of generated images on the real manifold, and of real images on the generated one; each 0 to 1.

    Improved precision and recall (Kynkäänniemi et al. 2019, equations 1 and 2). The manifold of a set is the union of
    the balls around its features that reach to their ``neighbours``-th nearest neighbour in the set. Both depend on n
    and m: compare values of the same numbers, and with those of two real sets. Raises :class:`DataError` for no more
    than ``neighbours`` images on a side, features that are not finite, or different d, and :class:`ConfigError` for
    fewer than 1 neighbour.
    """
    from scipy.spatial.distance import cdist

    if neighbours < 1:
        raise ConfigError(f"precision and recall need at least 1 neighbour, got {neighbours}")
    first, second = checked_features(real, generated, "precision and recall")
    if min(len(first), len(second)) <= neighbours:
        raise DataError(
            f"precision and recall with {neighbours} neighbours need at least {neighbours + 1} images on each side, "
            f"got {len(first)} and {len(second)}: give more images"
        )
    between = cdist(first, second)  # from differences, so that equal features are at 0 exactly
    radii_first, radii_second = (_radii(rows, neighbours) for rows in (first, second))
    precision = np.mean((between <= radii_first[:, None]).any(axis=0))
    recall = np.mean((between <= radii_second[None, :]).any(axis=1))
    return float(precision), float(recall)


def _radii(rows: Floats, neighbours: int) -> Floats:
    """Distance (n,) of each of ``rows`` (n, d) to its ``neighbours``-th nearest other one.

    Inner products tell which others are near, many times faster than differences; the distance is of differences.
    """
    lengths = np.sum(rows**2, axis=1)
    near = lengths - 2 * rows @ rows.T  # squared distances, less what a row has in common
    np.fill_diagonal(near, np.inf)
    order = np.argpartition(near, neighbours - 1, axis=1)[:, :neighbours]
    squares = [np.sum((rows[i] - rows[others]) ** 2, axis=1).max() for i, others in enumerate(order)]
    return np.sqrt(squares)

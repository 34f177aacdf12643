"""Drawn slices without near copies of training slices, and how near all of them come to these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latentsweep.stages.model_folder import Drawn
from trainables.errors import DataError
from trainables.measures.memorisation import near_copy_bound, near_copy_threshold, nearest

MOST_DRAWN = 4
"""Slices that are drawn at most for each that is asked for."""
CHUNK = 256
"""Slices that are drawn and compared at once."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CleanSamples:
    """N slices that are no near copies, in the order of their seeds, among the D that were drawn."""

    drawn: Drawn
    """The N slices, with their masks where the model draws them."""
    seeds: list[int]
    """(N,)."""
    distances: np.ndarray
    """(D,), from each drawn slice to its nearest training slice: see :func:`~.memorisation.nearest`."""
    null: np.ndarray
    """(n,), the same of held-out real slices."""

    @property
    def limit(self) -> float:
        """The distance up to which a slice is a near copy."""
        return near_copy_threshold(self.null)

    @property
    def kept(self) -> np.ndarray:
        """The distances (N,) of the slices that are no near copies."""
        return self.distances[self.distances > self.limit]

    @property
    def left_out(self) -> int:
        """How many near copies were drawn."""
        return len(self.distances) - len(self.seeds)

    @property
    def explained(self) -> int:
        """The most near copies among D slices that chance explains."""
        return round(near_copy_bound(self.null, len(self.distances)) * len(self.distances))


def draw_clean(
    draw: Callable[[Sequence[int]], Drawn],
    training: np.ndarray,
    null: np.ndarray,
    count: int,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> CleanSamples:
    """Draws by the seeds from ``seed`` on until ``count`` slices are no near copies of ``training`` (M, S, S) uint8.

    It ends at the latest after :data:`MOST_DRAWN` times as many. ``null`` (n,) are the distances of held-out real
    slices, ``draw`` gives the slices of some seeds, and ``progress`` is called with (slices found, ``count``). Raises
    :class:`DataError` where every slice is a near copy, and where there are no held-out slices.
    """
    limit = near_copy_threshold(null)
    parts: list[Drawn] = []
    seeds: list[int] = []
    distances: list[float] = []
    while len(seeds) < count and len(distances) < MOST_DRAWN * count:
        start = seed + len(distances)
        some = range(start, start + min(count - len(seeds), MOST_DRAWN * count - len(distances), CHUNK))
        images, masks = draw(some)
        found = nearest(images, training).distances
        clean = found > limit
        parts.append(Drawn(images[clean], None if masks is None else masks[clean]))
        seeds += [each for each, apart in zip(some, clean, strict=True) if apart]
        distances += found.tolist()
        if progress:
            progress(len(seeds), count)
    if not seeds:
        raise DataError(
            f"a release needs slices that copy no training slice, and all {len(distances)} that were drawn are near "
            "copies; release another model"
        )
    masked = [part.masks for part in parts if part.masks is not None]
    images = np.concatenate([part.images for part in parts])
    return CleanSamples(Drawn(images, np.concatenate(masked) if masked else None), seeds, np.asarray(distances), null)

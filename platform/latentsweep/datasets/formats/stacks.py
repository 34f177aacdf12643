"""Files of slices → volumes, each slice axial and already the right way up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from latentsweep.datasets.formats.limits import MAX_VOXELS, TOO_MANY_VOXELS
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import DISPLAY_AFFINE, Float, Volume


def stack_files(paths: Sequence[Path], read: Callable[[Path], Float]) -> tuple[list[Volume], list[Reject]]:
    """The volumes of what ``read`` gives of each file, and a reject for each file of which it gives none.

    Slices (rows, columns) of one size are a volume, in the given order; a stack (N, rows, columns) is one by itself.
    """
    planes: dict[tuple[int, ...], list[Float]] = defaultdict(list)
    stacks: list[Float] = []
    rejects: list[Reject] = []
    pixels = 0
    for path in paths:
        try:
            found = read(path)
            if pixels + found.size > MAX_VOXELS:
                raise Reject(TOO_MANY_VOXELS, broken=False)
            pixels += found.size
            if found.ndim == 2:
                planes[found.shape].append(found)
            else:
                stacks.append(found)
        except Reject as reject:
            rejects.append(reject)
    stacks += [np.stack(group) for _, group in sorted(planes.items())]
    return [Volume(stack.transpose(2, 1, 0), DISPLAY_AFFINE) for stack in stacks], rejects

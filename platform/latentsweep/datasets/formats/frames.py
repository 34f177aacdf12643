"""Frames, which are single images that know their place → volumes. Geometry is PS3.3 section C.7.6.2."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.formats.series import SeriesFacts, is_scattered, part_by_place
from latentsweep.datasets.volumes import DISPLAY_AFFINE, Float, Volume, fill_background

MAX_GAP = 1.5
"""Slices of a sagittal or coronal series may lie this many times the usual distance apart, no more."""
SAME_DIRECTION = 0.02
"""Parts of the unit vectors of one orientation differ by no more."""


@dataclass(frozen=True)
class Frame:
    """One image: ``pixels`` (rows, columns) float32 rescaled, NaN where there is none; its place, or None."""

    pixels: Float
    facts: SeriesFacts
    number: float
    position: npt.NDArray[np.float64] | None
    orientation: npt.NDArray[np.float64] | None
    spacing: tuple[float, float]


def families(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames that can be stacked: of one series, contrast and matrix, and of about one orientation."""
    orientations: list[npt.NDArray[np.float64]] = []

    def plane(frame: Frame) -> int:
        if frame.orientation is None:
            return -1
        for known, orientation in enumerate(orientations):
            if np.abs(orientation - frame.orientation).max() <= SAME_DIRECTION:
                return known
        orientations.append(frame.orientation)
        return len(orientations) - 1

    groups: dict[tuple[Any, ...], dict[str, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        groups[frame.facts.contrast, frame.pixels.shape, plane(frame)][frame.facts.uid].append(frame)
    families: list[list[Frame]] = []
    for by_uid in groups.values():
        together = [frame for family in by_uid.values() for frame in family]
        places = [None if frame.position is None else tuple(np.round(frame.position, 3)) for frame in together]
        scattered = is_scattered([frame.facts.uid for frame in together], places)
        families += [together] if scattered else list(by_uid.values())
    return sorted(families, key=lambda family: family[0].facts.uid)


def part_frames(frames: Sequence[Frame]) -> tuple[list[list[Frame]], int]:
    """The frames of a family by the volume that they are of, and how many are copies of others at their place."""
    frames = sorted(frames, key=lambda frame: frame.number)
    places = _places(frames)
    if places is None:
        return [frames], 0
    kept: list[tuple[Frame, float]] = []
    for frame, place in zip(frames, np.round(places, 3).tolist(), strict=True):
        if not any(
            place == other and np.array_equal(frame.pixels, before.pixels, equal_nan=True) for before, other in kept
        ):
            kept.append((frame, place))
    parts = part_by_place([frame for frame, _ in kept], [place for _, place in kept])
    return parts, len(frames) - len(kept)


def stack_frames(frames: Sequence[Frame]) -> Volume:
    """The frames of one volume, sorted along the slice normal.

    Without usable positions the order is that of the instance numbers, feet first. Without an orientation the
    images are taken to be axial as displayed.
    """
    frames = sorted(frames, key=lambda frame: frame.number)
    row_mm, column_mm = frames[0].spacing
    directions = frames[0].orientation
    places = _places(frames)
    step = 1.0
    if places is not None:
        _, first = np.unique(np.round(places, 3), return_index=True)
        frames, places = [frames[i] for i in first], places[first]
        gaps = np.diff(places)
        step = float(np.median(gaps)) if len(gaps) else 1.0
    if directions is None:
        affine = DISPLAY_AFFINE @ np.diag([column_mm, row_mm, step, 1.0])
    else:
        along_row, along_column = directions[:3], directions[3:]
        normal = np.cross(along_row, along_column)
        if np.argmax(np.abs(normal)) != 2 and (places is None or np.any(np.diff(places) > MAX_GAP * step)):
            raise Reject("a sagittal or coronal series with gaps, which cannot be reformatted to axial", broken=False)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([along_row * column_mm, along_column * row_mm, normal * step], axis=1)
        affine[:2] *= -1  # DICOM's axes run to the left and posterior, RAS+ to the right and anterior
    voxels = fill_background(np.stack([frame.pixels for frame in frames]).transpose(2, 1, 0))
    return Volume(voxels, affine, told=directions is not None)


def _places(frames: Sequence[Frame]) -> npt.NDArray[np.float64] | None:
    """Each frame's distance along the slice normal in mm; None where not all of them tell, or all tell the same."""
    orientation = frames[0].orientation
    normal = np.array([0.0, 0.0, 1.0]) if orientation is None else np.cross(orientation[:3], orientation[3:])
    positions = [frame.position for frame in frames if frame.position is not None]
    if len(positions) < len(frames):
        return None
    places = np.array([float(position @ normal) for position in positions])
    if len(np.unique(np.round(places, 3))) == 1 and len(frames) > 1:
        return None
    return places

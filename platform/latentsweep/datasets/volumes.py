"""Volumes → axial 8-bit slices: canonical axes, robust intensity window, square bicubic resize.

Legend: a volume is (X, Y, Z) float32 in any intensity unit with a (4, 4) affine from voxels to RAS+ millimetres;
a slice is (S, S) uint8, anterior up, the patient's left on the viewer's right (the radiological convention).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel.orientations
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from latentsweep.datasets.formats.reject import Reject as Reject

Float = npt.NDArray[np.float32]

# nibabel's functions carry no types
io_orientation: Any = nibabel.orientations.io_orientation
apply_orientation: Any = nibabel.orientations.apply_orientation

DISPLAY_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Columns run to the patient's left and rows to the posterior: the affine of a picture, and of a DICOM image
that does not tell its orientation."""

LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
BACKGROUND_SHARE = 0.25
"""A value that fills this share of a volume, and most of its border, is its background."""
MIN_BRAIN_SHARE, BRAIN_LEVEL = 0.05, 25
"""A slice is kept when this share of its pixels is brighter than BRAIN_LEVEL of 255."""
MIN_SIDE = 32
"""Axial slices need this many voxels along their shorter side."""
MAX_ASPECT = 3.0
"""The voxels of axial slices may be at most this many times longer than wide."""
MIN_SPACING, MAX_SPACING = 1e-6, 1e6
"""A voxel's sides in mm; beyond, the header is wrong."""
WRONG_SPACING = f"voxels of a side outside {MIN_SPACING:g} to {MAX_SPACING:g} mm"

WINDOW_RULE = (
    f"percentiles {LOW_PERCENTILE} and {HIGH_PERCENTILE} of the volume's voxels that are not its constant "
    "background (without one: low of all voxels, high of those above the mean) to 0 and 255, clipped"
)
BRAIN_RULE = f"kept when at least {MIN_BRAIN_SHARE:.0%} of the pixels are brighter than {BRAIN_LEVEL} of 255"


@dataclass(frozen=True)
class Volume:
    """A scan: ``voxels`` (X, Y, Z) float32, ``affine`` (4, 4) from voxel indices to RAS+ millimetres."""

    voxels: Float
    affine: npt.NDArray[np.float64]
    told: bool = True
    """Whether its file tells how it lies. What does not is taken for axial."""


def fill_background(voxels: Float) -> Float:
    """The voxels with 0 in place of NaN, or with their least where that is below 0."""
    missing = np.isnan(voxels)
    if missing.any():
        voxels[missing] = voxels.min(initial=0.0, where=~missing)
    return voxels


def slices_of(volume: Volume, size: int) -> tuple[list[tuple[int, npt.NDArray[np.uint8]]], int]:
    """The (index from the feet up, (size, size) uint8) pairs that hold enough brain, and how many do not.

    Raises :class:`Reject` for a volume with no usable axial slices or no contrast.
    """
    planes, (row_mm, column_mm) = axial_planes(volume)
    planes = apply_window(planes)
    kept: list[tuple[int, npt.NDArray[np.uint8]]] = []
    for index, plane in enumerate(planes):
        if not np.any(plane > BRAIN_LEVEL):
            continue
        image = fit_square(plane, row_mm, column_mm, size)
        if np.mean(image > BRAIN_LEVEL) >= MIN_BRAIN_SHARE:
            kept.append((index, image))
    return kept, len(planes) - len(kept)


def plane_of(volume: Volume) -> str:
    """In which plane the slices of a volume were stored, in words."""
    orientation = io_orientation(volume.affine) if np.all(np.isfinite(volume.affine)) else np.full((3, 2), np.nan)
    if np.any(np.isnan(orientation)):
        return "unknown, taken for axial"
    if not volume.told or np.array_equal(volume.affine, DISPLAY_AFFINE):
        return "taken for axial"
    across = ("sagittal", "coronal", "axial")[int(orientation[2, 0])]
    return across if across == "axial" else f"{across}, cut axially"


def axial_planes(volume: Volume) -> tuple[Float, tuple[float, float]]:
    """The volume as (Z, rows, columns), anterior up, left on the right, with a pixel's (height, width) in mm.

    The axes are permuted and flipped to the closest canonical ones; nothing is interpolated. A series acquired
    in another plane is thereby reformatted, or refused where that would give a strip or a blur.
    """
    if not np.all(np.isfinite(volume.voxels)):
        raise Reject("the voxels are not all finite numbers", broken=True)
    affine = volume.affine if np.all(np.isfinite(volume.affine)) else DISPLAY_AFFINE
    if np.abs(affine[:3, :3]).max() > MAX_SPACING:
        raise Reject(WRONG_SPACING, broken=False)
    orientation = io_orientation(affine)
    if np.any(np.isnan(orientation)):
        affine, orientation = DISPLAY_AFFINE, io_orientation(DISPLAY_AFFINE)
    canonical = apply_orientation(volume.voxels, orientation)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = np.ones(3)
    spacing[orientation[:, 0].astype(int)] = np.where(lengths > 0, lengths, 1.0)
    width, height, _ = canonical.shape
    if not np.all((spacing > MIN_SPACING) & (spacing < MAX_SPACING)):
        raise Reject(WRONG_SPACING, broken=False)
    aspect = max(spacing[0], spacing[1]) / min(spacing[0], spacing[1])
    if min(width, height) < MIN_SIDE or aspect > MAX_ASPECT:
        if int(orientation[2, 0]) != 2:
            raise Reject("a sagittal or coronal series with too few slices to be reformatted to axial", broken=False)
        raise Reject(
            f"axial slices of fewer than {MIN_SIDE} pixels a side or of pixels more than {MAX_ASPECT:g} times "
            "longer than wide",
            broken=False,
        )
    planes = np.ascontiguousarray(canonical[::-1, ::-1, :].transpose(2, 1, 0), dtype=np.float32)
    return planes, (float(spacing[1]), float(spacing[0]))


def apply_window(planes: Float) -> Float:
    """Intensities mapped from the volume's robust percentiles to 0..255 (see ``WINDOW_RULE``), float32.

    A constant background becomes 0 even where the tissue has lower values, as in standardised volumes.
    """
    border = np.concatenate([planes[:, [0, -1], :].ravel(), planes[:, :, [0, -1]].ravel()])
    values, counts = np.unique(border, return_counts=True)
    background = values[np.argmax(counts)]
    tissue = planes != background
    constant = 1.0 - tissue.mean() >= BACKGROUND_SHARE
    if not tissue.any():
        raise Reject("the volume is blank", broken=False)
    if constant:
        low, high = np.percentile(planes[tissue], [LOW_PERCENTILE, HIGH_PERCENTILE], overwrite_input=True)
    else:
        low = np.percentile(planes, LOW_PERCENTILE)
        high = np.percentile(planes[planes >= planes.mean()], HIGH_PERCENTILE, overwrite_input=True)
    if not high > low:
        raise Reject("the volume has no contrast", broken=False)
    scaled: Float = np.empty_like(planes)
    wide = np.empty(planes.shape[1:], np.result_type(planes, low))  # float64 of one plane at a time
    for plane, mapped in zip(planes, scaled, strict=True):
        np.subtract(plane, low, out=wide)
        np.multiply(wide, 255.0 / (high - low), out=wide)
        np.clip(wide, 0, 255, out=mapped)
    if constant and background > low:
        outside = ~np.stack([ndimage.binary_fill_holes(plane) for plane in tissue])
        scaled[outside] = 0
    return scaled


def fit_square(
    plane: Float,
    row_mm: float,
    column_mm: float,
    size: int,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> npt.NDArray[np.uint8]:
    """A (rows, columns) plane of 0..255 as a (size, size) uint8 slice: in true proportions, padded with 0."""
    height_mm, width_mm = plane.shape[0] * row_mm, plane.shape[1] * column_mm
    scale = size / max(height_mm, width_mm)
    height, width = max(1, round(height_mm * scale)), max(1, round(width_mm * scale))
    resized = np.asarray(Image.fromarray(plane).resize((width, height), resampling))
    top, left = (size - height) // 2, (size - width) // 2
    image = np.zeros((size, size), np.uint8)
    image[top : top + height, left : left + width] = np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return image

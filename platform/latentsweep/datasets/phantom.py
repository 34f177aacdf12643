"""Phantom patients for the ``demo`` dataset: an atlas brain, deformed, given FLAIR contrast, lesions and noise.

The atlas is the MNI ICBM152 T1 with its grey- and white-matter maps (Fonov et al., 2009), which nilearn carries.
Everything derives from (seed, subject number). Legend: (X, Y, Z) in RAS+ order, lengths in millimetres.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from latentsweep.datasets.volumes import Float, Volume
from trainables.errors import DataError

SUBJECTS = 40
SLICES = 18
SEED = 42
PLANE_SIDE, PLANE_MM = 150, 1.5
SLICE_MM = 5.0
LOWEST_MM, CENTRE_MM = -26.0, np.array([0.0, -18.0, 8.0])
"""MNI heights of the lowest slice, and of the centre of rotation and scaling."""
FLUID, GREY, WHITE = 90.0, 560.0, 430.0
"""FLAIR-like signal of cerebrospinal fluid, grey and white matter, of 1000."""


def phantom(number: int, seed: int = SEED) -> Volume:
    """The skull-stripped FLAIR-like volume of one made-up patient, (150, 150, 18) float32 in 0..about 1200."""
    rng = np.random.default_rng([seed, number])
    t1, grey, white, to_voxels = atlas()
    shape = (PLANE_SIDE, PLANE_SIDE, SLICES)
    here = _grid(shape, LOWEST_MM + rng.uniform(-4, 4))
    there = _deform(here, rng)
    index = np.tensordot(to_voxels[:3, :3], there, axes=1) + to_voxels[:3, 3].reshape(3, 1, 1, 1)
    t1, grey, white = (ndimage.map_coordinates(m, index, order=1, mode="constant") for m in (t1, grey, white))
    brain = ndimage.binary_fill_holes(grey + white + (t1 > 0.15) > 0.5)
    signal = _contrast(t1, grey, white, brain, rng)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        signal = _add_lesion(signal, white, here, rng)
    signal *= np.exp(_smooth_field(shape, (3, 3, 2), rng) * 0.12)
    sigma = rng.uniform(12, 30)
    noisy = np.hypot(signal + rng.normal(0, sigma, shape), rng.normal(0, sigma, shape))
    voxels = np.where(brain, noisy, 0).astype(np.float32)
    affine = np.diag([PLANE_MM, PLANE_MM, SLICE_MM, 1.0])
    return Volume(voxels, affine)


@functools.cache
def atlas() -> tuple[Float, Float, Float, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """T1, grey and white matter, each 0..1 at 1 mm, and the affine from MNI millimetres to voxels.

    Raises :class:`DataError` where nilearn, whose files these are, is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    folders = spec.submodule_search_locations if spec else None
    folder = Path(next(iter(folders or ()), ""), "datasets", "data")
    maps = []
    for tissue in ("t1", "gm", "wm"):
        path = folder / f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
        if not path.is_file():
            raise DataError("the demo needs the MNI152 atlas that comes with nilearn: `pip install nilearn`")
        image: Any = nib.load(path)
        data = np.asarray(image.dataobj, dtype=np.float32)
        maps.append(data / data.max())
    return maps[0], maps[1], maps[2], np.linalg.inv(image.affine)


def _grid(shape: tuple[int, int, int], lowest: float) -> Float:
    """(3, X, Y, Z): the millimetres of each voxel, centred on the brain in the plane."""
    axes = [(np.arange(side) - (side - 1) / 2) * PLANE_MM for side in shape[:2]]
    heights = lowest + np.arange(shape[2]) * SLICE_MM
    grid = np.stack(np.meshgrid(axes[0] + CENTRE_MM[0], axes[1] + CENTRE_MM[1], heights, indexing="ij"))
    return grid.astype(np.float32)


def _deform(here: Float, rng: np.random.Generator) -> Float:
    """Where each voxel takes its tissue from: a small rotation, scaling and shear, then a smooth warp."""
    linear = np.diag(rng.normal(1, 0.04, 3)) + rng.normal(0, 0.025, (3, 3))
    centre = CENTRE_MM.reshape(3, 1, 1, 1)
    moved = np.tensordot(linear, here - centre, axes=1) + centre + rng.normal(0, 2, (3, 1, 1, 1))
    warp = np.stack([_smooth_field(here.shape[1:], (7, 7, 5), rng) * 3.5 for _ in range(3)])
    return np.asarray(moved + warp, dtype=np.float32)


def _contrast(t1: Float, grey: Float, white: Float, brain: Float, rng: np.random.Generator) -> Float:
    """Tissue fractions to FLAIR-like signal; the T1's own detail keeps the tissues from being flat."""
    fluid = np.clip(1 - grey - white, 0, 1)
    levels = np.array([FLUID, GREY, WHITE]) * rng.normal(1, 0.06, 3)
    signal = levels[0] * fluid + levels[1] * grey + levels[2] * white
    detail = t1 - ndimage.gaussian_filter(t1, (2, 2, 0.6))
    signal -= 260 * detail * brain
    texture = ndimage.gaussian_filter(rng.normal(size=t1.shape), (1.2, 1.2, 0.3))
    return np.asarray(np.clip(signal + 45 * texture, 0, None), dtype=np.float32)


def _add_lesion(signal: Float, white: Float, here: Float, rng: np.random.Generator) -> Float:
    """A bright, ragged lesion in the white matter with a soft oedema, and sometimes a dark core."""
    sites = np.argwhere(white > 0.8)
    site = here[(slice(None), *sites[rng.integers(len(sites))])].reshape(3, 1, 1, 1)
    radius = rng.uniform(4, 17)
    stretch = rng.uniform(0.7, 1.4, 3).reshape(3, 1, 1, 1)
    distance = np.sqrt((((here - site) / stretch) ** 2).sum(axis=0)) / radius
    distance += _smooth_field(signal.shape, (12, 12, 6), rng) * 0.22
    weight = 1 / (1 + np.exp((distance - 1) * 9))
    if radius > 10 and rng.random() < 0.6:
        weight -= 0.75 / (1 + np.exp((distance - rng.uniform(0.35, 0.55)) * 14))
    return np.asarray(signal + weight * (rng.uniform(750, 950) - signal), dtype=np.float32)


def _smooth_field(shape: tuple[int, ...], knots: tuple[int, int, int], rng: np.random.Generator) -> Float:
    """A smooth random field of about unit spread: cubic splines through normal knots."""
    coarse = rng.normal(size=knots)
    axes = [np.linspace(0, knot - 1, side) for knot, side in zip(knots, shape, strict=True)]
    for axis, places in enumerate(axes):
        weights = ndimage.map_coordinates(
            np.eye(knots[axis]),
            np.stack(np.meshgrid(np.arange(knots[axis]), places, indexing="ij")),
            order=min(3, knots[axis] - 1),
            mode="nearest",
        )
        coarse = np.moveaxis(np.tensordot(coarse, weights, axes=(axis, 0)), -1, axis)
    return np.asarray(coarse, dtype=np.float32)

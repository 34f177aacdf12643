"""A made-up head, and writers that put it into NIfTI, DICOM and PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIDE = 48


@pytest.fixture
def head() -> Callable[..., np.ndarray]:
    """``head(seed)``: (X, Y, Z) uint16 in RAS+ order, an ellipsoid with one bright block anterior on the right."""

    def make(seed: int = 0, depth: int = 6) -> np.ndarray:
        x, y, z = np.meshgrid(*(np.linspace(-1, 1, side) for side in (SIDE, SIDE, depth)), indexing="ij")
        inside = x**2 / 0.5 + y**2 / 0.75 + z**2 / 4 < 1
        voxels = np.where(inside, np.random.default_rng(seed).integers(100, 600, x.shape), 0)
        voxels[30:34, 34:38] = 900
        return voxels.astype(np.uint16)

    return make


@pytest.fixture
def write_nifti() -> Callable[..., Path]:
    def write(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
        return path

    return write


@pytest.fixture
def write_dicom() -> Callable[..., None]:
    """``write(folder, voxels, plane=…, **tags)``: a series of the RAS+ volume, 1 mm voxels, in file order 1, 2, …

    A tag given as None is left out; ``order`` reverses or shuffles which slice gets which file.
    """

    def write(folder: Path, voxels: np.ndarray, plane: str = "axial", order: Any = None, **tags: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        lps = voxels[::-1, ::-1]  # x to the left, y to the posterior
        axes = {"axial": (2, 0, 1), "sagittal": (0, 1, 2), "coronal": (1, 0, 2)}[plane]
        slices = np.transpose(lps, axes)  # (slice, columns, rows)
        down = 1.0 if plane == "axial" else -1.0
        for file, k in enumerate(range(len(slices)) if order is None else order, start=1):
            pixels = slices[k].T
            along_row, along_column, step = np.zeros(3), np.zeros(3), np.zeros(3)
            along_row[axes[1]], along_column[axes[2]], step[axes[0]] = 1, down, 1
            corner = step * k
            if down < 0:
                pixels = pixels[::-1]
                corner = corner + np.array([0, 0, voxels.shape[2] - 1])
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            meta.MediaStorageSOPClassUID = MRImageStorage
            meta.MediaStorageSOPInstanceUID = generate_uid()
            image = pydicom.Dataset()
            image.file_meta = meta
            image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
            image.PatientID, image.SeriesInstanceUID, image.InstanceNumber = "SECRET-1", series, file
            image.ImagePositionPatient = corner.tolist()
            image.ImageOrientationPatient = [*along_row.tolist(), *along_column.tolist()]
            image.PixelSpacing = [1.0, 1.0]
            image.Rows, image.Columns = pixels.shape
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
            image.PixelData = np.ascontiguousarray(pixels, dtype=np.uint16).tobytes()
            for tag, value in tags.items():
                if value is None:
                    del image[tag]
                else:
                    setattr(image, tag, value(file) if callable(value) else value)
            image.save_as(folder / f"Image-{file}.dcm", enforce_file_format=True)

    return write

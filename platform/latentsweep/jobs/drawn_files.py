"""Drawn slices as files: PNG, NIfTI, DICOM; with their lesion masks, and the masks' outlines over the slices.

Rows of a slice run from front to back, and columns from the patient's right to the left, as in prepared slices.
Slices of different seeds are of no common patient, so that each is a volume of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentsweep.jobs.image_folder import GRID
from latentsweep.stages.model_folder import Drawn
from trainables.errors import ConfigError
from trainables.figures import image_grid, outlined

MASKS, OVERLAYS = "masks", "overlays"
"""The folders of the PNGs of masks and of outlines, beside the images, which ``evaluate --images`` takes alone."""
MADE = "Synthetic: drawn by a generative model, latentsweep; of no patient"
SPACINGS = (0.01, 100.0)

Write = Callable[[Path, Drawn, Sequence[str], float], list[str]]


def write_drawn(
    folder: Path, drawn: Drawn, seeds: Sequence[int], formats: Sequence[str] = (), spacing: float = 1.0
) -> list[str]:
    """A PNG for each seed and ``grid.png``; where there are masks, also of each and of its outline over the slice.

    ``formats`` (keys of :data:`FORMATS`) are written, too, with pixels of ``spacing`` millimetres. Returns the names
    of the files within ``folder``. Raises :class:`ConfigError` for a spacing that can't be.
    """
    if not SPACINGS[0] <= spacing <= SPACINGS[1]:
        raise ConfigError(f"--spacing must be {SPACINGS[0]:g} to {SPACINGS[1]:g} mm, got {spacing:g}")
    stems = [f"seed-{seed:06d}" for seed in seeds]
    overlays = outlined(*drawn)
    pictures = (
        {"": drawn.images} if drawn.masks is None else {"": drawn.images, MASKS: drawn.masks, OVERLAYS: overlays}
    )
    files = [name for part, images in pictures.items() for name in _write_pngs(folder, part, images, stems)]
    image_grid(overlays).save(folder / GRID)
    return [*files, GRID, *(name for each in formats for name in FORMATS[each](folder, drawn, stems, spacing))]


def _write_pngs(folder: Path, part: str, images: np.ndarray, stems: Sequence[str]) -> list[str]:
    (folder / part).mkdir(exist_ok=True)
    names = [str(Path(part, f"{stem}.png")) for stem in stems]
    for name, image in zip(names, images, strict=True):
        Image.fromarray(image).save(folder / name)
    return names


def _write_nifti(folder: Path, drawn: Drawn, stems: Sequence[str], spacing: float) -> list[str]:
    """``nifti/seed-000000.nii.gz``, (S, S, 1) uint8 in RAS millimetres around the centre of the slice.

    Its mask of 0 and 1 is ``nifti/seed-000000_mask.nii.gz``, which ``data prepare`` finds by that name.
    """
    import nibabel

    made: Any = nibabel.nifti1.Nifti1Image  # which carries no types
    (folder / "nifti").mkdir(exist_ok=True)
    middle = spacing * (drawn.images.shape[-1] - 1) / 2
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:2, 3] = middle
    names = []
    for suffix, pixels in (("", drawn.images), ("_mask", _ones(drawn.masks))):
        for stem, image in zip(stems, () if pixels is None else pixels, strict=pixels is not None):
            volume = made(np.ascontiguousarray(image.T[..., None]), affine)
            volume.header.set_xyzt_units("mm")
            volume.header["descrip"] = MADE.encode()
            names.append(f"nifti/{stem}{suffix}.nii.gz")
            nibabel.save(volume, folder / names[-1])
    return names


def _ones(masks: np.ndarray | None) -> np.ndarray | None:
    return None if masks is None else (masks > 0).astype(np.uint8)


def _write_dicom(folder: Path, drawn: Drawn, stems: Sequence[str], spacing: float) -> list[str]:
    """``dicom/seed-000000.dcm``, and its mask as ``dicom/seed-000000-mask.dcm``, in another series of its study.

    They are Secondary Capture images with ImageType DERIVED\\SECONDARY, Synthetic Data (0008,001C) YES and Conversion
    Type SYN. Each slice has a study of its own, all UIDs are new, and no element names a patient.
    """
    from pydicom.uid import generate_uid

    (folder / "dicom").mkdir(exist_ok=True)
    names = []
    for place, stem in enumerate(stems):
        study, frame = generate_uid(), generate_uid()
        parts = [("", "synthetic slice", drawn.images)]
        parts += [] if drawn.masks is None else [("-mask", "synthetic lesion mask", drawn.masks)]
        for number, (suffix, title, pixels) in enumerate(parts, start=1):
            names.append(f"dicom/{stem}{suffix}.dcm")
            _save_dicom(folder / names[-1], pixels[place], f"{title}, {stem}", (study, frame), number, spacing)
    return names


def _save_dicom(
    path: Path, pixels: np.ndarray, title: str, shared: tuple[str, str], series: int, spacing: float
) -> None:
    from pydicom import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid()
    file.StudyInstanceUID, file.FrameOfReferenceUID = shared
    file.SeriesInstanceUID = generate_uid()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"):
        setattr(file, keyword, "")  # the standard asks for these, and lets them be empty
    for keyword in ("StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        setattr(file, keyword, "")
    file.ImageType, file.SyntheticData, file.ConversionType = ["DERIVED", "SECONDARY"], "YES", "SYN"
    file.DerivationDescription, file.SeriesDescription = MADE, title
    file.Modality, file.Manufacturer, file.BurnedInAnnotation = "OT", "latentsweep", "NO"
    file.SeriesNumber, file.InstanceNumber = series, 1
    file.PatientOrientation = ["L", "P"]
    side = spacing * (pixels.shape[0] - 1) / 2
    file.PixelSpacing = [spacing, spacing]
    file.ImageOrientationPatient, file.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-side, -side, 0]
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.WindowCenter, file.WindowWidth = 128, 256
    file.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    file.save_as(path, enforce_file_format=True)


FORMATS: dict[str, Write] = {"nifti": _write_nifti, "dicom": _write_dicom}
"""What a slice can be written as beside a PNG, by the option that asks for it."""

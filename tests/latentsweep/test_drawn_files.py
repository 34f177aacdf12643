"""What ``sample`` writes: PNGs, NIfTI and DICOM of slices and masks, which are read again as they were."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from disc_dataset import disc
from PIL import Image

from latentsweep.datasets.formats.readers import READERS
from latentsweep.datasets.volumes import axial_planes
from latentsweep.jobs.drawn_files import FORMATS, write_drawn
from latentsweep.jobs.image_folder import read_images
from latentsweep.stages.model_folder import Drawn
from trainables.errors import ConfigError

SEEDS = (1, 2, 3)
SIDE = 33


@pytest.fixture
def drawn() -> Drawn:
    pairs = [disc(seed, SIDE) for seed in SEEDS]
    return Drawn(np.stack([image for image, _ in pairs]), np.stack([np.uint8(255) * (mask > 0) for _, mask in pairs]))


def test_images_masks_and_overlays_are_pictures_in_their_folders(tmp_path: Path, drawn: Drawn) -> None:
    files = write_drawn(tmp_path, drawn, SEEDS)
    assert files == [
        *(f"{part}seed-{seed:06d}.png" for part in ("", "masks/", "overlays/") for seed in SEEDS),
        "grid.png",
    ]
    assert np.array_equal(read_images(tmp_path), drawn.images), "what is measured are the images alone"
    assert drawn.masks is not None
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks/seed-000001.png")), drawn.masks[0])
    overlay = np.asarray(Image.open(tmp_path / "overlays/seed-000001.png"))
    changed = (overlay != drawn.images[0][..., None]).any(axis=2)
    assert changed.any()
    assert (drawn.masks[0][changed] == 255).all(), "the outline is of pixels of the lesion"


def test_a_model_without_masks_gives_images_and_a_grey_grid(tmp_path: Path, drawn: Drawn) -> None:
    files = write_drawn(tmp_path, Drawn(drawn.images), SEEDS, list(FORMATS))
    assert len(files) == 3 * len(SEEDS) + 1
    assert Image.open(tmp_path / "grid.png").mode == "L"
    assert not [file for file in files if "mask" in file]


def test_a_nifti_slice_is_read_again_as_it_was_drawn(tmp_path: Path, drawn: Drawn) -> None:
    write_drawn(tmp_path, drawn, SEEDS, ["nifti"], 1.5)
    (volume,), rejects = READERS["nifti"].read([tmp_path / "nifti/seed-000002.nii.gz"])
    assert not rejects
    planes, spacing = axial_planes(volume)
    assert spacing == pytest.approx((1.5, 1.5))
    assert np.array_equal(np.squeeze(np.asarray(planes)), drawn.images[1])


def test_a_nifti_mask_lies_on_its_slice_with_values_0_and_1(tmp_path: Path, drawn: Drawn) -> None:
    write_drawn(tmp_path, drawn, SEEDS, ["nifti"], 2.0)
    image, mask = (nibabel.load(tmp_path / f"nifti/seed-000001{name}.nii.gz") for name in ("", "_mask"))
    assert image.shape == mask.shape == (SIDE, SIDE, 1)
    assert np.array_equal(image.affine, mask.affine)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert set(np.unique(mask.get_fdata())) == {0, 1}
    assert b"Synthetic" in image.header["descrip"].tobytes()


def test_a_dicom_file_says_that_it_is_synthetic_and_names_no_patient(tmp_path: Path, drawn: Drawn) -> None:
    write_drawn(tmp_path, drawn, SEEDS, ["dicom"])
    files = [pydicom.dcmread(path) for path in sorted((tmp_path / "dicom").iterdir())]
    assert len(files) == 2 * len(SEEDS)
    assert not READERS["dicom"].read([tmp_path / "dicom/seed-000002.dcm"])[0], "nobody prepares it as a scan"
    images = [pydicom.dcmread(tmp_path / f"dicom/seed-{seed:06d}.dcm").pixel_array for seed in SEEDS]
    assert np.array_equal(images, drawn.images)
    for file in files:
        assert list(file.ImageType) == ["DERIVED", "SECONDARY"]
        assert file[0x0008, 0x001C].value == "YES"
        assert file.ConversionType == "SYN"
        assert not any(file.get(name) for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate"))
        assert file.pixel_array.shape == (SIDE, SIDE)
    assert len({file.SOPInstanceUID for file in files}) == len({file.SeriesInstanceUID for file in files}) == 6
    assert len({file.StudyInstanceUID for file in files}) == len(SEEDS), "a mask is of its slice's study"


def test_a_spacing_that_cannot_be_is_refused(tmp_path: Path, drawn: Drawn) -> None:
    for spacing in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="--spacing must be"):
            write_drawn(tmp_path, drawn, SEEDS, ["nifti"], spacing)
    assert not list(tmp_path.iterdir())

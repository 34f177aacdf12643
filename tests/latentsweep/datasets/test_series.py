import numpy as np
import pytest
from pydicom.uid import generate_uid

from latentsweep.datasets.formats.dicom import dicom_volumes


def read(*folders):
    return dicom_volumes([path for folder in folders for path in sorted(folder.iterdir())])


def depths(volumes):
    return sorted(volume.voxels.shape[2] for volume in volumes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"EchoTime": 20.0}, {"EchoTime": 90.0}),
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
        ({"SeriesNumber": 3}, {"SeriesNumber": 5}),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}),
    ],
)
def test_images_of_one_series_and_two_contrasts_are_two_volumes(tmp_path, head, write_dicom, one, other):
    write_dicom(tmp_path / "a", head(1), SeriesInstanceUID="1.2.3", **one)
    write_dicom(tmp_path / "b", head(2), SeriesInstanceUID="1.2.3", **other)
    volumes, rejects = read(tmp_path / "a", tmp_path / "b")
    assert (depths(volumes), rejects) == ([6, 6], [])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "a mosaic, whose tiles"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screenshot"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a screenshot"),
        ({"Modality": "OT"}, "a screenshot"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "a map that was computed"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "a projection"),
    ],
)
def test_what_is_no_slice_of_a_scan_is_left_out_with_its_reason(tmp_path, head, write_dicom, tags, reason):
    write_dicom(tmp_path / "a", head())
    write_dicom(tmp_path / "b", head(1, depth=2), **tags)
    volumes, rejects = read(tmp_path / "a", tmp_path / "b")
    assert depths(volumes) == [6]
    assert [reject.reason.startswith(reason) and not reject.broken for reject in rejects] == [True, True]


def test_a_series_whose_uid_differs_in_every_file_is_one_volume(tmp_path, head, write_dicom):
    write_dicom(tmp_path, head(), SeriesInstanceUID=lambda file: generate_uid())
    volumes, rejects = read(tmp_path)
    assert (depths(volumes), rejects) == ([6], [])


def test_two_images_at_each_position_are_two_volumes_in_the_order_of_their_numbers(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "a", head(1), SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "b", head(2), SeriesInstanceUID="1.2.3", InstanceNumber=lambda file: 6 + file)
    volumes, rejects = read(tmp_path / "a", tmp_path / "b")
    assert (depths(volumes), rejects) == ([6, 6], [])
    for seed, volume in zip((1, 2), volumes, strict=True):
        np.testing.assert_array_equal(np.sort(volume.voxels, axis=None), np.sort(head(seed), axis=None))


def test_a_position_with_more_images_than_the_others_keeps_its_first(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "a", head(1), SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "b", head(2, depth=2), SeriesInstanceUID="1.2.3")
    volumes, rejects = read(tmp_path / "a", tmp_path / "b")
    assert depths(volumes) == [6]
    assert {reject.reason for reject in rejects} == {"a second image at the same position of a series"}


def test_copies_of_images_are_dropped_with_a_reason(tmp_path, head, write_dicom):
    for folder in ("a", "b"):
        write_dicom(tmp_path / folder, head(), SeriesInstanceUID="1.2.3")
    volumes, rejects = read(tmp_path / "a", tmp_path / "b")
    assert depths(volumes) == [6]
    assert [reject.reason for reject in rejects] == ["a copy of another image of its series"] * 6


def test_orientations_that_differ_by_a_rounding_are_one_volume(tmp_path, head, write_dicom):
    tilts = [0.00499, 0.00501] * 3
    write_dicom(tmp_path, head(), ImageOrientationPatient=lambda file: [1, 0, 0, 0, 1, tilts[file - 1]])
    volumes, rejects = read(tmp_path)
    assert (depths(volumes), rejects) == ([6], [])

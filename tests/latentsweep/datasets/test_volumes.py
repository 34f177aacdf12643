import struct

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.formats.nifti import read_nifti
from latentsweep.datasets.formats.pictures import picture_volumes, read_picture
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import (
    DISPLAY_AFFINE,
    Volume,
    apply_window,
    axial_planes,
    fit_square,
    plane_of,
    slices_of,
)


def shown(voxels):
    """What a viewer must see of a RAS+ volume: (Z, rows, columns), anterior up, left on the right."""
    return voxels[::-1, ::-1].transpose(2, 1, 0)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_nifti_in_any_orientation_is_shown_the_same_way(tmp_path, head, write_nifti, flips, axes):
    import nibabel as nib

    voxels = head(depth=40)
    image = nib.Nifti1Image(voxels, np.eye(4))
    wanted = np.stack([np.array(axes), np.array(flips)], axis=1)
    turned = image.as_reoriented(wanted)
    path = write_nifti(tmp_path / "scan.nii.gz", np.asarray(turned.dataobj), turned.affine)
    np.testing.assert_array_equal(axial_planes(read_nifti(path))[0], shown(voxels))


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_a_dicom_series_of_any_plane_and_file_order_is_shown_the_same_way(tmp_path, head, write_dicom, plane):
    voxels = head(depth=40)
    count = {"axial": 40, "sagittal": 48, "coronal": 48}[plane]
    order = np.random.default_rng(0).permutation(count).tolist()
    write_dicom(tmp_path, voxels, plane=plane, order=order)
    volumes, rejects = dicom_volumes(sorted(tmp_path.iterdir()))
    assert rejects == []
    np.testing.assert_array_equal(axial_planes(volumes[0])[0], shown(voxels))


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_a_thin_sagittal_or_coronal_series_is_refused(tmp_path, head, write_dicom, plane):
    write_dicom(tmp_path, head(depth=40), plane=plane)
    files = sorted(tmp_path.iterdir())
    few = [path for path in files if int(path.stem.split("-")[1]) <= 8]
    [volume], _ = dicom_volumes(few)
    with pytest.raises(Reject, match="sagittal or coronal"):
        axial_planes(volume)


def test_a_sagittal_series_with_gaps_is_refused(tmp_path, head, write_dicom):
    write_dicom(tmp_path, head(depth=40), plane="sagittal")
    (tmp_path / "Image-20.dcm").unlink()
    volumes, rejects = dicom_volumes(sorted(tmp_path.iterdir()))
    assert volumes == []
    assert {reject.reason for reject in rejects} == {
        "a sagittal or coronal series with gaps, which cannot be reformatted to axial"
    }


def test_an_axial_series_with_gaps_is_taken_as_it_is(tmp_path, head, write_dicom):
    voxels = head(depth=6)
    write_dicom(tmp_path, voxels)
    (tmp_path / "Image-3.dcm").unlink()
    [volume], rejects = dicom_volumes(sorted(tmp_path.iterdir()))
    assert rejects == []
    np.testing.assert_array_equal(axial_planes(volume)[0], np.delete(shown(voxels), 2, axis=0))


def test_a_series_without_places_is_ordered_by_instance_number(tmp_path, head, write_dicom):
    voxels = head(depth=12)
    write_dicom(tmp_path, voxels, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    [volume], _ = dicom_volumes(sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(axial_planes(volume)[0], shown(voxels))


def test_missing_tags_and_constant_positions_do_no_harm(tmp_path, head, write_dicom):
    voxels = head(depth=12)
    bare = {"PatientID": None, "SeriesInstanceUID": None, "InstanceNumber": None}
    write_dicom(tmp_path, voxels, ImagePositionPatient=[0, 0, 0], **bare)
    [volume], rejects = dicom_volumes(sorted(tmp_path.iterdir()))
    assert rejects == []
    np.testing.assert_array_equal(axial_planes(volume)[0], shown(voxels))


def test_slope_and_intercept_of_each_slice_are_applied(tmp_path, head, write_dicom):
    voxels = head()
    write_dicom(tmp_path, voxels, RescaleSlope=lambda file: file, RescaleIntercept=-5)
    [volume], _ = dicom_volumes(sorted(tmp_path.iterdir()))
    factors = np.arange(1, 7).reshape(-1, 1, 1)
    np.testing.assert_array_equal(axial_planes(volume)[0], shown(voxels).astype(float) * factors - 5)


def test_a_slope_of_zero_is_none(tmp_path, head, write_dicom):
    write_dicom(tmp_path, head(), RescaleSlope=0)
    [volume], _ = dicom_volumes(sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(axial_planes(volume)[0], shown(head()))


@pytest.mark.parametrize(("written", "named"), [("a.nii", "b.nii.gz"), ("a.nii.gz", "b.nii")])
def test_a_nifti_is_unzipped_by_its_first_bytes_and_not_by_its_name(tmp_path, head, write_nifti, written, named):
    path = write_nifti(tmp_path / written, head()).rename(tmp_path / named)
    np.testing.assert_array_equal(axial_planes(read_nifti(path))[0], shown(head()))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_channel_of_a_nifti_is_the_volume_of_that_channel(tmp_path, head, write_nifti, name):
    path = write_nifti(tmp_path / name, np.stack([head(n) for n in range(3)], axis=3))
    for channel in range(3):
        np.testing.assert_array_equal(read_nifti(path, channel).voxels, head(channel))


@pytest.mark.parametrize(
    ("channel", "told"),
    [(None, "4 dimensions where 3 are needed: prepare"), (3, "without the"), (-1, "without the")],
)
def test_a_nifti_of_channels_needs_one_that_it_has(tmp_path, head, write_nifti, channel, told):
    path = write_nifti(tmp_path / "a.nii", np.stack([head(n) for n in range(3)], axis=3))
    with pytest.raises(Reject, match=told) as caught:
        read_nifti(path, channel)
    assert not caught.value.broken


@pytest.mark.parametrize(("place", "value"), [(108, 0.0), (116, np.nan)])
def test_an_offset_of_0_and_an_intercept_that_is_no_number_are_none(tmp_path, head, write_nifti, place, value):
    path = write_nifti(tmp_path / "a.nii", head().astype(np.int16))
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(1).tobytes()
    content[place : place + 4] = np.float32(value).tobytes()
    path.write_bytes(content)
    np.testing.assert_array_equal(read_nifti(path).voxels, head())


def test_monochrome1_is_inverted(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "one", head())
    write_dicom(tmp_path / "other", 4095 - head(), PhotometricInterpretation="MONOCHROME1")
    images = [slices_of(dicom_volumes(sorted((tmp_path / f).iterdir()))[0][0], 64)[0] for f in ("one", "other")]
    assert len(images[0]) == 6
    for (_, one), (_, other) in zip(*images, strict=True):
        np.testing.assert_allclose(one.astype(int), other.astype(int), atol=1)


def test_two_series_in_one_folder_are_two_volumes(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "a", head(1))
    write_dicom(tmp_path / "b", head(2, depth=9))
    volumes, _ = dicom_volumes([*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()])
    assert sorted(volume.voxels.shape[2] for volume in volumes) == [6, 9]


def test_the_window_ignores_outliers_and_the_background():
    planes = np.zeros((4, 64, 64), np.float32)
    planes[:, 16:48, 16:48] = np.random.default_rng(0).uniform(400, 600, (4, 32, 32))
    planes[0, 20, 20] = 1e6
    scaled = apply_window(planes)
    assert scaled[:, :16].max() == 0
    assert 120 < np.median(scaled[:, 16:48, 16:48]) < 135
    assert scaled.max() == 255


def test_a_standardised_volume_keeps_a_black_background_and_its_zeros_inside():
    planes = np.zeros((4, 64, 64), np.float32)
    planes[:, 16:48, 16:48] = np.random.default_rng(0).normal(0, 1, (4, 32, 32))
    planes[:, 30, 30] = 0
    scaled = apply_window(planes)
    assert scaled[:, :16].max() == 0
    assert 100 < scaled[0, 30, 30] < 155


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite_are_broken(head, value):
    voxels = head().astype(np.float32)
    voxels[0, 0, 0] = value
    with pytest.raises(Reject, match="finite") as caught:
        axial_planes(Volume(voxels, DISPLAY_AFFINE))
    assert caught.value.broken


def test_a_slice_keeps_its_proportions_in_the_middle_of_a_square():
    image = fit_square(np.full((40, 40), 200, np.float32), row_mm=1.0, column_mm=0.5, size=64)
    assert image.shape == (64, 64)
    assert np.all(image[:, 16:48] == 200)
    assert image[:, :16].max() == image[:, 48:].max() == 0


def test_slices_with_too_little_brain_are_dropped_and_keep_their_index(head):
    voxels = head()
    voxels[:, :, 0] = 0
    kept, dropped = slices_of(Volume(voxels.astype(np.float32), np.eye(4)), 64)
    assert dropped == 1
    assert [index for index, _ in kept] == [1, 2, 3, 4, 5]


def test_a_picture_is_shown_as_it_is(tmp_path, head):
    plane = shown(head())[0].astype(np.uint8)
    Image.fromarray(plane).save(tmp_path / "a.png")
    [volume], _ = picture_volumes([tmp_path / "a.png"])
    np.testing.assert_array_equal(axial_planes(volume)[0][0], plane)


def test_a_16_bit_png_keeps_all_its_bits(tmp_path):
    plane = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 15
    Image.fromarray(plane).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), plane)


@pytest.mark.parametrize(("opacity", "grey"), [(255, 76), (0, 0)])
def test_colours_become_luminance_and_what_is_transparent_is_black(tmp_path, opacity, grey):
    Image.new("RGBA", (40, 40), (255, 0, 0, opacity)).save(tmp_path / "red.png")
    assert np.unique(read_picture(tmp_path / "red.png")) == [grey]


def test_a_file_that_is_no_picture_is_broken(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(Reject, match="not a readable picture"):
        read_picture(tmp_path / "a.png")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (4097, 4097)).save(tmp_path / "large.png")
    with pytest.raises(Reject, match="4096×4096"):
        read_picture(tmp_path / "large.png")


def test_a_nifti_of_too_many_voxels_is_refused_by_its_header(tmp_path, head, write_nifti):
    path = write_nifti(tmp_path / "scan.nii", head())
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([4096, 4096, 4096], "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(Reject, match="more than 134,217,728 voxels"):
        read_nifti(path)


def test_a_dicom_of_too_many_pixels_is_refused_by_its_header(tmp_path, head, write_dicom):
    write_dicom(tmp_path, head(depth=1), Rows=60000, Columns=60000)
    volumes, [reject] = dicom_volumes(sorted(tmp_path.iterdir()))
    assert volumes == []
    assert "4096×4096" in reject.reason


def test_the_plane_of_a_volume_is_told_also_where_it_is_not_known():
    voxels = np.zeros((2, 2, 2), np.float32)
    sagittal, unknown = np.eye(4)[[2, 0, 1, 3]], np.full((4, 4), np.nan)
    planes = [plane_of(Volume(voxels, affine)) for affine in (np.eye(4), sagittal, DISPLAY_AFFINE, unknown)]
    assert planes == ["axial", "sagittal, cut axially", "taken for axial", "unknown, taken for axial"]


def test_a_gzip_whose_checksum_is_wrong_is_broken(tmp_path, head, write_nifti):
    path = write_nifti(tmp_path / "scan.nii.gz", head())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(Reject, match="cut short or damaged") as caught:
        read_nifti(path)
    assert caught.value.broken


@pytest.mark.parametrize(("least", "background"), [(0.0, 0.0), (50.0, 0.0), (-3.0, -3.0)])
def test_voxels_that_are_nan_are_background(tmp_path, least, background, write_nifti):
    voxels = np.linspace(least, 900, 4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    voxels[1] = np.nan
    read = read_nifti(write_nifti(tmp_path / "scan.nii.gz", voxels)).voxels
    np.testing.assert_array_equal(read[1], background)
    np.testing.assert_array_equal(np.delete(read, 1, axis=0), np.delete(voxels, 1, axis=0))


def test_a_quaternion_that_rounding_made_too_long_is_read(tmp_path, head):
    image = nib.Nifti1Image(head(), None)
    image.set_qform(np.diag([-1.0, -1, 1, 1]), code=1)
    image.header["sform_code"] = 0
    nib.save(image, tmp_path / "exact.nii")
    content = bytearray((tmp_path / "exact.nii").read_bytes())
    content[256:268] = struct.pack("<3f", 0.00002, 0, 1.00001)  # quatern_b, c and d
    (tmp_path / "rounded.nii").write_bytes(content)
    exact, rounded = (read_nifti(tmp_path / f"{name}.nii").affine for name in ("exact", "rounded"))
    np.testing.assert_allclose(rounded, exact, atol=1e-3)


@pytest.mark.parametrize("empty", [0.0, np.nan])
def test_an_sform_that_is_none_leaves_the_qform(tmp_path, head, empty):
    image = nib.Nifti1Image(head(), np.diag([1.0, 1, 2, 1]))
    image.set_qform(np.diag([1.0, 1, 2, 1]), code=1)
    nib.save(image, tmp_path / "whole.nii")
    content = bytearray((tmp_path / "whole.nii").read_bytes())
    content[280:328] = np.full(12, empty, "<f4").tobytes()  # srow_x, y and z
    (tmp_path / "empty.nii").write_bytes(content)
    whole, without = (read_nifti(tmp_path / f"{name}.nii") for name in ("whole", "empty"))
    assert without.told
    np.testing.assert_allclose(without.affine, whole.affine)


@pytest.mark.parametrize(
    ("padding", "tags"),
    [
        (1000, {"PixelPaddingValue": 1000}),
        (1000, {"PixelPaddingValue": 990, "PixelPaddingRangeLimit": 1010}),
        (1000, {"PixelPaddingValue": 1010, "PixelPaddingRangeLimit": 990}),
        (1000, {"PixelPaddingValue": 1000, "RescaleSlope": 3, "RescaleIntercept": -20}),
        (-2000, {"PixelPaddingValue": -2000, "PixelRepresentation": 1}),
        (-2000, {"PixelPaddingValue": 2096, "PixelRepresentation": 1}),
        (4000, {"PixelPaddingValue": -96}),
    ],
)
def test_padding_is_background(tmp_path, head, write_dicom, padding, tags):
    voxels = head()
    write_dicom(tmp_path / "plain", voxels, **{tag: tags[tag] for tag in tags if "Padding" not in tag})
    ring = np.zeros(voxels.shape, bool)
    ring[:6] = ring[:, :6] = ring[-6:] = ring[:, -6:] = True
    padded = np.where(ring & (voxels == 0), padding & 0xFFF, voxels).astype(np.uint16)
    write_dicom(tmp_path / "padded", padded)
    for path in (tmp_path / "padded").iterdir():
        image = pydicom.dcmread(path)
        for tag, value in tags.items():
            vr = ("SS" if value < 0 else "US") if "Padding" in tag else pydicom.datadict.dictionary_VR(tag)
            image.add_new(tag, vr, value)
        image.save_as(path)
    plain, other = (
        slices_of(dicom_volumes(sorted((tmp_path / folder).iterdir()))[0][0], 64)[0] for folder in ("plain", "padded")
    )
    assert len(plain) == len(other) > 0
    for (_, image), (_, twin) in zip(plain, other, strict=True):
        np.testing.assert_array_equal(image, twin)


def test_padding_of_a_monochrome1_image_is_background(tmp_path, head, write_dicom):
    voxels = head()
    write_dicom(tmp_path / "one", voxels)
    inverted = np.where(voxels == 0, 4095, 2000 - voxels).astype(np.uint16)
    write_dicom(tmp_path / "other", inverted, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    one, other = (slices_of(dicom_volumes(sorted((tmp_path / f).iterdir()))[0][0], 64)[0] for f in ("one", "other"))
    for (_, image), (_, twin) in zip(one, other, strict=True):
        assert np.abs(image.astype(int) - twin).max() <= 1


def test_an_image_of_padding_alone_is_blank(tmp_path, head, write_dicom):
    write_dicom(tmp_path, np.full_like(head(), 7), PixelPaddingValue=7)
    [volume], _ = dicom_volumes(sorted(tmp_path.iterdir()))
    with pytest.raises(Reject, match="blank"):
        slices_of(volume, 64)

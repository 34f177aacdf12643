"""Volumes in the formats of ITK lie as a NIfTI of the same array does."""

import bz2
import gzip

import nibabel as nib
import nrrd
import numpy as np
import pytest
from writers import METAIMAGE, metaimage, nrrd_file

from latentsweep.datasets.formats.metaimage import read_metaimage
from latentsweep.datasets.formats.nifti import read_nifti
from latentsweep.datasets.formats.nrrd import read_nrrd
from latentsweep.datasets.formats.readers import format_of
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import axial_planes, plane_of

TURNED = np.array([[0, -0.9, 0.1], [0.2, 0.1, 2.0], [-1.1, 0, 0]])
"""A sagittal volume, a little oblique: the columns are the steps along its axes in RAS+."""
AFFINES = {
    "axial": np.array([[-0.9, 0, 0, 80], [0, -0.9, 0, 90], [0, 0, 3, -60], [0, 0, 0, 1]]),
    "turned": np.block([[TURNED, np.array([[1.0], [2.0], [3.0]])], [np.zeros((1, 3)), np.ones((1, 1))]]),
}


def reference(tmp_path, voxels, affine):
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "reference.nii")
    return axial_planes(read_nifti(tmp_path / "reference.nii"))


def assert_same(volume, wanted):
    planes, spacing = axial_planes(volume)
    np.testing.assert_array_equal(planes, wanted[0])
    np.testing.assert_allclose(spacing, wanted[1], rtol=1e-5)


def volume_of(head, dtype="i2", name="axial"):
    voxels = head(depth=40 if name == "turned" else 6)
    return (voxels % 256 if dtype == "u1" else voxels).astype(dtype)


@pytest.mark.parametrize("dtype", METAIMAGE)
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("options", [{}, {"packed": True}, {"swapped": True}, {"detached": "a.raw"}])
def test_a_metaimage_lies_as_the_nifti_of_its_array(tmp_path, head, dtype, name, options):
    voxels = volume_of(head, dtype, name)
    path = metaimage(tmp_path / "a.mha", voxels, AFFINES[name], **options)
    volume = read_metaimage(path)
    assert_same(volume, reference(tmp_path, voxels, AFFINES[name]))
    assert volume.told
    assert format_of(path.rename(tmp_path / "other")) == "metaimage"


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("space", ["left-posterior-superior", "right-anterior-superior", "left-anterior-superior"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("detached", [False, True])
def test_a_nrrd_lies_as_the_nifti_of_its_array(tmp_path, head, name, space, encoding, detached):
    voxels = volume_of(head, name=name)
    ending = "nhdr" if detached else "nrrd"
    path = nrrd_file(tmp_path / f"a.{ending}", voxels, AFFINES[name], space=space, compression_level=1)
    header = nrrd.read_header(str(path)) | {"encoding": encoding}
    nrrd.write(str(path), voxels, header, detached_header=detached)
    volume = read_nrrd(path)
    assert_same(volume, reference(tmp_path, voxels, AFFINES[name]))
    assert volume.told
    assert format_of(path.rename(tmp_path / "other")) == "nrrd"


def test_a_header_that_does_not_tell_its_axes_leaves_the_plane_unknown(tmp_path, head):
    metaimage(tmp_path / "a.mha", volume_of(head), np.eye(4), TransformMatrix=None)
    nrrd.write(str(tmp_path / "a.nrrd"), volume_of(head), {"spacings": [1.0, 1.0, 3.0]})
    for volume in (read_metaimage(tmp_path / "a.mha"), read_nrrd(tmp_path / "a.nrrd")):
        assert plane_of(volume) == "taken for axial"
        assert np.array_equal(np.sign(np.diag(volume.affine)), [-1, -1, 1, 1])


@pytest.mark.parametrize(
    "name", ["../a.raw", "/etc/passwd", "other/a.raw", "..", "a%03d.raw", "LIST", "link.raw", "..\\a.raw"]
)
def test_data_that_lie_elsewhere_are_not_read(tmp_path, head, name):
    source = tmp_path / "source"
    (source / "other").mkdir(parents=True)
    voxels = volume_of(head)
    for path in (tmp_path / "a.raw", source / "other" / "a.raw"):
        path.write_bytes(voxels.tobytes(order="F"))
    (source / "link.raw").symlink_to(tmp_path / "a.raw")
    header = metaimage(source / "a.mhd", voxels, np.eye(4), detached="a.raw").read_text()
    (source / "a.mhd").write_text(header.replace("= a.raw", f"= {name}"))
    nrrd_file(source / "a.nhdr", voxels, np.eye(4))
    (source / "a.nhdr").write_text(
        (source / "a.nhdr").read_text().replace("data file: a.raw.gz", f"data file: {name}")
    )
    for read, path in ((read_metaimage, "a.mhd"), (read_nrrd, "a.nhdr")):
        with pytest.raises(Reject, match=r"data are in another folder|data file is missing") as caught:
            read(source / path)
        assert "raw" not in caught.value.reason


def test_a_header_without_its_data_says_so(tmp_path, head):
    metaimage(tmp_path / "a.mhd", volume_of(head), np.eye(4), detached="a.raw")
    (tmp_path / "a.raw").unlink()
    with pytest.raises(Reject, match="put it beside it"):
        read_metaimage(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("claimed", "told"),
    [
        ((4096, 4096, 4096), "more than 134,217,728 voxels"),
        ((512, 512, 400), "cut short or damaged"),
        ((48, 48, 3, 2), "4 dimensions where 3 are needed"),
        ((48, 48), "2 dimensions"),
        ((48, 48, 0), "real-valued voxels"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_a_header_claims_is_checked_before_memory_is_taken(tmp_path, head, claimed, told, packed):
    metaimage(tmp_path / "a.mha", volume_of(head), np.eye(4), claimed=claimed, packed=packed)
    with pytest.raises(Reject, match=told):
        read_metaimage(tmp_path / "a.mha")
    sizes = " ".join(map(str, claimed))
    encoding = "gzip" if packed else "raw"
    data = volume_of(head).tobytes(order="F")
    head_lines = (
        f"NRRD0004\ntype: short\ndimension: {len(claimed)}\nsizes: {sizes}\nendian: little\nencoding: {encoding}\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(head_lines.encode() + (gzip.compress(data) if packed else data))
    with pytest.raises(Reject, match=told):
        read_nrrd(tmp_path / "a.nrrd")


@pytest.mark.parametrize("packing", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("change", [lambda data: data + bytes(4), lambda data: data[:-4]])
def test_packed_voxels_are_neither_fewer_nor_more_than_stated(tmp_path, head, packing, change):
    voxels = volume_of(head)
    name = "gzip" if packing is gzip.compress else "bzip2"
    head_lines = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 48 48 6\nendian: little\nencoding: {name}\n\n"
    (tmp_path / "a.nrrd").write_bytes(head_lines.encode() + packing(change(voxels.tobytes(order="F"))))
    with pytest.raises(Reject, match="cut short or damaged"):
        read_nrrd(tmp_path / "a.nrrd")


def test_voxels_that_are_nan_are_background(tmp_path, head):
    voxels = volume_of(head, "f4")
    voxels[:4] = np.nan
    metaimage(tmp_path / "a.mha", voxels, np.eye(4))
    assert not np.any(read_metaimage(tmp_path / "a.mha").voxels[:4])

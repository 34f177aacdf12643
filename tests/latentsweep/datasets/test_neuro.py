"""Volumes of FreeSurfer, MINC and Analyze lie as a NIfTI of the same array does."""

import gzip

import h5py
import nibabel as nib
import numpy as np
import pytest
from writers import write_mgh, write_minc1, write_minc2, write_pair

from latentsweep.datasets.formats.analyze import read_analyze
from latentsweep.datasets.formats.mgh import read_mgh
from latentsweep.datasets.formats.minc import read_minc
from latentsweep.datasets.formats.nifti import read_nifti
from latentsweep.datasets.formats.readers import format_of
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.volumes import axial_planes

AFFINE = np.array([[-0.9, 0, 0, 80], [0, 0, 2.0, 90], [0, -1.1, 0, -60], [0, 0, 0, 1]])


def assert_lies_as_nifti(folder, volume, voxels, affine):
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), affine), folder / "reference.nii")
    planes, spacing = axial_planes(read_nifti(folder / "reference.nii"))
    np.testing.assert_array_equal(axial_planes(volume)[0], planes)
    np.testing.assert_allclose(axial_planes(volume)[1], spacing, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("affine", [np.eye(4), AFFINE])
def test_a_volume_of_freesurfer_lies_as_the_nifti_of_its_array(tmp_path, head, suffix, affine):
    voxels = head(depth=40)
    path = write_mgh(tmp_path, voxels, affine, suffix)
    volume = read_mgh(path)
    assert volume.told
    assert_lies_as_nifti(tmp_path, volume, voxels, affine)
    assert format_of(path.rename(tmp_path / "other")) == "mgh"


@pytest.mark.parametrize("write", [write_minc1, write_minc2])
@pytest.mark.parametrize(("spacing", "start"), [((1.0, 1.0, 3.0), (0, 0, 0)), ((-0.9, 0.9, 2.0), (40, -50, 10))])
def test_a_minc_lies_as_the_nifti_of_its_array(tmp_path, head, write, spacing, start):
    path = write(tmp_path, head(), spacing, start)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = start
    assert_lies_as_nifti(tmp_path, read_minc(path), head(), affine)
    assert format_of(path.rename(tmp_path / "other")) == "minc"


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pair_of_nifti_lies_as_the_single_file_does(tmp_path, head, zipped):
    path = write_pair(tmp_path, head(depth=40), AFFINE, nib.Nifti1Pair)
    if zipped:
        for name in ("a.hdr", "a.img"):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
            (tmp_path / name).unlink()
        path = tmp_path / "a.hdr.gz"
    assert format_of(path) == "analyze"
    volume = read_analyze(path)
    assert volume.told
    assert_lies_as_nifti(tmp_path, volume, head(depth=40), AFFINE)


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_an_analyze_pair_is_as_nibabel_has_it_and_does_not_tell_its_plane(tmp_path, head, kind):
    path = write_pair(tmp_path, head(), None, kind)
    volume = read_analyze(path)
    assert not volume.told
    assert_lies_as_nifti(tmp_path, volume, head(), nib.load(path).affine)


def test_a_pair_without_its_data_says_so(tmp_path, head):
    path = write_pair(tmp_path, head())
    (tmp_path / "a.img").unlink()
    with pytest.raises(Reject, match="put it beside it"):
        read_analyze(path)


def test_the_data_of_a_pair_are_not_read_through_a_link(tmp_path, head):
    path = write_pair(tmp_path, head())
    (tmp_path / "a.img").rename(tmp_path / "elsewhere").parent.joinpath("a.img").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Reject, match="a link"):
        read_analyze(path)


def test_a_damaged_mgz_is_refused_by_its_checksum(tmp_path, head):
    path = write_mgh(tmp_path, head())
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(Reject, match="cut short or damaged") as caught:
        read_mgh(path)
    assert caught.value.broken


@pytest.mark.parametrize("way", ["link", "external", "virtual", "soft", "dimension"])
def test_an_hdf5_file_reads_no_other_file(tmp_path, head, way):
    path = write_minc2(tmp_path, head())
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["image"] = head().transpose(2, 1, 0).astype(np.int16)
    (tmp_path / "raw").write_bytes(head().astype(np.int16).tobytes())
    with h5py.File(path, "r+") as file:
        place = file["minc-2.0/dimensions" if way == "dimension" else "minc-2.0/image/0"]
        name = "xspace" if way == "dimension" else "image"
        del place[name]
        if way in ("link", "dimension"):
            place[name] = h5py.ExternalLink(str(secret), "/image")
        elif way == "soft":
            place[name] = h5py.SoftLink("/elsewhere")
        elif way == "external":
            place.create_dataset(name, (6, 48, 48), "i2", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])
        else:
            layout = h5py.VirtualLayout((6, 48, 48), "i2")
            layout[:] = h5py.VirtualSource(str(secret), "image", (6, 48, 48))
            place.create_virtual_dataset(name, layout)
    with pytest.raises(Reject, match="refers to others"):
        read_minc(path)


def test_a_chunk_of_an_hdf5_file_has_a_limit(tmp_path, head, monkeypatch):
    path = write_minc2(tmp_path, head(), chunks=(2, 8, 8))
    monkeypatch.setattr("latentsweep.datasets.formats.hdf5.MAX_NIFTI_BYTES", 2 * 8 * 8 * 2)
    assert read_minc(path)
    monkeypatch.setattr("latentsweep.datasets.formats.hdf5.MAX_NIFTI_BYTES", 2 * 8 * 8 * 2 - 1)
    with pytest.raises(Reject, match="chunks of more than"):
        read_minc(path)


@pytest.mark.parametrize("write", [write_mgh, write_minc1, write_minc2, write_pair])
def test_a_volume_of_four_dimensions_or_too_many_voxels_is_refused(tmp_path, head, write, monkeypatch):
    path = write(tmp_path, head())
    read = {"a.mgz": read_mgh, "a.mnc": read_minc, "a.hdr": read_analyze}[path.name]
    monkeypatch.setattr("latentsweep.datasets.formats.blocks.MAX_VOXELS", 1000)
    with pytest.raises(Reject, match="more than 1,000 voxels"):
        read(path)

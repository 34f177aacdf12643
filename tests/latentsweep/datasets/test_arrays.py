"""Arrays are slices by one rule, and Cheng's files are slices of patients with masks."""

import h5py
import numpy as np
import pytest
from writers import write_array, write_cheng

from latentsweep.datasets.finding import discover
from latentsweep.datasets.formats.arrays import array_volumes, read_array
from latentsweep.datasets.formats.cheng import patient_of, read_cheng
from latentsweep.datasets.formats.readers import format_of
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.scans import Scan, part_loose_pictures, read_scan
from latentsweep.datasets.volumes import axial_planes
from trainables.errors import DataError


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_a_stack_lies_as_pictures_of_its_slices_do(tmp_path, head, suffix):
    path = write_array(tmp_path, head(), suffix)
    [volume], rejects = array_volumes([path])
    assert rejects == []
    np.testing.assert_array_equal(axial_planes(volume)[0], head()[::-1, ::-1].transpose(2, 1, 0))
    assert format_of(path) == "array"


@pytest.mark.parametrize(("shape", "axis"), [((5, 40, 40), 0), ((40, 40, 5), 2), ((40, 60, 40), 1)])
def test_the_axis_that_differs_from_two_equal_ones_counts_the_slices(tmp_path, shape, axis):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), np.moveaxis(array, axis, 0))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((40, 40, 40), "can't be told"),
        ((20, 40, 60), "can't be told"),
        ((40, 40, 3), "as of contrasts"),
        ((4, 40, 40), "as of contrasts"),
        ((40,), "can't be told"),
        ((2, 3, 40, 40), "can't be told"),
        ((4096, 4096, 4095), "more than 134,217,728 voxels"),
    ],
)
def test_an_array_of_another_shape_is_refused_with_the_next_step(tmp_path, shape, told):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": shape})
    with pytest.raises(Reject, match=told) as caught:
        read_array(tmp_path / "a.npy")
    assert not caught.value.broken


def test_slices_of_a_folder_are_a_volume_and_columns_first_is_read(tmp_path, head):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.asfortranarray(head()[..., number]))
    [volume], _ = array_volumes(sorted(tmp_path.iterdir()))
    assert volume.voxels.shape == (48, 48, 6)
    np.testing.assert_array_equal(volume.voxels[..., 2], head()[..., 2].T)


def test_among_several_arrays_the_image_is_taken(tmp_path, head):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"], file["mask"] = head()[..., 3], head()[..., 3] > 500
    np.testing.assert_array_equal(read_array(tmp_path / "a.h5"), head()[..., 3])
    np.savez(tmp_path / "a.npz", one=head()[..., 3], other=head()[..., 3])
    with pytest.raises(Reject, match="several arrays"):
        read_array(tmp_path / "a.npz")


def test_stacks_beyond_the_voxels_of_a_volume_are_scans_of_their_own(tmp_path, head, monkeypatch):
    for name in ("b", "c"):
        write_array(tmp_path, head()).rename(tmp_path / f"{name}.npy")
    scans = discover("mine", tmp_path, series=None, subject_from="regex:(.)").scans
    together = Scan("array", "p", "p", tuple(path for scan in scans for path in scan.files))
    assert part_loose_pictures([together]) == (together,)
    monkeypatch.setattr("latentsweep.datasets.scans.MAX_VOXELS", 1000)
    assert [len(scan.files) for scan in part_loose_pictures([together])] == [1, 1]


def test_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(Reject, match="real-valued"):
        read_array(tmp_path / "a.npy")


def test_an_array_that_links_to_another_file_is_not_read(tmp_path, head):
    write_array(tmp_path, head(), ".h5").rename(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["image"] = h5py.ExternalLink("secret.h5", "/scan")
    with pytest.raises(Reject):
        read_array(tmp_path / "a.h5")


def test_arrays_and_pictures_together_are_an_error_and_not_a_choice(tmp_path, head, write_nifti):
    write_array(tmp_path, head())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="1 array and 1 picture"):
        discover("mine", tmp_path, series=None, subject_from=None)
    write_nifti(tmp_path / "a.nii", head())
    assert [scan.kind for scan in discover("mine", tmp_path, series=None, subject_from=None).scans] == ["nifti"]


def test_a_file_of_chengs_is_a_slice_of_its_patient_with_its_mask(tmp_path, head):
    plane = head()[::-1, ::-1, 3].T
    mask = plane == 900
    for number, patient in enumerate(("PLANTED-1", "PLANTED-1", "PLANTED-2")):
        path = write_cheng(tmp_path, head(), f"{number}.mat", patient, mask)
    np.testing.assert_array_equal(read_cheng(path), plane)
    assert (patient_of(path), format_of(path)) == ("PLANTED-2", "cheng")
    found = discover("cheng", tmp_path, series=None, subject_from=None)
    assert [scan.subject for scan in found.scans] == ["PLANTED-1", "PLANTED-1", "PLANTED-2"]
    [[image]] = read_scan(found.scans[0], 48).volumes
    assert image.lesion == np.count_nonzero(mask)


def test_no_patient_of_chengs_is_told(tmp_path, head):
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        write_cheng(source, head(number), f"{number}.mat", f"PLANTED-{number}")
    dataset = prepare("cheng", home=tmp_path, source=source, size=32, jobs=1)
    assert (dataset.manifest["counts"]["subjects"], dataset.manifest["counts"]["slices"]) == (3, 3)
    for path in (tmp_path / "datasets").rglob("*"):
        assert not path.is_file() or b"PLANTED" not in path.read_bytes()

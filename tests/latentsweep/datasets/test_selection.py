"""Which files of a source are wanted: patterns, annotations by name and by content, and one contrast."""

from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets.check import check
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.sources.annotations import LABEL_MAP, is_mask_picture, kind_of_annotation
from latentsweep.datasets.sources.choice import contrast_of
from latentsweep.datasets.sources.contrasts import contrast_named
from latentsweep.datasets.sources.selection import Selection
from latentsweep.datasets.sources.sources import SourceFile
from trainables.errors import DataError


def names(selection, *paths):
    return [str(file.relative) for file in selection.wanted([SourceFile(Path(p), PurePosixPath(p)) for p in paths])]


def own(home, source, **options):
    return prepare("mine", home=home, source=source, size=32, jobs=1, **options)


@pytest.fixture
def contrasts(tmp_path, head, write_nifti):
    """Three patients with a scan of two contrasts."""
    for number in range(3):
        for place, contrast in enumerate(("flair", "t1")):
            path = tmp_path / "source" / f"SECRET{number}" / f"p{number}_{contrast}.nii.gz"
            write_nifti(path, head(10 * place + number))
    return tmp_path / "source"


@pytest.mark.parametrize("pattern", ["*flair*", "*_FLAIR.nii", "a_flair.nii", "b/*", "b/a_fl??r.nii", "[b]/*"])
def test_a_pattern_fits_a_path_or_a_name_whatever_its_capitals(pattern):
    assert names(Selection((pattern,)), "b/a_flair.nii", "c/a_t1.nii") == ["b/a_flair.nii"]


def test_what_one_pattern_excludes_no_other_includes():
    chosen = Selection(("*flair*", "*t1*"), ("old/*", "*copy*"))
    assert names(chosen, "a_flair", "a_t1", "a_t2", "old/a_t1", "a_t1_copy") == ["a_flair", "a_t1"]


def test_patterns_that_leave_no_file_are_an_error_that_does_not_repeat_them(contrasts, tmp_path):
    with pytest.raises(DataError, match="leave none of 6: correct the patterns") as error:
        own(tmp_path, contrasts, selection=Selection(("*SECRET9*",)))
    assert "SECRET" not in str(error.value)


def test_the_demo_takes_no_patterns(tmp_path):
    with pytest.raises(DataError, match=r"leave out .* --include"):
        prepare("demo", home=tmp_path, selection=Selection(("*",)))


def test_prepare_and_check_read_what_patterns_choose(contrasts, tmp_path):
    selection = Selection(("*_flair*",))
    assert own(tmp_path, contrasts, selection=selection).manifest["counts"]["volumes"] == 3
    assert len(check("mine", home=tmp_path, source=contrasts, selection=selection, size=32, jobs=1).volumes) == 3


def test_other_patterns_are_another_preparation_and_stay_secret(contrasts, tmp_path):
    first = own(tmp_path, contrasts, selection=Selection(("*_flair*",), ("*SECRET0*",)))
    assert own(tmp_path, contrasts, selection=Selection(("*_flair*",), ("*SECRET0*",))).manifest == first.manifest
    assert "SECRET" not in str(first.manifest)
    with pytest.raises(DataError, match="with other settings"):
        own(tmp_path, contrasts, selection=Selection(("*_t1*",)))


def test_a_mask_is_paired_though_it_is_not_included(contrasts, tmp_path, head, write_nifti):
    for number in range(3):
        labels = (head(0) > 800).astype("uint8")
        write_nifti(contrasts / f"SECRET{number}" / f"p{number}_seg.nii.gz", labels)
    assert own(tmp_path / "one", contrasts, selection=Selection(("*_flair*",))).has_masks
    assert not own(tmp_path / "two", contrasts, selection=Selection(("*_flair*",), ("*_seg*",))).has_masks


@pytest.mark.parametrize(
    "name",
    [
        "a/x_seg.nii.gz",
        "a/x-seg.nii",
        "a/T1_brain_mask.nii.gz",
        "sub-1/anat/sub-1_desc-brain_mask.nii.gz",
        "a/T1_fast_pve_0.nii.gz",
        "sub-1_label-GM_probseg.nii.gz",
        "sub-1_space-x_dseg.nii.gz",
        "labelsTr/BRATS_001.nii.gz",
        "masks/p1.png",
        "a/labels.nii",
        "a/labels2.nii",
        "12_mask.png",
        "a/P1_lesion.nii",
        "a/P1_tumour.nii",
        "a/P1_roi.nii",
        "a/P1_lesion_seg.nii",
        "label/P1.nii",
        "Masks/P1.png",
        "segmentations/P1.nii",
    ],
)
def test_masks_labels_and_probability_maps_are_known_by_their_names(name):
    assert kind_of_annotation(PurePosixPath(name), "nifti")


@pytest.mark.parametrize(
    "name",
    [
        "a/T1_brain.nii.gz",
        "a/T1_masked.nii.gz",
        "a/x_flair.nii.gz",
        "labels_study/p1/scan.nii",
        "tumor/Y1.jpg",
        "probable/1.png",
        "p_segal/1.png",
        "image-12.png",
        "no_tumor.nii.gz",
        "a/heroic.nii",
    ],
)
def test_a_scan_is_no_annotation_by_its_name(name):
    assert kind_of_annotation(PurePosixPath(name), "nifti") is None


@pytest.mark.parametrize("name", ["glioma_tumor.jpg", "with_lesion.png", "Y1_tumor.jpg"])
def test_a_picture_may_tell_of_a_tumour_in_its_name(name):
    assert kind_of_annotation(PurePosixPath(name), "picture") is None


def test_a_map_of_labels_under_any_name_is_left_out_with_a_reason(contrasts, tmp_path, head, write_nifti):
    labels = np.clip(head(0) // 150, 0, 4).astype(np.uint8)
    write_nifti(contrasts / "SECRET0" / "other.nii.gz", labels)
    manifest = own(tmp_path, contrasts, selection=Selection(("*_flair*", "*other*"))).manifest
    assert manifest["counts"]["volumes"] == 3
    assert [(reject["reason"], reject["count"]) for reject in manifest["rejects"]] == [(LABEL_MAP, 1)]


def test_pictures_of_two_levels_are_left_out_and_those_of_a_head_stay(tmp_path, head):
    voxels = head(0)
    for number in range(6):
        folder = tmp_path / "source" / f"p{number}"
        folder.mkdir(parents=True)
        plane = (head(number)[..., 3] / 4).astype(np.uint8)
        Image.fromarray(plane).save(folder / "a.png")
        Image.fromarray(np.where(voxels[..., 3] > 0, 255, 0).astype(np.uint8)).save(folder / "b.jpg", quality=80)
    manifest = own(tmp_path, tmp_path / "source").manifest
    assert manifest["counts"]["slices"] == 6
    assert [(reject["reason"], reject["count"]) for reject in manifest["rejects"]] == [(LABEL_MAP, 6)]


def test_a_dark_picture_at_the_end_of_a_head_is_no_mask():
    plane = np.zeros((64, 64), np.float32)
    plane[30, 30] = 255
    assert not is_mask_picture(plane)
    assert not is_mask_picture(np.zeros((64, 64), np.float32))


def test_a_source_of_masks_alone_is_refused(tmp_path, write_nifti):
    write_nifti(tmp_path / "source" / "a" / "x_seg.nii.gz", np.ones((40, 40, 4), np.uint8))
    with pytest.raises(DataError, match="1 masks, labels or probability maps alone"):
        own(tmp_path, tmp_path / "source")


def test_masks_that_are_paired_are_not_told_to_be_left_out(contrasts, tmp_path, head, write_nifti):
    labels = (head(0) > 800).astype(np.uint8)
    write_nifti(contrasts / "SECRET0" / "p0_seg.nii.gz", labels)
    write_nifti(contrasts / "SECRET1" / "p1_T1_pve_0.nii.gz", labels)
    notes = own(tmp_path, contrasts, selection=Selection((), ("*_t1.*",))).manifest["notes"]
    assert [note for note in notes if "left out" in note] == ["left out as probability maps by their names: 1"]


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("BraTS2021_00003_flair.nii.gz", "flair"),
        ("BraTS-GLI-00003-000-t2f.nii.gz", "flair"),
        ("AX T2 FLAIR", "flair"),
        ("BraTS2021_00003_t1ce.nii.gz", "t1ce"),
        ("x_T1GD.nii.gz", "t1ce"),
        ("7.000000-AX T1 POST", "t1ce"),
        ("T1w_CE", "t1ce"),
        ("sub-1_ses-2_T1w.nii.gz", "t1"),
        ("BraTS-GLI-00003-000-t1n.nii.gz", "t1"),
        ("SAG MPRAGE", "t1"),
        ("t2w.nii", "t2"),
        ("sub-1_T2starw.nii.gz", "swi"),
        ("sub-1_dwi.nii.gz", "dwi"),
        ("ep2d_diff_3scan_trace_ADC", "adc"),
        ("patient12.nii", None),
        ("at1_2.png", None),
    ],
)
def test_a_contrast_is_known_by_the_words_of_a_name(name, contrast):
    assert contrast_named(name) == contrast


def test_several_contrasts_are_refused_until_one_is_chosen(contrasts, tmp_path):
    with pytest.raises(DataError, match=r"tell of flair \(3 files\), t1 \(3 files\): choose with --series flair"):
        own(tmp_path, contrasts)
    flair, t1 = (own(tmp_path / name, contrasts, series=name) for name in ("flair", "T1"))
    assert flair.manifest["counts"]["volumes"] == t1.manifest["counts"]["volumes"] == 3
    assert flair.fingerprint != t1.fingerprint
    assert own(tmp_path / "all", contrasts, series="all").manifest["counts"]["volumes"] == 6
    with pytest.raises(DataError, match=r"--series must be a contrast .*flair \(3 files\)"):
        own(tmp_path, contrasts, series="t2")


@pytest.mark.parametrize("layout", ["{c}/p{p}/x.nii", "{c}/p{p}/visit1/x.nii", "data/{c}/train/p{p}/anat/x.nii"])
def test_a_contrast_is_told_by_any_folder_above_a_file(tmp_path, head, write_nifti, layout):
    for number in range(3):
        for place, contrast in enumerate(("FLAIR", "T1")):
            write_nifti(tmp_path / "source" / layout.format(c=contrast, p=number), head(10 * place + number))
    with pytest.raises(DataError, match=r"tell of flair \(3 files\), t1 \(3 files\): choose with --series flair"):
        own(tmp_path, tmp_path / "source")
    assert own(tmp_path, tmp_path / "source", series="t1").manifest["counts"]["volumes"] == 3


def test_the_contrast_nearest_to_a_file_is_its_own_and_a_class_or_a_patient_tells_none():
    def contrast(path):
        return contrast_of(SourceFile(PurePosixPath("/", path), PurePosixPath(path)), "nifti")

    assert [contrast(path) for path in ("T2/p1/T1/x.nii", "T2/p1_flair/x.nii", "T2/p1/t1c.nii")] == [
        "t1",
        "flair",
        "t1ce",
    ]
    assert {contrast(path) for path in ("PD/p1/x.nii", "PD_001/x.nii", "PD_001.nii", "p1/x.nii")} == {None}
    assert contrast("PD/PD_001/T1.nii") == "t1"


def test_files_that_tell_no_contrast_are_counted_where_others_tell_one(tmp_path, head, write_nifti):
    for number, name in enumerate(("p1/T1.nii", "p2/T1.nii", "p3/fse_sag.nii", "p4/proc.nii")):
        write_nifti(tmp_path / "source" / name, head(number))
    manifest = own(tmp_path, tmp_path / "source").manifest
    assert manifest["counts"]["volumes"] == 4
    (note,) = [note for note in manifest["notes"] if "contrast" in note]
    assert note == "files that tell no contrast, taken with those of t1: 2; --series t1 leaves them out"
    manifest = own(tmp_path / "other", tmp_path / "source", series="t1").manifest
    assert manifest["counts"]["volumes"] == 2


def test_files_that_all_tell_no_contrast_are_not_counted(tmp_path, head, write_nifti):
    write_nifti(tmp_path / "source" / "p1" / "a.nii", head(1))
    assert not [note for note in own(tmp_path, tmp_path / "source").manifest["notes"] if "contrast" in note]


def test_the_contrasts_of_dicom_are_told_by_their_descriptions(tmp_path, head, write_dicom):
    for number in range(3):
        for place, told in enumerate(("AX T2 FLAIR", "AX T1 POST GD")):
            folder = tmp_path / "source" / f"p{number}" / str(place)
            write_dicom(folder, head(10 * place + number), SeriesDescription=told)
    with pytest.raises(DataError, match=r"flair \(18 files\), t1ce \(18 files\)"):
        own(tmp_path, tmp_path / "source")
    assert own(tmp_path, tmp_path / "source", series="t1ce").manifest["counts"]["volumes"] == 3


@pytest.mark.parametrize("affine", [np.diag([0.0, 0, 0, 1]), np.full((4, 4), np.nan)])
def test_a_nifti_that_does_not_tell_how_it_lies_is_upright_and_noted(tmp_path, head, affine):
    for number in range(3):
        image = nib.Nifti1Image(head(number), np.eye(4))
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            image.header[name] = affine[row]
        path = tmp_path / "source" / f"p{number}" / "a.nii"
        path.parent.mkdir(parents=True)
        image.header["magic"], image.header["vox_offset"] = b"n+1", 352
        path.write_bytes(image.header.binaryblock + bytes(4) + head(number).tobytes(order="F"))
    prepared = own(tmp_path, tmp_path / "source")
    assert any("plane is unknown, taken for axial: 3" in note for note in prepared.manifest["notes"])
    bright = prepared.load("all").images.astype(float).mean(axis=0)
    assert bright[:16].max() > bright[16:].max(), "the bright block is anterior, and anterior is up"

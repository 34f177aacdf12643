"""Lesion masks beside scans: which lies beside which, on which voxels, and what is kept of them."""

from pathlib import Path, PurePosixPath

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from writers import metaimage

from latentsweep.datasets.formats.readers import format_by_name
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.masks import lay_on
from latentsweep.datasets.overview import contact_sheet
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.scans import Scan
from latentsweep.datasets.slices import open_dataset
from latentsweep.datasets.sources.pairing import pair_masks
from latentsweep.datasets.sources.sources import SourceFile
from latentsweep.datasets.volumes import Volume
from latentsweep.lints.data import dataset_lints
from latentsweep.stages.dataset import open_published, publish
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import DataError
from trainables.figures.overlay import OUTLINE

SIDE = 48


def lesion(seed=0, depth=6):
    """(X, Y, Z) labels 0, 1, 2 and 4 in no symmetry."""
    labels = np.zeros((SIDE, SIDE, depth), np.uint8)
    labels[20 + seed : 29, 15:22, 1:4] = 2
    labels[22:25, 17:19, 2] = 4
    labels[30:33, 34:38, 3:] = 1
    return labels


@pytest.fixture
def source(tmp_path, head, write_nifti):
    """Six BraTS patients, of which one has no mask."""
    for number in range(6):
        stem = tmp_path / "source" / f"BraTS20_{number:03d}" / f"BraTS20_{number:03d}"
        write_nifti(stem.with_name(f"{stem.name}_flair.nii.gz"), head(number))
        write_nifti(stem.with_name(f"{stem.name}_t1ce.nii.gz"), head(10 + number))
        if number:
            write_nifti(stem.with_name(f"{stem.name}_seg.nii.gz"), lesion(number))
    return tmp_path / "source"


def own(home, source, name="brats_flair", size=SIDE):
    return prepare(name, home=home, source=source, size=size, jobs=1, replace=True)


def displayed(labels):
    """(X, Y, Z) in RAS+ as (Z, rows, columns), anterior up and left on the right."""
    return labels[::-1, ::-1].transpose(2, 1, 0)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("B/B_flair.nii.gz", "B/B_seg.nii.gz"),
        ("B-1-000/B-1-000-t2f.nii.gz", "B-1-000/B-1-000-seg.nii.gz"),
        ("kaggle_3m/T/T_12.png", "kaggle_3m/T/T_12_mask.png"),
        ("Task01/imagesTr/B_001.nii.gz", "Task01/labelsTr/B_001.nii.gz"),
        ("D/imagesTr/B_001_0000.nii.gz", "D/labelsTr/B_001.nii.gz"),
        ("images/p1_14.png", "masks/p1_14.png"),
        ("sub-1/ses-2/anat/sub-1_ses-2_FLAIR.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_label-lesion_mask.nii.gz"),
        (
            "sub-1/anat/sub-1_FLAIR.nii.gz",
            "derivatives/manual/sub-1/anat/sub-1_space-orig_desc-tumor_mask.nii.gz",
        ),
        ("UP_11/images/UP_11_FLAIR.nii.gz", "segm/UP_11_segm.nii.gz"),
    ],
)
def test_a_mask_is_found_by_the_names_that_datasets_give(image, mask):
    assert masks_of([image], [image, mask]) == [(mask,)]
    assert masks_of([image, mask], [image, mask]) == [(mask,)], "a mask is no scan"


@pytest.mark.parametrize(
    "other",
    ["A/A_brain_mask.nii.gz", "A/A_desc-brain_mask.nii.gz", "A/A_dseg.nii.gz", "A/B_seg.nii.gz", "A/A_mask.png"],
)
def test_another_thing_beside_a_scan_is_no_lesion_mask_of_it(other):
    assert masks_of(["A/A_flair.nii.gz"], ["A/A_flair.nii.gz", other]) == [()]


def test_a_mask_of_a_volume_may_be_a_volume_in_another_format():
    scan, mask, other = "A/A_flair.nii.gz", "A/A_seg.nii.gz", "A/A_seg.mha"
    assert masks_of([scan], [scan, other]) == [(other,)]
    assert masks_of([scan], [scan, other, mask]) == [(mask,)]
    assert masks_of([scan], [scan, other, "A/A_seg.nrrd"]) == [()]
    assert masks_of(["A/A.png"], ["A/A.png", other]) == [()]


def test_a_mask_is_of_no_scan_of_the_same_name_in_another_folder():
    scans = ["P1/flair.nii.gz", "P2/flair.nii.gz", "P3/flair.nii.gz"]
    assert masks_of(scans, [*scans, "P1/flair_seg.nii.gz"]) == [("P1/flair_seg.nii.gz",), (), ()]
    assert masks_of(scans, [*scans, "masks_of_all/flair_seg.nii.gz"]) == [(), (), ()]


def test_folders_and_names_that_differ_in_capitals_are_different_ones():
    assert masks_of(["A/P1.nii", "a/P1.nii"], ["A/P1.nii", "a/P1.nii", "A/P1_seg.nii"]) == [("A/P1_seg.nii",), ()]
    scans = ["p/X1.nii", "p/x1.nii"]
    assert masks_of(scans, [*scans, "p/X1_seg.nii", "p/x1_seg.nii"]) == [("p/X1_seg.nii",), ("p/x1_seg.nii",)]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("Images/P1.nii", "Masks/P1.nii"),
        ("A/P1_FLAIR.NII.GZ", "A/P1_Seg.nii.gz"),
        ("A/P1.nii", "A/P1_lesion_labels.nii"),
        ("images/P1.nii", "segmentation/P1.nii"),
    ],
)
def test_the_words_of_a_mask_may_be_in_capitals(image, mask):
    assert masks_of([image], [image, mask]) == [(mask,)]


def test_the_contrasts_of_a_patient_share_its_mask():
    scans = ["P1/P1_flair.nii.gz", "P1/P1_t1ce.nii.gz"]
    assert masks_of(scans, [*scans, "P1/P1_seg.nii.gz"]) == [("P1/P1_seg.nii.gz",)] * 2
    assert masks_of(scans, [*scans, "segm/P1_seg.nii.gz"]) == [("segm/P1_seg.nii.gz",)] * 2


def test_a_scan_with_two_masks_has_none():
    files = ["A/A_flair.nii.gz", "A/A_seg.nii.gz", "A/A_mask.nii.gz"]
    assert masks_of(files[:1], files) == [()]


def masks_of(scans, files):
    """The masks of each scan that is left, by their paths."""
    made = [Scan(format_by_name(Path(path)), path, path, (Path("/s") / path,)) for path in scans]
    paired = pair_masks(made, [SourceFile(Path("/s") / path, PurePosixPath(path)) for path in files])
    return [tuple(str(mask.relative_to("/s")) for mask in scan.masks if mask) for scan in paired]


def test_masks_are_prepared_at_full_resolution_voxel_by_voxel(tmp_path, source):
    dataset = own(tmp_path / "home", source)
    counts = dataset.manifest["counts"]
    assert (counts["slices"], counts["slices_with_mask"], counts["slices_with_lesion"]) == (36, 30, 25)
    slices = dataset.load("all", masks=True)
    found = {mask.tobytes() for mask in slices.masks[slices.masked]}
    assert found == {plane.tobytes() for number in range(1, 6) for plane in displayed(lesion(number))}
    assert not slices.masks[~slices.masked].any()
    assert (~slices.masked).sum() == 6
    assert dataset.load("all").masks is None


def test_masks_in_another_format_are_the_same(tmp_path, source):
    expected = own(tmp_path / "home", source).load("all", masks=True).masks
    for path in sorted(source.rglob("*_seg.nii.gz")):
        voxels = np.asarray(nib.load(path).dataobj)
        metaimage(path.with_name(path.name.replace(".nii.gz", ".mha")), voxels, np.eye(4), packed=True)
        path.unlink()
    np.testing.assert_array_equal(own(tmp_path / "other", source).load("all", masks=True).masks, expected)


def test_masks_follow_their_slices_to_a_split_and_to_another_size(tmp_path, source):
    dataset = own(tmp_path / "home", source, size=24)
    for split in ("train", "validation", "test"):
        slices = dataset.load(split, masks=True)
        assert slices.masks.shape == slices.images.shape == (len(slices), 24, 24)
        assert set(np.unique(slices.masks)) <= {0, 1, 2, 4}
        halved = {plane[1::2, 1::2].tobytes() for number in range(1, 6) for plane in displayed(lesion(number))}
        assert {mask.tobytes() for mask in slices.masks[slices.masked]} <= halved


def test_the_slices_and_the_fingerprint_are_those_without_masks(tmp_path, source):
    masked = own(tmp_path / "one", source)
    for path in source.rglob("*_seg.nii.gz"):
        path.unlink()
    plain = own(tmp_path / "two", source)
    assert masked.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(masked.load("all").images, plain.load("all").images)
    assert (plain.has_masks, plain.mask_fingerprint) == (False, "")
    assert len(masked.mask_fingerprint) == 64
    assert "mask" in masked.manifest["settings"]
    assert "mask" not in plain.manifest["settings"]
    assert not (plain.folder / "masks").exists()
    with pytest.raises(DataError, match="has no lesion masks: prepare it with --replace"):
        plain.load("all", masks=True)


def test_a_mask_is_laid_on_its_image_however_its_axes_run():
    labels, affine = lesion(), np.diag([1.0, 1.5, 3.0, 1.0])
    image = Volume(np.zeros(labels.shape, np.float32), affine)
    stored = nib.Nifti1Image(labels, affine)
    for axes in ("LPS", "SAR", "PIL"):
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
        )
        other = stored.as_reoriented(turn)
        mask = Volume(np.asarray(other.dataobj, np.float32), other.affine)
        np.testing.assert_array_equal(lay_on(image, mask), labels)


@pytest.mark.parametrize("spoil", ["moved", "smaller", "nan"])
def test_a_mask_of_other_voxels_is_refused(spoil):
    labels = lesion().astype(np.float32)
    image, affine = Volume(np.zeros(labels.shape, np.float32), np.eye(4)), np.eye(4)
    if spoil == "moved":
        affine[0, 3] = 2
    if spoil == "smaller":
        labels = labels[:-1]
    if spoil == "nan":
        labels[0, 0, 0] = np.nan
    with pytest.raises(Reject, match="a mask"):
        lay_on(image, Volume(labels, affine))


def test_a_mask_that_can_not_be_used_is_told_and_its_scan_is_kept(tmp_path, source, write_nifti):
    write_nifti(source / "BraTS20_001" / "BraTS20_001_seg.nii.gz", lesion()[:-2])
    dataset = own(tmp_path / "home", source)
    assert dataset.manifest["counts"]["slices"] == 36
    assert dataset.manifest["counts"]["slices_with_mask"] == 24
    assert "masks left out: 1 × a mask of other voxels than its image's" in dataset.manifest["notes"]


def test_masks_of_pictures_are_of_label_1(tmp_path):
    folder = tmp_path / "source" / "a"
    folder.mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(np.uint8(lesion(depth=4)[:40, :40, number] > 0) * 255).save(folder / f"{number}_mask.png")
    dataset = own(tmp_path / "home", tmp_path / "source", "mine", 40)
    assert dataset.manifest["counts"]["slices"] == 4
    slices = dataset.load("all", masks=True)
    expected = {plane.tobytes() for plane in np.moveaxis(np.uint8(lesion(depth=4)[:40, :40] > 0), 2, 0)}
    assert {mask.tobytes() for mask in slices.masks} == expected


def test_damaged_masks_are_an_error_of_whoever_asks_for_them(tmp_path, source):
    dataset = own(tmp_path / "home", source)
    path = dataset.folder / "masks" / "masks-00000.parquet"
    path.write_bytes(path.read_bytes()[:-8])
    assert len(dataset.load("all")) == 36
    with pytest.raises(DataError, match=r"the masks masks-00000\.parquet of the dataset brats_flair are missing"):
        dataset.load("all", masks=True)


def test_a_published_dataset_has_its_masks(tmp_path, source):
    home = Home(tmp_path / "home")
    dataset = own(home.root, source)
    store = Store.of(home)
    publish(store, home.datasets, dataset.name, dataset.fingerprint)
    published = open_published(store, dataset.name, dataset.fingerprint)
    np.testing.assert_array_equal(published.load("all", masks=True).masks, dataset.load("all", masks=True).masks)


def test_the_contact_sheet_draws_the_outline_of_lesions(tmp_path, source):
    dataset = own(tmp_path / "home", source)
    sheet = contact_sheet(dataset)
    assert sheet.shape == (3 * SIDE, 12 * SIDE, 3)
    assert 0 < (sheet == OUTLINE).all(axis=2).mean() < 0.1


@pytest.mark.slow
def test_the_shared_masks_are_those_of_their_source_and_their_patients_are_kaggles(tmp_path, test_data):
    dataset = own(tmp_path, test_data / "brats_masks", size=256)
    counts = dataset.manifest["counts"]
    assert (counts["slices"], counts["slices_with_mask"], counts["slices_with_lesion"]) == (865, 865, 865)
    masks = dataset.load("all", masks=True).masks
    planes = [
        plane.tobytes()
        for path in (test_data / "brats_masks").glob("*/*_seg.nii.gz")
        for plane in displayed(in_ras(path))
    ]
    assert sorted(mask.tobytes() for mask in masks) == sorted(planes)
    prepare("kaggle", home=tmp_path, source=test_data / "rsna_miccai", jobs=1)
    kaggle = open_dataset(tmp_path / "datasets", "kaggle")
    (shared,) = [found for found in dataset_lints(dataset, "subject", [kaggle]) if found.code == "shared-patients"]
    assert "of 70 of 70 subjects" in shared.evidence


def in_ras(path):
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.uint8)

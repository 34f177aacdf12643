"""Small inputs as people have them, each prepared by the function that ``data prepare`` calls.

``LATENTSWEEP_TEST_CASES`` names their folder. What is expected of each stands in :data:`CASES`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets.overview import export_pngs
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.jobs.image_folder import read_images
from latentsweep.lints import dataset_lints
from trainables.errors import DataError

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a folder is expected to give: a number, a finding, or a refusal in words."""

    name: str = "mine"
    below: str = "source"
    package: str = ""
    """The installed package whose folder ``below`` is the source."""
    series: str | None = None
    size: int = 32
    volumes: int | None = None
    subjects: int | None = None
    split: tuple[int, int, int] | None = None
    """Subjects of train, validation and test."""
    lint: str = ""
    """The code of a finding about the dataset."""
    masks: int | None = None
    """Slices with a lesion mask."""
    says: str = ""
    """A pattern that the notes, the reasons of rejects or the error must hold."""
    refused: bool = False

    def __post_init__(self) -> None:
        counted = any(number is not None for number in (self.volumes, self.subjects, self.split, self.masks))
        if not (self.says if self.refused else counted or self.lint):
            raise ValueError("a case must state a number of its dataset, a finding, or the words of a refusal")


def variants(folder: str, rows: dict[str, Case]) -> dict[str, Case]:
    """A row for each of the sources in a folder."""
    return {f"{folder}/source/{name}": replace(case, below=".") for name, case in rows.items()}


CASES = {
    "01-same-brain-every-format": Case(volumes=17),
    "02-dual-echo-one-series": Case(volumes=2, subjects=1),
    "04-localizer-and-screenshot-in-folder": Case(volumes=1, says="a localizer.*a screenshot"),
    "05-siemens-mosaic": Case(refused=True, says="mosaic"),
    "06-transfer-syntaxes": Case(volumes=8, subjects=1, says="damaged .JPEG Extended"),
    "07-no-preamble": Case(volumes=1),
    "08-signed-12-of-16": Case(volumes=2, subjects=1),
    "10-rescale-slopes": Case(volumes=4),
    "11-monochrome1": Case(volumes=2, subjects=1),
    "12-new-series-uid-for-every-file": Case(name="kaggle", volumes=3, subjects=3),
    "14-two-exam-folders-one-PatientID": Case(volumes=16, subjects=8),
    "15-kaggle-nested-copy": Case(name="kaggle", volumes=3, subjects=3, says="a copy of another image"),
    "17-blank-and-one-slice-series": Case(name="kaggle", split=(3, 1, 1), says="blank.*without a usable slice: 1"),
    **variants(
        "16-kaggle-layout-variants",
        dict.fromkeys(
            ["cases_directly", "lower_case_series", "no_ending", "source_is_train", "train_val_dirs", "upper_DCM"],
            Case(name="kaggle", volumes=3, subjects=3),
        )
        | {
            "T1wCE_asked": Case(name="kaggle", series="T1wCE", volumes=3),
            "png_conversion": Case(name="kaggle", volumes=3, subjects=3, says="plane.* unknown"),
            "test_only": Case(name="kaggle", volumes=3, subjects=3, says="test folder alone"),
            "train_val_dirs/train/00000": Case(name="kaggle", refused=True, says="the folder that holds the cases"),
            "withdrawn": Case(name="kaggle", volumes=3, says="withdrew for a blank series"),
            "zip_left": Case(name="kaggle", refused=True, says="unpack the archives first"),
        },
    ),
    "19-sagittal-without-orientation": Case(name="kaggle", volumes=1, says="plane.* unknown"),
    "20-multiframe-enhanced-mr": Case(refused=True, says="multi-frame"),
    "21-two-matrix-sizes-one-series": Case(name="kaggle", volumes=2, subjects=1),
    "22-TCIA-NBIA-download": Case(refused=True, says="contrast.*flair.*t1ce.*--series"),
    "22b-TCIA-two-collections": Case(subjects=8),
    "23-pixel-padding-value": Case(volumes=2),
    "24-CD-export": Case(volumes=3, subjects=3),
    "27-series-uid-stripped": Case(series="all", volumes=2, subjects=1),
    "30-MSD-Task01": Case(name="msd", volumes=4, subjects=4, masks=115),
    "31-BraTS-under-own-name": Case(refused=True, says="flair.*t1"),
    "32-BIDS-two-sessions": Case(volumes=16, subjects=8, split=(6, 1, 1)),
    "33a-UPENN-GBM-timepoints": Case(name="brats_flair", subjects=8),
    "33b-MU-Glioma-Post": Case(name="brats_flair", subjects=8),
    "33e-BraTS2024-GLI-post": Case(name="brats_flair", subjects=8, volumes=16),
    "33f-LUMIERE": Case(volumes=16, subjects=8, split=(6, 1, 1)),
    "33i-BraTS-cohorts-mixed": Case(name="brats_flair", subjects=8),
    "33j-cohort-folders-own-default": Case(subjects=8),
    "33k-flat-with-visits-own-default": Case(volumes=16, subjects=8, split=(6, 1, 1)),
    "34-BraTS2020-case-355-and-folders-named-nii": Case(name="brats_flair", volumes=5, subjects=5, masks=12),
    "35-endings-that-lie": Case(volumes=14, subjects=14),
    "36-NaN-background": Case(volumes=3),
    **variants(
        "37-odd-affines",
        dict.fromkeys(
            ["no_orientation", "pixdim_negative", "pixdim_zero", "sform_all_zero", "sform_nan"],
            Case(volumes=1, says="plane.* unknown"),
        )
        | dict.fromkeys(
            [
                "inter_nan",
                "metres",
                "quaternion_rounded",
                "slope_nan",
                "slope_negative",
                "slope_zero",
                "vox_offset_zero",
            ],
            Case(volumes=1),
        )
        | dict.fromkeys(["bad_quaternion", "vox_offset_348"], Case(refused=True, says="not a readable NIfTI file")),
    ),
    "40-gz-damaged-inside": Case(refused=True, says="cut short or damaged"),
    "41-whole-set-twice-under-other-names": Case(subjects=20, split=(14, 3, 3)),
    "42-not-really-downloaded": Case(
        name="brats_flair", refused=True, says="git lfs pull.*a web page and not a scan.*an empty file"
    ),
    "43-other-formats-with-preview-png": Case(volumes=3, subjects=3),
    "43b-other-formats-alone": Case(name="brats_flair", volumes=3, subjects=3),
    "43c-analyze-hdr-img": Case(volumes=1, says="plane.* unknown"),
    "43d-mgz": Case(volumes=1),
    **variants(
        "44-voxel-types-and-shapes",
        dict.fromkeys(
            [
                *("bg_minus1024", "dim4_one", "dim5_one", "float32_tiny", "resampling_noise_bg", "slice_1", "spikes"),
                *("uint32", "uint8", "zscored_all", "zscored_bg0"),
            ],
            Case(volumes=1),
        )
        | dict.fromkeys(["complex", "rgb24"], Case(refused=True, says="without real-valued voxels"))
        | {
            "dim4_two": Case(refused=True, says="4 dimensions.*split"),
            "slice2d": Case(refused=True, says="2 dimensions"),
            "float64_huge": Case(refused=True, says="not all finite numbers"),
        },
    ),
    "60-kaggle-class-folders": Case(volumes=48, subjects=48, says="subjects are unknown for 48 of 48"),
    "61-masks-beside-pictures": Case(volumes=5, subjects=5, masks=40),
    "61b-images-and-masks-folders": Case(masks=20),
    "67-names": Case(volumes=7, subjects=5, says="taken for axial: 7"),
    "65-recompressed-copies": Case(lint="near-identical-across-splits"),
    "65b-recompressed-copies-of-60-real-patients": Case(lint="near-identical-across-splits"),
    "62-LGG-tiff": Case(name="lgg", volumes=3, subjects=3),
    **variants(
        "63-picture-kinds", dict.fromkeys(["jfif", "webp_named_png", "png_named_jpg", "png16"], Case(volumes=1))
    ),
    "68-links": Case(below="real", volumes=3),
    "64-gif-webp-bmp-only": Case(volumes=4),
}
"""The expectation of each case by the name of its folder."""

CASES |= {
    "80-pydicom-test-files": Case(package="pydicom", below="data/test_files", refused=True, says="may be broken"),
    "81-nibabel-test-files": Case(package="nibabel", below="tests/data", refused=True, says="one kind of scan"),
    "82-nibabel-nicom": Case(package="nibabel", below="nicom/tests/data", refused=True, says="mosaic"),
    "83-real-GE-fMRI-series": Case(below="source/mr_0004", volumes=10),
    "84-real-Siemens-mosaic": Case(below="source/20180918Si", refused=True, says="mosaic"),
}
"""Files that others publish: a source that is not there is not tried."""
ELSEWHERE = {
    "66-600-jpegs-of-512-in-one-folder": "test_hundreds_of_large_pictures_in_a_folder_are_all_read",
    "70-evaluate-images-kinds": "test_pictures_of_all_kinds_give_evaluate_the_same_pixels",
    "72-export-then-prepare": "test_exported_slices_are_prepared_to_nearly_themselves",
}
"""The test of each case that is more than one preparation."""
KINDS_OF_PICTURES = {"palette": 0, "png16": 0, "rgb": 0, "upper": 0, "exif6": 1, "alpha_white_under": 3}
"""How far pixels may be from those of 8-bit PNGs, in grey levels, by the kind of picture."""


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = Path(os.environ.get("LATENTSWEEP_TEST_CASES", ROOT / ".." / "shared" / "cases")).resolve()
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no cases here: set LATENTSWEEP_TEST_CASES to the folder that holds their INDEX.md")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "case"), CASES.items(), ids=CASES.keys())
def test_a_case_is_prepared_or_refused_as_expected(cases: Path, tmp_path: Path, folder: str, case: Case) -> None:
    source = package_folder(case) if case.package else cases / folder / case.below
    if not source.is_dir():
        pytest.skip(f"{folder} is not here: its README says where to get it")
    told, dataset = outcome(case, source, tmp_path)
    assert case.refused == (dataset is None), told
    assert re.search(case.says, told), told
    if dataset is not None:
        counts = dataset.manifest["counts"]
        assert case.volumes in (None, counts["volumes"]), counts
        assert case.subjects in (None, counts["subjects"]), counts
        assert case.split in (None, tuple(counts["subjects_by_split"].values())), counts
        assert case.masks in (None, counts.get("slices_with_mask", 0)), counts
    if case.lint:
        assert dataset is not None
        assert case.lint in [found.code for found in dataset_lints(dataset, "subject")]


@pytest.mark.parametrize("stated", [{}, {"says": "a note"}, {"refused": True}, {"refused": True, "volumes": 1}])
def test_a_case_that_any_outcome_would_meet_is_none(stated: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a case must state"):
        Case(**stated)


def test_every_case_has_a_row_or_a_test(cases: Path) -> None:
    names = {folder.name for folder in cases.iterdir() if (folder / "README").is_file()}
    assert names - {*(case.split("/")[0] for case in CASES), *ELSEWHERE} == set()
    assert all(callable(globals()[test]) for test in ELSEWHERE.values())


@pytest.mark.slow  # it writes and reads 600 pictures of 512×512
def test_hundreds_of_large_pictures_in_a_folder_are_all_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    for number in range(600):
        folder = tmp_path / "Training" / ("glioma" if number < 560 else "notumor")
        folder.mkdir(parents=True, exist_ok=True)
        head = np.where(rows**2 + columns**2 < 0.7, random.integers(60, 200, (64, 64)), 0).astype(np.uint8)
        Image.fromarray(head).resize((512, 512), Image.Resampling.NEAREST).save(folder / f"Tr-{number}.jpg")
    manifest = prepare("mine", home=tmp_path / "home", source=tmp_path / "Training", size=32, jobs=1).manifest
    assert (manifest["counts"]["slices"], manifest["counts"]["subjects"], manifest["rejects"]) == (600, 600, [])


@pytest.mark.parametrize(("kind", "within"), KINDS_OF_PICTURES.items())
def test_pictures_of_all_kinds_give_evaluate_the_same_pixels(cases: Path, kind: str, within: int) -> None:
    plain, other = (read_images(cases / "70-evaluate-images-kinds" / "source" / name) for name in ("png8", kind))
    assert np.abs(plain.astype(int) - other).max() <= within


def test_exported_slices_are_prepared_to_nearly_themselves(cases: Path, tmp_path: Path) -> None:
    source, pngs = cases / "72-export-then-prepare" / "source", tmp_path / "pngs"
    first = prepare("first", home=tmp_path, source=source, size=64, jobs=1)
    export_pngs(first, pngs)
    again = prepare("again", home=tmp_path, source=pngs, subject_from="regex:/(.+)-", size=64, jobs=1)
    one, other = (dataset.load("all").images.astype(int) for dataset in (first, again))
    nearest = [np.abs(other - image).mean(axis=(1, 2)).min() for image in one]
    assert len(one) == len(other)
    assert np.mean(nearest) < 1


def package_folder(case: Case) -> Path:
    """Where the files of an installed package lie."""
    found = importlib.util.find_spec(case.package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / case.below


def outcome(case: Case, source: Path, home: Path) -> tuple[str, PreparedDataset | None]:
    """What is told of a source, and its dataset; none where it is refused."""
    try:
        dataset = prepare(case.name, home=home, source=source, series=case.series, size=case.size, jobs=1)
    except DataError as error:
        return str(error), None
    manifest = dataset.manifest
    return "; ".join([*(reject["reason"] for reject in manifest["rejects"]), *manifest["notes"]]), dataset

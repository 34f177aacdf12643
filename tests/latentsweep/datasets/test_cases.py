"""Small inputs as people have them, each prepared by the function that ``data prepare`` calls.

``LATENTSWEEP_TEST_CASES`` names their folder. What is expected of each stands in :data:`CASES`; a row with ``later``
tells what does not hold yet, and fails as soon as it holds.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from latentsweep.datasets.preparation import prepare
from trainables.errors import DataError

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a folder is expected to give."""

    name: str = "mine"
    below: str = "source"
    series: str | None = None
    volumes: int | None = None
    subjects: int | None = None
    says: str = ""
    """A pattern that the notes, the reasons of rejects or the error must hold."""
    refused: bool = False
    later: str = ""
    """Why the row does not hold yet."""


def variants(folder: str, rows: dict[str, Case]) -> dict[str, Case]:
    """A row for each of the sources in a folder."""
    return {f"{folder}/source/{name}": replace(case, below=".") for name, case in rows.items()}


CASES = {
    "01-same-brain-every-format": Case(volumes=17),
    "02-dual-echo-one-series": Case(volumes=2, subjects=1),
    "04-localizer-and-screenshot-in-folder": Case(volumes=1, says="a localizer.*a screenshot"),
    "05-siemens-mosaic": Case(refused=True, says="mosaic"),
    "07-no-preamble": Case(volumes=1, later="DICOM without a preamble is not read"),
    "12-new-series-uid-for-every-file": Case(name="kaggle", volumes=3, subjects=3),
    "14-two-exam-folders-one-PatientID": Case(volumes=16, subjects=8),
    "15-kaggle-nested-copy": Case(name="kaggle", volumes=3, subjects=3, says="a copy of another image"),
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
    "19-sagittal-without-orientation": Case(name="kaggle", says="plane.* unknown"),
    "20-multiframe-enhanced-mr": Case(refused=True, says="multi-frame"),
    "22-TCIA-NBIA-download": Case(refused=True, says="contrast.*flair.*t1ce.*--series"),
    "22b-TCIA-two-collections": Case(subjects=8),
    "24-CD-export": Case(volumes=3),
    "27-series-uid-stripped": Case(series="all", volumes=2, subjects=1),
    "30-MSD-Task01": Case(name="msd", volumes=4, subjects=4),
    "31-BraTS-under-own-name": Case(refused=True, says="flair.*t1"),
    "32-BIDS-two-sessions": Case(name="mine", subjects=8),
    "33a-UPENN-GBM-timepoints": Case(name="brats_flair", subjects=8),
    "33b-MU-Glioma-Post": Case(name="brats_flair", subjects=8),
    "33e-BraTS2024-GLI-post": Case(name="brats_flair", subjects=8, volumes=16),
    "33i-BraTS-cohorts-mixed": Case(name="brats_flair", subjects=8),
    "33j-cohort-folders-own-default": Case(subjects=8),
    "33k-flat-with-visits-own-default": Case(says="subjects are unknown"),
    "36-NaN-background": Case(volumes=3),
    "40-gz-damaged-inside": Case(refused=True, says="cut short or damaged"),
    "60-kaggle-class-folders": Case(says="subjects are unknown"),
    "61-masks-beside-pictures": Case(volumes=5, subjects=5),
    "61b-images-and-masks-folders": Case(),
    "62-LGG-tiff": Case(name="lgg", volumes=3, subjects=3),
    **variants(
        "63-picture-kinds", dict.fromkeys(["jfif", "webp_named_png", "png_named_jpg", "png16"], Case(volumes=1))
    ),
    "64-gif-webp-bmp-only": Case(volumes=4),
}
"""The expectation of each case by the name of its folder."""


@pytest.fixture(scope="module")
def cases() -> Path:
    folder = Path(os.environ.get("LATENTSWEEP_TEST_CASES", ROOT / ".." / "shared" / "cases")).resolve()
    if not (folder / "INDEX.md").is_file():
        pytest.skip("no cases here: set LATENTSWEEP_TEST_CASES to the folder that holds their INDEX.md")
    return folder


def marked(folder: str, case: Case) -> object:
    later = [pytest.mark.xfail(reason=case.later, strict=True)] if case.later else []
    return pytest.param(folder, case, id=folder, marks=later)


@pytest.mark.parametrize(("folder", "case"), [marked(folder, case) for folder, case in CASES.items()])
def test_a_case_is_prepared_or_refused_as_expected(cases: Path, tmp_path: Path, folder: str, case: Case) -> None:
    told, counts = outcome(case, cases / folder / case.below, tmp_path)
    assert case.refused == (counts is None), told
    assert re.search(case.says, told), told
    if counts is not None:
        assert case.volumes in (None, counts["volumes"]), counts
        assert case.subjects in (None, counts["subjects"]), counts


def outcome(case: Case, source: Path, home: Path) -> tuple[str, dict[str, int] | None]:
    """What is told of a source, and its counts; none where it is refused."""
    try:
        manifest = prepare(case.name, home=home, source=source, series=case.series, size=32, jobs=1).manifest
    except DataError as error:
        return str(error), None
    return "; ".join([*(reject["reason"] for reject in manifest["rejects"]), *manifest["notes"]]), manifest["counts"]

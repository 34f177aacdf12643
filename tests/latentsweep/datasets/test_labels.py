"""The table of ``data prepare --labels``: what is taken, what is refused in one line, and what is kept of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import cli

from latentsweep.datasets.labels import Labels, _categories, check_labels, read_labels
from latentsweep.datasets.manifest import is_manifest
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.datasets.sources.selection import Selection
from trainables.errors import DataError

PATIENTS = [f"SECRET-{number}" for number in range(6)]
GRADES = ["HGG", "LGG", "HGG", "HGG", "HGG", "LGG"]


def write(path: Path, head: str, *rows: str) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def grades(path: Path, values: list[str] = GRADES) -> Path:
    return write(path, "subject,grade", *(f"{p},{v}" for p, v in zip(PATIENTS, values, strict=True)))


@pytest.fixture
def source(tmp_path: Path, head: Callable[..., np.ndarray], write_nifti: Callable[..., Path]) -> Path:
    for number, name in enumerate(PATIENTS):
        write_nifti(tmp_path / "source" / name / "scan.nii.gz", head(number))
    return tmp_path / "source"


def own(home: Path, source: Path, include: tuple[str, ...] = (), **options: Any) -> PreparedDataset:
    given = {"size": 32, "jobs": 1, "subject_from": "folder:1", "selection": Selection(include, ()), **options}
    return prepare("mine", home=home, source=source, **given)


def test_numbers_and_texts_become_categories_in_order(tmp_path: Path) -> None:
    rows = [f" {p} ,{age},{grade}" for p, age, grade in zip(PATIENTS, [9, 10, 9, 10, 9, 9], GRADES, strict=True)]
    labels = read_labels(write(tmp_path / "t.csv", "\ufeffsubject,age,grade", *rows), PATIENTS)
    assert labels.categories == {"age": ["9", "10"], "grade": ["HGG", "LGG"]}
    assert labels.of_subject[PATIENTS[1]] == [1, 1]
    assert labels.counts(labels.of_subject) == {"age": {"9": 4, "10": 2}, "grade": {"HGG": 4, "LGG": 2}}
    assert "SECRET" not in repr(labels)


@pytest.mark.parametrize(
    ("values", "ordered"), [(["1", "1.0"], ["1", "1.0"]), (["10", "nan", "9"], ["10", "9", "nan"])]
)
def test_the_order_of_categories_is_the_same_in_every_process(values: list[str], ordered: list[str]) -> None:
    for tried in itertools.permutations(values):
        assert _categories(Path("t.csv"), "grade", [*tried, *tried]) == ordered


@pytest.mark.parametrize("head", ["SECRET-1,SECRET-HGG", "SECRET1,SECRET2"])
def test_a_table_without_a_row_of_names_tells_no_name(tmp_path: Path, head: str) -> None:
    with pytest.raises(DataError) as caught:
        read_labels(write(tmp_path / "table.csv", head, *(f"{p},A" for p in PATIENTS)), PATIENTS)
    assert "SECRET" not in str(caught.value)


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", "subject,grade", "", f"{PATIENTS[0]},")
    with pytest.raises(DataError, match="line 3 has 1 of 2"):
        read_labels(path, PATIENTS)


@pytest.mark.parametrize(
    ("head", "rows", "words"),
    [
        ("subject,grade", [f"{p},A" for p in PATIENTS[:4]], "a row for each of the 6 subjects .*, and 2 have none"),
        ("subject,grade", [f"{p},A" for p in [*PATIENTS, "SECRET-9"]], "1 rows have others, the first in row 8"),
        ("subject,grade", [f"{p},A" for p in [*PATIENTS, PATIENTS[1]]], "rows 3 and 8 are of the same one"),
        ("subject,mrn", [f"{p},SECRET{i}" for i, p in enumerate(PATIENTS)], "of its own in the column mrn"),
        ("subject,grade", [f"{p}," for p in PATIENTS], "a value in each column, and line 2 has 1 of 2"),
        ("subject,grade", [f"{p},A,B" for p in PATIENTS], "a value in each column, and line 2 has 3 of 2"),
        ("patient,grade", [f"{p},A" for p in PATIENTS], "the column subject and other columns"),
        ("subject", PATIENTS, "the column subject and other columns"),
        ("subject,a,a", [f"{p},A,B" for p in PATIENTS], "the column subject and other columns, each once"),
        ("subject,slice", [f"{p},1" for p in PATIENTS], "not of volumes or slices, and it has the column slice"),
        ("subject,the grade", [f"{p},A" for p in PATIENTS], "names of columns of up to 32 letters"),
        ("subject,note", [f"{p},{'x' * 41}" for p in PATIENTS], "categories of up to 40 printable letters"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_without_a_name(
    tmp_path: Path, head: str, rows: list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_labels(write(tmp_path / "table.csv", head, *rows), PATIENTS)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "--labels must be a table with" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"), [(range(20, 33), "has 13; band them, as 40-59"), ("ABCDEFGHIJKLM", "has 13; join some")]
)
def test_a_column_of_many_values_is_refused_and_numbers_are_to_be_banded(
    tmp_path: Path, values: Any, words: str
) -> None:
    many = [f"p{number}" for number in range(26)]
    rows = [f"{subject},{value}" for subject, value in zip(many, [*values, *values], strict=True)]
    with pytest.raises(DataError, match=words):
        read_labels(write(tmp_path / "t.csv", "subject,age", *rows), many)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'subject,grade\n"open'])
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    for path in (tmp_path / "t.csv", tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(DataError, match="--labels must be a table with CSV in UTF-8"):
            read_labels(path, PATIENTS)


def test_a_dataset_keeps_categories_by_pseudonym_and_no_name(tmp_path: Path, source: Path) -> None:
    dataset = own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv"))
    assert dataset.categories == {"grade": ["HGG", "LGG"]}
    whole = dataset.load("all")
    numbers = dict(zip(whole.subjects, dataset.categories_of(whole.subjects)[:, 0].tolist(), strict=True))
    assert sorted(numbers.values()) == [0, 0, 0, 0, 1, 1]
    assert dataset.manifest["counts"]["subjects_by_label"] == {"grade": {"HGG": 4, "LGG": 2}}
    for path in (tmp_path / "home/datasets").rglob("*"):
        assert not path.is_file() or b"SECRET" not in path.read_bytes()


def test_labels_are_those_of_the_subject_that_the_table_names(tmp_path: Path, source: Path) -> None:
    """Pixels tell which patient is the one of another grade, since nothing else of a patient is kept."""
    own_slices = own(tmp_path / "alone", source, include=("SECRET-3/*", "SECRET-4/*")).load("all").images
    values = ["LGG" if name in ("SECRET-3", "SECRET-4") else "HGG" for name in PATIENTS]
    dataset = own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv", values))
    whole = dataset.load("all")
    found = whole.images[dataset.categories_of(whole.subjects)[:, 0] == 1]
    assert {image.tobytes() for image in found} == {image.tobytes() for image in own_slices}


def test_the_fingerprint_changes_with_the_labels_alone_and_not_with_the_key(tmp_path: Path, source: Path) -> None:
    plain = own(tmp_path / "a", source)
    first, again = (own(tmp_path / home, source, labels=grades(tmp_path / "t.csv")) for home in ("b", "c"))
    other = own(tmp_path / "d", source, labels=grades(tmp_path / "t.csv", GRADES[::-1]))
    assert len({plain.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert first.fingerprint == again.fingerprint
    assert set(first.manifest["labels"]["subjects"]) != set(again.manifest["labels"]["subjects"])
    assert "labels" not in plain.manifest
    assert "subjects_by_label" not in plain.manifest["counts"]


def test_other_labels_are_another_dataset_that_replace_asks_for(tmp_path: Path, source: Path) -> None:
    home = tmp_path / "home"
    first = own(home, source, labels=grades(tmp_path / "t.csv"))
    assert own(home, source, labels=grades(tmp_path / "t.csv")).manifest == first.manifest
    for labels in (None, grades(tmp_path / "u.csv", GRADES[::-1])):
        with pytest.raises(DataError, match="add --replace"):
            own(home, source, labels=labels)


def test_copies_of_one_patient_with_different_labels_are_refused(
    tmp_path: Path, source: Path, head: Callable[..., np.ndarray], write_nifti: Callable[..., Path]
) -> None:
    write_nifti(source / PATIENTS[1] / "scan.nii.gz", head(0))
    with pytest.raises(DataError, match="subjects with an identical image the same labels"):
        own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv"))
    own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv", ["HGG", "HGG", *GRADES[2:]]))


@pytest.mark.parametrize(
    "damage",
    [
        {"categories": {"grade": ["HGG"]}},
        {"categories": {"grade": [1]}, "subjects": {}},
        {"categories": {"grade": ["HGG"]}, "subjects": {"a": [1]}},
        {"categories": {"grade": ["HGG"]}, "subjects": {"a": []}},
        {"categories": {"grade": ["HGG"]}, "subjects": {"a": ["x"]}},
        [],
    ],
)
def test_a_manifest_with_damaged_labels_is_none(tmp_path: Path, source: Path, damage: Any) -> None:
    manifest = own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv")).manifest
    assert is_manifest(manifest)
    assert not is_manifest(manifest | {"labels": damage})


def test_a_label_that_a_dataset_lacks_is_told_with_those_that_it_has(tmp_path: Path, source: Path) -> None:
    dataset = own(tmp_path / "home", source, labels=grades(tmp_path / "t.csv"))
    check_labels(dataset, ["grade"])
    with pytest.raises(DataError, match=r"must name labels that mine has \(grade\), got age; prepare"):
        check_labels(dataset, ["grade", "age"])


@pytest.mark.slow
def test_the_command_says_how_many_subjects_each_category_has(tmp_path: Path, source: Path) -> None:
    words = ("data", "prepare", "mine", "--source", source, "--size", 32, "--labels", grades(tmp_path / "t.csv"))
    done = cli(tmp_path / "runs", *words)
    assert "label grade, by subjects: HGG 4, LGG 2" in done.stdout
    assert json.loads(cli(tmp_path / "runs", *words, "--json").stdout)["labels"]["categories"] == {
        "grade": ["HGG", "LGG"]
    }
    done = cli(tmp_path / "runs", *words, "--check", tmp_path / "page.html", code=2)
    assert "--check reads no table of labels" in done.stderr


def test_labels_without_subjects_are_a_listing_of_nobody() -> None:
    assert Labels({"grade": ["HGG"]}, {}).listing == '[{"grade": ["HGG"]}, []]'

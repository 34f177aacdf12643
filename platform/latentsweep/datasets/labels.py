"""Labels of patients, such as a tumour's grade: read from a user's table, checked, and kept without their names."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from latentsweep.datasets.slices import PreparedDataset
from trainables.denoiser.diffusion import MOST_CATEGORIES
from trainables.errors import DataError

if TYPE_CHECKING:  # plans check labels, and need none of the libraries that read scans
    from latentsweep.datasets.arrangement import PlacedVolume
    from latentsweep.datasets.scans import Scan

SUBJECT = "subject"
"""The column that says whose a row is, by the name that the raw files give."""
FINER = ("volume", "slice")
"""Columns that nothing reads, since a label is of a subject."""
MOST_BYTES = 2**24
LONGEST = 40
"""Characters of a category's name."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


@dataclass(frozen=True)
class Labels:
    """K labels of subjects."""

    categories: dict[str, list[str]]
    """The names of each label's categories, by label."""
    of_subject: dict[str, list[int]] = field(repr=False)
    """The number of the category of each label (K,), by the subject's name."""

    @property
    def listing(self) -> str:
        """A text that changes when one of them does: to be sealed and never shown."""
        return json.dumps([self.categories, sorted(self.of_subject.items())])

    def counts(self, numbers: Mapping[str, Sequence[int]]) -> dict[str, dict[str, int]]:
        """How many subjects each category has, by label, where ``numbers`` (K,) are those of each subject."""
        columns = zip(self.categories.items(), zip(*numbers.values(), strict=True), strict=True)
        return {
            label: {name: column.count(number) for number, name in enumerate(names)}
            for (label, names), column in columns
        }


def read_labels(path: Path, subjects: Collection[str]) -> Labels:
    """The labels of ``subjects`` in a CSV file: a row for each, with the column "subject"; each other is a label.

    Raises :class:`DataError` for a file that is no such table, for rows that are missing, repeated or of nobody, and
    for a column that has more than :data:`MOST_CATEGORIES` values or tells each subject by a value of its own. No
    message holds a subject's name.
    """
    rows = _rows(path)
    names = [name for name in rows[0] if name != SUBJECT]
    lines: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        if row[SUBJECT] in lines:
            raise _wrong(
                path, f"a row for each subject, and rows {lines[row[SUBJECT]]} and {line} are of the same one"
            )
        lines[row[SUBJECT]] = line
    nobody = [line for subject, line in lines.items() if subject not in subjects]
    if nobody:
        raise _wrong(
            path,
            f"subjects that the source has, as data prepare names them, and {len(nobody)} rows have others, the "
            f"first in row {nobody[0]}",
        )
    without = len(set(subjects) - set(lines))
    if without:
        raise _wrong(
            path, f"a row for each of the {len(set(subjects))} subjects of the source, and {without} have none"
        )
    categories = {name: _categories(path, name, [row[name] for row in rows]) for name in names}
    numbers = {row[SUBJECT]: [categories[name].index(row[name]) for name in names] for row in rows}
    return Labels(categories, numbers)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, each with a text in every column; raises :class:`DataError`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _wrong(path, f"at most {MOST_BYTES:,} bytes, and it is larger")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            (_, head), *rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError):
        raise _wrong(path, "CSV in UTF-8 with a row of names, and it can't be read so") from None
    labels = [name for name in head if name != SUBJECT]
    odd = [number for number, name in enumerate(head, start=1) if name != SUBJECT and not _NAME.fullmatch(name)]
    if odd:  # what stands there may be a patient's name, where the row of names is missing
        raise _wrong(path, f"names of columns of up to 32 letters, digits and _, and that of column {odd[0]} isn't")
    if head.count(SUBJECT) != 1 or not labels or len(set(head)) < len(head) or not rows:
        raise _wrong(path, f"the column {SUBJECT} and other columns, each once, in its first row, and rows below it")
    finer = [name for name in labels if name in FINER]
    if finer:
        raise _wrong(path, f"labels of subjects, not of volumes or slices, and it has the column {finer[0]}")
    for line, row in rows:
        if len(row) != len(head) or not all(row):
            raise _wrong(path, f"a value in each column, and line {line} has {sum(map(bool, row))} of {len(head)}")
    return [dict(zip(head, row, strict=True)) for _, row in rows]


def _categories(path: Path, name: str, values: Sequence[str]) -> list[str]:
    """The categories of a column in order, of numbers by size; raises :class:`DataError`."""
    found = set(values)
    if any(len(value) > LONGEST or not value.isprintable() for value in found):
        raise _wrong(path, f"categories of up to {LONGEST} printable letters, and the column {name} has others")
    numeric = all(map(_is_finite, found))
    ordered = sorted(found, key=lambda value: (float(value), value)) if numeric else sorted(found)
    if len(found) > 1 and len(found) == len(values):
        raise _wrong(
            path,
            f"labels that several subjects share, and each subject has a value of its own in the column {name}, "
            "which would identify it; take it out",
        )
    if len(found) > MOST_CATEGORIES:
        instead = "band them, as 40-59" if numeric else "join some, or take it out"
        raise _wrong(path, f"at most {MOST_CATEGORIES} categories, and the column {name} has {len(found)}; {instead}")
    return ordered


def _is_finite(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _wrong(path: Path, what: str) -> DataError:
    return DataError(f"--labels must be a table with {what}: {path.name}; mend it, or leave --labels out")


def place_labels(
    labels: Labels, scans: Sequence[Scan], volumes: Sequence[PlacedVolume]
) -> tuple[dict[str, list[int]], str]:
    """The categories by the pseudonym of each subject, in the order of the rows, and a fingerprint of them.

    The fingerprint is the same for every key of pseudonyms. Raises :class:`DataError` where subjects that are one,
    since they share an image, have different labels.
    """
    found: dict[str, list[int]] = {}
    for placed in volumes:
        numbers = labels.of_subject[scans[placed.volume.scan].subject]
        if found.setdefault(placed.subject, numbers) != numbers:
            raise DataError(
                "--labels must give subjects with an identical image the same labels, since they count as one "
                "patient, and some differ; mend the table, or take the copies out with --exclude"
            )
    text = json.dumps([labels.categories, list(found.values())])
    return found, hashlib.sha256(text.encode()).hexdigest()


def check_labels(dataset: PreparedDataset, labels: Sequence[str]) -> None:
    """Raises :class:`DataError` where a dataset lacks one of these labels."""
    lacking = [label for label in labels if label not in dataset.categories]
    if lacking:
        known = ", ".join(dataset.categories) or "none"
        raise DataError(
            f"diffusion.label_condition must name labels that {dataset.name} has ({known}), got {lacking[0]}; "
            "prepare it with --labels and --replace, or leave label_condition empty"
        )

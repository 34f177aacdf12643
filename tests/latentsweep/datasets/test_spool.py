"""An interrupted preparation goes on from the scans that it has read."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets import preparation, scans
from latentsweep.datasets.preparation import find_scans, prepare
from latentsweep.datasets.scans import ReadersDiedError, Scan, part_loose_pictures, read_scan
from latentsweep.datasets.spool import Spool
from trainables.errors import DataError


@pytest.fixture
def source(tmp_path, head, write_nifti):
    for number in range(6):
        write_nifti(tmp_path / "source" / f"patient{number}" / "scan.nii.gz", head(number))
    (tmp_path / "source" / "patient2" / "broken.nii.gz").write_bytes(b"broken")
    return tmp_path / "source"


def own(home, source, **options):
    return prepare("mine", home=home, source=source, size=32, jobs=1, **options)


def interrupt_after(count):
    def progress(done, total):
        if done == count:
            raise KeyboardInterrupt

    return progress


@pytest.fixture
def read(monkeypatch):
    """The scans that are read, as they are read."""
    seen = []

    def noting(scan, size):
        seen.append(scan.key)
        return read_scan(scan, size)

    monkeypatch.setattr(scans, "read_scan", noting)
    return seen


@pytest.fixture
def interrupted(tmp_path, source, read):
    """A home in which a preparation was interrupted after three of seven scans."""
    with pytest.raises(KeyboardInterrupt):
        own(tmp_path / "home", source, progress=interrupt_after(3))
    assert len(read) == 3
    read.clear()
    return tmp_path / "home"


def test_an_interrupted_preparation_reads_the_rest_alone_and_gives_the_same(tmp_path, source, read, interrupted):
    told = []
    resumed = own(interrupted, source, progress=lambda done, total: told.append((done, total)))
    assert len(read) == 4
    assert told == [(done, 7) for done in range(1, 8)]
    whole = own(tmp_path / "whole", source)
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.manifest["counts"] == whole.manifest["counts"]
    assert [r["reason"] for r in resumed.manifest["rejects"]] == [r["reason"] for r in whole.manifest["rejects"]]
    np.testing.assert_array_equal(resumed.load("all").images, whole.load("all").images)
    assert sorted(p.name for p in resumed.folder.iterdir()) == ["manifest.json", "slices-00000.parquet"]


def test_other_settings_or_a_changed_source_begin_anew(source, read, interrupted):
    os.utime(source / "patient0" / "scan.nii.gz", ns=(0, 0))
    own(interrupted, source)
    assert len(read) == 7


def found_otherwise(monkeypatch, change):
    """The scans are found as a code with other rules finds them."""

    def find(*asked):
        found = find_scans(*asked)
        return dataclasses.replace(found, scans=tuple(change(list(found.scans))))

    monkeypatch.setattr(preparation, "find_scans", find)


def change_the_first(**fields):
    return lambda scans: [dataclasses.replace(scans[0], **fields), *scans[1:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda scans: scans[::-1],
        change_the_first(kind="metaimage"),
        change_the_first(subject="another"),
        change_the_first(key="another"),
        change_the_first(channel=1),
    ],
    ids=["order", "kind", "subject", "key", "channel"],
)
def test_scans_that_a_changed_rule_finds_otherwise_begin_anew(source, read, interrupted, monkeypatch, change):
    found_otherwise(monkeypatch, change)
    with pytest.raises(KeyboardInterrupt):
        own(interrupted, source, progress=interrupt_after(1))
    assert len(read) == 1


def test_a_dataset_whose_scans_a_changed_rule_finds_otherwise_needs_replace(tmp_path, source, monkeypatch):
    first = own(tmp_path / "home", source)
    found_otherwise(monkeypatch, list)
    assert own(tmp_path / "home", source).manifest == first.manifest
    found_otherwise(monkeypatch, change_the_first(subject="another"))
    with pytest.raises(DataError, match="add --replace"):
        own(tmp_path / "home", source)


def test_a_source_that_moved_is_the_same(tmp_path, source, read, interrupted):
    own(interrupted, source.rename(tmp_path / "moved"))
    assert len(read) == 4


def test_a_scan_that_was_kept_and_is_damaged_is_read_again(source, read, interrupted):
    first = sorted((interrupted / "datasets").rglob("*.parquet"))[0]
    first.write_bytes(first.read_bytes()[:-30])
    own(interrupted, source)
    assert len(read) == 5


def test_a_reader_that_died_leaves_what_was_read(tmp_path, source, read, monkeypatch):
    def dies(incoming, size, jobs, spool):
        for number, scan in enumerate(incoming[:2]):
            yield number, scans.keep_scan(scan, size, spool, number)
        raise ReadersDiedError("a process died")

    monkeypatch.setattr("latentsweep.datasets.preparation.read_scans", dies)
    with pytest.raises(ReadersDiedError):
        own(tmp_path / "home", source)
    monkeypatch.undo()
    assert len(list((tmp_path / "home" / "datasets").rglob("*.parquet"))) == 2
    assert own(tmp_path / "home", source).manifest["counts"]["slices"] == 36


def test_what_is_kept_of_a_scan_names_no_patient(interrupted):
    kept = [path for path in (interrupted / "datasets").rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert not any(b"patient" in path.read_bytes() or "patient" in path.name for path in kept)


def test_a_spool_holds_every_volume_of_a_scan_apart(tmp_path, head, write_nifti):
    path = write_nifti(tmp_path / "scan.nii.gz", head())
    result = read_scan(Scan("nifti", "a", "a", (path,)), 32)
    two = dataclasses.replace(result, volumes=[result.volumes[0], result.volumes[0][:2]])
    spool = Spool.at(tmp_path / "spool", "seal")
    assert spool.put(5, two) == spool.get(5) == two.facts
    assert [png for png, _ in spool.pictures(5, 1)] == [image.png for image in result.volumes[0][:2]]
    assert Spool.at(tmp_path / "spool", "seal").get(5) is not None
    assert Spool.at(tmp_path / "spool", "another").get(5) is None


def test_hundreds_of_pictures_in_a_folder_are_no_volume_and_none_is_lost(tmp_path, monkeypatch):
    files = tuple(Path(f"{number}.png") for number in range(600))
    for count, scans_of in ((300, 1), (600, 600)):
        parted = part_loose_pictures([Scan("picture", "a", "a", files[:count])])
        assert len(parted) == scans_of
        assert sum(len(scan.files) for scan in parted) == count
        assert len({scan.key for scan in parted}) == scans_of
    monkeypatch.setattr(scans, "MOST_IN_A_VOLUME", 4)
    folder = tmp_path / "source" / "a"
    folder.mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    counts = own(tmp_path / "home", tmp_path / "source").manifest["counts"]
    assert (counts["slices"], counts["volumes"], counts["subjects"]) == (6, 6, 1)

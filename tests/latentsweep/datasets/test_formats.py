"""What a file is, told by its first bytes, whatever it is called."""

import gzip

import pytest
from PIL import Image
from writers import WRITERS

from latentsweep.datasets.formats.readers import READERS, format_of
from latentsweep.datasets.scans import Scan, read_scan


@pytest.fixture
def written(tmp_path, head, write_nifti, write_dicom):
    """``written(format)``: the path of a small file of that format."""

    def make(kind):
        folder = tmp_path / "written"
        if kind == "nifti":
            return write_nifti(folder / "a.nii.gz", head())
        if kind == "dicom":
            write_dicom(folder, head(depth=1))
            return folder / "Image-1.dcm"
        folder.mkdir()
        if kind in WRITERS:
            return WRITERS[kind](folder, head())
        Image.new("L", (40, 40), 90).save(folder / "a.png")
        return folder / "a.png"

    return make


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["scan", "a.nii", "a.nii.gz", "a.png", "a.dcm", "a.txt"])
def test_a_file_is_what_its_first_bytes_say(tmp_path, written, kind, name):
    if READERS[kind].signature is None:
        pytest.skip("a file of this format has nothing that tells it at its beginning")
    assert format_of(written(kind).rename(tmp_path / name)) == kind


@pytest.mark.parametrize("kind", READERS)
def test_a_file_whose_first_bytes_say_nothing_is_what_its_name_says(tmp_path, kind):
    for suffix in READERS[kind].suffixes:
        for content in (b"", b"nothing known", gzip.compress(b"nothing known"), b"\x1f\x8b\0"):
            (tmp_path / f"a{suffix}").write_bytes(content)
            assert format_of(tmp_path / f"a{suffix}") == kind


def test_a_zipped_picture_is_no_picture(tmp_path, written):
    content = gzip.compress(written("picture").read_bytes())
    (tmp_path / "a").write_bytes(content)
    assert format_of(tmp_path / "a") is None


def test_a_file_that_is_not_there_or_no_file_has_no_format(tmp_path):
    assert format_of(tmp_path) is format_of(tmp_path / "nowhere") is None


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
    ],
)
def test_what_a_failed_download_left_is_named_for_every_format(tmp_path, kind, content, reason):
    path = tmp_path / "scan"
    path.write_bytes(content)
    [(told, broken, count)] = read_scan(Scan(kind, "p", "p", (path,)), 32).rejects
    assert (reason in told, broken, count) == (True, True, 1)

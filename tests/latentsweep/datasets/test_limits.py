"""Bombs, pipes and loops: refused by a stated limit, at once, before memory is taken."""

import gzip
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import fuzzing
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from latentsweep.datasets.finding import discover
from latentsweep.datasets.formats import limits
from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.formats.headers import patient_id
from latentsweep.datasets.formats.limits import guard_reading, inflates_beyond, open_regular
from latentsweep.datasets.formats.nifti import read_nifti
from latentsweep.datasets.formats.pictures import picture_volumes
from latentsweep.datasets.formats.reject import Reject
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.scans import Scan, read_scan
from latentsweep.datasets.sources.sources import LINKS
from trainables.errors import DataError

ROOT = Path(__file__).parents[3]


def png_bomb(path):
    header = fuzzing.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    body = fuzzing.png_chunk(b"IDAT", zlib.compress(bytes(2**20)))
    path.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + fuzzing.png_chunk(b"IEND", b""))


def jpeg_content(claimed=None):
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 90).save(buffer, format="JPEG")
    content = bytearray(buffer.getvalue())
    if claimed:
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", claimed, claimed)
    return bytes(content)


def jpeg_bomb(path):
    path.with_suffix(".jpg").write_bytes(jpeg_content(60000))


def nifti_header(write_nifti, folder, shape, offset=352, dtype=np.int16):
    path = write_nifti(folder / "base.nii", np.ones((40, 40, 4), dtype))
    content = bytearray(path.read_bytes())
    path.unlink()
    content[42:48] = np.array(shape, "<i2").tobytes()
    content[108:112] = np.array([offset], "<f4").tobytes()
    return bytes(content)


def claiming_gzip(path, write_nifti):
    content = nifti_header(write_nifti, path.parent, (30000, 30000, 30000))
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(content))


def claiming_all_that_is_allowed(path, write_nifti):
    content = nifti_header(write_nifti, path.parent, (512, 512, 511))
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(content))


def far_voxels(path, write_nifti):
    content = nifti_header(write_nifti, path.parent, (40, 40, 4), offset=2**30)
    path.with_suffix(".nii.gz").write_bytes(gzip.compress(content + bytes(2**22)))


def large_voxels(path, write_nifti):
    content = nifti_header(write_nifti, path.parent, (512, 512, 400), dtype=np.float64)
    path.with_suffix(".nii").write_bytes(content)


def compressed(image, syntax, content):
    image.PixelData = encapsulate([content])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax


def many_rows(image):
    image.Rows = image.Columns = 60000


def many_frames(image):
    image.NumberOfFrames = 10**9


def run_lengths(image):
    compressed(image, RLELossless, b"\x81\x00" * (limits.MAX_RLE_BYTES // 2 + 1))


def a_large_jpeg_within(image):
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    compressed(image, JPEGBaseline8Bit, jpeg_content(60000))


NIFTI_BOMBS = [
    (claiming_gzip, "more than 134,217,728 voxels"),
    (claiming_all_that_is_allowed, "cut short or damaged"),
    (far_voxels, "more than 513 MiB"),
    (large_voxels, "more than 513 MiB"),
]
DICOM_BOMBS = [
    (many_rows, "4096×4096"),
    (many_frames, "multi-frame"),
    (run_lengths, "more than 16 MiB in run lengths"),
    (a_large_jpeg_within, "cut short or damaged (JPEG Baseline (Process 1))"),
]


def refused(tmp_path, kind, reason):
    """Reads the bombs in a process of their own."""
    result = fuzzing.read_apart(kind, tmp_path / "bombs", timeout=60)
    for file in result["files"]:
        assert reason in "".join(file["rejects"])
        assert file["seconds"] < 5
    assert result["files"]
    assert result["peak_gib"] < 0.75
    return result


@pytest.mark.slow
@pytest.mark.parametrize(("make", "reason"), NIFTI_BOMBS)
def test_a_nifti_bomb_is_refused_by_what_it_claims(tmp_path, write_nifti, make, reason):
    (tmp_path / "bombs").mkdir()
    make(tmp_path / "bombs" / "bomb", write_nifti)
    assert refused(tmp_path, "nifti", reason)["peak_gib"] < 0.3


@pytest.mark.parametrize(("behind", "fits"), [(2**20, True), (2**26, False)])
def test_what_a_gzip_holds_behind_the_voxels_is_read_to_a_limit(tmp_path, head, write_nifti, behind, fits):
    path = write_nifti(tmp_path / "scan.nii.gz", head())
    voxels = read_nifti(path).voxels
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(behind), 1))
    began = time.process_time()
    if fits:
        np.testing.assert_array_equal(read_nifti(path).voxels, voxels)
    else:
        with pytest.raises(Reject, match="more than 4 MiB behind its voxels"):
            read_nifti(path)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("make", [png_bomb, jpeg_bomb])
def test_a_picture_bomb_is_refused_by_what_it_claims(tmp_path, make):
    (tmp_path / "bombs").mkdir()
    make(tmp_path / "bombs" / "bomb")
    assert refused(tmp_path, "picture", "a picture of more than 4096×4096 pixels")["peak_gib"] < 0.3


@pytest.fixture
def dicom_bomb(tmp_path, head, write_dicom):
    """``dicom_bomb(change)``: a valid image with that change, alone in a folder."""

    def make(change):
        write_dicom(tmp_path / "valid", head(depth=1))
        image = pydicom.dcmread(tmp_path / "valid" / "Image-1.dcm")
        change(image)
        (tmp_path / "bombs").mkdir()
        image.save_as(tmp_path / "bombs" / "bomb.dcm")
        return tmp_path / "bombs" / "bomb.dcm"

    return make


@pytest.mark.slow
@pytest.mark.parametrize(("change", "reason"), DICOM_BOMBS)
def test_a_dicom_bomb_is_refused_by_what_it_claims(tmp_path, dicom_bomb, change, reason):
    dicom_bomb(change)
    refused(tmp_path, "dicom", reason)


def test_a_deflated_dicom_is_inflated_no_further_than_the_limit(tmp_path, dicom_bomb):
    path = dicom_bomb(lambda image: setattr(image.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))
    assert dicom_volumes([path])[1] == [], "a deflated file is read"
    content = path.read_bytes()
    begin = 144 + struct.unpack("<I", content[140:144])[0]
    squeeze = zlib.compressobj(1, wbits=-15)
    parts = [squeeze.compress(zlib.decompress(content[begin:], -15))]
    parts += [squeeze.compress(bytes(2**20)) for _ in range(limits.MAX_DICOM_BYTES // 2**20)]
    path.write_bytes(content[:begin] + b"".join(parts) + squeeze.flush())
    assert path.stat().st_size < 2**22
    assert refused(tmp_path, "dicom", "a deflated DICOM file of more than 256 MiB")["peak_gib"] < 0.3
    assert patient_id(path) is None


def test_a_large_dicom_file_is_refused_by_its_length(tmp_path, dicom_bomb):
    path = dicom_bomb(lambda image: None)
    os.truncate(path, limits.MAX_DICOM_BYTES + 1)
    assert patient_id(path) == "SECRET-1"
    refused(tmp_path, "dicom", "a DICOM file of more than 256 MiB")


def test_a_length_that_a_tag_claims_takes_no_memory(tmp_path, dicom_bomb):
    path = dicom_bomb(lambda image: None)
    content = path.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW") + 8
    path.write_bytes(content[:place] + struct.pack("<I", 0xFFFFFFF0) + content[place + 4 :])
    refused(tmp_path, "dicom", "")


@pytest.mark.parametrize(("volumes_of", "suffix"), [(picture_volumes, ".png"), (dicom_volumes, ".dcm")])
def test_the_images_of_one_folder_have_a_limit_together(tmp_path, head, write_dicom, monkeypatch, volumes_of, suffix):
    write_dicom(tmp_path, head(depth=6))
    for number in range(6):
        Image.fromarray(head()[..., number].astype(np.uint8)).save(tmp_path / f"{number}.png")
    for module in (volumes_of.__module__, "latentsweep.datasets.formats.stacks"):
        monkeypatch.setattr(f"{module}.MAX_VOXELS", 4 * 48 * 48, raising=False)
    volumes, rejects = volumes_of(sorted(tmp_path.glob(f"*{suffix}")))
    assert sum(volume.voxels.shape[2] for volume in volumes) == 4
    assert [reject.reason for reject in rejects] == [limits.TOO_MANY_VOXELS] * 2


def test_inflating_is_told_by_a_count_and_not_by_memory():
    data = zlib.compress(bytes(5 * 2**20))[2:-4]
    assert inflates_beyond(data, 5 * 2**20 - 1)
    assert not inflates_beyond(data, 5 * 2**20)
    with pytest.raises(zlib.error):
        inflates_beyond(b"\xff" * 100, 10)


def test_a_reader_that_takes_too_long_is_stopped_even_where_it_swallows_errors(monkeypatch):
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.2)

    @guard_reading()
    def hang():
        while True:
            try:
                sum(range(10_000))
            except Exception:
                continue

    began = time.process_time()
    with pytest.raises(Reject, match="takes more than") as caught:
        hang()
    assert caught.value.broken
    assert time.process_time() - began < 5
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
    assert guard_reading()(lambda: 5)() == 5


def test_reading_outside_the_main_thread_works_without_the_limit():
    results = []
    thread = threading.Thread(target=lambda: results.append(guard_reading()(lambda: 5)()))
    thread.start()
    thread.join()
    assert results == [5]


def test_no_memory_for_one_file_is_a_reject_of_that_file():
    @guard_reading()
    def greedy():
        raise MemoryError

    with pytest.raises(Reject, match="too large for this machine's memory"):
        greedy()


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("kind", ["nifti", "dicom", "picture"])
def test_a_pipe_or_folder_in_place_of_a_file_is_rejected_at_once(pipe, kind):
    for path in (pipe, pipe.parent):
        [(reason, broken, _)] = read_scan(Scan(kind, "a", "a", (path,)), 32).rejects
        assert reason.startswith("not a readable")
        assert broken


def test_only_regular_files_are_opened(pipe, tmp_path):
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(Path("/dev/zero"))
    (tmp_path / "file").write_bytes(b"abc")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"abc"


@pytest.fixture
def hostile(tmp_path, head, write_nifti, pipe):
    """A source with three good scans and everything that could lead a reader astray."""
    source = tmp_path / "source"
    for number in range(3):
        write_nifti(source / f"p{number}" / "scan.nii.gz", head(number))
    outside = write_nifti(tmp_path / "outside" / "scan.nii.gz", head(9))
    place = source / "p0"
    (place / "out.nii.gz").symlink_to(outside)
    (place / "nowhere.nii.gz").symlink_to(place / "missing")
    (place / "loop.nii.gz").symlink_to(place / "loop.nii.gz")
    (place / "folder-loop").symlink_to(source)
    (place / "folder-out").symlink_to(outside.parent)
    (place / "device.nii").symlink_to("/dev/zero")
    os.mkfifo(place / "pipe.nii")
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(place)
        server.bind("socket.nii")
        os.chdir(before)
    (place / "all.zip").write_bytes(b"PK\3\4")
    deep = source / Path(*["d"] * (limits.MAX_DEPTH + 3))
    write_nifti(deep / "scan.nii", head(8))
    (place / "line\nbreak\x1b[31m.nii.gz").write_bytes((source / "p1" / "scan.nii.gz").read_bytes()[:-20])
    return source


def test_nothing_outside_a_source_is_read_and_nothing_in_it_hangs(hostile):
    found = discover("mine", hostile, series=None, subject_from=None)
    assert len(found.scans) == 4
    assert set(found.notes) >= {
        f"{LINKS}: 6",
        "pipes, sockets and devices that were not read: 2",
        "archives that were not opened (unpack them first): 1",
        "folders that were not entered, more than 64 below one another: 1",
    }


@pytest.mark.slow
def test_names_of_a_source_reach_no_terminal_and_no_file(tmp_path, hostile):
    (hostile / "more").mkdir()
    for number in range(3):
        scan = (hostile / f"p{number}" / "scan.nii.gz").read_bytes()
        (hostile / "more" / f"{number}.nii.gz").write_bytes(scan)
    command = [sys.executable, str(ROOT / "cli.py"), "--debug", "data", "prepare", "mine", "--source", str(hostile)]
    command += ["--size", "32", "--home", str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "links that were not followed" in done.stdout
    assert "rejected: 1 × a NIfTI file that is cut short or damaged" in done.stdout
    assert not re.search(r"\x1b|break|nii", done.stdout.replace("NIfTI", "") + done.stderr)


def test_a_source_that_is_a_loop_or_has_an_impossible_name_is_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for source in (tmp_path / "loop", tmp_path / ("n" * 5000), Path("a\0b")):
        with pytest.raises(DataError, match="does not exist"):
            prepare("mine", home=tmp_path / "home", source=source)


def test_a_source_of_archives_alone_says_to_unpack_them(tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("all.zip", "rest.tar.gz"):
        (tmp_path / "source" / name).write_bytes(b"PK")
    with pytest.raises(DataError, match="2 archive files: unpack"):
        prepare("mine", home=tmp_path / "home", source=tmp_path / "source")

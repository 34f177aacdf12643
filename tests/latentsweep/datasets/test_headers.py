"""DICOM is told by its first bytes, and a header is read once."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from latentsweep.datasets.formats import headers
from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.formats.headers import begins_as_dicom, identity, is_dicom, patient_id, series_description

SYNTAXES = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
}


@pytest.fixture
def image(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "plain", head(depth=1), SeriesDescription="SECRET t1")
    return pydicom.dcmread(tmp_path / "plain" / "Image-1.dcm")


def bare(image, syntax, with_prefix=False, with_meta=False):
    """The bytes of an image without its preamble, its file meta information, or both."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    if not syntax.is_little_endian:
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    image.set_original_encoding(syntax.is_implicit_VR, True, image.original_character_set)
    write_dataset(buffer, image)
    meta = DicomBytesIO()
    if with_meta:
        image.file_meta.TransferSyntaxUID = syntax
        write_file_meta_info(meta, image.file_meta, enforce_standard=False)
    return (bytes(128) + b"DICM" if with_prefix else b"") + meta.getvalue() + buffer.getvalue()


@pytest.mark.parametrize(("with_prefix", "with_meta"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_dicom_without_preamble_or_meta_is_read(tmp_path, image, syntax, with_prefix, with_meta):
    [plain], _ = dicom_volumes(sorted((tmp_path / "plain").iterdir()))
    path = tmp_path / "IM1"
    path.write_bytes(bare(image, syntax, with_prefix, with_meta))
    assert is_dicom(path)
    [volume], rejects = dicom_volumes([path])
    assert rejects == []
    np.testing.assert_array_equal(volume.voxels, plain.voxels)
    assert identity(path) == headers.Identity("SECRET-1", "SECRET t1")


def test_other_files_are_no_dicom(tmp_path, head, write_nifti):
    random = np.random.default_rng(0)
    write_nifti(tmp_path / "scan.nii", head())
    contents = [
        b"",
        bytes(2000),
        b"\xff" * 2000,
        b"no DICOM at all, but a text of some length " * 30,
        (tmp_path / "scan.nii").read_bytes(),
        np.arange(2000, dtype="<u2").tobytes(),
        struct.pack("<HHI", 8, 8, 8) + random.bytes(1000),
        struct.pack("<HHI", 2, 0, 4) * 100,
        struct.pack("<II", 2, 3) * 200,
        *(random.bytes(1024) for _ in range(500)),
        *(struct.pack("<H", 8) + random.bytes(1022) for _ in range(500)),
    ]
    assert not any(begins_as_dicom(content) for content in contents)


def test_dicom_files_that_pydicom_ships_are_told_but_for_one_with_a_stray_first_byte():
    files = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
    assert len(files) > 50
    assert {file.name for file in files if not is_dicom(file)} == {"no_meta.dcm"}


def test_a_report_is_no_image_and_not_damaged(tmp_path, image):
    del image.Rows, image.PixelData
    for storage, broken in ((uid.BasicTextSRStorage, False), (uid.RTPlanStorage, False), (uid.MRImageStorage, True)):
        image.SOPClassUID = storage
        image.save_as(tmp_path / "report.dcm")
        [reject] = dicom_volumes([tmp_path / "report.dcm"])[1]
        assert reject.broken is broken
        assert ("without an image" in reject.reason) is not broken


def test_a_header_is_read_once_for_the_patient_and_the_description(tmp_path, image, monkeypatch):
    path = tmp_path / "a.dcm"
    image.save_as(path)
    opened = []
    real = headers.open_scan
    monkeypatch.setattr(headers, "open_scan", lambda path: opened.append(path) or real(path))
    assert (patient_id(path), series_description(path), patient_id(path)) == ("SECRET-1", "SECRET t1", "SECRET-1")
    assert opened == [path]
    image.PatientID = "SECRET-22"
    image.save_as(path)
    assert patient_id(path) == "SECRET-22", "the file is another one now"
    assert "SECRET" not in repr(identity(path))
    assert patient_id(tmp_path / "absent") is None


def test_a_patient_behind_a_long_header_is_found(tmp_path, image):
    image.add_new(0x00080005, "CS", "ISO_IR 100")
    image.add_new(0x00090010, "LO", "MAKER")
    image.add_new(0x00091001, "OB", bytes(3 * 2**16))
    image.save_as(tmp_path / "a.dcm")
    assert identity(tmp_path / "a.dcm") == headers.Identity("SECRET-1", "SECRET t1")

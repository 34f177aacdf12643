"""Every transfer syntax gives the pixels that were stored, or a reason that names it."""

import shutil

import compressed
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from latentsweep.datasets.formats.decoding import CODECS, measure_jpeg
from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.preparation import prepare


@pytest.fixture
def image(tmp_path, head, write_dicom):
    """One uncompressed image, and ``read(image)``: its pixels or the reason for which there are none."""
    write_dicom(tmp_path / "plain", head(depth=1))
    return pydicom.dcmread(tmp_path / "plain" / "Image-1.dcm")


@pytest.fixture
def read(tmp_path):
    def read(image):
        path = tmp_path / "read.dcm"
        image.save_as(path)
        volumes, rejects = dicom_volumes([path])
        return volumes[0].voxels[..., 0] if volumes else rejects[0].reason

    return read


def test_every_codec_is_tried_here():
    assert {*compressed.LOSSLESS, *compressed.LOSSY, uid.JPEGBaseline8Bit} == set(CODECS)


@pytest.mark.parametrize("syntax", compressed.LOSSLESS, ids=lambda syntax: uid.UID(syntax).keyword)
def test_a_lossless_transfer_syntax_gives_the_same_pixels(image, read, syntax):
    plain = read(image)
    compressed.compress(image, syntax)
    np.testing.assert_array_equal(read(image), plain)


@pytest.mark.parametrize("syntax", compressed.LOSSY, ids=lambda syntax: uid.UID(syntax).keyword)
def test_a_lossy_transfer_syntax_gives_nearly_the_same_pixels(image, read, syntax):
    plain = read(image)
    compressed.compress(image, syntax)
    assert 0 < np.abs(read(image) - plain).mean() < 60


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_the_sign_of_twelve_bits_of_sixteen_is_kept(image, read, syntax):
    image.PixelRepresentation = 1
    values = image.pixel_array.astype(np.int16) - 300
    image.PixelData = (values & 0xFFF).astype("<u2").tobytes()
    plain = read(image)
    assert plain.min() == -300
    compressed.compress(image, syntax)
    np.testing.assert_array_equal(read(image), plain)


def test_a_signed_jpeg_2000_stream_keeps_its_signs(image, read):
    image.PixelRepresentation, image.BitsStored, image.HighBit = 1, 16, 15
    values = image.pixel_array.astype(np.int16) - 300
    image.PixelData = values.tobytes()
    plain = read(image)
    stream = imagecodecs.jpeg2k_encode(values, codecformat="j2k", reversible=True)
    compressed.compress(image, uid.JPEG2000Lossless, lambda _: stream)
    np.testing.assert_array_equal(read(image), plain)


def test_a_jpeg_2000_stream_in_a_jp2_file_is_read(image, read):
    plain = read(image)
    boxed = imagecodecs.jpeg2k_encode(image.pixel_array, codecformat="jp2", reversible=True)
    compressed.compress(image, uid.JPEG2000Lossless, lambda _: boxed)
    np.testing.assert_array_equal(read(image), plain)


@pytest.mark.parametrize("syntax", [*compressed.LOSSLESS, uid.JPEGExtended12Bit])
def test_what_a_stream_claims_beyond_its_header_is_refused_before_it_is_decoded(image, read, monkeypatch, syntax):
    compressed.compress(image, syntax, lambda pixels: compressed_twice(pixels, syntax))
    monkeypatch.setitem(CODECS, syntax, decode_nothing(CODECS[syntax]))
    assert read(image) == f"a DICOM image that is cut short or damaged ({uid.UID(syntax).name})"


@pytest.mark.parametrize("syntax", compressed.LOSSLESS)
def test_a_stream_far_longer_than_its_pixels_is_not_decoded(image, read, monkeypatch, syntax):
    encode = compressed.LOSSLESS[syntax]
    compressed.compress(image, syntax, lambda pixels: encode(pixels) + bytes(2**17) + b"\xff\xd9")
    monkeypatch.setitem(CODECS, syntax, decode_nothing(CODECS[syntax]))
    assert "cut short or damaged" in read(image)


def compressed_twice(pixels, syntax):
    return {**compressed.LOSSLESS, **compressed.LOSSY}[syntax](np.tile(pixels, (2, 1)))


def decode_nothing(codec):
    def fail(data):
        raise SystemExit("decoded")

    return type(codec)(fail, codec.trim, codec.measure)


@pytest.mark.parametrize("syntax", {**compressed.LOSSLESS, **compressed.LOSSY})
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_stream_that_is_cut_short_is_refused(image, read, syntax, share):
    encode = {**compressed.LOSSLESS, **compressed.LOSSY}[syntax]
    compressed.compress(image, syntax, lambda pixels: (whole := encode(pixels))[: int(share * len(whole))])
    assert "cut short or damaged" in read(image)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        (uid.MPEG2MPML, "MPEG2 Main Profile / Main Level"),
        ("1.2.840.10008.1.2.4.55", "JPEG Full Progression"),
        ("1.2.3.4.5", "an unknown transfer syntax"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_named(image, read, syntax, words):
    image.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = uid.UID(syntax)
    reason = read(image)
    assert words in reason
    assert "which is not read" in reason
    assert "1.2.3.4.5" not in reason


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc2" + bytes(20) + b"\xff\xd9"])
def test_a_stream_without_a_frame_header_that_is_read_has_no_size(stream):
    with pytest.raises(ValueError, match="no frame header"):
        measure_jpeg(stream)


@pytest.mark.slow
def test_shared_series_prepare_to_the_same_bits_from_every_lossless_transfer_syntax(test_data, tmp_path):
    cases = sorted((test_data / "rsna_miccai" / "train").iterdir())[:3]
    plain = tmp_path / "plain"
    for case in cases:
        shutil.copytree(case, plain / "train" / case.name)
    told = fingerprint(plain, tmp_path)
    for syntax in compressed.LOSSLESS:
        folder = tmp_path / uid.UID(syntax).keyword
        for path in plain.rglob("*.dcm"):
            image = pydicom.dcmread(path)
            compressed.compress(image, syntax)
            place = folder / path.relative_to(plain)
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(place)
        assert fingerprint(folder, tmp_path) == told


def fingerprint(source, tmp_path):
    home = tmp_path / f"home of {source.name}"
    return prepare("kaggle", home=home, source=source, size=64, jobs=1).manifest["fingerprint"]

"""Two hundred damaged files for each reader end in slices or in a listed reject: no traceback, no hang, no bomb."""

import io
import json
import re
from collections import Counter
from pathlib import Path

import compressed
import fuzzing
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless
from writers import WRITERS, write_minc1

from latentsweep.datasets import preparation
from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.preparation import prepare

COUNT = 200
PLANTED = re.compile("PLANTED|SECRET")


def nifti(folder, head, write_nifti, write_dicom, name="scan.nii"):
    path = write_nifti(folder / name, head())
    content = bytearray(path.read_bytes()) if name.endswith(".nii") else None
    if content:
        content[112:120] = np.array([0.5, 3.0], "<f4").tobytes()  # slope and intercept
        path.write_bytes(content)
    return path


def nifti_gz(folder, head, write_nifti, write_dicom):
    return nifti(folder, head, write_nifti, write_dicom, "scan.nii.gz")


def nifti_2(folder, head, write_nifti, write_dicom):
    import nibabel as nib

    nib.save(nib.Nifti2Image(head().astype(np.float32), np.eye(4)), folder / "scan.nii")
    return folder / "scan.nii"


def dicom(folder, head, write_nifti, write_dicom, change=lambda image: None):
    write_dicom(folder, head(depth=1), PatientName="PLANTED^NAME", StudyDescription="SECRET")
    path = folder / "Image-1.dcm"
    image = pydicom.dcmread(path)
    change(image)
    image.save_as(path)
    return path


def encapsulated(image, syntax, encoded, **tags):
    image.PixelData = encapsulate([encoded])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = syntax
    for tag, value in tags.items():
        setattr(image, tag, value)


def dicom_deflated(*made):
    return dicom(*made, lambda image: setattr(image.file_meta, "TransferSyntaxUID", DeflatedExplicitVRLittleEndian))


def dicom_rle(*made):
    return dicom(*made, lambda image: image.compress(RLELossless))


def dicom_jpeg(*made):
    def change(image):
        content = jpeg_of(image.pixel_array)
        bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
        encapsulated(image, JPEGBaseline8Bit, content, **bits)

    return dicom(*made, change)


def dicom_jpeg2000(*made):
    def change(image):
        buffer = io.BytesIO()
        Image.fromarray(image.pixel_array).save(buffer, format="JPEG2000", no_jp2=True)
        encapsulated(image, JPEG2000Lossless, buffer.getvalue(), BitsStored=16, HighBit=15)

    return dicom(*made, change)


def dicom_enhanced(*made):
    def change(image):
        orientation, spacing = pydicom.Dataset(), pydicom.Dataset()
        orientation.ImageOrientationPatient, spacing.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        shared = pydicom.Dataset()
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [spacing]
        groups = []
        for number in range(4):
            position, group = pydicom.Dataset(), pydicom.Dataset()
            position.ImagePositionPatient = [0, 0, number]
            group.PlanePositionSequence = [position]
            groups.append(group)
        image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], groups
        image.NumberOfFrames = len(groups)
        image.PixelData *= len(groups)

    return dicom(*made, change)


def dicom_without_preamble(*made):
    path = dicom(*made)
    path.write_bytes(path.read_bytes()[132:])
    return path


def dicom_compressed(syntax):
    return lambda *made: dicom(*made, lambda image: compressed.compress(image, syntax))


def jpeg_of(pixels):
    buffer = io.BytesIO()
    Image.fromarray((pixels // 4).astype(np.uint8)).save(buffer, format="JPEG")
    return buffer.getvalue()


def png(folder, head, *_):
    Image.fromarray((head()[..., 3] // 4).astype(np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def png_16_bit(folder, head, *_):
    Image.fromarray(head()[..., 3]).save(folder / "a.png")
    return folder / "a.png"


def png_palette(folder, head, *_):
    Image.fromarray((head()[..., 3] // 4).astype(np.uint8)).convert("P").save(folder / "a.png")
    return folder / "a.png"


def jpeg(folder, head, *_):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray((head()[..., 3] // 4).astype(np.uint8)).save(folder / "a.jpg", exif=exif)
    return folder / "a.jpg"


def picture_as(suffix, dtype=np.uint8, **options):
    def make(folder, head, *_):
        Image.fromarray((head()[..., 3] // 4).astype(dtype)).save(folder / f"a{suffix}", **options)
        return folder / f"a{suffix}"

    return make


def written(kind, **options):
    def make(folder, head, *_):
        return WRITERS[kind](folder, head(), **options)

    return make


READERS = {
    "nifti": (nifti, None),
    "nifti_gz": (nifti_gz, fuzzing.within_gzip),
    "nifti_2": (nifti_2, None),
    "dicom": (dicom, None),
    "dicom_deflated": (dicom_deflated, None),
    "dicom_rle": (dicom_rle, None),
    "dicom_jpeg": (dicom_jpeg, None),
    "dicom_jpeg2000": (dicom_jpeg2000, None),
    "dicom_enhanced": (dicom_enhanced, None),
    "dicom_without_preamble": (dicom_without_preamble, None),
    **{
        f"dicom_{uid.UID(syntax).keyword}": (dicom_compressed(syntax), None)
        for syntax in (*compressed.LOSSLESS, *compressed.LOSSY)
    },
    "picture_png": (png, fuzzing.within_png),
    "picture_png_16_bit": (png_16_bit, fuzzing.within_png),
    "picture_png_palette": (png_palette, fuzzing.within_png),
    "picture_jpeg": (jpeg, None),
    "picture_tiff": (picture_as(".tif"), None),
    "picture_tiff_16_bit": (picture_as(".tif", np.uint16), None),
    "picture_tiff_lzw": (picture_as(".tif", compression="tiff_lzw"), None),
    "picture_webp": (picture_as(".webp"), None),
    "picture_bmp": (picture_as(".bmp"), None),
    "metaimage": (written("metaimage"), None),
    "metaimage_packed": (written("metaimage", packed=True), None),
    "nrrd_raw": (written("nrrd"), None),
    "nrrd_gzip": (written("nrrd", encoding="gzip"), None),
    "nrrd_bzip2": (written("nrrd", encoding="bzip2"), None),
    "mgh": (written("mgh", suffix=".mgh"), None),
    "mgh_zipped": (written("mgh"), fuzzing.within_gzip),
    "minc_1": (lambda folder, head, *_: write_minc1(folder, head()), None),
    "minc_2": (written("minc"), None),
    "minc_2_packed": (written("minc", compression="gzip"), None),
    "analyze": (written("analyze"), None),
    "array_npy": (written("array"), None),
    "array_npz": (written("array", suffix=".npz"), None),
    "array_h5": (written("array", suffix=".h5"), None),
    "cheng": (written("cheng"), None),
    "picture_gif": (picture_as(".gif"), None),
}


@pytest.fixture
def valid(tmp_path, head, write_nifti, write_dicom):
    def make(reader):
        folder = tmp_path / "valid"
        folder.mkdir()
        return READERS[reader][0](folder, head, write_nifti, write_dicom)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_end_in_slices_or_in_a_listed_reject(tmp_path, valid, reader):
    path, kind = valid(reader), reader.partition("_")[0]
    [as_it_was] = fuzzing.read_apart(kind, path.parent)["files"]
    assert as_it_was["slices"] > 0, "the file that the damaged ones are made of is a valid one"
    seed = list(READERS).index(reader)
    fuzzing.damaged_copies(path, tmp_path / "damaged", COUNT, seed, READERS[reader][1])
    result = fuzzing.read_apart(kind, tmp_path / "damaged")
    assert len(result["files"]) == COUNT
    assert result["peak_gib"] < 2
    assert max(file["seconds"] for file in result["files"]) < 10
    reasons = Counter(reason for file in result["files"] for reason in file["rejects"])
    assert not [file for file in result["files"] if not (file["slices"] or file["rejects"] or file["dropped"])]
    assert not [reason for reason in reasons if "its reader failed with" in reason], reasons
    assert not [reason for reason in reasons if PLANTED.search(reason)]
    assert reasons.total() >= COUNT // 20, "hardly anything was damaged"


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["dicom", "dicom_enhanced", "dicom_JPEGLosslessSV1"])
def test_a_damaged_file_leaves_the_good_series_of_its_folder(tmp_path, valid, head, write_dicom, reader):
    fuzzing.damaged_copies(valid(reader), tmp_path / "damaged", 60, 7)
    write_dicom(tmp_path / "good", head(1, depth=3))
    good = sorted((tmp_path / "good").iterdir())
    [alone] = dicom_volumes(good)[0]
    damaged = [path for path in (tmp_path / "damaged").rglob("*") if path.is_file()]
    assert len(damaged) == 60
    for path in damaged:
        found, rejects = dicom_volumes([path, *good])
        assert any(np.array_equal(volume.voxels, alone.voxels) for volume in found)
        assert sum(volume.voxels.shape[2] for volume in found) > 3 or rejects


@pytest.mark.slow
def test_damaged_files_among_good_ones_are_listed_without_an_identifier(
    tmp_path, head, write_nifti, monkeypatch, caplog, capfd
):
    monkeypatch.setattr(preparation, "MAX_BROKEN_SHARE", 1.0)
    source = tmp_path / "source"
    for number in range(4):
        write_nifti(source / f"PLANTED-good-{number}" / "SECRET.nii.gz", head(number))
    fuzzing.damaged_copies(source / "PLANTED-good-0" / "SECRET.nii.gz", source, 40, 5, fuzzing.within_gzip)
    dataset = prepare("mine", home=tmp_path / "home", source=source, size=32, jobs=2)
    rejects = dataset.manifest["rejects"]
    assert sum(reject["count"] for reject in rejects) >= 20
    assert all(reject["places"] for reject in rejects)
    said = json.dumps(dataset.manifest) + caplog.text + "".join(capfd.readouterr())
    assert not PLANTED.search(said)
    for path in (tmp_path / "home").rglob("*"):
        assert not PLANTED.search(path.name)
        assert not path.is_file() or not PLANTED.search(path.read_bytes().decode("latin-1"))


def test_the_damage_is_the_same_every_time(tmp_path, valid):
    path = valid("picture_png")
    for place in ("a", "b"):
        fuzzing.damaged_copies(path, tmp_path / place, 5, 1)
    assert [f.read_bytes() for f in sorted((tmp_path / "a").rglob("*.png"))] == [
        f.read_bytes() for f in sorted((tmp_path / "b").rglob("*.png"))
    ]
    assert len({f.read_bytes() for f in Path(tmp_path / "a").rglob("*.png")}) > 1

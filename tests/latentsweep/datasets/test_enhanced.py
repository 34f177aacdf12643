"""A multi-frame DICOM gives what the same images give as single ones."""

import compressed
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from latentsweep.datasets.formats import dicom
from latentsweep.datasets.formats.dicom import dicom_volumes
from latentsweep.datasets.formats.limits import TOO_MANY_VOXELS


def volumes(folder):
    return dicom_volumes(sorted(folder.iterdir()))


def tags(**values):
    made = Dataset()
    for tag, value in values.items():
        setattr(made, tag, Sequence([value]) if isinstance(value, Dataset) else value)
    return made


def enhanced(folder, path, change=lambda number, group: None):
    """The single images of a folder as one multi-frame image; ``change`` alters the groups of each frame."""
    singles = [pydicom.dcmread(file) for file in sorted(folder.iterdir(), key=lambda file: int(file.stem[6:]))]
    image = pydicom.dcmread(sorted(folder.iterdir())[0])
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = uid.EnhancedMRImageStorage
    image.NumberOfFrames = len(singles)
    image.PixelData = b"".join(single.PixelData for single in singles)
    groups = []
    for number, single in enumerate(singles, start=1):
        group = tags(
            PlanePositionSequence=tags(ImagePositionPatient=single.ImagePositionPatient),
            FrameContentSequence=tags(StackID="1", InStackPositionNumber=number),
        )
        change(number, group)
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    image.SharedFunctionalGroupsSequence = Sequence(
        [
            tags(
                PlaneOrientationSequence=tags(ImageOrientationPatient=image.ImageOrientationPatient),
                PixelMeasuresSequence=tags(PixelSpacing=image.PixelSpacing),
            )
        ]
    )
    del image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path)
    return image


def same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.voxels, b.voxels)
        np.testing.assert_allclose(a.affine, b.affine)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_the_frames_of_one_file_are_the_images_of_a_series(tmp_path, head, write_dicom, plane):
    voxels = head(depth=40)
    order = np.random.default_rng(1).permutation(40 if plane == "axial" else 48)
    write_dicom(tmp_path / "single", voxels, plane=plane, order=order)
    enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    [found], rejects = volumes(tmp_path / "multi")
    assert rejects == []
    assert found.told
    same([found], volumes(tmp_path / "single")[0])


def test_slope_and_padding_hold_for_each_frame(tmp_path, head, write_dicom):
    write_dicom(
        tmp_path / "single", head(), RescaleSlope=lambda file: file, RescaleIntercept=-3, PixelPaddingValue=900
    )
    enhanced(
        tmp_path / "single",
        tmp_path / "multi" / "a.dcm",
        lambda number, group: setattr(
            group,
            "PixelValueTransformationSequence",
            Sequence([tags(RescaleSlope=number, RescaleIntercept=-3)]),
        ),
    )
    same(volumes(tmp_path / "multi")[0], volumes(tmp_path / "single")[0])


@pytest.mark.parametrize(
    "kind",
    [
        lambda second: {"MREchoSequence": tags(EffectiveEchoTime=80.0 if second else 10.0)},
        lambda second: {"FrameContentSequence": tags(StackID="2" if second else "1")},
        lambda second: {
            "MRImageFrameTypeSequence": tags(FrameType=["ORIGINAL", "PRIMARY", "PHASE" if second else "M", "NONE"])
        },
        lambda second: {"FrameContentSequence": tags(TemporalPositionIndex=2 if second else 1)},
    ],
    ids=["echo", "stack", "type", "time"],
)
def test_echoes_stacks_types_and_times_of_one_file_are_volumes(tmp_path, head, write_dicom, kind):
    write_dicom(tmp_path / "a", head(1), SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "b", head(2), SeriesInstanceUID="1.2.3")
    write_dicom(tmp_path / "both", head(1), SeriesInstanceUID="1.2.3")
    for file in (tmp_path / "b").iterdir():
        file.rename(tmp_path / "both" / f"Image-{int(file.stem[6:]) + 6}.dcm")
    write_dicom(tmp_path / "b", head(2), SeriesInstanceUID="1.2.3")

    def change(number, group):
        for sequence, item in kind(number > 6).items():
            setattr(group, sequence, Sequence([item]))

    enhanced(tmp_path / "both", tmp_path / "multi" / "a.dcm", change)
    found, rejects = volumes(tmp_path / "multi")
    assert rejects == []
    same(found, [*volumes(tmp_path / "a")[0], *volumes(tmp_path / "b")[0]])


def test_a_compressed_multi_frame_image_is_read(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "single", head())
    image = enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    frames = np.frombuffer(image.PixelData, "<u2").reshape(6, image.Rows, image.Columns)
    encode = compressed.LOSSLESS[uid.JPEGLosslessSV1]
    image.PixelData = encapsulate([encode(np.ascontiguousarray(frame)) for frame in frames])
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    image.save_as(tmp_path / "multi" / "a.dcm")
    same(volumes(tmp_path / "multi")[0], volumes(tmp_path / "single")[0])


def test_frames_of_maps_are_left_out_among_others(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "single", head())
    kinds = {6: ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}
    enhanced(
        tmp_path / "single",
        tmp_path / "multi" / "a.dcm",
        lambda number, group: setattr(
            group, "MRImageFrameTypeSequence", Sequence([tags(FrameType=kinds.get(number, ["ORIGINAL", "PRIMARY"]))])
        ),
    )
    [volume], [reject] = volumes(tmp_path / "multi")
    assert volume.voxels.shape[2] == 5
    assert reject.reason == "a map that was computed from other images"


@pytest.mark.parametrize("change", ["places", "groups", "count", "broken"])
def test_a_multi_frame_image_that_does_not_tell_its_places_is_refused(tmp_path, head, write_dicom, change):
    write_dicom(tmp_path / "single", head())
    image = enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    if change == "places":
        del image.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    elif change == "groups":
        del image.PerFrameFunctionalGroupsSequence
    elif change == "count":
        image.NumberOfFrames = 10**9
    else:
        image.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence = Sequence()
    image.save_as(tmp_path / "multi" / "a.dcm")
    found, [reject] = volumes(tmp_path / "multi")
    assert found == []
    assert "multi-frame DICOM that does not tell where its frames lie" in reject.reason


def no_frames(image):
    image.NumberOfFrames = 0
    image.PerFrameFunctionalGroupsSequence = Sequence()


def fewer_streams_than_frames(image):
    frames = np.frombuffer(image.PixelData, "<u2").reshape(6, image.Rows, image.Columns)
    encode = compressed.LOSSLESS[uid.JPEGLosslessSV1]
    image.PixelData = encapsulate([encode(np.ascontiguousarray(frame)) for frame in frames[:4]], has_bot=True)
    image["PixelData"].VR = "OB"
    image.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (no_frames, "does not tell where its frames lie"),
        (fewer_streams_than_frames, "cut short or damaged"),
    ],
)
def test_an_odd_multi_frame_image_leaves_the_series_beside_it(tmp_path, head, write_dicom, spoil, reason):
    write_dicom(tmp_path / "single", head())
    image = enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    spoil(image)
    image.save_as(tmp_path / "single" / "odd.dcm")
    [volume], [reject] = volumes(tmp_path / "single")
    assert volume.voxels.shape[2] == 6
    assert reason in reject.reason


def test_a_file_whose_reader_fails_is_one_reject(tmp_path, head, write_dicom, monkeypatch):
    write_dicom(tmp_path, head())
    made, whole = iter(range(6)), dicom.stored_frames

    def fails_once(header, count):
        if next(made) == 2:
            raise RuntimeError("SECRET")
        return whole(header, count)

    monkeypatch.setattr(dicom, "stored_frames", fails_once)
    [volume], [reject] = volumes(tmp_path)
    assert volume.voxels.shape[2] == 5
    assert (reject.reason, reject.broken) == ("its reader failed with RuntimeError", True)


def test_frames_have_the_limit_of_a_volume_before_they_are_decoded(tmp_path, head, write_dicom, monkeypatch):
    write_dicom(tmp_path / "single", head())
    enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    monkeypatch.setattr(dicom, "MAX_VOXELS", 6 * 48 * 48 - 1)
    monkeypatch.setattr(dicom, "stored_frames", lambda *_: pytest.fail("decoded"))
    found, [reject] = volumes(tmp_path / "multi")
    assert (found, reject.reason) == ([], TOO_MANY_VOXELS)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"SOPClassUID": uid.SegmentationStorage}, "a segmentation and no scan"),
        ({"Modality": "SEG"}, "a segmentation and no scan"),
        ({"SOPClassUID": uid.ParametricMapStorage}, "a map that was computed from other images"),
        ({"SamplesPerPixel": 3}, "a DICOM image in colours: convert it to NIfTI first"),
    ],
)
def test_a_multi_frame_image_that_is_no_scan_is_left_out(tmp_path, head, write_dicom, told, reason):
    write_dicom(tmp_path / "single", head())
    image = enhanced(tmp_path / "single", tmp_path / "multi" / "a.dcm")
    for tag, value in told.items():
        setattr(image, tag, value)
    image.save_as(tmp_path / "multi" / "a.dcm")
    found, [reject] = volumes(tmp_path / "multi")
    assert (found, reject.reason) == ([], reason)

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from latentsweep.datasets import preparation, scans
from latentsweep.datasets.formats import nifti
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.slices import open_dataset
from trainables.errors import DataError, LatentsweepError


@pytest.fixture
def source(tmp_path, head, write_nifti):
    for number in range(6):
        write_nifti(tmp_path / "source" / f"patient{number}" / "scan.nii.gz", head(number))
    return tmp_path / "source"


def own(tmp_path, source, **options):
    return prepare("mine", home=tmp_path / "home", source=source, size=32, jobs=1, **options)


def leftovers(home):
    return [path.name for path in (home / "datasets").iterdir() if not path.name.endswith(".lock")]


@pytest.mark.slow
def test_kaggle_gives_every_slice_of_every_subject(tmp_path, test_data):
    told = []
    dataset = prepare(
        "kaggle",
        home=tmp_path,
        source=test_data / "rsna_miccai",
        jobs=2,
        progress=lambda done, total: told.append((done, total)),
    )
    counts = dataset.manifest["counts"]
    assert (counts["slices"], counts["subjects"], counts["files_broken"]) == (865, 70, 0)
    assert told == [(done, 70) for done in range(1, 71)]
    parts = {split: dataset.load(split) for split in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == 865
    assert [len(set(part.subjects)) for part in parts.values()] == [50, 10, 10]
    assert not set(parts["train"].subjects) & (set(parts["test"].subjects) | set(parts["validation"].subjects))
    by_slice = [len(dataset.load(split, rule="slice")) for split in ("train", "validation", "test")]
    assert by_slice == [605, 130, 130]
    assert "withdrew" in dataset.manifest["notes"][0]


def test_a_small_dataset_does_not_wait_for_processes(tmp_path, source, monkeypatch):
    def no_pool(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(scans, "ProcessPoolExecutor", no_pool)
    assert prepare("mine", home=tmp_path / "home", source=source, size=32).manifest["counts"]["subjects"] == 6
    monkeypatch.setattr(scans, "ALONE_SECONDS", 0.0)
    with pytest.raises(AssertionError, match="a process was started"):
        prepare("mine", home=tmp_path / "other", source=source, size=32)


def test_both_brats_namings_prepare_and_modalities_of_one_patient_share_split_and_pseudonym(tmp_path, test_data):
    splits = {}
    for name in ("brats_flair", "brats_t1ce"):
        dataset = prepare(name, home=tmp_path, source=test_data / "brats", size=64, jobs=1)
        assert dataset.manifest["counts"]["subjects"] == 2
        splits[name] = {split: set(dataset.load(split).subjects) for split in ("train", "validation")}
    assert splits["brats_flair"] == splits["brats_t1ce"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "slices", "subjects", "volumes"),
    [
        ("nifti_t1ce", 240, 6, 12),
        ("nifti_flair", 214, 3, 5),
        ("jpg_t1ce", 489, 489, 489),
        ("dicom_other/t1w_axial", 40, 1, 1),
        ("dicom_other/pd_axial", 20, 1, 1),
    ],
)
def test_other_real_scans_prepare_as_a_users_own(tmp_path, test_data, folder, slices, subjects, volumes):
    counts = own(tmp_path, test_data / folder).manifest["counts"]
    assert (counts["slices"], counts["subjects"], counts["volumes"]) == (slices, subjects, volumes)
    assert counts["files_ignored"] == (folder == "dicom_other/pd_axial")


@pytest.mark.slow
def test_files_without_subjects_are_noted_as_such(tmp_path, test_data):
    assert "subjects are unknown" in own(tmp_path, test_data / "jpg_t1ce").manifest["notes"][0]


def test_the_thin_sagittal_series_is_refused_with_its_reason(tmp_path, test_data):
    with pytest.raises(DataError, match="8 × a sagittal or coronal series with too few slices"):
        own(tmp_path, test_data / "dicom_other" / "t1_sagittal")
    assert leftovers(tmp_path / "home") == []


def test_the_sagittal_series_among_others_is_a_listed_reject(tmp_path, test_data):
    manifest = own(tmp_path, test_data / "dicom_other", series="all").manifest
    assert [(reject["count"], reject["broken"]) for reject in manifest["rejects"]] == [(8, False)]
    assert manifest["counts"]["slices"] == 60


@pytest.mark.slow
def test_the_demo_is_about_700_slices_of_some_dozens_of_patients_and_always_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SUBJECTS", 4)
    one = prepare("demo", home=tmp_path / "one", jobs=1)
    other = prepare("demo", home=tmp_path / "other", jobs=2)
    assert one.fingerprint == other.fingerprint
    images = one.load("all").images
    assert images.shape == (4 * 18, 128, 128)
    assert 0.1 < (images > 25).mean() < 0.5
    assert np.all(images[:, 0] == 0)


def test_two_homes_give_the_same_rows_under_other_pseudonyms(tmp_path, source):
    one = prepare("mine", home=tmp_path / "one", source=source, size=32, jobs=1)
    other = prepare("mine", home=tmp_path / "other", source=source, size=32, jobs=1)
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(one.load("all").images, other.load("all").images)
    assert not set(one.load("all").subjects) & set(other.load("all").subjects)
    assert (tmp_path / "one" / "pseudonym.key").stat().st_mode & 0o777 == 0o600


def test_the_order_of_the_rows_does_not_tell_the_order_of_the_names(tmp_path, source):
    fingerprints = own(tmp_path, source).load("all")
    firsts = [image.tobytes() for image in fingerprints.images[::6]]
    renamed = source.parent / "renamed"
    source.rename(renamed)
    for number in range(6):
        (renamed / f"patient{number}").rename(renamed / f"other{9 - number}")
    again = prepare("again", home=tmp_path / "home", source=renamed, size=32, jobs=1).load("all")
    assert [image.tobytes() for image in again.images[::6]] == firsts


def test_the_same_again_answers_without_reading_and_anything_else_needs_replace(tmp_path, source, monkeypatch):
    first = own(tmp_path, source)
    assert first.manifest["notes"] == []
    monkeypatch.setattr(scans, "read_scan", lambda *_: pytest.fail("read again"))
    assert own(tmp_path, source).manifest == first.manifest
    monkeypatch.undo()
    with pytest.raises(DataError, match="add --replace"):
        prepare("mine", home=tmp_path / "home", source=source, size=64, jobs=1)
    with pytest.raises(DataError, match="add --replace"):
        own(tmp_path, source, subject_from="folder:-1")
    assert open_dataset(tmp_path / "home" / "datasets", "mine").fingerprint == first.fingerprint
    larger = prepare("mine", home=tmp_path / "home", source=source, size=64, jobs=1, replace=True)
    assert larger.load("all").images.shape == (36, 64, 64)
    assert leftovers(tmp_path / "home") == ["mine"]


def test_what_an_older_version_of_the_code_prepared_needs_replace(tmp_path, source, monkeypatch):
    own(tmp_path, source)
    monkeypatch.setattr(preparation, "PREPARATION", preparation.PREPARATION + 1)
    with pytest.raises(DataError, match="by an older version of the code: add --replace"):
        own(tmp_path, source)
    anew = own(tmp_path, source, replace=True)
    assert anew.manifest["settings"]["preparation"] == preparation.PREPARATION
    assert own(tmp_path, source).manifest == anew.manifest


def test_a_demo_of_an_older_version_of_the_code_is_replaced_but_not_by_another_size(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "SUBJECTS", 1)
    prepare("demo", home=tmp_path, size=32, jobs=1)
    with pytest.raises(DataError, match="other settings: add --replace"):
        prepare("demo", home=tmp_path, size=64, jobs=1)
    monkeypatch.setattr(preparation, "PREPARATION", preparation.PREPARATION + 1)
    with pytest.raises(DataError, match="add --replace"):
        prepare("demo", home=tmp_path, size=64, jobs=1)
    anew = prepare("demo", home=tmp_path, size=32, jobs=1)
    assert anew.manifest["settings"]["preparation"] == preparation.PREPARATION
    assert leftovers(tmp_path) == ["demo"]


def test_a_changed_file_is_another_source(tmp_path, source):
    own(tmp_path, source)
    os.utime(source / "patient0" / "scan.nii.gz", ns=(0, 0))
    with pytest.raises(DataError, match="another source"):
        own(tmp_path, source)


def test_two_dates_of_a_patient_are_two_volumes_in_one_split(tmp_path, source, head, write_nifti):
    for number in range(6):
        write_nifti(source / f"patient{number}" / "later.nii.gz", head(100 + number))
    dataset = own(tmp_path, source)
    assert dataset.manifest["counts"]["volumes"] == 12
    subjects = [set(dataset.load(split).subjects) for split in ("train", "validation", "test")]
    assert [len(part) for part in subjects] == [4, 1, 1]
    assert len(set.union(*subjects)) == 6


def test_identical_images_join_their_subjects(tmp_path, source, head, write_nifti):
    for number in range(6):
        write_nifti(source / f"copy{number}" / "scan.nii.gz", head(number))
    dataset = own(tmp_path, source)
    note = dataset.manifest["notes"][-1]
    assert note.startswith("subjects joined to others for identical images: 6; they hold no place in the split")
    counts = dataset.manifest["counts"]
    assert (counts["subjects"], counts["subjects_joined_by_identical_images"], counts["volumes"]) == (6, 6, 12)
    images = [
        {image.tobytes() for image in dataset.load(split).images} if counts["slices_by_split"][split] else set()
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, images)) == len(set.union(*images)) == 36


def test_copies_are_one_subject_before_the_split_is_drawn(tmp_path, source, head, write_nifti):
    before = own(tmp_path, source).manifest["counts"]["subjects_by_split"]
    for number in range(6):
        write_nifti(source / f"copy{number}" / "scan.nii.gz", head(number))
    after = own(tmp_path, source, replace=True).manifest["counts"]["subjects_by_split"]
    assert after == before == {"train": 4, "validation": 1, "test": 1}


def test_a_subject_without_a_usable_slice_holds_no_place_in_the_split(tmp_path, source, head, write_nifti):
    for name in ("u", "v", "w"):
        write_nifti(source / f"blank{name}" / "scan.nii.gz", np.zeros_like(head()))
    manifest = own(tmp_path, source).manifest
    assert manifest["counts"]["subjects_by_split"] == {"train": 4, "validation": 1, "test": 1}
    assert manifest["notes"][-1].startswith("subjects without a usable slice: 3; they hold no place in the split")


def test_a_subject_of_another_modality_holds_its_place_in_the_split(tmp_path, head, write_nifti):
    source = tmp_path / "brats"
    for number in range(8):
        for modality in ("flair", "t1ce") if number % 2 else ("t1ce",):
            write_nifti(source / f"P{number}" / f"P{number}_{modality}.nii.gz", head(number + 100 * len(modality)))

    def split_of(name):
        dataset = prepare(name, home=tmp_path, source=source, size=32, jobs=1)
        present = [split for split, n in dataset.manifest["counts"]["subjects_by_split"].items() if n]
        return {subject: split for split in present for subject in set(dataset.load(split).subjects)}

    flair, t1ce = split_of("brats_flair"), split_of("brats_t1ce")
    assert len(flair) == 4
    assert all(t1ce[subject] == split for subject, split in flair.items())


def test_a_subject_with_one_slice_is_kept(tmp_path, head, write_nifti):
    write_nifti(tmp_path / "source" / "a" / "scan.nii", head()[:, :, 2:3])
    assert own(tmp_path, tmp_path / "source").manifest["counts"]["slices"] == 1


def truncated_nifti(path, head, write_nifti):
    write_nifti(path.with_suffix(".nii.gz"), head(9))
    content = path.with_suffix(".nii.gz").read_bytes()
    path.with_suffix(".nii.gz").write_bytes(content[: len(content) // 2])


def infinite_nifti(path, head, write_nifti):
    voxels = head(9).astype(np.float32)
    voxels[20, 20] = np.inf
    write_nifti(path.with_suffix(".nii.gz"), voxels)


def four_dimensions(path, head, write_nifti):
    write_nifti(path.with_suffix(".nii.gz"), np.stack([head(9)] * 2, axis=-1))


@pytest.mark.parametrize(
    ("spoil", "reason", "broken"),
    [
        (truncated_nifti, "a NIfTI file that is cut short or damaged", True),
        (infinite_nifti, "the voxels are not all finite numbers", True),
        (four_dimensions, f"a NIfTI of 4 dimensions where 3 are needed{nifti.SPLIT}", False),
    ],
)
def test_one_bad_nifti_among_good_ones_is_a_listed_reject(tmp_path, source, head, write_nifti, spoil, reason, broken):
    spoil(source / "SECRETPATIENT" / "SECRETSCAN", head, write_nifti)
    dataset = own(tmp_path, source)
    [reject] = dataset.manifest["rejects"]
    assert (reject["reason"], reject["broken"], reject["count"]) == (reason, broken, 1)
    assert dataset.manifest["counts"]["slices"] == 36
    assert "SECRET" not in json.dumps(dataset.manifest)


def test_bad_dicoms_among_good_ones_are_listed_rejects(tmp_path, head, write_dicom):
    folder = tmp_path / "source" / "a"
    write_dicom(folder, head(depth=20))
    path = folder / "Image-7.dcm"
    path.write_bytes(path.read_bytes()[:2000])
    (folder / "Image-8.dcm").write_bytes(path.read_bytes()[:300])
    (folder / "Image-9.dcm").write_text("no DICOM at all")
    (folder / "README").write_text("junk")
    manifest = own(tmp_path, tmp_path / "source").manifest
    assert {reject["reason"]: reject["count"] for reject in manifest["rejects"]} == {
        "a DICOM image that is cut short or damaged (Explicit VR Little Endian)": 2,
        "not a readable DICOM file": 1,
    }
    assert (manifest["counts"]["slices"], manifest["counts"]["files_ignored"]) == (17, 1)


def test_bad_pictures_among_good_ones_are_listed_rejects(tmp_path):
    folder = tmp_path / "source" / "a"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(9):
        Image.fromarray(rng.integers(0, 255, (40, 40), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "empty.png").touch()
    manifest = own(tmp_path, tmp_path / "source").manifest
    rejects = [(reject["reason"], reject["count"]) for reject in manifest["rejects"]]
    assert rejects == [("an empty file: download it again", 1)]
    assert manifest["counts"]["slices"] == 9


def test_more_broken_files_than_the_stated_share_are_an_error(tmp_path, source):
    for number in range(2):
        (source / f"patient{number}" / "scan.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"at most 20% of the files may be broken, got 2 of 6 \(2 × not a readable"):
        own(tmp_path, source)
    assert leftovers(tmp_path / "home") == []


def test_blank_scans_alone_are_an_error(tmp_path, write_nifti):
    write_nifti(tmp_path / "source" / "a" / "scan.nii", np.zeros((40, 40, 4), np.int16))
    with pytest.raises(DataError, match=r"no usable slice .*1 × the volume is blank"):
        own(tmp_path, tmp_path / "source")


@pytest.mark.parametrize("place", ["home", "home/datasets", "home/datasets/mine"])
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, source, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("in the way")
    with pytest.raises(LatentsweepError) as caught:
        own(tmp_path, source)
    assert "\n" not in str(caught.value)
    assert (tmp_path / place).read_text() == "in the way"


def test_a_full_disk_is_an_error_and_what_was_read_is_kept(tmp_path, source, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preparation, "write_shards", full)
    with pytest.raises(DataError, match="No space left on device; make room"):
        own(tmp_path, source)
    monkeypatch.undo()

    def read_again(*_):
        raise AssertionError("a scan was read again")

    monkeypatch.setattr(nifti, "read_nifti", read_again)
    assert own(tmp_path, source).manifest["counts"]["slices"] == 36
    assert leftovers(tmp_path / "home") == ["mine"]


def test_a_reader_that_fails_in_an_unforeseen_way_tells_its_error_type_alone(tmp_path, source, monkeypatch):
    class OddError(Exception):
        pass

    def odd(path, channel):
        raise OddError(f"SECRET {path}")

    monkeypatch.setattr(nifti, "read_nifti", odd)
    with pytest.raises(DataError, match="6 × its reader failed with OddError") as caught:
        own(tmp_path, source)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("size", "jobs"), [(8, 1), (5000, 1), (32, 0)])
def test_settings_out_of_range_are_errors(tmp_path, source, size, jobs):
    with pytest.raises(DataError, match="must be"):
        prepare("mine", home=tmp_path / "home", source=source, size=size, jobs=jobs)


@pytest.mark.parametrize("name", ["", "../up", "A", ".hidden", "a b"])
def test_a_name_that_is_no_folder_name_is_an_error(tmp_path, source, name):
    with pytest.raises(DataError, match="a dataset's name must be"):
        prepare(name, home=tmp_path / "home", source=source)


@pytest.mark.parametrize("source", [None, "missing"])
def test_a_missing_source_says_how_to_get_it(tmp_path, source):
    with pytest.raises(DataError, match="kaggle competitions download -c rsna-miccai") as caught:
        prepare("kaggle", source=source and tmp_path / source, home=tmp_path)
    assert "data prepare kaggle --source" in str(caught.value)


def test_a_preparation_that_was_killed_leaves_nothing_that_looks_complete(tmp_path, source):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from latentsweep.datasets import preparation\n"
        "preparation.write_manifest = lambda *_: (print('now', flush=True), time.sleep(60))\n"
        "preparation.prepare('mine', home=Path(sys.argv[1]), source=Path(sys.argv[2]), size=32, jobs=1)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "home"), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGKILL)
    assert leftovers(tmp_path / "home") == [".mine.partial"]
    with pytest.raises(DataError, match="is not prepared"):
        open_dataset(tmp_path / "home" / "datasets", "mine")
    start = time.monotonic()
    assert own(tmp_path, source).manifest["counts"]["slices"] == 36
    assert time.monotonic() - start < 20
    assert leftovers(tmp_path / "home") == ["mine"]


def test_a_dataset_comes_back_when_its_replacement_was_killed_just_before_it_had_the_name(
    tmp_path, source, monkeypatch
):
    before = own(tmp_path, source)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from latentsweep.datasets import preparation\n"
        "real = Path.rename\n"
        "def rename(path, target):\n"
        "    if path.name == '.mine.partial':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(path, target)\n"
        "Path.rename = rename\n"
        "home, source = map(Path, sys.argv[1:])\n"
        "preparation.prepare('mine', home=home, source=source, size=64, jobs=1, replace=True)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "home"), str(source)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert sorted(leftovers(tmp_path / "home")) == [".mine.partial", ".mine.retired"]
    monkeypatch.setattr(preparation, "_build", lambda *_: pytest.fail("it was read again"))
    assert own(tmp_path, source).manifest == before.manifest
    assert ".mine.retired" not in leftovers(tmp_path / "home")


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_ends_at_once_with_its_workers_and_leaves_nothing(tmp_path, interrupts):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from latentsweep.datasets.preparation import prepare\n"
        "if __name__ == '__main__':\n"
        "    told = lambda done, total: print(done, flush=True)\n"
        "    prepare('demo', home=Path(sys.argv[1]), size=256, jobs=2, progress=told)\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        for _ in range(interrupts):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, error = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in error
    assert [name for name in leftovers(tmp_path / "home") if name != ".demo.partial"] == []

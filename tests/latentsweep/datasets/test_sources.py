from pathlib import PurePosixPath

import pytest

from latentsweep.datasets.finding import discover
from trainables.errors import DataError


def touch(root, *names, content=b"x"):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def subjects(found):
    return {scan.subject for scan in found.scans}


def own(source, subject_from=None):
    return discover("mine", source, series=None, subject_from=subject_from)


KAGGLE = ["00000/FLAIR/Image-1.dcm", "00000/FLAIR/Image-10.dcm", "00000/FLAIR/Image-2.dcm", "00002/T1w/Image-1.dcm"]


def kaggle(source, series=None):
    return discover("kaggle", source, series=series, subject_from=None)


@pytest.mark.parametrize("prefix", ["", "train/", "some/where/train/"])
def test_kaggle_is_found_from_the_train_folder_and_from_above(tmp_path, prefix):
    found = kaggle(touch(tmp_path, *(prefix + name for name in KAGGLE)))
    assert subjects(found) == {"00000"}
    assert [path.name for path in found.scans[0].files] == ["Image-1.dcm", "Image-2.dcm", "Image-10.dcm"]
    assert found.subjects == {"00000", "00002"}


def test_the_test_folder_of_kaggle_is_left_out(tmp_path):
    found = kaggle(touch(tmp_path, "train/00000/FLAIR/Image-1.dcm", "test/00001/FLAIR/Image-1.dcm", "labels.csv"))
    assert (found.subjects, found.ignored) == ({"00000"}, 2)


def test_another_series_of_kaggle_can_be_chosen(tmp_path):
    assert subjects(kaggle(touch(tmp_path, *KAGGLE), "T1w")) == {"00002"}


def kaggle_cases(root, *folders, name="Image-1.dcm"):
    return touch(root, *(f"{folder}/{name}" for folder in folders), content=b"\0" * 128 + b"DICM")


@pytest.mark.parametrize(
    ("folders", "cases"),
    [
        (["train/00000/flair", "train/00001/Flair"], {"00000", "00001"}),
        (["train/00000/FLAIR", "val/00001/FLAIR", "test/00002/FLAIR"], {"00000", "00001"}),
        (["test/00000/FLAIR", "test/00001/FLAIR"], {"00000", "00001"}),
        (["Training/00000/FLAIR"], {"00000"}),
    ],
)
@pytest.mark.parametrize("name", ["Image-1.dcm", "Image-1.DCM", "Image-1"])
def test_copies_of_kaggle_are_read_however_their_folders_and_files_are_called(tmp_path, folders, cases, name):
    found = kaggle(kaggle_cases(tmp_path, *folders, name=name))
    assert subjects(found) == cases
    tests = sum(folder.startswith("test") for folder in folders)
    assert ("test folder" in " ".join(found.notes)) == bool(tests)


def test_pictures_of_kaggle_are_read_where_there_is_no_dicom(tmp_path):
    found = kaggle(touch(tmp_path, "train/00000/FLAIR/Image-1.png", "train/00000/FLAIR/Image-2.png"))
    assert [(scan.kind, len(scan.files)) for scan in found.scans] == [("picture", 2)]


@pytest.mark.parametrize("folder", ["FLAIR", "."])
def test_one_case_of_kaggle_is_told_from_all_of_them(tmp_path, folder):
    with pytest.raises(DataError, match="one case or series: give --source the folder that holds the cases"):
        kaggle(kaggle_cases(tmp_path, folder))


LGG = [f"kaggle_3m/TCGA_{p}_{d}/TCGA_{p}_{d}_{n}{mask}.tif" for p, d in (("CS_4941", 19960909), ("DU_5855", 19951217))
       for n in (2, 10) for mask in ("", "_mask")]  # fmt: skip


@pytest.mark.parametrize(("series", "channel"), [(None, 1), ("pre-contrast", 0), ("flair", 1), ("post-contrast", 2)])
def test_lgg_is_a_scan_for_each_exam_with_its_masks_and_a_channel(tmp_path, series, channel):
    touch(tmp_path, *LGG, *(f"lgg-mri-segmentation/{name}" for name in LGG), "kaggle_3m/data.csv")
    found = discover("lgg", tmp_path, series=series, subject_from=None)
    assert subjects(found) == {"TCGA_CS_4941", "TCGA_DU_5855"}
    assert [scan.channel for scan in found.scans] == [channel, channel]
    assert [[path.name[-6:] for path in scan.files] for scan in found.scans] == [["_2.tif", "10.tif"]] * 2
    assert [[mask.name[-11:] for mask in scan.masks] for scan in found.scans] == [["_2_mask.tif", "10_mask.tif"]] * 2
    assert found.notes == ("files that are copies of others by their names: 4",)


MSD = [
    "imagesTr/BRATS_001.nii.gz",
    "labelsTr/BRATS_001.nii.gz",
    "imagesTr/._BRATS_001.nii.gz",
    "imagesTs/BRATS_9.nii.gz",
]


@pytest.mark.parametrize(
    ("table", "series", "channel"),
    [
        ('{"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}', None, 0),
        ('{"modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}}', "T1Gd", 2),
        ('{"modality": {"0": "T2w", "1": "FLAIR"}}', None, 1),
        ("no table", "t1gd", 2),
        ('{"modality": [1, 2]}', "T2w", 3),
    ],
)
def test_msd_takes_a_channel_by_the_name_that_its_table_gives_it(tmp_path, table, series, channel):
    touch(tmp_path, *(f"Task01_BrainTumour/{name}" for name in MSD))
    touch(tmp_path, "Task01_BrainTumour/dataset.json", content=table.encode())
    [scan] = discover("msd", tmp_path, series=series, subject_from=None).scans
    assert (scan.subject, scan.channel) == ("BRATS_001", channel)
    assert [mask.parent.name for mask in scan.masks] == ["labelsTr"]


@pytest.mark.parametrize(("name", "files"), [("lgg", LGG), ("msd", [f"Task01_BrainTumour/{name}" for name in MSD])])
def test_a_channel_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path, name, files):
    with pytest.raises(DataError, match=r"--series must be one of .*FLAIR.*; got 'T3'"):
        discover(name, touch(tmp_path, *files), series="T3", subject_from=None)


def test_lgg_under_a_name_of_ones_own_is_told_to_mix_contrasts(tmp_path):
    found = own(touch(tmp_path, *LGG))
    assert any("prepare lgg to take one" in note for note in found.notes)


@pytest.mark.parametrize("name", ["kaggle", "brats_flair", "lgg", "msd", "mine"])
def test_archives_alone_are_to_be_unpacked(tmp_path, name):
    with pytest.raises(DataError, match="unpack the archives first"):
        discover(name, touch(tmp_path, "SECRET.zip", "a.tar.gz"), series=None, subject_from=None)


def test_a_series_that_is_not_there_is_an_error_that_names_those_that_are(tmp_path):
    with pytest.raises(DataError, match="has the series FLAIR, T1w:"):
        kaggle(touch(tmp_path, *KAGGLE), "T2w")


def test_withdrawn_cases_are_noted_without_their_numbers(tmp_path):
    found = kaggle(touch(tmp_path, "train/00109/FLAIR/Image-1.dcm", "train/00000/FLAIR/Image-1.dcm"))
    assert found.notes[0].startswith("1 of the cases that the organisers withdrew")
    assert "00109" not in " ".join(found.notes)


def test_brats_is_found_in_both_namings_and_time_points_are_one_subject(tmp_path):
    touch(
        tmp_path,
        "a/BraTS20_Training_001/BraTS20_Training_001_flair.nii.gz",
        "a/BraTS20_Training_001/BraTS20_Training_001_t1ce.nii",
        "a/BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz",
        "BraTS-GLI-00005-000/BraTS-GLI-00005-000-t2f.nii.gz",
        "BraTS-GLI-00005-001/BraTS-GLI-00005-001-t2f.nii.gz",
        "BraTS-GLI-00006-000/BraTS-GLI-00006-000-t1c.nii.gz",
    )
    flair = discover("brats_flair", tmp_path, series=None, subject_from=None)
    t1ce = discover("brats_t1ce", tmp_path, series=None, subject_from=None)
    assert subjects(flair) == {"BraTS20_Training_001", "BraTS-GLI-00005"}
    assert subjects(t1ce) == {"BraTS20_Training_001", "BraTS-GLI-00006"}
    assert flair.subjects == t1ce.subjects == {"BraTS20_Training_001", "BraTS-GLI-00005", "BraTS-GLI-00006"}
    assert len(flair.scans) == 3


TWO_BRATS_PATIENTS = {"BraTS20_Training_001", "BraTS20_Training_002"}


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        ("{m}/BraTS20_Training_00{n}_{m}.nii.gz", TWO_BRATS_PATIENTS),
        ("train/{m}/BraTS20_Training_00{n}_{m}.nii.gz", TWO_BRATS_PATIENTS),
        ("BraTS20/BraTS20_Training_00{n}_{m}.nii.gz", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}_{m}.nii.gz", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}/visit/BraTS20_Training_00{n}_{m}.nii.gz", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}_{m}.nii/inner_{m}.nii", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}/BraTS20_Training_00{n}_{m}.nii/0000{n}_brain.nii", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}_{m}/inner_{m}.nii", TWO_BRATS_PATIENTS),
        ("BraTS20_Training_00{n}/scan_{m}.nii", TWO_BRATS_PATIENTS),
        ("{m}/BraTS-GLI-0000{n}-00{n}-{m}.nii.gz", {"BraTS-GLI-00001", "BraTS-GLI-00002"}),
        ("{m}/BraTS-GLI-00001-00{n}-{m}.nii.gz", {"BraTS-GLI-00001"}),
        ("visit{n}/P001/P001_visit{n}_{m}.nii.gz", {"P001"}),
        ("P001/visit{n}/P001_{m}.nii.gz", {"P001"}),
        ("{m}/LETTERS_{m}.nii.gz", {"LETTERS"}),
    ],
)
def test_the_modalities_of_a_brats_patient_are_one_subject_in_every_layout(tmp_path, layout, wanted):
    touch(tmp_path, *(layout.format(m=m, n=n) for m in ("flair", "t1ce", "t1", "seg") for n in (1, 2)))
    for name in ("brats_flair", "brats_t1ce"):
        found = discover(name, tmp_path, series=None, subject_from=None)
        assert subjects(found) == found.subjects == wanted
        assert len(found.scans) == (2 if "{n}" in layout else 1)


@pytest.mark.parametrize("visits", [("baseline", "followup"), ("baseline", "baseline"), ("2019-02-03", "2020-04-07")])
def test_a_visit_is_no_brats_patient_where_the_names_of_files_tell_none(tmp_path, visits):
    touch(tmp_path, *(f"{name}/{visit}/scan_flair.nii" for name in ("anna", "bert") for visit in visits))
    found = discover("brats_flair", tmp_path, series=None, subject_from=None)
    assert subjects(found) == found.subjects == {"anna", "bert"}


def test_a_brats_patient_whom_the_name_of_a_file_tells_is_one_through_all_visits(tmp_path):
    touch(tmp_path, *(f"{visit}/anna_flair.nii" for visit in ("baseline", "followup")))
    assert subjects(discover("brats_flair", tmp_path, series=None, subject_from=None)) == {"anna"}


BRATS_MODALITIES = (("flair", "t2f", "Flair"), ("t1ce", "t1c", "T1c"), ("t1", "t1n", "T1"), ("seg", "seg", "OT"))


@pytest.mark.parametrize(
    ("layout", "patient"),
    [
        ("Data/{grade}/Brats17_2013_{n}_1/Brats17_2013_{n}_1_{m}.nii.gz", "Brats17_2013_{n}_1"),
        ("Data/{grade}/Brats18_TCIA0{n}_131_1/Brats18_TCIA0{n}_131_1_{m}.nii.gz", "Brats18_TCIA0{n}_131_1"),
        ("Data/{grade}/BraTS19_CBICA_AA{n}_1/BraTS19_CBICA_AA{n}_1_{m}.nii", "BraTS19_CBICA_AA{n}_1"),
        ("BraTS2021_0000{n}/BraTS2021_0000{n}_{m}.nii.gz", "BraTS2021_0000{n}"),
        ("BraTS2021_0000{n}_{m}.nii.gz", "BraTS2021_0000{n}"),
        ("BraTS2021_0000{n}/BraTS2021_0000{n}_{m}.nii/0000005{n}_brain_{m}.nii", "BraTS2021_0000{n}"),
        ("{grade}/BraTS-GLI-0000{n}-000/BraTS-GLI-0000{n}-000-{later}.nii.gz", "BraTS-GLI-0000{n}"),
        ("BraTS-MET-0000{n}-000-{later}.nii.gz/0000005{n}_final.nii", "BraTS-MET-0000{n}"),
        ("BraTS-GoAT-0000{n}/BraTS-GoAT-0000{n}-{later}.nii.gz", "BraTS-GoAT-0000{n}"),
        ("BraTS20_Training_00{n}/{m}.nii.gz", "BraTS20_Training_00{n}"),
        ("P0{n}/visit_1/{m}.nii.gz", "P0{n}"),
        (
            "{grade}/brats_tcia_pat10{n}_0001/VSD.Brain.XX.O.{old}.5{n}/VSD.Brain.XX.O.{old}.5{n}.mha",
            "brats_tcia_pat10{n}",
        ),
        ("{grade}/brats_2013_pat000{n}_1/VSD.Brain.XX.O.MR_{old}.5{n}.nii.gz", "brats_2013_pat000{n}"),
    ],
)
@pytest.mark.parametrize("contrast", [0, 1])
def test_brats_of_every_year_is_found_with_its_patients_and_masks(tmp_path, layout, patient, contrast):
    def path(modality, n):
        m, later, old = BRATS_MODALITIES[modality]
        return tmp_path / layout.format(grade=("HGG", "LGG")[n % 2], n=n, m=m, later=later, old=old)

    touch(tmp_path, *(path(modality, n) for modality in range(4) for n in (1, 2)))
    found = discover(("brats_flair", "brats_t1ce")[contrast], tmp_path, series=None, subject_from=None)
    wanted = {(patient.format(n=n), (path(contrast, n),), (path(3, n),)) for n in (1, 2)}
    assert {(scan.subject, scan.files, scan.masks) for scan in found.scans} == wanted


def test_a_brats_folder_of_one_modality_is_no_patient_where_it_holds_but_one(tmp_path):
    volumes = [("flair", 1), ("flair", 2), ("t1ce", 1)]
    touch(tmp_path, *(f"BraTS20_{m}/BraTS20_Training_00{n}_{m}.nii.gz" for m, n in volumes))
    t1ce = discover("brats_t1ce", tmp_path, series=None, subject_from=None)
    assert (subjects(t1ce), t1ce.subjects) == ({"BraTS20_Training_001"}, TWO_BRATS_PATIENTS)


def test_the_default_subject_is_the_first_folder_then_the_file(tmp_path):
    found = own(touch(tmp_path, "p1/day1/a.nii", "p1/day2/a.nii", "p2/a.nii", "loose.nii"))
    assert subjects(found) == {"p1", "p2", "loose.nii"}
    assert len(found.scans) == 4


def test_a_flat_folder_of_dicoms_takes_the_patient_id(tmp_path, head, write_dicom):
    write_dicom(tmp_path / "a", head(1))
    write_dicom(tmp_path / "b", head(2), PatientID="SECRET-2")
    for path in list(tmp_path.glob("*/*")):
        path.rename(tmp_path / f"{path.parent.name}{path.name}")
    found = own(tmp_path)
    assert subjects(found) == {"PatientID SECRET-1", "PatientID SECRET-2"}
    assert "SECRET" not in repr(found)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("folder:1", {"site1", "site2"}),
        ("folder:2", {"p1", "p2"}),
        ("folder:-1", {"day1", "day2"}),
        ("file", {"site1/p1/day1/a.png", "site1/p1/day2/a.png", "site2/p2/day1/a.png"}),
        (r"regex:/p(\d)/", {"1", "2"}),
        (r"regex:site\d", {"site1", "site2"}),
    ],
)
def test_subject_from_names_the_part_of_the_path(tmp_path, rule, wanted):
    touch(tmp_path, "site1/p1/day1/a.png", "site1/p1/day2/a.png", "site2/p2/day1/a.png")
    assert subjects(own(tmp_path, rule)) == wanted


@pytest.mark.parametrize(
    "rule", ["folder:0", "folder:x", "folders:1", "regex:", "regex:(", "patient-id", "", "file:1"]
)
def test_a_rule_that_makes_no_sense_is_an_error(tmp_path, rule):
    touch(tmp_path, "site1/p1/a.png")
    with pytest.raises(DataError, match="--subject-from") if rule else pytest.raises(DataError):
        own(tmp_path, rule or "default:1")


@pytest.mark.parametrize(
    "rule",
    ["regex:(DOE_JOHN", "regex:(?P<DOE_JOHN>a)(?P<DOE_JOHN>b)", "regex:(?P=DOE_JOHN)", "DOE_JOHN", "regex:DOE_JOHN"],
)
def test_no_message_repeats_what_the_subjects_rule_holds(tmp_path, rule):
    with pytest.raises(DataError, match="--subject-from") as caught:
        own(touch(tmp_path, "site1/p1/a.png"), rule)
    assert "DOE" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("rule", ["folder:3", r"regex:nothing"])
def test_a_rule_that_misses_files_is_an_error_with_their_number(tmp_path, rule):
    touch(tmp_path, "site1/p1/secret.png")
    with pytest.raises(DataError, match="finds none for 1 of 1 files") as caught:
        own(tmp_path, rule)
    assert "secret" not in str(caught.value)


def test_junk_hidden_files_and_links_out_of_the_source_are_passed_over(tmp_path):
    outside = touch(tmp_path / "outside", "other.png") / "other.png"
    source = touch(tmp_path / "source", "p1/a.png", "p1/LICENSE", "p1/.DS_Store", "p1/._a.png", "__MACOSX/a.png")
    (source / "p1" / "link.png").symlink_to(outside)
    found = own(source)
    assert [[path.name for path in scan.files] for scan in found.scans] == [["a.png"]]
    assert found.ignored == 1


def test_volumes_come_before_the_pictures_beside_them(tmp_path):
    found = own(touch(tmp_path, "p1/a.nii.gz", "p1/preview.png"))
    assert [scan.kind for scan in found.scans] == ["nifti"]


def test_dicoms_are_known_by_their_prefix_whatever_their_name(tmp_path):
    touch(tmp_path, "p1/IM0001", content=b"\0" * 128 + b"DICM")
    touch(tmp_path, "p1/DICOMDIR", content=b"\0" * 128 + b"DICM")
    assert [path.name for path in own(tmp_path).scans[0].files] == ["IM0001"]


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("kaggle", [], "source folder is empty"),
        ("kaggle", ["p/p_flair.nii.gz"], "1 NIfTI file: check --source and --series; this looks like BraTS"),
        ("brats_flair", ["train/00000/FLAIR/Image-1.dcm"], "1 DICOM file: check --source; this looks like RSNA"),
        ("brats_flair", ["p/p_t1ce.nii.gz"], r"must hold \*_flair.nii.gz or \*-t2f.nii.gz"),
        ("mine", ["SECRET1.nii", "SECRET2.dcm"], "one kind of scan, got 1 NIfTI and 1 DICOM"),
        ("mine", ["notes.txt"], "holds 1 other file"),
    ],
)
def test_a_source_that_does_not_fit_is_one_clear_line(tmp_path, name, files, message):
    with pytest.raises(DataError, match=message) as caught:
        discover(name, touch(tmp_path, *files), series=None, subject_from=None)
    assert "\n" not in str(caught.value)
    assert not any(PurePosixPath(file).stem in str(caught.value) for file in files)


def test_a_source_that_is_missing_or_a_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        own(tmp_path / "nowhere")
    touch(tmp_path, "SECRET.dcm")
    with pytest.raises(DataError, match="must be a folder") as caught:
        own(tmp_path / "SECRET.dcm")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SECRET.zip", "got an archive: unpack it first"),
        ("SECRET.tar.gz", "got an archive: unpack it first"),
        ("SECRET.nii.gz", "got a file: give --source the folder"),
    ],
)
def test_an_archive_in_the_place_of_a_source_is_to_be_unpacked(tmp_path, name, told):
    touch(tmp_path, name)
    with pytest.raises(DataError, match=told) as caught:
        own(tmp_path / name)
    assert "SECRET" not in str(caught.value)


def test_the_packed_data_of_a_header_are_no_archive(tmp_path):
    found = own(touch(tmp_path, "a.nhdr", "a.raw.gz"))
    assert not [note for note in found.notes if "archives" in note]


@pytest.mark.parametrize("others", [[], ["p1/a.png"]])
def test_links_that_are_not_followed_name_the_way_out(tmp_path, others):
    touch(tmp_path / "blobs", "0a1b")
    source = touch(tmp_path / "source", *others)
    (source / "p0").mkdir(parents=True)
    (source / "p0" / "a.png").symlink_to(tmp_path / "blobs" / "0a1b")
    if others:
        assert any("`cp -rL SOURCE COPY`" in note and note.endswith(": 1") for note in own(source).notes)
        return
    with pytest.raises(DataError, match="`cp -rL SOURCE COPY`"):
        own(source)


def test_options_of_another_dataset_are_refused(tmp_path):
    touch(tmp_path, "p/p_flair.nii.gz")
    with pytest.raises(DataError, match="--series is for kaggle, lgg, msd and a dataset of your own"):
        discover("brats_flair", tmp_path, series="FLAIR", subject_from=None)
    with pytest.raises(DataError, match="--subject-from is for a dataset of your own"):
        discover("brats_flair", tmp_path, series=None, subject_from="folder:1")

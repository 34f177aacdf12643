"""Who a patient is where --subject-from says nothing: folders, visits, classes, and the PatientID of headers."""

from pathlib import PurePosixPath

import pytest

from latentsweep.datasets.patients import find_patients
from latentsweep.datasets.sources import SourceFile, list_source
from latentsweep.datasets.visits import without_visit


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("UPENN-GBM-00012_11", "UPENN-GBM-00012"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("PatientID_0003_Timepoint_1_brain", "PatientID_0003"),
        ("sub-001_ses-02", "sub-001"),
        ("sub-001_ses-preop", "sub-001"),
        ("P07_FU3", "P07"),
        ("P07_baseline", "P07"),
        ("P07-20190203", "P07"),
        ("P07_2019-02-03", "P07"),
        ("BraTS-GLI-00005-101", "BraTS-GLI-00005"),
    ],
)
def test_a_visit_behind_a_name_is_no_part_of_the_patient(name, patient):
    assert without_visit(name) == patient


@pytest.mark.parametrize(
    "name", ["BraTS20_Training_001", "pat_1", "sub-01", "scan_20190203", "P07_black", "P07_fullbrain", "session_1"]
)
def test_a_name_without_a_visit_stays(name):
    assert without_visit(name) == name


def patients(*paths, kind="nifti"):
    files = [SourceFile(PurePosixPath("/", path), PurePosixPath(path)) for path in paths]
    found, _ = find_patients(files, kind)
    return {str(file.relative): subject for file, subject in found.items()}


@pytest.mark.parametrize("groups", [("HGG", "LGG"), ("train", "test"), ("site1", "site2"), ("glioma", "no_tumor")])
def test_a_folder_that_is_a_class_a_split_or_a_site_is_no_patient(groups):
    one, other = groups
    assert set(patients(f"{one}/p1/a.nii", f"{one}/p2/a.nii", f"{other}/p3/b.nii").values()) == {"p1", "p2", "p3"}


def test_the_scans_of_a_patient_are_no_patients_whatever_they_are_called():
    paths = [f"{name}/{name}_V{number}/scan.nii" for name in ("anna", "bert") for number in range(3)]
    assert set(patients(*paths).values()) == {"anna", "bert"}


@pytest.mark.parametrize(
    "below", [("ses-1", "ses-2", "ses-3"), ("20190101", "20190602", "20200103"), ("anat", "dwi", "fmap")]
)
def test_the_visits_and_series_of_a_patient_do_not_make_it_a_cohort(below):
    assert set(patients(*(f"p1/{name}/a.nii" for name in below)).values()) == {"p1"}


def test_pictures_that_lie_in_a_class_are_each_their_own_subject():
    found = patients("yes/1.png", "yes/2.png", "no/1.png", kind="picture")
    assert all(subject == path for path, subject in found.items())


def exams(folder, head, write_dicom, ids):
    for number, (name, patient) in enumerate(ids.items()):
        write_dicom(folder / name, head(number, depth=2), PatientID=patient)
    files = list(list_source(folder).files)
    found, notes = find_patients(files, "dicom")
    return {file.relative.parts[0]: subject for file, subject in found.items()}, notes


def test_exams_of_one_patient_id_are_one_subject(tmp_path, head, write_dicom):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": "A", "acc2": "B", "acc3": "A"})
    assert found["acc1"] == found["acc3"] != found["acc2"]
    assert notes == ("folders joined to others for an equal PatientID: 1",)


@pytest.mark.parametrize("nobody", ["", "ANONYMOUS", "0000"])
def test_a_patient_id_that_names_nobody_joins_nothing(tmp_path, head, write_dicom, nobody):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": nobody, "acc2": nobody, "acc3": "A"})
    assert (len(set(found.values())), notes) == (3, ())


def test_a_patient_id_that_all_folders_have_joins_nothing(tmp_path, head, write_dicom):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": "A", "acc2": "A"})
    assert (set(found.values()), notes) == ({"acc1", "acc2"}, ())

"""Who a patient is where --subject-from says nothing: folders, visits, classes, and the PatientID of headers."""

import time
from pathlib import PurePosixPath

import pytest

from latentsweep.datasets.sources.names import count_alike, patient_of_folder
from latentsweep.datasets.sources.patients import alike_subjects, find_patients, names_nobody
from latentsweep.datasets.sources.sources import SourceFile, list_source
from latentsweep.datasets.sources.visits import without_visit


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
        ("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT-0001"),
        ("sub01_v1", "sub01"),
        ("OAS1_0001_MR1", "OAS1_0001"),
        ("OAS2_0001_MR2", "OAS2_0001"),
        ("OAS30001_MR_d0129", "OAS30001"),
        ("UCSF-PDGM-0004_FU003d", "UCSF-PDGM-0004"),
        ("Pat2-visitA", "Pat2"),
        ("P1 20190203", "P1"),
        ("P1 visit 2", "P1"),
        ("P1_week-000-1", "P1"),
        ("P1_12months", "P1"),
        ("OAS1_0001_week-000-1", "OAS1_0001"),
        ("site1_01_week-012", "site1_01"),
        ("002_S_0295_m06", "002_S_0295"),
        ("HCA6002236_V1_MR", "HCA6002236"),
        ("TCGA_CS_4941_19960909_12", "TCGA_CS_4941"),
        ("W39_1998.09.19_Segm", "W39"),
    ],
)
def test_a_visit_behind_a_name_is_no_part_of_the_patient(name, patient):
    assert without_visit(name) == patient


@pytest.mark.parametrize(
    "name",
    [
        *("BraTS20_Training_001", "BraTS2021_00495", "Brats17_2013_10_1", "Brats18_CBICA_AAB_1", "BraTS-GLI-00005"),
        *("IXI012-Guys-0826", "TCGA-02-0003", "UCSF-PDGM-0004", "UPENN-GBM-00012", "OAS1_0001", "002_S_0295"),
        *("900-00-1961", "CC0001_philips_15_55_M", "sub-r001s001", "sub-CC110033", "ReMIND-001", "EGD-0265"),
        *("pat_1", "sub-01", "scan_20190203", "P07_black", "P07_fullbrain", "P1_posterior", "session_1", "00109"),
        "1.3.12.2.1107.20190203",
    ],
)
def test_a_name_without_a_visit_stays(name):
    assert without_visit(name) == name


def told(*paths, kind="nifti"):
    files = [SourceFile(PurePosixPath("/", path), PurePosixPath(path)) for path in paths]
    found, notes = find_patients(files, kind)
    return {str(file.relative): subject for file, subject in found.items()}, " ".join(notes)


def patients(*paths, kind="nifti"):
    return told(*paths, kind=kind)[0]


@pytest.mark.parametrize(
    "groups",
    [
        *(("HGG", "LGG"), ("train", "test"), ("site1", "site2"), ("glioma", "no_tumor"), ("AD", "CN"), ("PD", "HC")),
        *(("VeryMildDemented", "Non Demented"), ("Stroke", "Normal"), ("benign", "malignant"), ("MS", "healthy")),
        *(("glioma_tumor", "brain_glioma"), ("Alzheimer's disease", "Mild Cognitive Impairment")),
        ("OAS2_RAW_PART1", "OAS2_RAW_PART2"),
        ("oasis_cross-sectional_disc1", "oasis_cross-sectional_disc2"),
    ],
)
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


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("UCSF-PDGM-0004_nifti", "UCSF-PDGM-0004"),
        ("UCSF-PDGM-0429_FU003d_nifti", "UCSF-PDGM-0429"),
        ("BraTS2021_00495_flair.nii", "BraTS2021_00495"),
        ("P1_AX_T1", "P1"),
        ("P1 FLAIR", "P1"),
        ("PD_001", "PD_001"),
        ("001", "001"),
        ("12_T1", "12"),
        ("01_anna", "01_anna"),
        ("BLA", "BLA"),
        ("sesame", "sesame"),
        ("part01", "part01"),
        ("images_001", "images_001"),
        ("anna", "anna"),
    ],
)
def test_a_folder_names_a_patient_without_contrast_and_format(name, patient):
    assert patient_of_folder(name) == patient


@pytest.mark.parametrize(
    "name",
    [
        *("ses-01", "baseline", "followup", "week-000-1", "09-26-2005-NA-BRAIN", "2006-04-18_08_20_30.0"),
        *("T1", "FLAIR", "IXI-T1", "AX T1 POST", "t1_mprage_sag_p2_iso", "Post_Scan_T1", "3 - AX T1"),
        *("t0", "m06", "6months", "v2", "year 1"),
        *("3 - T1", "3_t1_mprage_sag", "12-AX FLAIR", "visitA", "week 2", "session", "ses-preop"),
        *("anat", "study1", "series_2", "3.000000-AX FLAIR-12345", "1.2.840.113619", "MR1"),
        *("train", "HGG", "site1", "Site_A", "center-Utrecht", "Task01_BrainTumour", "BraTS2021_Training_Data"),
    ],
)
def test_a_folder_of_a_visit_a_contrast_a_series_or_a_group_names_no_patient(name):
    assert patient_of_folder(name) is None


@pytest.mark.parametrize(
    "name", ["Site_1_pt1", "Site_0_pt0", "hospital_A12", "CenterP2", "sitepatient1", "Class_P1", "batchelor"]
)
def test_a_word_for_a_group_with_more_behind_it_than_a_number_or_a_letter_names_a_patient(name):
    assert patient_of_folder(name) == name
    assert set(patients(f"{name}/T1.nii", f"{name}/T1_again.nii").values()) == {name}


@pytest.mark.parametrize("tops", [("ses-01", "ses-02"), ("baseline", "followup"), ("T1", "T2"), ("IXI-T1", "IXI-T2")])
def test_a_patient_below_folders_of_visits_or_contrasts_is_one_subject(tops):
    below = ("P0/a.nii", "P1/a.nii", "P2/b.nii")
    assert patients(*(f"{top}/{path}" for top in tops for path in below)) == {
        f"{top}/{path}": path[:2] for top in tops for path in below
    }
    flat = ("P0.nii", "P1.nii", "P2.nii")
    assert patients(*(f"{top}/{path}" for top in tops for path in flat)) == {
        f"{top}/{path}": path[:2] for top in tops for path in flat
    }


def test_a_group_beside_patients_is_passed_over_for_its_own_files_alone():
    found = patients("P1/T1/a.nii", "train/P2/T1/a.nii", "train/P3/T1/a.nii", "train/site1/P4/a.nii")
    assert list(found.values()) == ["P1", "P2", "P3", "P4"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii", "sub-02_T1w.nii"), {"sub-01", "sub-02"}),
        (("P1_T1.nii", "P1_T2.nii", "P2_visit1_T1.nii", "P2_visit2_T1.nii"), {"P1", "P2"}),
        (("T1_P1.nii", "flair_P1.nii", "T1_P2.nii"), {"P1", "P2"}),
        (("IXI012-Guys-0826-T1.nii.gz", "IXI012-Guys-0826-T2.nii.gz"), {"IXI012-Guys-0826"}),
        (("IXI012-Guys-0826-T1.nii", "IXI013-HH-1212-T1.nii"), {"IXI012-Guys-0826", "IXI013-HH-1212"}),
        (("imagesTr/BRATS_003_0000.nii.gz", "imagesTr/BRATS_003_0001.nii.gz"), {"BRATS_003"}),
        (("001_flair.nii", "001_t1.nii", "002_flair.nii"), {"001", "002"}),
        (("HGG/001_flair.nii", "HGG/001_t1.nii", "LGG/001_flair.nii"), {"HGG/001", "LGG/001"}),
    ],
)
def test_the_name_of_a_loose_scan_tells_its_patient_before_visit_and_contrast(paths, names):
    found, notes = told(*paths)
    assert (set(found.values()), notes) == (names, "")


def test_the_name_of_a_loose_slice_tells_its_patient_before_the_word_slice():
    found = patients("P1_slice_12.png", "P1_slice13.png", "volume_2_slice_0.png", kind="picture")
    assert list(found.values()) == ["P1", "P1", "volume_2"]


@pytest.mark.parametrize(
    "name",
    ["Image-12.png", "0012.jpg", "Te-gl_0000.jpg", "Y12.JPG", "T1_001.png", "Image-12_flair.png", "image(3).jpg"],
)
def test_a_numbered_slice_in_a_class_joins_no_other_and_is_noted(name):
    found, notes = told(f"yes/{name}", f"no/{name}", "no/P1_slice1.png", kind="picture")
    assert len(set(found.values())) == 3
    assert "unknown for 2 of 3 files" in notes


def test_files_that_nothing_names_are_counted_beside_those_of_a_patient():
    found, notes = told("P1/a.nii", "b.nii", "c.nii")
    assert found == {"P1/a.nii": "P1", "b.nii": "b.nii", "c.nii": "c.nii"}
    assert "unknown for 2 of 3 files" in notes


def test_the_scans_of_a_visit_or_an_exam_that_names_nobody_stay_together_and_are_noted():
    found, notes = told("20190203/T1.nii", "20190203/T2.nii", "scan01/T1.nii", "scan01/T2.nii")
    assert list(found.values()) == ["20190203", "20190203", "scan01", "scan01"]
    assert "unknown for 4 of 4 files" in notes


@pytest.mark.parametrize("folder", ["M0{}", "scan0{}", "exam{}", "2019-02-0{}", "ses-{}"])
@pytest.mark.parametrize("scan", ["00{}.nii", "{}.nii", "scan{}.nii"])
def test_a_number_alone_in_a_numbered_visit_or_exam_is_noted_for_it_may_be_no_patient(folder, scan):
    paths = [f"{folder.format(place)}/{scan.format(number)}" for place in (1, 2) for number in (1, 2)]
    assert "unknown for 4 of 4 files" in told(*paths)[1]
    assert "unknown" not in told(*(f"{visit}/{scan.format(1)}" for visit in ("T1", "baseline")))[1]
    assert "unknown" not in told(*(f"{folder.format(place)}/P{place}.nii" for place in (1, 2)))[1]


def test_months_are_patients_beside_numbers_that_are_no_months():
    names = [f"M{number:02d}" for number in range(1, 13)]
    assert set(patients(*(f"{name}/{scan}.nii" for name in names for scan in ("001", "002"))).values()) == set(names)
    visits = [f"{visit}/P{number}/a.nii" for visit in ("m06", "m12", "m15") for number in (1, 2)]
    assert {"P1", "P2"} <= set(patients(*visits).values())
    assert set(patients(*(f"m{month}/P1.nii" for month in ("00", "06", "12"))).values()) == {"P1"}


@pytest.mark.parametrize(
    ("around", "below"),
    [
        ("kaggle_3m", ("TCGA_CS_4941_19960909/a.nii", "TCGA_CS_4942_19970222/a.nii")),
        ("data/lgg-mri/kaggle_3m", ("TCGA_CS_4941_19960909/a.nii", "TCGA_CS_4942_19970222/a.nii")),
        ("BraTS2021", ("00000/FLAIR/a.nii", "00002/FLAIR/a.nii")),
        ("kaggle_3m", ("HC01/a.nii", "HC02/a.nii")),
        ("BraTS2021/train", ("00000/FLAIR/a.nii", "00002/FLAIR/a.nii")),
        ("mydata", ("001/a.nii", "002/a.nii")),
        ("ADNI", ("002_S_0295/MPRAGE/a.nii", "002_S_0413/MPRAGE/a.nii")),
        ("ds000030", ("sub-10159/anat/a.nii", "sub-10171/anat/a.nii")),
        ("UPENN-GBM", ("UPENN-GBM-00001_11/a.nii", "UPENN-GBM-00002_11/a.nii")),
        ("UCSF-PDGM-v3", ("UCSF-PDGM-0004_nifti/a.nii", "UCSF-PDGM-0005_nifti/a.nii")),
    ],
)
def test_a_folder_around_the_whole_set_is_no_patient(around, below):
    assert len(set(patients(*(f"{around}/{path}" for path in below)).values())) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("GLI/BraTS-GLI-{:05d}-000", "MET/BraTS-MET-{:05d}-001"),
        ("TCGA-GBM/TCGA-GBM-{:04d}", "TCGA-LGG/TCGA-LGG-{:04d}"),
        (
            "ASNR-BraTS2023-GLI-TrainingData/BraTS-GLI-{:05d}-000",
            "ASNR-BraTS2023-GLI-ValidationData/BraTS-GLI-1{:04d}-000",
        ),
    ],
)
def test_folders_that_are_called_after_sets_are_no_patients(one, other):
    paths = [f"{pattern.format(number)}/a.nii" for pattern in (one, other) for number in range(4)]
    assert len(set(patients(*paths).values())) == 8


def test_folders_that_are_called_after_their_patient_are_no_sets():
    paths = [f"{name}/{name}_{number}/a.nii" for name in ("anna", "bert") for number in range(4)]
    assert set(patients(*paths).values()) == {"anna", "bert"}


@pytest.mark.parametrize(
    "below", [("P1_1", "P1_2"), ("exam1", "exam2"), ("T1", "FLAIR"), ("0001", "0002"), ("a", "b")]
)
def test_a_folder_around_the_scans_of_one_patient_is_that_patient(below):
    assert set(patients(*(f"P1/{name}/x.nii" for name in below)).values()) == {"P1"}


def test_the_visits_called_after_the_patient_of_the_only_folder_are_no_patients():
    assert set(patients(*(f"anna/anna_V{number}/x.nii" for number in range(3))).values()) == {"anna"}


@pytest.mark.parametrize(
    "names",
    [
        ("A1_1", "A1_2", "B"),
        ("P07FU2", "P07FU3", "P08"),
        ("P01a", "P01b", "P02"),
        ("training01_01", "training01_02", "training02"),
        ("sub1 s1", "sub1 s2", "sub2"),
        ("Pat1-L", "Pat1-R", "Pat2"),
        ("anna-baseline", "anna-followup", "bert"),
        ("annaFU1", "annaFU2", "bert-baseline"),
    ],
)
def test_names_that_differ_only_at_a_short_end_may_be_visits_and_are_counted(names):
    assert count_alike(names) == 2
    assert "differ from another's only at the end: 2 of 3" in " ".join(alike_subjects(set(names)))


@pytest.mark.parametrize(
    "paths",
    [
        ("T1/P01/a.nii", "T2/p01/a.nii"),
        ("FLAIR/BraTS-GLI-00001/a.nii", "T1/brats-gli-00001/a.nii"),
        ("P1_T1.nii", "p1_T2.nii"),
        ("SUB-01/a.nii", "sub-01/b.nii"),
    ],
)
def test_names_that_differ_by_capitals_alone_are_one_subject(paths):
    assert len(set(patients(*paths, "P2/a.nii").values())) == 2


def test_files_that_differ_by_capitals_alone_are_each_their_own_subject_where_nothing_names_a_patient():
    assert len(set(patients("a.nii", "A.nii").values())) == 2


@pytest.mark.parametrize(
    "names", [("P01 (1)", "P01 (2)"), ("P01", "p01 (1)"), ("P01", "P01 - Copy"), ("P01 - Copy", "P01 - Copy (2)")]
)
def test_names_of_copies_are_counted_as_alike(names):
    assert count_alike(names) == count_alike([*names, "P02", "P03"]) == 2


def test_numbers_that_a_system_gives_to_all_files_of_a_word_are_no_copies():
    assert count_alike(["patient (1)", "patient (2)", "patient (3)"]) == 0


@pytest.mark.parametrize(
    "pattern",
    [
        *("BraTS20_Training_{:03d}", "BraTS2021_{:05d}", "OAS1_{:04d}", "Brats17_2013_{}_1", "IXI0{:02d}-Guys-0826"),
        *("TCGA-02-{:04d}", "TCGA_CS_{:04d}", "sub-{:02d}", "{:05d}", "pat_{}", "W{}", "sub-r001s{:03d}", "P{}"),
        *("site1_{:02d}", "Site_0_pt{}", "01_p{}", "Training3_{}", "EGD-{:04d}", "900-00-{:04d}", "002_S_{:04d}"),
    ],
)
def test_the_numbered_patients_of_a_set_are_not_taken_for_visits(pattern):
    assert count_alike(pattern.format(number) for number in range(1, 13)) == 0
    assert count_alike(pattern.format(number) for number in range(1, 5)) == 0
    assert alike_subjects({pattern.format(number) for number in range(1, 5)}) == ()


def test_a_folder_of_splits_or_classes_is_no_patient():
    found, notes = told("Br35H/yes/y0.jpg", "Br35H/no/no0.jpg", "Br35H/pred/pred0.jpg", kind="picture")
    assert all(subject == path for path, subject in found.items())
    assert "unknown for 3 of 3" in notes
    assert set(patients("set2/train/P1/a.nii", "set2/test/P2/a.nii", "P3/a.nii").values()) == {"P1", "P2", "P3"}


@pytest.mark.parametrize("patient", ["P0{}", "patient_{}", "S{}", "TCGA-02-000{}", "1{}"])
@pytest.mark.parametrize(("sick", "well"), [("tumor", "no_tumor"), ("lesion", "healthy"), ("tumor", "normal")])
@pytest.mark.parametrize(("file", "kind"), [("1.png", "picture"), ("x.nii", "nifti"), ("001.nii", "nifti")])
def test_a_patient_with_scans_of_several_classes_is_no_set(patient, sick, well, file, kind):
    one, other = patient.format(1), patient.format(2)
    found = patients(f"{one}/{sick}/{file}", f"{one}/{well}/{file}", f"{other}/test/{file}", kind=kind)
    assert list(found.values()) == [one, one, other]


def test_a_lone_folder_that_is_called_a_patient_is_one_though_it_holds_a_split():
    assert set(patients("P02/test/a.nii").values()) == {"P02"}


@pytest.mark.parametrize(
    "sets", [("ADNI1", "ADNI2"), ("OASIS1", "OASIS2"), ("BraTS2020", "BraTS2021"), ("dataset1", "dataset2")]
)
@pytest.mark.parametrize("file", ["00{}_S_0001/a.nii", "00{}_S_0001_T1.nii", "P{}/T1/a.nii"])
def test_numbered_sets_of_classes_or_splits_are_no_patients(sets, file):
    paths = [f"{name}/{group}/{file}" for name in sets for group in ("train", "test")]
    found = patients(*(path.format(place) for place, path in enumerate(paths)))
    assert len(set(found.values())) == 4


def test_years_above_a_patient_are_no_patients_and_numbers_like_years_are():
    assert set(patients("2019/P1/a.nii", "2020/P1/a.nii", "2020/P2/a.nii").values()) == {"P1", "P2"}
    assert set(patients("2001/T1/a.nii", "2001/FLAIR/a.nii", "2002/T1/a.nii").values()) == {"2001", "2002"}


@pytest.mark.parametrize("exam", ["study{:03d}", "scan{}", "2019-02-{:02d}", "1.2.840.{}"])
def test_what_every_exam_holds_is_no_patient(exam):
    paths = [f"{exam.format(number)}/{side}/a.nii" for number in range(10, 15) for side in ("left", "right")]
    found, notes = told(*paths)
    assert set(found.values()) == {exam.format(number) for number in range(10, 15)}
    assert "unknown for 10 of 10" in notes


def test_patients_below_exams_are_patients_where_they_are_more():
    paths = [f"{exam}/{name}/a.nii" for exam in ("scan1", "scan2") for name in ("anna", "bert", "cleo")]
    assert set(patients(*paths).values()) == {"anna", "bert", "cleo"}


@pytest.mark.parametrize("exam", ["session{}", "2019-0{}-10", "scan{}", "study00{}"])
@pytest.mark.parametrize("patient", ["P{}", "patient_0{}"])
def test_patients_who_all_came_to_each_exam_are_patients_though_the_exams_are_more(exam, patient):
    paths = [f"{exam.format(e)}/{patient.format(p)}/T1.nii" for e in range(1, 7) for p in range(1, 5)]
    assert set(patients(*paths).values()) == {patient.format(number) for number in range(1, 5)}


def test_patients_below_the_dates_of_their_exams_are_patients_though_the_dates_are_more():
    paths = [f"2019-0{month}-1{number}/P{number}/a.nii" for month in (1, 4, 8) for number in range(1, 5)]
    assert set(patients(*paths).values()) == {"P1", "P2", "P3", "P4"}


@pytest.mark.parametrize("work", ["original", "resampled", "preprocessed", "skull-stripped", "Results"])
def test_folders_of_steps_of_work_are_no_patients(work):
    assert set(patients(f"{work}/P1/a.nii", "raw/P1/a.nii", f"{work}/T1/P2.nii").values()) == {"P1", "P2"}
    bare = patients(
        *(f"{each}/001{end}.nii" for each in (work, "raw", f"T1/{work}", "T1/nifti") for end in ("_T1", ""))
    )
    assert {subject for path, subject in bare.items() if "T1" in path} == {"001"}
    assert patients(f"HGG/{work}/001_T1.nii", f"{work}/LGG/001_T1.nii") == {
        f"HGG/{work}/001_T1.nii": "HGG/001",
        f"{work}/LGG/001_T1.nii": "LGG/001",
    }


def test_equal_names_in_several_sites_are_one_subject_and_told():
    found, notes = told("site1/P1/a.nii", "site2/P1/a.nii", "site2/P2/a.nii", "T1/P3/a.nii", "T2/P3/a.nii")
    assert list(found.values()) == ["P1", "P1", "P2", "P3", "P3"]
    assert "one name in several classes, splits or sites, each taken for one patient: 1" in notes


def test_folders_that_may_be_sets_are_told_and_so_is_the_option_that_says_so():
    sites = ("Utrecht", "Singapore", "Amsterdam")
    paths = [f"{site}/{10 * place + number}/pre/FLAIR.nii" for place, site in enumerate(sites) for number in range(4)]
    found, notes = told(*paths)
    assert set(found.values()) == set(sites)
    assert "3 or more numbered folders of its own: 3; if those are the patients" in notes
    assert told(*(f"{site}/exam{number}/a.nii" for site in sites for number in range(4)))[1] == ""
    assert told(*(f"{site}/x{number}/a.nii" for site in sites for number in range(4)))[1] == ""


def test_few_folders_of_pictures_are_told_for_they_may_be_classes():
    found, notes = told("left/1.png", "left/2.png", "right/1.png", kind="picture")
    assert set(found.values()) == {"left", "right"}
    assert "subjects are 2 folders of pictures: if these are classes" in notes
    assert "3 folders" in told("1/1.png", "2/1.png", "3/1.png", kind="picture")[1]
    assert told("p1/1.png", "p2/2.png", kind="picture")[1] == ""
    assert told(*(f"{number:03d}/1.png" for number in range(9)), kind="picture")[1] == ""


PATIENTS = (
    *("sub-{:02d}", "P{:02d}", "pat_{}", "Patient-{:03d}", "BraTS20_Training_{:03d}", "BraTS-GLI-{:05d}", "W{}"),
    *("UPENN-GBM-{:05d}", "IXI{:03d}-Guys-0826", "TCGA-02-{:04d}", "TCGA_CS_{:04d}", "OAS1_{:04d}", "OAS3{:04d}"),
    *("UCSF-PDGM-{:04d}", "{:05d}", "900-00-{:04d}", "002_S_{:04d}", "PatientID_{:04d}", "HC{:02d}", "patient {}"),
)
VISITS = (
    *(("ses-1", "ses-2"), ("baseline", "followup"), ("visit1", "visit2"), ("FU1", "FU2"), ("20190203", "20200407")),
    *(("2019-02-03", "2020-04-07"), ("tp1", "tp2"), ("week-000-1", "week-012"), ("v1", "v2"), ("MR1", "MR2")),
    *(("Timepoint_1", "Timepoint_5"), ("pre-op", "post-op"), ("6months", "12months"), ("t0", "t3"), ("m06", "m12")),
    *(("scan1", "scan2"), ("visitA", "visitB"), ("01-31-2001", "02-28-2002")),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        *("{p}/{v}/{c}.nii", "{p}_{v}/{c}.nii", "{p}-{v}/{p}-{v}_{c}.nii", "{v}/{p}/{c}.nii", "{c}/{p}/{v}.nii"),
        *("{p}/{v}/{c}/image.nii", "{p}_{v}_{c}.nii", "{c}/{p}_{v}.nii", "{v}/{p}_{c}.nii", "{p}/{p}_{v}_{c}.nii"),
        "{p} {v}/{c}.nii",
    ],
)
@pytest.mark.parametrize(
    "around", ["", "mydata/{k}/", "{k}/"], ids=["alone", "in groups in a folder around them", "in groups"]
)
def test_all_scans_of_a_patient_and_of_no_other_are_one_subject_in_every_layout(layout, around):
    for place, visits in enumerate(VISITS):
        for pattern in (PATIENTS[place], PATIENTS[-1 - place]):
            true = {
                (around + layout).format(
                    p=pattern.format(number), v=visit, c=contrast, k=("train", "test")[number % 2]
                ): pattern.format(number)
                for number in range(1, 4)
                for visit in visits
                for contrast in ("T1", "FLAIR")
            }
            pairs = {(true[path], subject) for path, subject in patients(*true).items()}
            assert len(pairs) == len({subject for _, subject in pairs}) == 3, (pattern, visits, pairs)


def exams(folder, head, write_dicom, ids):
    for number, (name, patient) in enumerate(ids.items()):
        write_dicom(folder / name, head(number, depth=2), PatientID=patient)
    files = list(list_source(folder).files)
    found, notes = find_patients(files, "dicom")
    return {file.relative.parts[0]: subject for file, subject in found.items()}, notes


def test_exams_of_one_patient_id_are_one_subject(tmp_path, head, write_dicom):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": "A", "acc2": "B", "acc3": "A"})
    assert found["acc1"] == found["acc3"] != found["acc2"]
    assert notes == ("folders joined to others for an equal PatientID: 1; at most 2 have the same",)


def test_each_file_is_of_its_own_patient_id_where_several_patients_share_the_folder_of_a_visit(
    tmp_path, head, write_dicom
):
    ids = "ABABAB"
    for place, patient in enumerate(ids):
        write_dicom(tmp_path / "new", head(place, depth=1), PatientID=patient)
        folder = tmp_path / "source" / ("baseline" if place < 5 else "followup")
        folder.mkdir(parents=True, exist_ok=True)
        next((tmp_path / "new").iterdir()).rename(folder / f"{place}.dcm")
    files = list(list_source(tmp_path / "source").files)
    found, _ = find_patients(files, "dicom")
    assert "".join(found[file][-1] for file in files) == ids


@pytest.mark.parametrize("around", ["GBM", "collection"])
def test_a_folder_whose_headers_tell_of_many_patients_is_a_cohort(tmp_path, head, write_dicom, around):
    ids = {f"{top}/{top}x-{number}": f"{top}{number}" for top in (around, "other") for number in range(3)}
    for number, (name, patient) in enumerate(ids.items()):
        write_dicom(tmp_path / name, head(number, depth=2), PatientID=patient)
    found, notes = find_patients(list(list_source(tmp_path).files), "dicom")
    assert (len(set(found.values())), notes) == (6, ())


def test_the_note_on_joins_tells_how_many_folders_one_patient_id_joined(tmp_path, head, write_dicom):
    ids = {**{f"acc{number}": "A" for number in range(4)}, "acc5": "B", "acc6": "B", "acc7": "C"}
    _, (note,) = exams(tmp_path, head, write_dicom, ids)
    assert note == "folders joined to others for an equal PatientID: 4; at most 4 have the same"


@pytest.mark.parametrize(
    "name", ["ANON0012", "anonymized_7", "TEST-31", "Patient 4", "1234", "TCGA-02-0003", "Doe^Max"]
)
def test_a_patient_id_that_tells_one_from_others_is_somebody(name):
    assert not names_nobody(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "  ",
            "0",
            "0000",
            "ANONYMOUS",
            "Anonymous^Patient",
            "anonymized",
            "De-Identified",
            "TEST",
            "test^patient",
        ),
        *(
            "patient",
            "xxx",
            "XXXX^XXXX",
            "123456",
            "123456789",
            "99999",
            "N/A",
            "No Name",
            "not available",
            "JOHN DOE",
        ),
    ],
)
def test_a_patient_id_of_words_for_nobody_is_nobody(name):
    assert names_nobody(name)


@pytest.mark.parametrize("word", ["no", "nan", "x", "0", "P1_visit", "1-", "a b", "_", "tumor", "images_", "GLI-1"])
def test_a_long_name_is_read_at_once(word):
    began = time.process_time()
    names_nobody(word * 20_000 + "!q")
    long = (word * 255)[:250] + "!q"
    patient_of_folder(long)
    count_alike([long, f"{long}1"])
    patients(f"{long}/{long}/{long}", f"{long}2/{long}")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("nobody", ["", "ANONYMOUS", "0000", "Anonymous^Patient", "123456"])
def test_a_patient_id_that_names_nobody_joins_nothing(tmp_path, head, write_dicom, nobody):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": nobody, "acc2": nobody, "acc3": "A"})
    assert (len(set(found.values())), notes) == (3, ())


def test_the_exams_and_series_of_one_patient_id_are_one_subject_though_no_other_is_there(tmp_path, head, write_dicom):
    ids = {"20190203": "A", "AX T1": "A", "1.2.840.3": "A", "study2": "A"}
    found, _ = exams(tmp_path, head, write_dicom, ids)
    assert len(set(found.values())) == 1


def test_a_patient_id_that_all_folders_have_joins_nothing(tmp_path, head, write_dicom):
    found, notes = exams(tmp_path, head, write_dicom, {"acc1": "A", "acc2": "A"})
    assert (set(found.values()), notes) == ({"acc1", "acc2"}, ())

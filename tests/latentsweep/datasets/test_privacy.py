"""Nothing that identifies a patient is in anything that is written, logged or said."""

import json
import logging
import re

import pyarrow.parquet as pq
import pytest

from latentsweep.datasets.overview import export_pngs, overview, write_contact_sheet
from latentsweep.datasets.preparation import prepare
from trainables.errors import DataError

PLANTED = re.compile(rb"PLANTED|SECRET|19610203|MRN-|Image-|\.dcm|rsna_miccai")


def everything_in(folder):
    """The bytes of every file and its path, and every cell of every Parquet file, decompressed."""
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder)).encode()
        if path.is_file() and path.name != "pseudonym.key":
            yield path.read_bytes()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield repr(table.schema.metadata).encode()
            for name in table.column_names[:-1]:
                yield "\n".join(map(str, table[name].to_pylist())).encode()
            yield from (cell["bytes"] for cell in table["image"].to_pylist())


def identifiers_in(content, cases):
    """Planted identifiers, and case numbers that are not part of a longer hash or of a shard's name."""
    found = set(PLANTED.findall(content))
    numbers = set(re.findall(rb"(?<![0-9a-f])(?<!slices-)\d{5}(?![0-9a-f])", content))
    return found | (numbers & cases if content.isascii() else set())


@pytest.mark.slow
def test_no_identifier_is_in_anything_made_from_kaggle(tmp_path, test_data, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    source = test_data / "rsna_miccai"
    cases = {path.name.encode() for path in (source / "train").iterdir()}
    assert len(cases) == 70
    dataset = prepare("kaggle", home=tmp_path / "home", source=source, size=32, jobs=2)
    write_contact_sheet(dataset)
    export_pngs(dataset, tmp_path / "home" / "pngs")
    said = caplog.text + "".join(capfd.readouterr()) + json.dumps(overview(dataset)) + repr(dataset)
    for content in [*everything_in(tmp_path / "home"), said.encode()]:
        assert not identifiers_in(content, cases)


def test_the_search_would_find_what_is_planted(test_data):
    header = next((test_data / "rsna_miccai" / "train" / "00000" / "FLAIR").iterdir()).read_bytes()
    assert {b"PLANTED", b"SECRET", b"19610203"} <= identifiers_in(header, set())
    assert identifiers_in(b'"subject": "00003"', {b"00003"})


@pytest.mark.parametrize("keep", [0, 100, 400, 2000])
def test_no_identifier_is_in_an_error_or_reject(tmp_path, test_data, caplog, capfd, recwarn, keep):
    caplog.set_level(logging.DEBUG)
    source = test_data / "rsna_miccai" / "train" / "00003" / "FLAIR"
    copies = tmp_path / "train" / "00003" / "FLAIR"
    copies.mkdir(parents=True)
    for path in source.iterdir():
        (copies / path.name).write_bytes(path.read_bytes()[:keep])
    said = []
    for name in ("kaggle", "mine", "brats_t1ce"):
        with pytest.raises(DataError) as caught:
            prepare(name, home=tmp_path / "home", source=tmp_path / "train", jobs=1)
        error = caught.value
        said.append(str(error))
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
    said += [caplog.text, *capfd.readouterr(), *(str(warning.message) for warning in recwarn)]
    assert not identifiers_in("\n".join(said).encode(), {b"00003"})
    assert not PLANTED.search("\n".join(said).encode())


def test_names_in_the_subjects_rule_are_not_stored(tmp_path, head, write_nifti, caplog):
    caplog.set_level(logging.DEBUG)
    for number, name in enumerate(("PLANTED_JOHN", "SECRET_JANE")):
        write_nifti(tmp_path / "source" / f"{name}.nii", head(number))
    options = {"home": tmp_path / "home", "source": tmp_path / "source", "size": 32, "jobs": 1}
    dataset = prepare("mine", subject_from="regex:(PLANTED_JOHN|SECRET_JANE)", **options)
    assert dataset.manifest["settings"]["subject"] == "regex"
    for content in [*everything_in(tmp_path / "home"), caplog.text.encode()]:
        assert not PLANTED.search(content)
    with pytest.raises(DataError, match="other settings: add --replace"):
        prepare("mine", subject_from="regex:(PLANTED|SECRET)", **options)


def test_the_patient_id_of_a_flat_folder_is_hashed(tmp_path, head, write_dicom, caplog):
    caplog.set_level(logging.DEBUG)
    write_dicom(tmp_path / "source", head(depth=20), PatientName="PLANTED^NAME", PatientBirthDate="19610203")
    prepare("mine", home=tmp_path / "home", source=tmp_path / "source", size=32, jobs=1)
    for content in [*everything_in(tmp_path / "home"), caplog.text.encode()]:
        assert not PLANTED.search(content)

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from latentsweep.commands.data import _tell_subjects, data_app
from latentsweep.datasets.catalogue import DEFAULT_SUBJECT, KNOWN
from latentsweep.datasets.layouts import lgg, msd
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import open_dataset
from latentsweep.datasets.sources.discovery import Discovery
from latentsweep.storage.home import Home
from trainables.errors import ConfigError, DataError

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


@pytest.fixture
def run(tmp_path, head, write_nifti):
    """Runs a ``data`` command in a home of its own, with six patients in ``source``."""
    for number in range(6):
        write_nifti(tmp_path / "source" / f"patient{number}" / "scan.nii.gz", head(number))

    def run(*arguments):
        result = CliRunner().invoke(data_app, list(arguments), env={"LATENTSWEEP_HOME": str(tmp_path / "home")})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture
def prepared(run, tmp_path):
    run("prepare", "mine", "--source", str(tmp_path / "source"), "--size", "32", "--jobs", "1")
    return run


def test_prepare_tells_its_progress_plainly_and_then_the_numbers(run, tmp_path):
    result = run("prepare", "mine", "--source", str(tmp_path / "source"), "--size", "32", "--jobs", "1")
    assert "preparing mine: 6 of 6 scans" in result.stderr
    assert "mine: 36 slices of 6 subjects, 6 volumes, 32×32 pixels" in result.stdout
    assert "patient" not in result.output


def test_the_help_tells_the_series_of_every_set_and_the_rule_of_subjects():
    told = {param.name: " ".join(param.help.split()) for param in get_command(data_app).commands["prepare"].params}
    for known in KNOWN.values():
        assert (f"{known.name} has {', '.join(known.choices)}" in told["series"]) == bool(known.series)
        assert known.choices[:1] == ((known.series,) if known.series else ())
    assert f"Default: {DEFAULT_SUBJECT}." in told["subject_from"]


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.series])
def test_the_page_lists_the_series_of_a_set_as_its_row_does(name):
    [row] = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{name}`")]
    assert row.split("|")[3].strip() == ", ".join(f"`{choice}`" for choice in KNOWN[name].choices)


@pytest.mark.parametrize(("name", "channels"), [("lgg", lgg.CHANNELS), ("msd", msd.CHANNELS)])
def test_the_channels_of_a_set_are_the_series_of_its_row(name, channels):
    assert set(channels) == set(KNOWN[name].choices)


@pytest.mark.parametrize("check", [(), ("--check", "page.html")])
def test_the_rule_of_subjects_is_told_and_its_examples_on_a_terminal_alone(run, tmp_path, monkeypatch, check):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latentsweep.commands.data._is_terminal", lambda: True)
    options = ("--source", str(tmp_path / "source"), "--size", "32", "--jobs", "1", *check)
    shown = run("prepare", "mine", *options).stderr
    assert "rule of subjects: default: the first folder that names no class" in shown
    for number in (0, 3, 5):
        assert f"  patient{number}/scan.nii.gz → patient{number}\n" in shown
    monkeypatch.setattr("latentsweep.commands.data._is_terminal", lambda: False)
    result = run("prepare", "mine", *options)
    assert "rule of subjects: " in result.stderr
    assert "patient" not in result.output.replace("patients would be prepared", "")
    pages = [path.read_bytes() for path in tmp_path.glob("page.html")]
    for content in [*pages, *(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())]:
        assert b"patient0" not in content


def test_the_examples_write_no_control_characters_to_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr("latentsweep.commands.data._is_terminal", lambda: True)
    found = Discovery(scans=(), subjects=frozenset(), subject_rule="r", examples=(("a\x1b[2Jb\udcff", "P1"),))
    _tell_subjects(found)
    assert "  a?[2Jb? → P1\n" in capsys.readouterr().err
    assert "P1" not in repr(found)


def test_prepare_as_json_prints_the_manifest_alone(run, tmp_path):
    result = run("prepare", "mine", "--source", str(tmp_path / "source"), "--size", "32", "--jobs", "1", "--json")
    assert json.loads(result.stdout)["counts"]["slices_by_split"] == {"train": 24, "validation": 6, "test": 6}


def test_show_gives_counts_a_histogram_and_a_picture(prepared, tmp_path):
    text = prepared("show", "mine").stdout
    assert all(word in text for word in ("train", "validation", "intensity of 0 to 255", "contact sheet:"))
    sheet = tmp_path / "sheet.png"
    facts = json.loads(prepared("show", "mine", "--json", "--sheet", str(sheet)).stdout)
    histogram = facts["histogram"]
    assert sum(histogram["pixels"]) + histogram["background"] == 36 * 32 * 32
    assert facts["contact_sheet"] == str(sheet)
    picture = np.asarray(Image.open(sheet))
    assert picture.shape == (3 * 32, 12 * 32)
    assert (picture > 25).mean() > 0.2


def test_show_lists_who_read_the_test_split(prepared, tmp_path):
    assert "test split used: none on record" in prepared("show", "mine").stdout
    facts = json.loads(prepared("show", "mine", "--json").stdout)
    assert facts["test_split_uses"] == []
    home = Home(tmp_path / "home")
    note_use(home, open_dataset(home.datasets, "mine"), "study", "mine-study", "test", "subject")
    (use,) = json.loads(prepared("show", "mine", "--json").stdout)["test_split_uses"]
    assert (use["kind"], use["name"]) == ("study", "mine-study")
    assert "study mine-study" in prepared("show", "mine").stdout


def test_export_of_a_fold_has_its_subjects_and_a_fold_that_can_not_be_is_refused(prepared, tmp_path):
    fold = ("--split", "test", "--folds", "3", "--fold")
    for number in range(3):
        prepared("export", "mine", "--to", str(tmp_path / str(number)), *fold, str(number))
    exported = [{path.name for path in (tmp_path / str(number)).glob("test/*.png")} for number in range(3)]
    assert [len(each) for each in exported] == [12, 12, 12]
    assert len(set.union(*exported)) == 36
    for words in ((*fold, "3"), (*fold, "0", "--rule", "slice")):
        with pytest.raises(ConfigError, match="--fold is below --folds and goes with --rule subject"):
            prepared("export", "mine", "--to", str(tmp_path / "none"), *words)


def test_export_writes_every_slice_as_a_grey_png_in_the_folder_of_its_split(prepared, tmp_path):
    assert "36 slices" in prepared("export", "mine", "--to", str(tmp_path / "pngs")).stdout
    pngs = sorted((tmp_path / "pngs").glob("*/*.png"))
    assert [len(list((tmp_path / "pngs" / split).iterdir())) for split in ("train", "validation", "test")] == [
        24,
        6,
        6,
    ]
    assert len(pngs) == 36
    assert {(Image.open(path).mode, Image.open(path).size) for path in pngs} == {("L", (32, 32))}


def test_export_of_all_passes_over_an_empty_split(run, tmp_path):
    for number in range(2, 6):
        (tmp_path / "source" / f"patient{number}" / "scan.nii.gz").unlink()
    run("prepare", "mine", "--source", str(tmp_path / "source"), "--size", "32", "--jobs", "1")
    assert "12 slices" in run("export", "mine", "--to", str(tmp_path / "pngs")).stdout
    assert {path.name for path in (tmp_path / "pngs").iterdir()} == {"train", "validation"}


def test_export_of_one_split_by_slice(prepared, tmp_path):
    prepared("export", "mine", "--to", str(tmp_path / "pngs"), "--split", "test", "--rule", "slice")
    assert [path.name for path in (tmp_path / "pngs").iterdir()] == ["test"]
    assert len(list((tmp_path / "pngs").glob("test/*.png"))) == 5


def test_export_does_not_write_among_other_files(prepared, tmp_path):
    (tmp_path / "pngs").mkdir()
    (tmp_path / "pngs" / "mine.txt").touch()
    with pytest.raises(DataError, match="new or empty"):
        prepared("export", "mine", "--to", str(tmp_path / "pngs"))


@pytest.mark.parametrize(("split", "rule"), [("val", "subject"), ("test", "patient"), ("all", "patient")])
def test_export_refuses_splits_that_do_not_exist(prepared, tmp_path, split, rule):
    with pytest.raises(DataError, match="must be one of"):
        prepared("export", "mine", "--to", str(tmp_path / "pngs"), "--split", split, "--rule", rule)


def test_what_is_not_prepared_is_an_error(run):
    with pytest.raises(DataError, match="is not prepared"):
        run("show", "kaggle")


def test_the_commands_import_nothing_heavy():
    code = (
        "import sys; import latentsweep.commands.data; "
        "print([m for m in ('numpy', 'pyarrow', 'nibabel', 'pydicom', 'PIL', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_check_tells_what_would_be_prepared_and_writes_the_page_alone(run, tmp_path, head, write_nifti):
    source = tmp_path / "source"
    for number in range(2):
        mask = (head(number) > 800).astype(np.uint8)
        write_nifti(source / f"patient{number}" / "scan_seg.nii.gz", mask)
    (source / "patient5" / "scan.nii.gz").write_bytes(b"broken")
    page = tmp_path / "check.html"
    options = ("--source", str(source), "--size", "32", "--jobs", "1", "--check", str(page))
    assert "5 volumes of 5 patients would be prepared" in run("prepare", "mine", *options).stdout
    text = page.read_text()
    assert text.count('<img src="data:image/jpeg;base64,') == 5
    assert text.count("<td>no mask</td>") == 3
    assert "lesion masks lie beside 2 of 6 scans" in text
    assert "not a readable NIfTI file" in text
    assert "patient5" not in text
    assert "patient1" not in text
    assert not (tmp_path / "home").exists()
    facts = json.loads(run("prepare", "mine", *options, "--json").stdout)
    assert facts == {"page": str(page), "volumes": 5, "patients": 5, "left_out": 1}
    assert "36 slices" not in run("prepare", "mine", *options[:-2]).stdout


def test_a_check_page_that_can_not_be_written_is_an_error(run, tmp_path):
    with pytest.raises(DataError, match="--check must name a file that can be written"):
        run("prepare", "mine", "--source", str(tmp_path / "source"), "--check", str(tmp_path))

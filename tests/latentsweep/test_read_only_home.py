"""A finished home that is read-only is reported, exported, linted, sampled and measured; nobody is told to delete."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import old_home
import pytest
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import read_configuration
from latentsweep.datasets.ledger import FILE, note_use
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home, is_read_only
from latentsweep.storage.store import Store
from latentsweep_mlflow.recorder import recorder_for

ROOT = Path(__file__).parents[2]
ARCHIVE = ROOT / "tests" / "golden" / "home-dff7b93.tar.xz"
RUN_ALL = """
import json, sys
from typer.testing import CliRunner
from latentsweep.commands.app import app

for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    print(json.dumps([words[0], done.exit_code, done.stdout, done.stderr]))
"""
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def heed_modes() -> None:
    """What the process runs next can't write what modes forbid, though it is root: it has a user's rights."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def as_a_user(*words: str) -> subprocess.CompletedProcess[str]:
    """A process that modes of files bind, as they do every user but root."""
    bind = heed_modes if os.getuid() == 0 else None
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, preexec_fn=bind, cwd=ROOT)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a sweep and a training, measured on the test split, that nobody may write to."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    words = ["evaluate", str(tmp_path / "best.yaml"), "--home", str(tmp_path / "home"), "--json"]
    measured = CliRunner().invoke(app, words, catch_exceptions=False)
    assert measured.exit_code == 0
    recorder = recorder_for(tmp_path / "home", old_home.DATASET)
    recorder.open_run(f"{sweep_in(tmp_path / 'home')}/trial-0", name="trial 0", kind="trial")
    subprocess.run(["chmod", "-R", "a-w", str(tmp_path / "home")], check=True)
    probe = as_a_user("-c", f"open({str(tmp_path / 'home' / 'x')!r}, 'w')")
    if probe.returncode == 0:
        pytest.skip("modes bind nobody here: the files' system ignores them")
    yield tmp_path / "home"
    subprocess.run(["chmod", "-R", "u+w", str(tmp_path / "home")], check=True)


def sweep_in(home: Path) -> str:
    """The name of its one sweep."""
    (folder,) = (home / "sweeps").iterdir()
    return folder.name


def content(home: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in home.rglob("*")}


@pytest.mark.slow
def test_a_read_only_home_is_reported_exported_linted_sampled_and_evaluated(home: Path, tmp_path: Path) -> None:
    before = content(home)
    trial = f"{sweep_in(home)}/0"
    commands = {
        "report": ["report", "--to", str(tmp_path / "page"), "--json"],
        "export": ["export", "--dataset", old_home.DATASET, "--trial", "0", "--to", str(tmp_path / "again.yaml")],
        "lint": ["lint"],
        "sample": ["sample", trial, "--count", "1", "--to", str(tmp_path / "drawn-again")],
        "evaluate": ["evaluate", str(tmp_path / "best.yaml"), "--json"],
        "store": ["store", "show"],
        "data": ["data", "show", old_home.DATASET, "--sheet", str(tmp_path / "sheet.png")],
    }
    lines = [[*words, "--home", str(home)] for words in commands.values()]
    unwritable = ["report", "--home", str(home)]
    done = as_a_user("-W", "ignore", "-c", RUN_ALL, json.dumps([*lines, unwritable]))
    assert done.returncode == 0, done.stderr
    *found, refused = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    assert {name: code for name, code, _, _ in found} == {**dict.fromkeys(commands, 0), "lint": 1}, found
    assert (tmp_path / "page" / "report.html").is_file()
    assert read_configuration(tmp_path / "again.yaml").origin["run_id"], "MLflow's record is read, too"
    assert (tmp_path / "drawn-again" / "seed-000000.png").is_file()
    assert refused[1] == 2
    assert "must be writable" in refused[3]
    assert "choose another with --to" in refused[3]
    assert content(home) == before, "nothing was written"


def test_a_decision_in_a_read_only_home_is_counted_and_said_not_to_be_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    dataset = PreparedDataset("tiny", home.datasets / "tiny", {"fingerprint": "of tiny"})
    assert note_use(home, dataset, "evaluate", "first", "test", "subject") == 0
    before = (home.datasets / FILE).read_bytes()
    monkeypatch.setattr("latentsweep.datasets.ledger.is_read_only", lambda folder: True)
    assert note_use(home, dataset, "evaluate", "first", "test", "subject") == 0
    assert not caplog.records, "it is noted already"
    assert note_use(home, dataset, "evaluate", "second", "test", "subject") == 1
    assert "it isn't noted that second reads the test split" in caplog.text
    assert (home.datasets / FILE).read_bytes() == before


def test_a_folder_that_can_be_made_is_not_read_only(tmp_path: Path) -> None:
    assert not is_read_only(tmp_path / "not" / "there")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["latents", "latents/*", "latents/*/parts"])
def test_a_result_that_may_not_be_deleted_is_not_said_to_be_freed(tmp_path: Path, closed: str) -> None:
    def build(folder: Path) -> dict[str, int]:
        (folder / "parts").mkdir()
        (folder / "parts" / "one").write_text("numbers")
        return {}

    home = Home(tmp_path / "home")
    entry = Store.of(home).obtain(StageKey("latents", 1, {}), build)
    (folder,) = home.store.glob(closed)
    folder.chmod(0o555)
    done = as_a_user("cli.py", "store", "free", "--home", str(home.root))
    folder.chmod(0o755)
    if done.returncode == 0 and not entry.folder.exists():
        pytest.skip("modes bind nobody here: the files' system ignores them")
    assert done.returncode == 2
    assert "freed" not in done.stdout
    assert "Permission denied" in done.stderr
    assert f"{folder} belongs to" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_message_says_to_delete_what_a_user_has() -> None:
    advice = re.compile(r"\b(delete|remove|rm|erase)\b (-|\{|it\b|them\b|the (file|folder|study|store|home|sweep))")
    for bad in ("remove it", "rm -r x", "remove {} from the store", "then delete the folder"):
        assert advice.search(bad)
    paths = [path for root in ("platform", "mlflow", "trainables") for path in (ROOT / root).rglob("*.py")]
    found = [f"{path.name}: {text}" for path in paths for text in texts_of(path.read_text()) if advice.search(text)]
    assert found == []


def texts_of(source: str) -> Iterator[str]:
    """Every text of a module but its documentation, with {} for what is put into it."""
    tree = ast.parse(source)
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield node.value

"""A locale that isn't UTF-8, a user without a folder or a name, files that fail half-way: no half-written file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, THIN, TINY

from latentsweep.configuration import Configuration, read_configuration
from trainables.loop.files import write_whole
from trainables.recipes import SMOKE

LATIN = "en_US.ISO-8859-1"
NO_HOME = "/proc/nowhere"
"""A folder that nobody, root included, can make."""


@pytest.fixture(params=["ASCII", "ISO 8859-1"])
def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment whose locale cannot write all that we do."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON")) or k == "PYTHONPATH"}
    if request.param == "ASCII":
        return clean | {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    try:
        made = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / LATIN)]
        subprocess.run(made, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a locale of ISO 8859-1 cannot be made here")
    return clean | {"LOCPATH": str(tmp_path), "LC_ALL": LATIN}


def ran(
    environment: dict[str, str], *words: object, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, str(ROOT / "cli.py"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=540)


@pytest.mark.slow
def test_a_command_says_and_reads_the_same_in_every_locale(narrow: dict[str, str], tmp_path: Path) -> None:
    coded = "import locale, sys; print(locale.getencoding(), sys.flags.utf8_mode)"
    done = subprocess.run([sys.executable, "-c", coded], env=narrow, capture_output=True, text=True, check=True)
    assert not done.stdout.startswith("UTF-8")
    assert done.stdout.endswith(" 0\n")
    refused = ran(narrow, "export", "--dataset", "größe", "--to", tmp_path / "ü.yaml", "--home", tmp_path)
    assert refused.returncode == 2, refused.stderr
    assert "größe" in refused.stderr
    configuration = tmp_path / "λ.yaml"
    Configuration("nowhere", 0, SMOKE, origin={"note": "λ → ★"}).write(configuration)
    trained = ran(narrow, "train", "--config", configuration, "--home", tmp_path / "runs")
    assert trained.returncode == 2, trained.stderr
    assert "nowhere" in trained.stderr, "the file was read"


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_runs_for_a_user_without_name_and_folder_in_any_locale(measured_demo: Path, tmp_path: Path) -> None:
    nobody = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
    if subprocess.run([*nobody, "true"], capture_output=True).returncode:
        pytest.skip("a user without a name cannot be made here")
    names = {"USER", "LOGNAME", "LNAME", "USERNAME"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {"HOME": NO_HOME, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    home = shutil.copytree(measured_demo, tmp_path / "runs")
    words = ("sweep", "--dataset", "demo", "--recipe", "smoke", "--trials", 1, "--pruner", "none", *TINY, *THIN)
    swept = ran(environment, *words, "--home", home, before=nobody)
    assert swept.returncode == 0, swept.stderr
    exported = ran(
        environment, "export", "--dataset", "demo", "--to", tmp_path / "best.yaml", "--home", home, before=nobody
    )
    assert exported.returncode == 0, exported.stderr
    assert read_configuration(tmp_path / "best.yaml").dataset == "demo"


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("the old one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half of the new one \udcff")
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "λ")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == "λ".encode()
    write_whole(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()

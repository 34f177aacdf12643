"""The smallest jobs that show that all parts meet: a sweep, a study, and their ends by an error, in seconds each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, cli
from swept import ablate_words, mlflow_runs, stages_in, sweep_words

pytestmark = pytest.mark.ray


@pytest.fixture
def home(measured_demo: Path, tmp_path: Path) -> Path:
    """A home in which the dataset is prepared and its real slices are measured, and nothing is trained."""
    return Path(shutil.copytree(measured_demo, tmp_path / "runs"))


@pytest.mark.slow
def test_a_space_over_sampling_without_thresholds_replays_and_prunes_by_its_own_scores(
    home: Path, tmp_path: Path
) -> None:
    words = sweep_words(tmp_path, "demo", 2)
    (tmp_path / "space.yaml").write_text("dimensions: {sampling.steps: [4, 8]}")
    words[words.index("--json")] = "--objective=steps"
    said = json.loads(cli(home, *words, "--objective", "kid", "--json").stdout)
    assert stages_in(home)["denoiser"] == 1, "both trials share the denoiser"
    assert said["counts"]["complete"] == 2
    assert {row["gen/steps_mean"] for row in said["leaderboard"]} == {4.0, 8.0}
    for run in mlflow_runs(home, "demo"):
        if run.data.tags["latentsweep.kind"] == "trial":
            assert "train/loss" in run.data.metrics, "the second trial has the curve, too"


@pytest.mark.slow
def test_an_arm_whose_runs_fail_is_reported_and_not_dropped(home: Path) -> None:
    broken = ["--set", "diffusion.learning_rate=1.0e+30", "--set", "diffusion.gradient_clip=0"]
    said = json.loads(cli(home, *ablate_words("cutmix,early-stop", 1, *broken)).stdout)
    assert set(said["failures"]) == {f"{arm}, seed 0" for arm in ("full", "without cutmix", "without early-stop")}
    assert all(failure["class"] == "divergence" for failure in said["failures"].values())
    assert {effect["verdict"] for effect in said["effects"]["gen/kid"]} == {"cannot tell"}
    assert all(effect["missing"] for effect in said["effects"]["gen/kid"])
    page = (home.parent / said["files"][0]).read_text()
    assert "learning_rate" in page or "finite" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("cutmix,mixcut", 2), "no component 'mixcut'"),
        (("cutmix,ema,whitening,min-snr,channels,v-prediction", 5, "--design", "factorial"), "--max-runs 200"),
        (("cutmix", 2, "--design", "latin-square"), "--design must be one of"),
    ],
)
def test_bad_input_to_a_study_is_one_line_and_makes_nothing(
    prepared_demo: Path, tmp_path: Path, options: tuple[Any, ...], message: str
) -> None:
    home = Path(shutil.copytree(prepared_demo, tmp_path / "runs"))
    before = sorted((home / "ablations").glob("*"))
    done = cli(home, *ablate_words(*options), code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted((home / "ablations").glob("*")) == before


def test_a_driver_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("import os; os.kill(os.getpid(), 9)")
    program = (
        "import os, sys; from latentsweep.execution import supervision as s; "
        f"sys.orig_argv = [sys.executable, {str(tmp_path / 'cli.py')!r}]; sys.exit(s.supervise())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 1
    assert done.stderr.count("going on") == 4
    assert done.stderr.splitlines()[-1].startswith("error: the driver was lost 5 times in a row")

"""A sweep and whatever may befall it: each fault costs what came after the last checkpoint, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import UNSPARED, cli
from made_once import made_once
from measured import SHARED, give
from processes import Job, left_by
from swept import check_complete, mlflow_runs, results, stages_in, study_of, sweep_words, trained_in

from latentsweep.storage.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DATASET, TRIALS = "demo", 2
STOPPED = 130


@pytest.fixture(scope="module")
def calm(measured_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home in which the sweep ran undisturbed, and what it said."""

    def run(folder: Path) -> None:
        home = folder / "runs"
        shutil.copytree(measured_demo, home)
        said = cli(home, *sweep_words(folder, DATASET, TRIALS), alone=True).stdout
        (folder / "said.json").write_text(said)

    folder = made_once(tmp_path_factory, "calm", run)
    return folder / "runs", json.loads((folder / "said.json").read_text())


@pytest.fixture
def prepared(prepared_demo: Path, tmp_path: Path) -> Path:
    """A home in which the dataset is prepared, and nothing else is there."""
    return Path(shutil.copytree(prepared_demo, tmp_path / "runs"))


@pytest.fixture
def begun(calm: tuple[Path, dict[str, Any]], prepared: Path) -> Path:
    """A home in which all that trials share is there, and no trial."""
    give(calm[0], prepared, SHARED)
    return prepared


def reported(home: Path) -> dict[Path, int]:
    """The checkpoints of unfinished denoisers, and when each was written."""
    found = {}
    for path in (home / "store" / "denoiser").glob("*.partial/checkpoint.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile
            found[path] = path.stat().st_mtime_ns
    return found


def started(home: Path, trials: int = TRIALS, **environment: str) -> Job:
    """A sweep in the background, when a trial of it has reported since it began."""
    before = reported(home)
    job = Job.start(home, *sweep_words(home.parent, DATASET, trials), environment=environment)
    job.wait_for(lambda: reported(home) != before)
    return job


def check_equal(home: Path, calm: tuple[Path, dict[str, Any]], *, alone: bool = True) -> None:
    """The same command ends with what the undisturbed one gave, bit for bit, and leaves no process."""
    said = json.loads(cli(home, *sweep_words(home.parent, DATASET, TRIALS)).stdout)
    check_complete(home, DATASET, said["sweep"], TRIALS, alone=alone)
    assert results(home, said["sweep"]) == results(calm[0], calm[1]["sweep"])
    assert trained_in(home) == trained_in(calm[0])
    check_gone(home)


def check_gone(home: Path) -> None:
    """No process, no lock, no unfinished result, none of Ray's folders."""
    deadline = time.monotonic() + 30
    while left_by(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_by(home)
    assert not Store(home / "store").begun()


def check_closed(home: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    """Nothing is RUNNING, in MLflow or in Optuna."""
    assert "RUNNING" not in {run.info.status for run in mlflow_runs(home, DATASET)}
    assert "RUNNING" not in {trial.state.name for trial in study_of(home, calm[1]["sweep"]).trials}


@pytest.mark.parametrize(
    ("signals", "kind"),
    [([signal.SIGINT], "trial"), ([signal.SIGTERM], "driver"), ([signal.SIGINT] * 3, "raylet")],
)
def test_asked_to_end_it_ends_cleanly_and_going_on_it_replaces_a_process_that_is_killed(
    begun: Path, calm: tuple[Path, dict[str, Any]], signals: list[signal.Signals], kind: str
) -> None:
    job = started(begun, **{UNSPARED: "1"})
    for number in signals[:-1]:
        job.process.send_signal(number)
        time.sleep(0.4)
    job.process.send_signal(signals[-1])
    assert job.ended(60) == STOPPED
    if len(signals) == 1:  # a further one may come between the end and what is said of it
        assert job.said.strip().splitlines()[-1].startswith("the sweep was stopped with")
        assert "the same command goes on" in job.said
    assert "Traceback" not in job.said
    assert "state-dump" not in job.said
    assert not left_by(begun)
    check_closed(begun, calm)

    job = started(begun, **{UNSPARED: "1"})
    job.kill(kind)
    assert job.ended() == 0, job.said
    if kind != "raylet":  # without it, workers may end what they are at before the driver misses it
        assert ("the driver was lost; going on" in job.said) == (kind == "driver")
    assert not left_by(begun)
    check_equal(begun, calm)


def test_ctrl_c_while_the_autoencoders_train(prepared: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    home = prepared
    job = Job.start(home, *sweep_words(home.parent, DATASET, TRIALS))
    job.wait_for(lambda: [*home.glob("store/vae/*.partial")])
    job.process.send_signal(signal.SIGINT)
    assert job.ended(60) == STOPPED
    assert "Traceback" not in job.said
    check_equal(home, calm)


def test_a_killed_command_closes_its_record_and_the_next_waits_for_it(
    begun: Path, calm: tuple[Path, dict[str, Any]]
) -> None:
    job = started(begun)
    job.process.kill()
    job.process.wait()
    check_equal(begun, calm)


def test_a_killed_command_leaves_nothing_running(begun: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    job = started(begun)
    job.process.kill()
    job.process.wait()
    deadline = time.monotonic() + 60
    while left_by(begun) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left_by(begun)
    check_closed(begun, calm)


def test_a_ray_that_loses_its_raylet_while_it_starts_is_started_again(
    begun: Path, calm: tuple[Path, dict[str, Any]]
) -> None:
    job = Job.start(begun, *sweep_words(begun.parent, DATASET, TRIALS))
    job.kill("raylet")
    job.wait_to_hear("the driver was lost; going on")
    assert "error: Ray did not start: " in job.said
    assert job.ended() == 0, job.said
    check_equal(begun, calm)


def test_a_killed_worker_of_an_autoencoder_is_replaced(prepared: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    home = prepared
    job = Job.start(home, *sweep_words(home.parent, DATASET, TRIALS))
    job.wait_for(lambda: [*home.glob("store/vae/*.partial")])
    job.kill("trial")
    assert job.ended() == 0, job.said
    check_equal(home, calm)


def test_two_sweeps_on_one_store_share_what_they_can_and_a_second_driver_of_one_says_so_and_ends(
    prepared: Path, calm: tuple[Path, dict[str, Any]]
) -> None:
    home = prepared
    words = sweep_words(home.parent, DATASET, TRIALS)
    other = sweep_words(home.parent, DATASET, 1, pruner="median")
    jobs = [Job.start(home, *words), Job.start(home, *other, name="other")]
    jobs[0].wait_for(lambda: reported(home))
    with jobs[0].held():
        second = cli(home, *words, code=2)
    assert second.stderr.strip().endswith("another does; wait for it to end")
    assert [job.ended() for job in jobs] == [0, 0], [job.said for job in jobs]
    counts = stages_in(home)
    assert (counts["vae"], counts["reference"], counts["denoiser"]) == (2, 1, TRIALS), "the trial is shared"
    check_equal(home, calm, alone=False)


def test_a_store_that_vanishes_is_built_again(begun: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    job = started(begun)
    shutil.rmtree(begun / "store", ignore_errors=True)
    job.ended()
    assert "Traceback" not in job.said
    check_equal(begun, calm)


def flip(path: Path) -> bytes:
    """Flips a bit in the middle of a file, and returns what the file holds then."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def test_a_flipped_bit_of_a_result_is_found_and_repaired(begun: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    shard = min(begun.glob("store/latents/*/latents-00000.parquet"))
    damaged = flip(shard)
    manifest = min(begun.glob("store/vae/*/manifest.json"))
    damaged_manifest = flip(manifest)
    check_equal(begun, calm)
    assert shard.read_bytes() != damaged
    assert manifest.read_bytes() != damaged_manifest


def test_a_flipped_bit_of_a_checkpoint_is_found_and_repaired(begun: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    job = started(begun)
    job.process.send_signal(signal.SIGINT)
    job.ended(60)
    flip(min(begun.glob("store/denoiser/*.partial/checkpoint.safetensors")))
    check_equal(begun, calm)


HANG = """
import os
import time
import spared_imports
import spared_work
import thin_network_known
from when_imported import when_imported

def hang_once(training):
    original = training.add_noise

    def hanging(*arguments):
        mark = os.environ["HANG_ONCE"]
        if not os.path.exists(mark):
            open(mark, "w").close()
            time.sleep(3600)
        return original(*arguments)

    training.add_noise = hanging

when_imported("trainables.denoiser.training", hang_once)
"""


def test_a_worker_that_hangs_is_ended_and_its_trial_goes_on(
    begun: Path, calm: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HANG)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    mark = tmp_path / "hung"
    job = Job.start(
        begun,
        *sweep_words(begun.parent, DATASET, TRIALS),
        environment={"PYTHONPATH": path, "HANG_ONCE": str(mark), "LATENTSWEEP_HANG_MINUTES": "0.25"},
    )
    assert job.ended(300) == 0, job.said
    assert mark.exists()
    check_equal(begun, calm)


JUMP = """
import time
import spared_imports
import spared_work
import thin_network_known
real = time.time
time.time = lambda: real() + (86_400 if int(real() / 3) % 2 else -86_400)
"""


def test_a_clock_that_jumps_changes_no_result(begun: Path, calm: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(JUMP)
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    job = Job.start(begun, *sweep_words(begun.parent, DATASET, TRIALS), environment={"PYTHONPATH": path})
    assert job.ended() == 0, job.said
    assert all(entry.seconds >= 0 for entry in Store(begun / "store").entries())
    check_equal(begun, calm)


def test_what_failed_carries_its_reason_class_and_log_and_the_configuration_is_not_tried_again(
    begun: Path,
) -> None:
    space = """
dimensions:
  diffusion.learning_rate: [0.0002, 1.0e+30]
  sampling.early_stop_threshold: [0.0, 0.4]
"""
    words = [*sweep_words(begun.parent, DATASET, 2, space=space), "--set", "vae.latent_channels=8"]
    said = json.loads(cli(begun, *words).stdout)
    assert (said["counts"]["complete"], said["counts"]["failed"]) == (1, 1)
    runs = [run for run in mlflow_runs(begun, DATASET) if run.data.tags["latentsweep.kind"] == "trial"]
    (failed,) = [run for run in runs if run.info.status == "FAILED"]
    tags = failed.data.tags
    assert tags["latentsweep.class"] == "divergence"
    assert "no longer finite at step" in tags["latentsweep.reason"]
    assert "ended by DivergenceError" in tags["latentsweep.log"]
    again = json.loads(cli(begun, *words).stdout)
    assert again["counts"] == said["counts"]


def test_without_mlflow_the_sweep_ends_and_the_record_is_made_up_later(
    begun: Path, calm: tuple[Path, dict[str, Any]]
) -> None:
    words = sweep_words(begun.parent, DATASET, TRIALS)
    job = Job.start(begun, *words, environment={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert job.ended() == 0, job.said
    assert job.said.count("the work goes on without") == 1
    assert not (begun / "mlflow").exists()
    check_equal(begun, calm)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_one_line_and_with_room_again_the_command_goes_on(
    begun: Path, calm: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    disk, size = tmp_path / "disk", sum(path.stat().st_size for path in begun.rglob("*") if path.is_file())
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + 2_000_000}", "none", disk])
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        home = disk / "runs"
        shutil.copytree(begun, home)
        done = cli(home, *sweep_words(disk, DATASET, TRIALS), code=2, alone=True)
        assert "Traceback" not in done.stderr
        assert "No space left" in done.stderr or "disk is full" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=1G", disk], check=True)
        check_equal(home, calm)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_study_that_is_no_database_is_one_line(begun: Path, calm: tuple[Path, dict[str, Any]]) -> None:
    folder = begun / "sweeps" / calm[1]["sweep"]
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"not a database, " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(folder / "study.db").execute("select 1 from trials")
    done = cli(begun, *sweep_words(begun.parent, DATASET, TRIALS), code=2)
    assert "study.db" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr

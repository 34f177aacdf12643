"""A study as a user runs it: planned, run, killed, gone on with, recorded, and recomputed from MLflow alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import cli
from mlflow import MlflowClient
from processes import Job, spent
from scipy import stats
from swept import ablate_words, stages_in

from latentsweep.ablation.statistics.effect import Contrast, Run
from latentsweep.ablation.statistics.effects import effects as compute
from latentsweep.ablation.statistics.ratio import ratios
from latentsweep.search.plan import SweepPlan
from latentsweep.search.sweeps import open_search
from latentsweep.storage.store import Store
from trainables.measures.distances import WithinKernel

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def trainings(home: Path) -> dict[str, int]:
    entries = [entry.manifest["stage"] for entry in Store(home / "store").entries()]
    return {stage: entries.count(stage) for stage in ("vae", "denoiser", "samples")}


@pytest.fixture(scope="module")
def studied(measured_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A home with a study of three components and two seeds, and what it said."""
    home = tmp_path_factory.mktemp("study") / "runs"
    shutil.copytree(measured_demo, home)
    return home, json.loads(cli(home, *ablate_words("channels,cutmix,early-stop", 2)).stdout)


@pytest.fixture
def prepared(measured_demo: Path, tmp_path: Path) -> Path:
    """A home in which the dataset is prepared and its real slices are measured, and nothing is trained."""
    return Path(shutil.copytree(measured_demo, tmp_path / "runs"))


def test_a_study_trains_exactly_what_its_plan_says(studied: tuple[Path, dict[str, Any]]) -> None:
    home, said = studied
    planned = json.loads(cli(home, *ablate_words("channels,cutmix,early-stop", 2), "--dry-run").stdout)
    assert trainings(home) == {"vae": 4, "denoiser": 6, "samples": 6}
    assert stages_in(home)["reference"] == 2, "those that were there: of the validation split, and of the test split"
    assert {stage: planned["needed"][stage] for stage in trainings(home)} == trainings(home)
    assert planned["in_store"]["evaluation"] == planned["needed"]["evaluation"]
    assert planned["runs"] == 8
    assert said["failures"] == {}


def as_recorded(client: MlflowClient, run: Any) -> Run:
    """A run of the study by what MLflow has of it."""
    manifest = json.loads(Path(client.download_artifacts(run.info.run_id, "evaluation/manifest.json")).read_text())
    threshold = float(run.data.params.get("sampling.early_stop_threshold", 0.02))
    (point,) = [point for point in manifest["summary"]["points"] if point["threshold"] == threshold]
    cross = {name: (1000 * total, count) for name, (total, count) in point["kernel_by_subject"].items()}
    tags = run.data.tags
    return Run(
        tags["latentsweep.arm"], int(tags["latentsweep.seed"]), run.data.metrics, tags["latentsweep.key"], cross
    )


def real_slices(client: MlflowClient, experiment: str) -> WithinKernel:
    """The kernels of the real slices, as MLflow has them."""
    (parent,) = client.search_runs([experiment], "tags.`latentsweep.kind` = 'ablation'")
    plain = json.loads(Path(client.download_artifacts(parent.info.run_id, "real_slices.json")).read_text())
    names, numbers = [tuple(plain[name]) for name in ("groups", "sizes")], [plain["sums"], plain["pairs"]]
    return WithinKernel(*names, *map(np.array, numbers))


def test_the_table_is_recomputed_from_mlflow_alone(studied: tuple[Path, dict[str, Any]]) -> None:
    home, said = studied
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id], "tags.`latentsweep.kind` = 'ablation-run'")
    value = {(r.data.tags["latentsweep.arm"], int(r.data.tags["latentsweep.seed"])): r for r in runs}
    assert len(runs) == len(value) == 8
    for metric, effects in said["effects"].items():
        for effect in effects:
            arm = effect["contrast"]["name"]
            pairs = [(value[arm, seed], value["full", seed]) for seed in (0, 1)]
            differences = [mine.data.metrics[metric] - full.data.metrics[metric] for mine, full in pairs]
            assert effect["values"] == pytest.approx(differences)
            assert effect["mean"] == pytest.approx(sum(differences) / 2)
            paired = effect["scale"] == "raw" and not effect["counts"]
            if paired and effect["se_subjects"] is None and effect["sd"]:
                p = stats.ttest_1samp(differences, 0).pvalue
                assert effect["p"] == pytest.approx(p)
            assert set(effect["runs"]) == {run.data.tags["latentsweep.key"] for pair in pairs for run in pair}

    recorded = [as_recorded(client, run) for run in runs]
    real = real_slices(client, experiment.experiment_id)
    for metric, effects in said["effects"].items():
        contrasts = [Contrast(**effect["contrast"]) for effect in effects]
        found = compute(recorded, contrasts, metric, seeds=range(2), real=real)
        for again, effect in zip(found, effects, strict=True):
            for name in ("mean", "se_subjects", "low", "high", "p_holm", "verdict", "words"):
                assert getattr(again, name) == pytest.approx(effect[name]) or getattr(again, name) == effect[name]
    assert all(effect["se_subjects"] is not None for effect in said["effects"]["gen/kid"])

    (parent,) = client.search_runs([experiment.experiment_id], "tags.`latentsweep.kind` = 'ablation'")
    assert parent.info.status == "FINISHED"
    kept = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {Path(path).name for path in said["files"]} == kept
    rows = list(csv.DictReader((home.parent / next(f for f in said["files"] if f.endswith(".csv"))).open()))
    assert {run.data.tags["latentsweep.key"] for run in runs} <= {
        key for row in rows for key in row["runs"].split("; ")
    }


def test_ratios_are_recomputed_from_mlflow_alone(studied: tuple[Path, dict[str, Any]]) -> None:
    home, said = studied
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id], "tags.`latentsweep.kind` = 'ablation-run'")
    real = real_slices(client, experiment.experiment_id)
    contrasts = [Contrast(**effect["contrast"]) for effect in said["effects"]["gen/kid"]]
    recorded = [as_recorded(client, run) for run in runs]
    for again, ratio in zip(ratios(recorded, contrasts, seeds=range(2), real=real), said["ratios"], strict=True):
        assert again.value == pytest.approx(ratio["value"])
        assert (again.low, again.high) == pytest.approx((ratio["low"], ratio["high"]))
        assert again.subjects == ratio["subjects"]


def test_ratios_and_gaps_are_said_beside_the_differences(studied: tuple[Path, dict[str, Any]]) -> None:
    home, said = studied
    for ratio, effect in zip(said["ratios"], said["effects"]["gen/kid"], strict=True):
        assert (ratio["name"], ratio["runs"]) == (effect["contrast"]["name"], effect["runs"])
        assert ratio["subjects"] or ratio["low"] == ratio["high"] == 1, "the real slices are in the store"
        if ratio["low"] is not None:
            assert (ratio["low"] <= 1 <= ratio["high"]) == (effect["low"] <= 0 <= effect["high"])
    assert {(gap["arm"], gap["metric"]) for gap in said["gaps"]} == {
        (arm, metric)
        for arm in ("full", "without channels", "without cutmix", "without early-stop")
        for metric in ("gen/kid", "gen/fid")
    }
    for gap in said["gaps"]:
        parts = sum(gap[name]["mean"] for name in ("floor", "autoencoder", "denoiser"))
        assert parts == pytest.approx(gap["generated"]["mean"])
    picture = next(Path(path) for path in said["files"] if path.endswith("ablation_gap.png"))
    assert (home.parent / picture).stat().st_size > 5000


def test_more_seeds_run_the_rest_alone_and_the_same_again_runs_nothing(
    studied: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    home = tmp_path / "runs"
    shutil.copytree(studied[0], home)
    before = {path: path.stat().st_mtime_ns for path in (home / "store").rglob("manifest.json")}
    began = spent()
    again = json.loads(cli(home, *ablate_words("channels,cutmix,early-stop", 2), alone=True).stdout)
    assert spent() - began < 25
    assert again["effects"] == studied[1]["effects"]
    more = json.loads(cli(home, *ablate_words("channels,cutmix,early-stop", 3)).stdout)
    after = {path: path.stat().st_mtime_ns for path in (home / "store").rglob("manifest.json")}
    assert before.items() <= after.items()
    assert trainings(home) == {"vae": 6, "denoiser": 9, "samples": 9}
    assert all(len(effect["values"]) == 3 for effect in more["effects"]["gen/kid"])


def test_a_killed_study_goes_on_to_the_same_result(studied: tuple[Path, dict[str, Any]], prepared: Path) -> None:
    home = prepared
    job = Job.start(home, *ablate_words("channels", 1))
    job.wait_for(lambda: list((home / "store").glob("denoiser/*/manifest.json")))
    os.killpg(job.process.pid, signal.SIGKILL)
    job.process.wait()
    said = json.loads(cli(home, *ablate_words("channels", 1)).stdout)
    for metric, effects in studied[1]["effects"].items():
        of_first_seed = {effect["contrast"]["name"]: effect["values"][:1] for effect in effects}
        found = {effect["contrast"]["name"]: effect["values"] for effect in said["effects"][metric]}
        assert found == {"without channels": of_first_seed["without channels"]}
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["latentsweep.key"] for run in runs}) == len(runs) == 3


def test_each_arm_is_tuned_by_a_search_of_its_own(prepared: Path) -> None:
    home = prepared
    said = json.loads(cli(home, *ablate_words("cutmix", 1, "--tune-per-arm", "2")).stdout)
    assert len(said["effects"]["gen/kid"][0]["values"]) == 1
    best = {}
    for folder in (home / "sweeps").iterdir():
        (chosen,) = open_search(folder).best()
        cutmix = SweepPlan.read(folder).recipe.diffusion.cutmix_probability
        best[cutmix] = chosen.params["diffusion.learning_rate"]
    assert set(best) == {0.0, 0.25}
    used = json.loads(next((home / "ablations").glob("*/uses.json")).read_text())
    denoisers = [Store(home / "store").find(name) for name in used if name.startswith("denoiser/")]
    assert len(denoisers) == 2
    for entry in denoisers:
        assert entry is not None
        diffusion = entry.manifest["inputs"]["diffusion"]
        assert diffusion["learning_rate"] == best[diffusion["cutmix_probability"]]

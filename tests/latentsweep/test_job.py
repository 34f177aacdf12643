"""The whole job as a user runs it: sweep, go on, survive a kill, export, retrain, sample, evaluate."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import PLANTED, ROOT, UNSPARED, cli
from measured import give
from mlflow import MlflowClient
from PIL import Image
from processes import Job, spent
from swept import check_complete, mlflow_runs, results, stages_in, study_of, sweep_words

from latentsweep.datasets.ledger import FILE
from latentsweep.storage.store import Store

FIGURES = (
    "vae_training",
    "reconstructions",
    "latents_autoencoder",
    "diffusion_training",
    "trajectory",
    "generated_threshold_0",
    "generated_threshold_0.4",
    "early_stop",
    "nearest_neighbours",
    "latents",
    "power_spectra",
    "pairwise_distances",
)

SPACE = """
dimensions:
  vae.latent_channels: [4, 8]
  diffusion.cutmix_probability: [0.0, 0.5]
  sampling.early_stop_threshold: [0.0, 0.4]
"""
TRIALS = 4
"""All configurations of the space but for the thresholds, which one trial measures together."""

PATIENTS = 30
"""The network that measures takes most of the time, and it takes it for each real slice."""

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def words_of(folder: Path, dataset: str, trials: int) -> list[str]:
    """A sweep of :data:`SPACE`, which measures with the real network."""
    return sweep_words(folder, dataset, trials, space=SPACE, thin=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Real scans of :data:`PATIENTS` patients; None where there are none."""
    data = Path(os.environ.get("LATENTSWEEP_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve() / "rsna_miccai"
    if not data.is_dir():
        return None
    folder = tmp_path_factory.mktemp("source")
    for patient in sorted((data / "train").iterdir())[:PATIENTS]:
        shutil.copytree(patient, folder / "train" / patient.name)
    shutil.copy(data / "train_labels.csv", folder)
    return folder


@pytest.fixture(scope="module")
def prepared(
    source: Path | None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, str]:
    """A home with real slices prepared, or with the built-in ones where there are none."""
    home = tmp_path_factory.mktemp("prepared") / "runs"
    if source:
        cli(home, "data", "prepare", "kaggle", "--source", source)
        return home, "kaggle"
    shutil.copytree(request.getfixturevalue("prepared_demo"), home)
    return home, "demo"


@pytest.fixture(scope="module")
def swept(prepared: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A home in which a sweep of all configurations ran undisturbed, and what it said."""
    home = tmp_path_factory.mktemp("swept") / "runs"
    shutil.copytree(prepared[0], home)
    with pytest.MonkeyPatch.context() as monkey:
        monkey.setenv(UNSPARED, "1")
        said = json.loads(cli(home, *words_of(home.parent, prepared[1], TRIALS), alone=True).stdout)
    return home, prepared[1], said


def test_a_sweep_trains_two_autoencoders_however_many_trials_it_has(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    assert stages_in(home) == {
        "vae": 2,
        "latents": 2,
        "reconstruction": 2,
        "reference": 1,
        "inspection": 1,
        "denoiser": TRIALS,
        "samples": TRIALS,
        "evaluation": TRIALS,
    }
    assert said["counts"] == {"complete": TRIALS, "pruned": 0, "failed": 0, "waiting": 0, "points": 2 * TRIALS}
    assert len(said["leaderboard"]) == 2 * TRIALS
    assert all(row["gen/fid"] > 0 and row["gen/kid_se"] > 0 for row in said["leaderboard"])
    check_complete(home, dataset, said["sweep"], TRIALS)


def test_the_record_holds_parameters_curves_scores_and_pictures(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = mlflow_runs(home, dataset)
    parent = next(run for run in runs if run.data.tags["latentsweep.kind"] == "sweep")
    trial = next(run for run in runs if run.data.tags["latentsweep.kind"] == "trial")
    assert trial.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert set(trial.data.params) == set(study_of(home, said["sweep"]).trials[0].params)
    assert {"final/kid", "final/fid", "gen/kid", "recon/ssim", "recon/psnr", "train/loss"} <= set(trial.data.metrics)
    assert len(client.get_metric_history(trial.info.run_id, "train/loss")) > 5
    assert client.get_metric_history(trial.info.run_id, "rung/kid")
    figures = {Path(file.path).name for file in client.list_artifacts(trial.info.run_id, "figures")}
    assert figures == {f"{name}.png" for name in FIGURES}
    (vae, *_) = [run for run in runs if run.data.tags["latentsweep.kind"] == "vae"]
    figures = {Path(file.path).name for file in client.list_artifacts(vae.info.run_id, "figures")}
    assert figures == {"vae_training.png", "reconstructions.png", "latents_autoencoder.png"}
    assert {"leaderboard.md", "leaderboard.csv"} <= {f.path for f in client.list_artifacts(parent.info.run_id)}


def test_lints_are_tags_by_which_runs_are_found(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    assert "few-samples" in said["lints"]
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(dataset)
    few = client.search_runs([experiment.experiment_id], "tags.`latentsweep.lints` LIKE '%few-samples%'")
    assert {run.data.tags["latentsweep.kind"] for run in few} == {"sweep", "trial"}
    assert "8 generated" in next(
        run.data.tags["latentsweep.lint.few-samples"] for run in few if run.data.tags["latentsweep.kind"] == "trial"
    )
    asked = cli(home, "lint", said["sweep"], "--json", code=1)
    found = [finding for findings in json.loads(asked.stdout).values() for finding in findings]
    assert {finding["code"] for finding in found} == set(said["lints"])
    assert any(finding["severity"] == "warning" for finding in found)


def test_the_report_shows_the_numbers_that_mlflow_has(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    files = [home.parent / name for name in json.loads(cli(home, "report", "--json").stdout)["files"]]
    page, table = files[0].read_text(), list(csv.DictReader(files[2].open()))
    assert files[0].stat().st_size < 6e6
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = {run.data.tags["latentsweep.key"]: run for run in mlflow_runs(home, dataset)}
    compared = 0
    for row in table:
        run = runs.get(f"{said['sweep']}/trial-{row['trial']}")
        for name, value in run.data.metrics.items() if run else ():
            if name.startswith(("gen/", "recon/")):
                assert float(row[name]) == value, name
                compared += 1
    assert compared > TRIALS * 30
    best = min(table, key=lambda row: float(row["gen/kid"]))
    assert f"{float(best['gen/kid']):.1f}" in page
    assert f"{float(best['gen/kid']):.1f}" in files[1].read_text()
    parent = runs[said["sweep"]]
    kept = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "report")}
    assert kept == {path.name for path in files}
    check_complete(home, dataset, said["sweep"], TRIALS)


def test_the_same_command_again_trains_nothing_and_answers_at_once(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    before = {path: path.stat().st_mtime_ns for path in (home / "store").rglob("manifest.json")}
    began = spent()
    again = json.loads(cli(home, *words_of(home.parent, dataset, TRIALS), alone=True).stdout)
    assert spent() - began < 20
    assert again["leaderboard"] == said["leaderboard"]
    assert {path: path.stat().st_mtime_ns for path in (home / "store").rglob("manifest.json")} == before
    check_complete(home, dataset, said["sweep"], TRIALS)


def test_more_trials_than_configurations_end_with_all_of_them(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, said = swept
    again = json.loads(cli(home, *words_of(home.parent, dataset, 40)).stdout)
    assert again["counts"] == said["counts"]


def test_no_planted_identifier_is_anywhere(swept: tuple[Path, str, dict[str, Any]]) -> None:
    home, dataset, _ = swept
    if dataset != "kaggle":
        pytest.skip("no real scans here: the built-in ones carry no identifiers")
    files = [path for path in home.parent.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        for content in contents(path):
            assert not any(planted in content for planted in PLANTED), path


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what is compressed in them."""
    raw = path.read_bytes()
    yield raw
    if path.suffix == ".parquet":
        yield repr(pq.read_table(path).to_pydict()).encode()
        yield repr(pq.read_schema(path).metadata).encode()
    if path.suffix == ".png":
        with Image.open(path) as picture:
            yield repr(picture.info).encode()
            yield picture.tobytes()


def test_a_driver_killed_in_the_middle_loses_doubles_and_changes_nothing(
    prepared: tuple[Path, str], swept: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    home, dataset = tmp_path / "runs", prepared[1]
    shutil.copytree(prepared[0], home)
    give(swept[0], home)
    job = Job.start(home, *words_of(tmp_path, dataset, 3))
    job.wait_to_hear(" of 3)")
    job.process.kill()
    job.process.wait()
    said = json.loads(cli(home, *words_of(tmp_path, dataset, TRIALS)).stdout)
    assert said["sweep"] == swept[2]["sweep"]
    check_complete(home, dataset, said["sweep"], TRIALS)
    assert stages_in(home) == stages_in(swept[0])
    assert results(home, said["sweep"]) == results(swept[0], said["sweep"])


@pytest.fixture(scope="module")
def best(swept: tuple[Path, str, dict[str, Any]]) -> Path:
    home, dataset, _ = swept
    path = home.parent / "best.yaml"
    cli(home, "export", "--dataset", dataset, "--to", path)
    return path


def test_a_retraining_in_an_empty_home_gives_the_trials_metrics_exactly(
    source: Path | None, best: Path, tmp_path: Path
) -> None:
    import yaml

    home, dataset = tmp_path / "runs", "kaggle" if source else "demo"
    cli(home, "data", "prepare", dataset, *(["--source", source] if source else []))
    said = json.loads(cli(home, "train", "--config", best, "--json").stdout)
    assert not said["from_store"]
    scores = yaml.safe_load(best.read_text())["origin"]["scores"]
    exact = {name: value for name, value in scores.items() if name != "gen/seconds_per_image"}
    assert {name: said["validation"][name] for name in exact} == exact
    assert "gen/kid" in said["test"]
    assert said["registry"] == {**said["registry"], "version": 1, "champion": True}


def test_in_the_old_home_the_store_answers_and_the_model_is_registered(
    swept: tuple[Path, str, dict[str, Any]], best: Path
) -> None:
    home = swept[0]
    before = stages_in(home)
    said = json.loads(cli(home, "train", "--config", best, "--json").stdout)
    assert said["from_store"]
    after = stages_in(home)
    assert (after["vae"], after["denoiser"]) == (before["vae"], before["denoiser"])
    again = json.loads(cli(home, "train", "--config", best, "--json").stdout)
    assert again["registry"]["version"] == said["registry"]["version"], "the same model is registered once"
    kinds = [run.data.tags["latentsweep.kind"] for run in mlflow_runs(home, swept[1])]
    assert kinds.count("training") == 1


def validation_curve(home: Path, steps: int) -> list[float]:
    entries = [entry for entry in Store(home / "store").entries() if entry.manifest["stage"] == "denoiser"]
    entry = next(e for e in entries if e.manifest["inputs"]["diffusion"]["steps"] == steps)
    return [record["val/mse"] for record in entry.json("records.json") if "val/mse" in record]


def test_two_workers_train_a_longer_budget_as_one_would(
    swept: tuple[Path, str, dict[str, Any]], best: Path, tmp_path: Path
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    for home, workers in ((alone, 1), (together, 2)):
        shutil.copytree(swept[0], home)
        words = ("train", "--config", best, "--steps", 70, "--workers", workers, "--no-mlflow", "--json")
        said = json.loads(cli(home, *words).stdout)
        assert not said["from_store"]
        assert set(said["test"]) >= {"gen/kid", "recon/ssim"}
    one, two = validation_curve(alone, 70), validation_curve(together, 70)
    assert one != two, "sums in another order leave other last bits, or nothing was shared"
    assert two == pytest.approx(one, rel=0.02)


def test_a_seed_gives_the_same_image_in_any_batch(swept: tuple[Path, str, dict[str, Any]], best: Path) -> None:
    home, dataset, _ = swept
    one, many = home.parent / "one", home.parent / "many"
    cli(home, "sample", best, "--seed", 5, "--count", 1, "--to", one)
    cli(home, "sample", best, "--seed", 3, "--count", 6, "--to", many)
    assert (one / "seed-000005.png").read_bytes() == (many / "seed-000005.png").read_bytes()
    assert (many / "seed-000004.png").read_bytes() != (many / "seed-000005.png").read_bytes()
    assert Image.open(many / "grid.png").size[0] > 64
    words = ("evaluate", "--images", many, "--dataset", dataset, "--json")
    assert json.loads(cli(home, *words).stdout)["gen/samples"] == 6, "the grid is not one of the images"


def test_a_trained_run_and_a_folder_of_images_are_measured(
    swept: tuple[Path, str, dict[str, Any]], best: Path, tmp_path: Path
) -> None:
    home, dataset, _ = swept
    run = json.loads(cli(home, "evaluate", best, "--split", "validation", "--json").stdout)
    assert run["gen/kid"] > 0
    random = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(random.integers(0, 255, (32, 32), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    folder = json.loads(cli(home, "evaluate", "--images", tmp_path, "--dataset", dataset, "--json").stdout)
    assert folder["gen/kid"] > run["gen/kid"], "noise is farther from brains than anything trained"
    assert folder["gen/samples"] == 4


def test_the_test_split_is_noted_once_for_each_thing_that_is_measured_on_it(
    swept: tuple[Path, str, dict[str, Any]], best: Path, tmp_path: Path
) -> None:
    home, dataset, _ = swept
    home = Path(shutil.copytree(home, tmp_path / "runs"))
    (home / "datasets" / FILE).unlink(missing_ok=True)
    images = tmp_path / "images"
    cli(home, "sample", best, "--count", 4, "--to", images)
    trained = ("train", "--config", best, "--no-mlflow")
    measured = ("evaluate", "--images", images, "--dataset", dataset)

    def earlier(*words: Any) -> int | None:
        said: int | None = json.loads(cli(home, *words, "--json").stdout).get("earlier_test_decisions")
        return said

    assert earlier("evaluate", best, "--split", "validation") is None
    assert [earlier(*trained), earlier(*trained)] == [0, 0]
    assert earlier("evaluate", best) == 0, "it is what the training measured"
    assert [earlier(*measured), earlier(*measured)] == [1, 1]
    told = f"the test split of {dataset} was used in 0 earlier decisions (none on record)\n"
    assert told in cli(home, *trained).stdout, "the images were measured after it"
    assert len((home / "datasets" / FILE).read_text().splitlines()) == 2


def test_every_row_of_the_leaderboard_can_be_exported(
    swept: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    import yaml

    home, dataset, said = swept
    row = next(row for row in said["leaderboard"] if row["trial"] != row["pass"])
    path = tmp_path / "row.yaml"
    despite = ["--despite-guards"] if row.get("refused") else []
    cli(home, "export", "--sweep", said["sweep"], "--trial", row["trial"], "--to", path, *despite)
    content = yaml.safe_load(path.read_text())
    assert content["recipe"]["sampling"]["early_stop_threshold"] == row["sampling.early_stop_threshold"]
    assert content["origin"]["scores"]["gen/kid"] == row["gen/kid"]
    assert content["origin"]["run_id"] in {run.info.run_id for run in mlflow_runs(home, dataset)}


def test_a_models_folder_is_measured_where_the_store_has_never_seen_it(
    prepared: tuple[Path, str], swept: tuple[Path, str, dict[str, Any]], best: Path
) -> None:
    here = json.loads(cli(swept[0], "train", "--config", best, "--json").stdout)
    folder = swept[0].parent / here["folder"]
    elsewhere = json.loads(cli(prepared[0], "evaluate", folder, "--json").stdout)
    assert elsewhere["gen/diversity"] == here["test"]["gen/diversity"], "the same seeds give the same images"
    assert elsewhere["gen/kid"] == pytest.approx(here["test"]["gen/kid"])


def test_the_store_shows_what_refers_to_it_and_frees_a_deleted_sweep(
    swept: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    home = tmp_path / "runs"
    shutil.copytree(swept[0], home)
    name = swept[2]["sweep"]
    assert name in cli(home, "store", "show").stdout
    kept = {name for path in home.glob("*/*/uses.json") for name in json.loads(path.read_text())}
    cli(home, "store", "free")
    assert {entry.name for entry in Store(home / "store").entries()} == kept
    assert "0 results" in cli(home, "store", "free").stdout
    shutil.rmtree(home / "sweeps" / name)
    shutil.rmtree(home / "trained", ignore_errors=True)
    cli(home, "store", "free")
    assert Store(home / "store").entries() == []

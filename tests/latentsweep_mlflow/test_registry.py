"""The best model stands under its dataset's name, is no pickle, and samples by itself."""

import logging
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from latentsweep_mlflow import registry
from latentsweep_mlflow.database import tracking_uri
from latentsweep_mlflow.recorder import recorder_for
from latentsweep_mlflow.registry import FILES, GUIDE, Registered, _in_words, register_model
from latentsweep_mlflow.tracking import connect
from trainables.errors import LatentsweepError


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        connect(tracking_uri(home))
    return home


@pytest.fixture
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One home for all tests of this file, each with a dataset of its own name."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return shared_home


def register(home: Path, folder: Path, dataset: str, content: str, score: float, **changes: Any) -> Registered:
    folder.mkdir(exist_ok=True)
    for name in FILES:
        (folder / name).write_text(f"{name} {content}")
    arguments: dict[str, Any] = {"run_id": None, "objective": "final/kid", "comparable": "ref1 200 inception"}
    arguments["masks"] = False
    return register_model(home, dataset=dataset, folder=folder, score=score, **arguments | changes)


def test_the_lower_score_becomes_the_champion_and_a_higher_one_does_not(home: Path, tmp_path: Path) -> None:
    first = register(home, tmp_path / "m", "lower", "a", 3.0)
    better = register(home, tmp_path / "m", "lower", "b", 2.0)
    worse = register(home, tmp_path / "m", "lower", "c", 2.5)
    broken = register(home, tmp_path / "m", "lower", "d", float("nan"))
    assert [(r.version, r.champion, r.previous) for r in (first, better, worse, broken)] == [
        (1, True, None),
        (2, True, 3.0),
        (3, False, 2.0),
        (4, False, 2.0),
    ]
    assert worse.reason == "its final/kid of 2.5 does not beat the 2 of version 2"
    champion = MlflowClient(tracking_uri(home)).get_model_version_by_alias("lower", "champion")
    assert int(champion.version) == 2


@pytest.mark.slow
def test_of_models_that_are_registered_at_once_one_is_the_first_and_the_best_is_champion(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [5.0, 3.0, 4.0, 2.0]
    compare = registry._compare

    def slowly(*given: Any) -> Any:
        time.sleep(0.5)  # in which the others read the champion that this one is about to replace
        return compare(*given)

    monkeypatch.setattr(registry, "_compare", slowly)
    together = threading.Barrier(len(scores))

    def work(score: float) -> Registered:
        together.wait()
        return register(home, tmp_path / f"m{score}", "at-once", str(score), score)

    with ThreadPoolExecutor(len(scores)) as pool:
        found = list(pool.map(work, scores))
    assert [each.reason for each in found].count("the first of this dataset") == 1
    assert sorted(each.version for each in found) == [1, 2, 3, 4]
    champion = MlflowClient(tracking_uri(home)).get_model_version_by_alias("at-once", "champion")
    assert int(champion.version) == found[-1].version, "the lowest score"


@pytest.mark.parametrize("changes", [{"comparable": "ref1 50 inception"}, {"objective": "final/fid"}])
def test_a_score_of_another_kind_never_replaces_the_champion(
    home: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    dataset = f"kind-{next(iter(changes))}"
    register(home, tmp_path / "m", dataset, "a", 3.0)
    other = register(home, tmp_path / "m", dataset, "b", 0.1, **changes)
    assert not other.champion
    assert next(iter(changes.values())) in other.reason


def test_the_same_model_is_registered_once(home: Path, tmp_path: Path) -> None:
    first = register(home, tmp_path / "m", "same", "a", 3.0)
    again = register(home, tmp_path / "n", "same", "a", 3.0)
    assert (again.version, again.champion) == (first.version, True)
    client = MlflowClient(tracking_uri(home))
    assert len(client.search_model_versions("name = 'same'")) == 1
    experiment = client.get_experiment_by_name("same")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_model_with_another_guide_is_another_model(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    versions = [register(home, folder, "guided", "a", 3.0).version]
    for weights in ("one", "two", "two"):
        (folder / GUIDE).write_text(weights)
        versions.append(register(home, folder, "guided", "a", 3.0).version)
    assert versions == [1, 2, 3, 3]


def test_the_files_lie_with_the_run_that_trained_them(home: Path, tmp_path: Path) -> None:
    recorder = recorder_for(home, "trained")
    recorder.open_run("t", name="t", kind="training")
    run_id = recorder.run_id("t")
    assert run_id is not None
    registered = register(home, tmp_path / "m", "trained", "a", 3.0, run_id=run_id, tags={"recipe": "smoke"})
    client = MlflowClient(tracking_uri(home))
    version = client.get_model_version("trained", str(registered.version))
    assert version.run_id == run_id
    assert version.tags["recipe"] == "smoke"
    assert next(file.path for file in client.list_artifacts(run_id)).startswith("model-")


def test_the_champion_samples_by_itself_from_weights_and_code_without_a_pickle_a_path_or_the_network(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_network(*arguments: object, **named: object) -> None:
        raise AssertionError("the network was used")

    def sample_images(folder: Path, seeds: Sequence[int]) -> np.ndarray:
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
        return np.stack([np.full((8, 8), seed, np.uint8) for seed in seeds])

    bundle = types.ModuleType("latentsweep.bundle")
    bundle.sample_images = sample_images  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "latentsweep.bundle", bundle)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        register(home, tmp_path / "weights", "sampling", "a", 3.0)
    version = MlflowClient(tracking_uri(home)).get_model_version_by_alias("sampling", "champion")
    stored = Path(str(version.source).removeprefix("file://"))
    names = {path.relative_to(stored).as_posix() for path in stored.rglob("*") if path.is_file()}
    assert {f"artifacts/weights/{name}" for name in FILES} <= names
    assert "sampler_model.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    descriptions = [path.read_text() for path in stored.iterdir() if path.is_file()]
    assert not [text for text in descriptions if str(tmp_path) in text or str(Path(__file__).parents[2]) in text]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(home))
    before = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(tracking_uri(home))
        images = mlflow.pyfunc.load_model("models:/sampling@champion").predict({"seed": [3, 5]})
    finally:
        mlflow.set_tracking_uri(before)
    assert (images.shape, images.dtype) == ((2, 8, 8), np.uint8)
    assert images[:, 0, 0].tolist() == [3, 5]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_model_asks_for_the_packages_of_its_plug_ins(home: Path, tmp_path: Path) -> None:
    register(home, tmp_path / "m", "plugged", "a", 3.0, packages={"sound-one": "1.1"})
    version = MlflowClient(tracking_uri(home)).get_model_version_by_alias("plugged", "champion")
    asked = (Path(str(version.source).removeprefix("file://")) / "requirements.txt").read_text().splitlines()
    assert "sound-one==1.1" in asked
    assert {line.partition("==")[0] for line in asked} == {
        "latentsweep",
        "mlflow",
        "torch",
        "numpy",
        "safetensors",
        "sound-one",
    }


def test_a_folder_that_lacks_a_file_is_refused_by_its_name(home: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(LatentsweepError, match=r"missing: vae\.safetensors, denoiser\.safetensors"):
        register_model(
            home, dataset="d", folder=tmp_path, run_id=None, score=1.0, objective="o", comparable="x", masks=False
        )


@pytest.mark.parametrize(("masks", "shape"), [(False, (-1, -1, -1)), (True, (-1, 2, -1, -1))])
def test_the_signature_says_whether_slices_come_with_masks(
    home: Path, tmp_path: Path, masks: bool, shape: tuple[int, ...]
) -> None:
    dataset = f"masks-{masks}"
    register(home, tmp_path / "m", dataset, "a", 1.0, masks=masks)
    version = MlflowClient(tracking_uri(home)).get_model_version_by_alias(dataset, "champion")
    signature = Model.load(str(version.source).removeprefix("file://")).signature
    assert signature.outputs.inputs[0].shape == shape


def test_a_server_that_is_away_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://jane:s3cret@127.0.0.1:{port}")
    with pytest.raises(LatentsweepError, match="run the same command again") as caught:
        register(tmp_path, tmp_path / "m", "away", "a", 1.0)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_people_read_the_name_of_a_score_and_not_its_key() -> None:
    assert _in_words("kid on the test split") == "KID ×1000 on the test split"
    assert _in_words("final/kid") == "final/kid"

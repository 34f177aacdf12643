"""The best model of each dataset, under the dataset's name: weights, configuration and code, never a pickle."""

from __future__ import annotations

import hashlib
import math
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from latentsweep.metrics import OBJECTIVES
from latentsweep.records.recorder import NOTHING
from latentsweep.records.redaction import redact
from latentsweep.stages.guards import TAG
from latentsweep_mlflow.database import artifact_root, database, tracking_uri
from latentsweep_mlflow.tracking import ORIGIN, connect, experiment_id
from trainables.errors import LatentsweepError

CHAMPION = "champion"
FILES = ("vae.safetensors", "denoiser.safetensors", "scaling.safetensors", "config.yaml")
GUIDE = "guide.safetensors"
"""Beside them, where the model samples with autoguidance."""
LOCK = Path("mlflow", "registry.lock")
"""In the home: who holds it registers."""
_DIGEST, _SCORE = "latentsweep.digest", "latentsweep.score"
_OBJECTIVE, _COMPARABLE = "latentsweep.objective", "latentsweep.comparable"
_NEEDED = ("latentsweep", "mlflow", "torch", "numpy", "safetensors")


@dataclass(frozen=True)
class Registered:
    """The result of a registration. ``previous`` is the score of the champion before it, if there was one."""

    version: int
    champion: bool
    previous: float | None
    reason: str


def register_model(
    home: Path,
    *,
    dataset: str,
    folder: Path,
    run_id: str | None,
    score: float,
    objective: str,
    comparable: str,
    masks: bool,
    packages: Mapping[str, str] = NOTHING,
    tags: Mapping[str, str] = NOTHING,
) -> Registered:
    """Register the model in ``folder``, and make it the champion if its score is the lower one.

    ``folder`` holds the weights, the scaling and ``config.yaml`` (:data:`FILES`); the files of the model
    go to the run ``run_id``, or to a run of their own. ``comparable`` says what the score was measured
    against (reference set, number of samples, extractor): a champion is never replaced by a score of another
    kind, nor by a model that the guards refuse, whose ``tags`` say so. With ``masks`` it draws
    slices and masks, (N, 2, H, W), and else slices (N, H, W). ``packages``, versions by name, are those of the
    plug-ins that it draws with. The same files are registered once. Raises :class:`LatentsweepError` where a file is
    missing or MLflow does not take the model.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise LatentsweepError(f"a model folder must hold {', '.join(FILES)}; missing: {', '.join(missing)}")
    all_tags = {
        **tags,
        _DIGEST: _digest(folder),
        _SCORE: repr(float(score)),
        _OBJECTIVE: objective,
        _COMPARABLE: comparable,
    }
    uri, shape = tracking_uri(home), (-1, *((2,) if masks else ()), -1, -1)
    needed = {**{name: version(name).partition("+")[0] for name in _NEEDED}, **packages}
    try:
        (home / LOCK).parent.mkdir(parents=True, exist_ok=True)
        with FileLock(home / LOCK):  # of two trainings that end at once, the second sees the first
            return _register(connect(uri), dataset, folder, run_id, artifact_root(home), all_tags, shape, needed)
    except (MlflowException, OSError) as error:
        raise LatentsweepError(
            f"MLflow at {redact(uri)} did not take the model: {redact(error)}; run the same command again"
        ) from error


def champion_folder(home: Path, dataset: str) -> Path | None:
    """The folder of a dataset's champion, fetched where it isn't on this machine; None where there is none.

    Raises :class:`LatentsweepError` where MLflow does not give it.
    """
    uri = tracking_uri(home)
    try:
        begun = artifact_root(home) is None or database(home).is_file()  # reading makes no database
        champion = _champion(connect(uri), dataset) if begun else None
        if champion is None:
            return None
        model = Path(download_artifacts(artifact_uri=champion.source, tracking_uri=uri))
        return next(model.glob(f"artifacts/*/{FILES[-1]}")).parent
    except (MlflowException, OSError, StopIteration) as error:
        raise LatentsweepError(
            f"MLflow at {redact(uri)} did not give the champion of {dataset}: {redact(error)}; name a model's folder"
        ) from error


def _register(
    client: MlflowClient,
    name: str,
    folder: Path,
    run_id: str | None,
    root: str | None,
    tags: Mapping[str, str],
    shape: tuple[int, ...],
    needed: Mapping[str, str],
) -> Registered:
    champion = _champion(client, name)
    previous = float(champion.tags[_SCORE]) if champion is not None and _SCORE in champion.tags else None
    same = client.search_model_versions(f"name = '{name}' and tags.`{_DIGEST}` = '{tags[_DIGEST]}'")
    if same:
        number = int(same[0].version)
        if champion is not None and int(champion.version) == number:
            return Registered(number, True, previous, f"the same model is registered as version {number}")
        wins, reason = _compare(tags, champion)
        if wins:
            client.set_registered_model_alias(name, CHAMPION, str(number))
        return Registered(number, wins, previous, f"the same model is registered as version {number}; {reason}")
    run_id = run_id or _own_run(client, name, root)
    source = _upload(client, folder, run_id, tags[_DIGEST], shape, needed)
    try:
        client.create_registered_model(name, description=f"Samples slices like those of {name}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    number = int(client.create_model_version(name, source, run_id, tags=dict(tags)).version)
    champion = _champion(client, name)  # another home may have registered one while the files were sent
    previous = float(champion.tags[_SCORE]) if champion is not None and _SCORE in champion.tags else None
    wins, reason = _compare(tags, champion)
    if wins:
        client.set_registered_model_alias(name, CHAMPION, str(number))
    return Registered(number, wins, previous, reason)


def _compare(tags: Mapping[str, str], champion: ModelVersion | None) -> tuple[bool, str]:
    """Whether the model of these tags becomes the champion, and why or why not."""
    score, named = float(tags[_SCORE]), _in_words(tags[_OBJECTIVE])
    if TAG in tags:
        return False, f"registered despite the guards ({tags[TAG]}), and so never the champion"
    if not math.isfinite(score):
        return False, f"its {named} is {score}, which beats nothing"
    if champion is None:
        return True, "the first of this dataset"
    for tag, what in ((_OBJECTIVE, "objective"), (_COMPARABLE, "measurement")):
        if tags[tag] != champion.tags.get(tag):
            return False, (
                f"not compared: its {what} ({tags[tag]}) is not that of the champion, version "
                f"{champion.version} ({champion.tags.get(tag)}); to change the champion, move the alias in MLflow"
            )
    theirs = float(champion.tags[_SCORE])
    beats = "beats" if score < theirs else "does not beat"
    return score < theirs, f"its {named} of {score:.4g} {beats} the {theirs:.4g} of version {champion.version}"


def _in_words(objective: str) -> str:
    """An objective such as ``kid on the test split`` with what people call its metric."""
    name, _, where = objective.partition(" ")
    return f"{OBJECTIVES[name].label} {where}" if name in OBJECTIVES else objective


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model, no alias
            return None
        raise


def _upload(
    client: MlflowClient,
    folder: Path,
    run_id: str,
    digest: str,
    shape: tuple[int, ...],
    needed: Mapping[str, str],
) -> str:
    """Write the model as MLflow knows it, store it with the run, and give back where it lies."""
    subfolder = f"model-{digest[:8]}"
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)  # it would sample one
        path = Path(scratch) / subfolder
        mlflow.pyfunc.save_model(
            path,
            python_model=str(Path(__file__).with_name("sampler_model.py")),
            artifacts={"bundle": str(folder)},
            signature=ModelSignature(
                Schema([ColSpec("long", "seed")]), Schema([TensorSpec(np.dtype("uint8"), shape)])
            ),
            pip_requirements=[f"{name}=={number}" for name, number in needed.items()],
        )
        _forget_paths(path)
        client.log_artifacts(run_id, str(path), subfolder)
    return f"{client.get_run(run_id).info.artifact_uri}/{subfolder}"


def _forget_paths(path: Path) -> None:
    """Take the folders of this machine, from which MLflow copied, out of the model's own description."""
    model = Model.load(path)
    flavor = model.flavors["python_function"]
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    model.save(path / "MLmodel")


def _own_run(client: MlflowClient, dataset: str, root: str | None) -> str:
    experiment = experiment_id(client, dataset, root)
    tags = {**ORIGIN, "latentsweep.kind": "training"}
    run = client.create_run(experiment, run_name="model", tags=tags)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _digest(folder: Path) -> str:
    """SHA-256 over the files, each by its own."""
    parts = []
    for name in (*FILES, *([GUIDE] if (folder / GUIDE).is_file() else [])):
        with (folder / name).open("rb") as file:
            parts.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

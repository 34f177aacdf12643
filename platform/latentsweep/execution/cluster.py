"""Ray: starting it quietly on this machine or joining one, and running a training under Ray Train."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from latentsweep.execution import supervision
from latentsweep.execution.packing import Packing, pack_trials, planned_cards
from latentsweep.execution.ray_folder import RayFolder
from latentsweep.execution.work_log import last_line
from trainables.errors import ConfigError, DiskError, LatentsweepError, LostError
from trainables.loop.machine import cores
from trainables.loop.settings import Execution
from trainables.recipes import Recipe

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "TUNE_DISABLE_AUTO_INIT": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
"""Ray made quiet and prompt, and started by nobody else; what a user has set stays."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Makes a Ray that is started here listen on 127.0.0.1 alone. Ray names this after the systems where it is usual."""

CONNECT_SECONDS = 5.0

PATIENT_SECONDS = 7 * 86_400
"""How long the workers of a training wait for each other: the first may encode for hours. A worker that hangs ends
itself, and one that has ended is noticed at once."""

REPLACEMENTS = 2
"""How often a training that a worker failed in is tried again, each time from its last checkpoint."""


@contextlib.contextmanager
def cluster(
    address: str = "local", *, cpus: int | None = None, gpus: int | None = None, cards: str | None = None
) -> Iterator[None]:
    """Ray for the length of a ``with``: started on this machine by default, or joined at ``address``.

    A Ray that is started has ``cpus`` (None: the cores that there are) and ``gpus``: by its own count it would hold
    cards that trainings must not use. It sees the ``cards`` named as ``CUDA_VISIBLE_DEVICES`` names them; None: all.
    Raises :class:`LostError` where it does not start, and :class:`LatentsweepError` where the cluster cannot be
    joined.
    """
    local = address == "local"
    for name, value in (ENVIRONMENT | (LOOPBACK if local else {})).items():
        os.environ.setdefault(name, value)
    import ray

    for name in ("ray", "ray.tune", "ray.air", "ray.train", "ray.data"):
        # The study, the record and our own lines tell what fails, without Ray's tracebacks.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if local and cards is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = cards
    folder = RayFolder.take()
    try:
        if local:
            with folder.token():
                _start(folder.temporary, cpus, gpus)
        else:
            _join(address)
        supervision.terminate_as_interrupt()
        yield
    finally:
        with supervision.ignore_signals():
            ray.shutdown()
            folder.remove()


def _start(folder: Path, cpus: int | None, gpus: int | None) -> None:
    """Starts Ray on this machine, with its sockets and logs in ``folder``.

    Raises :class:`LostError` where Ray does not start because one of its processes ended. Ray reports that by a bare
    ``Exception``, or by the error of the first call that it makes.
    """
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=cpus or cores(),  # Ray counts otherwise, and would reserve what isn't there
            num_gpus=gpus,
            logging_level=logging.ERROR,
            log_to_driver=False,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _temp_dir=str(folder),
        )
    except Exception as error:
        raise LostError(f"Ray did not start: {_last_words(error)}") from error


def _join(address: str) -> None:
    """Joins the cluster at ``address``; raises :class:`LatentsweepError` where none answers or it refuses.

    It tries the port first: Ray would wait for a cluster where nobody listens.
    """
    import ray

    host, _, port = address.rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.rpartition("/")[2], int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.AuthenticationError) as error:
        raise LatentsweepError(
            f"--ray-address must name a running cluster, and {address} does not let this driver in "
            f"({type(error).__name__}): a node of it must run here, and RAY_AUTH_TOKEN_PATH hold its token"
        ) from error


def _last_words(error: BaseException) -> str:
    """The last line of what Ray said, or the name of the error."""
    return last_line(str(error)) or type(error).__name__


def nodes(address: str) -> list[dict[str, float]]:
    """What each node of the cluster at ``address`` has for work, by Ray's names (CPU, GPU); none for a local one.

    Raises :class:`LatentsweepError` where no cluster answers there.
    """
    if address == "local":
        return []
    import ray

    with cluster(address):
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [{name: node.get(name, 0.0) for name in ("CPU", "GPU")} for node in alive if node.get("CPU")]


def check_resources(cpus: int, gpus: float) -> None:
    """Raises :class:`ConfigError` where Ray has fewer CPUs or cards than this: a job would wait for ever."""
    import ray

    has = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > has.get(name, 0.0):
            raise ConfigError(
                f"the job needs {wanted:g} {name} and Ray has {has.get(name, 0.0):g}; "
                "ask for fewer workers, or fewer execution.threads in the configuration"
            )


def result_of(reference: Any) -> Any:
    """What a Ray task returned. Raises a :class:`LatentsweepError` of the task as the task raised it."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LatentsweepError):
            raise error.cause from None
        raise


@contextlib.contextmanager
def background(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for Ray. Where an error or Ctrl-C ends the ``with``, nobody waits for them."""
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def run_under_train(
    work: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    name: str,
    folder: Path,
    workers: int,
    threads: int,
    gpu_share: float,
) -> None:
    """Runs ``work(config)`` in each worker of a Ray Train run, on ``threads`` CPUs and ``gpu_share`` of a card.

    ``work`` keeps its results in the stage store; ``folder`` is for what Ray Train itself writes, which is deleted.
    A lost worker is replaced :data:`REPLACEMENTS` times, and a single one whose disk is full is not. Raises what
    ``work`` raised, and :class:`LostError` where the workers were lost; Ray may hold the run's resources after that,
    until this process ends.

    A single worker is a Ray task in which Ray Train runs locally: the processes with which Ray Train keeps a group of
    workers together take longer to start than a small autoencoder to train.
    """
    if workers == 1:
        _run_alone(work, config, threads=threads, gpu_share=gpu_share)
        return
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import FailureConfig
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    use_gpu = gpu_share > 0
    resources: dict[str, float] = {"CPU": threads, **({"GPU": gpu_share} if use_gpu else {})}
    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        torch_config=TorchConfig(
            backend="cpu:gloo,cuda:nccl" if gpu_share == 1.0 else "gloo", timeout_s=PATIENT_SECONDS
        ),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder.resolve()),
            failure_config=FailureConfig(max_failures=REPLACEMENTS, controller_failure_limit=1),
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, LatentsweepError):
                raise cause from error
        raise
    except TrainingFailedError as error:
        raise LostError(f"Ray Train lost the training: {_last_words(error)}") from error
    finally:
        shutil.rmtree(folder / name, ignore_errors=True)


def _run_alone(
    work: Callable[[dict[str, Any]], None], config: dict[str, Any], *, threads: int, gpu_share: float
) -> None:
    import ray
    from ray.exceptions import RayError, RayTaskError

    # Ray's own retries would never end where the task is killed for its memory.
    task = ray.remote(num_cpus=threads, num_gpus=gpu_share, max_retries=0)(train_locally)
    for left in reversed(range(1 + REPLACEMENTS)):
        try:
            result_of(task.remote(work, config))
            return
        except (RayError, LatentsweepError) as error:
            if left and not isinstance(error, DiskError):
                continue
            if isinstance(error, (RayTaskError, LatentsweepError)):
                raise
            raise LostError(f"Ray Train lost the training: {_last_words(error)}") from error


def train_locally(work: Callable[[dict[str, Any]], None], config: dict[str, Any]) -> None:
    """Runs ``work(config)`` in this process, as the one worker of a Ray Train run."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(work, train_loop_config=config, scaling_config=ScalingConfig(num_workers=0)).fit()


def pack_job(
    recipe: Recipe, address: str, execution: Execution, *, card_gib: float | None = None, **options: Any
) -> Packing:
    """How trials share this machine, or the cluster at ``address``, where none gets more threads than a node has.

    Cards of a cluster can't be asked from here: each counts as one of ``card_gib``. For the ``options``, and for what
    this raises, see :func:`~latentsweep.execution.packing.pack_trials`.
    """
    found = nodes(address)
    if not found:
        return pack_trials(recipe, card_gib=card_gib, execution=execution, **options)
    each = [int(node["CPU"]) for node in found]
    count = 0 if execution.device == "cpu" else int(sum(node["GPU"] for node in found))
    cards = planned_cards(card_gib, count)
    pack = pack_trials(recipe, card_gib=card_gib, execution=execution, available=sum(each), present=cards, **options)
    least = min(each)
    return dataclasses.replace(pack, threads=min(pack.threads, least), cores=least)

"""A sweep over two machines that see nothing of the driver's disk; its study and its runs are in PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from command_line import ROOT, THIN, cli
from moto.server import ThreadedMotoServer
from postgres import postgres
from processes import Job
from swept import check_complete, mlflow_runs, sweep_words
from two_nodes import Cluster, cluster, kill_all, network, processes

from latentsweep.storage.home import Home
from latentsweep.storage.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TRIALS = 4
SECRET = "s3cr3t-0f-the-t3am"


@dataclass(frozen=True)
class Team:
    """A cluster with its services; ``environment`` is what the driver's user has set."""

    nodes: Cluster
    home: Path
    environment: dict[str, str]
    study: str
    server: str

    def start(self, *words: object) -> Job:
        return Job.start(
            self.home,
            *sweep_words(self.home.parent, "demo", TRIALS),
            *("--ray-address", self.nodes.address, "--store", "s3://team/store", *words),
            environment=self.environment,
        )

    def objects(self, ending: str) -> list[str]:
        client = boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name="us-east-1")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="team", Prefix="store/")
        names = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return [name for name in names if name.endswith(ending)]


@contextlib.contextmanager
def tracking_server(database: str, environment: dict[str, str], folder: Path) -> Iterator[str]:
    """MLflow, with its runs in a database and its files in the bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--artifacts-destination", "s3://team/artifacts"],
            env={
                **environment,
                "MLFLOW_BACKEND_STORE_URI": database,
                "MLFLOW_S3_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"],
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=3):
                break
            assert server.poll() is None, (folder / "mlflow.log").read_text()
            assert time.monotonic() < deadline, (folder / "mlflow.log").read_text()
            time.sleep(0.3)
        yield address
    finally:
        os.killpg(server.pid, 9)
        server.wait()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    home = folder / "driver" / "runs"
    home.parent.mkdir()
    with (
        network() as net,
        postgres(net.driver) as database,
        cluster(net) as nodes,
        pytest.MonkeyPatch.context() as monkey,
        contextlib.ExitStack() as services,
    ):
        files = ThreadedMotoServer(net.driver, port=0, verbose=False)
        files.start()
        services.callback(files.stop)
        host, port = files.get_host_and_port()
        access = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "latentsweep",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in access.items():
            monkey.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="team")
        for node in (0, 1):
            nodes.start_node(node, access, hidden=[home.parent])
        study = database.database("study")
        environment = {**nodes.environment, **access, "LATENTSWEEP_STUDY": study}
        server = services.enter_context(tracking_server(database.database("mlflow"), environment, folder))
        cli(home, "data", "prepare", "demo")
        yield Team(nodes, home, {**environment, "MLFLOW_TRACKING_URI": server}, study, server)


def sweep_of(team: Team, job: Job) -> str:
    """The name of the sweep, which must have ended well."""
    assert job.ended() == 0, job.said
    folders = (team.home / "sweeps").glob("*/sweep.json")
    return max(folders, key=lambda path: path.stat().st_mtime).parent.name


def test_a_sweep_over_two_machines_that_see_nothing_of_the_drivers_disk(team: Team) -> None:
    name = sweep_of(team, team.start())
    check_complete(team.home, "demo", name, TRIALS, database=team.study, server=team.server)
    for node in (0, 1):
        (pid, *_) = processes(team.nodes.net, node)
        assert list(Path(f"/proc/{pid}/root{team.home.parent}").iterdir()) == [], "the node sees the driver's folder"
        assert list(team.nodes.folder.glob(f"node-{node}/*/denoiser/*/manifest.json")), "the node had nothing to do"
    store = Store.of(Home(team.home, "file:///nowhere"))
    assert not list(store.root.glob("*/*.partial"))
    assert not team.objects("checkpoint.json"), "checkpoints of finished trainings are left"
    assert len([key for key in team.objects("/manifest.json") if key.startswith("store/denoiser/")]) == TRIALS
    assert not list((team.home / "sweeps" / name).glob("study.db"))


def test_without_the_drivers_own_files_the_same_command_answers_from_the_bucket_and_the_database(team: Team) -> None:
    (folder,) = (team.home / "sweeps").iterdir()
    shutil.rmtree(folder)
    shutil.rmtree(team.home / "store")
    began = set(team.objects("/manifest.json"))
    name = sweep_of(team, team.start())
    assert name == folder.name
    assert set(team.objects("/manifest.json")) == began, "something was computed again"
    check_complete(team.home, "demo", name, TRIALS, database=team.study, server=team.server)


def test_a_configuration_is_retrained_by_two_workers_on_two_machines(team: Team) -> None:
    best, images = team.home / "best.yaml", team.home / "images"
    options = ["--store", "s3://team/store", "--home", team.home]
    address = ["--ray-address", team.nodes.address]
    for words in (
        ["export", "--dataset", "demo", "--to", best, "--home", team.home],
        ["train", "--config", best, "--steps", 40, "--workers", 2, *address, *THIN, *options],
        ["sample", best, "--count", 2, "--to", images, *options],
    ):
        command = [sys.executable, str(ROOT / "cli.py"), *map(str, words)]
        done = subprocess.run(command, env=team.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((team.home / "trained").glob("*/denoiser.safetensors"))) == 1
    assert len(list(images.glob("seed-*.png"))) == 2


def test_no_password_or_secret_is_written_or_said(team: Team) -> None:
    password = team.study.split(":")[2].split("@")[0].encode()
    for path in [*team.home.rglob("*"), team.home.with_name("runs.log")]:
        if path.is_file():
            content = path.read_bytes()
            assert password not in content, path
            assert SECRET.encode() not in content, path
    for run in mlflow_runs(team.home, "demo", team.server):
        assert SECRET not in str(run.data)
        assert password.decode() not in str(run.data)


def test_a_node_that_is_lost_midway_costs_nothing_but_time(team: Team) -> None:
    job = team.start("--seed", 1, "--set", "diffusion.steps=200")
    job.wait_for(lambda: [key for key in team.objects("checkpoint.json") if key.startswith("store/denoiser/")])
    kill_all(team.nodes.net, 1)
    name = sweep_of(team, job)
    check_complete(team.home, "demo", name, TRIALS, database=team.study, server=team.server)
    assert not team.objects("checkpoint.json")

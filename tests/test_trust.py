"""What the product never does: load code, run a shell, listen unasked, say a secret, skip an audit in silence."""

from __future__ import annotations

import base64
import http.client
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import TINY
from unsafe_calls import unsafe_calls

ROOT = Path(__file__).parents[1]
PRODUCT = [ROOT / "cli.py"] + [
    path for folder in ("platform", "trainables", "mlflow", "search_spaces") for path in (ROOT / folder).rglob("*.py")
]
ALLOWED = {
    ("trainables/inception.py", "torch.jit.load"): "the Inception weights, whose SHA-256 is checked beforehand",
}


def test_nothing_in_the_product_loads_code_or_runs_a_shell() -> None:
    assert len(PRODUCT) > 80
    found = {
        (str(path.relative_to(ROOT)), call.partition(": ")[2])
        for path in PRODUCT
        for call in unsafe_calls(path.read_text())
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from pickle import loads as read",
        "import joblib.numpy_pickle",
        "from concurrent import futures; import shelve as s",
        "import torch as t; t.load(path)",
        "from torch import load; load(path, weights_only=False)",
        "import torch; torch.load(path, weights_only=safe)",
        "import torch; read = torch.load",
        "import torch; torch.jit.load(path)",
        "import yaml; yaml.load(text)",
        "import yaml; yaml.load(text, yaml.Loader)",
        "from yaml import load, FullLoader; load(text, Loader=FullLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path, **options)",
        "import pandas as pd; pd.read_pickle(path)",
        "eval(text)",
        "exec(text)",
        "run = eval",
        "import subprocess; subprocess.run(line, shell=True)",
        "from subprocess import Popen; Popen(line, shell=1)",
        "import os; os.system(line)",
        "from os import popen; popen(line)",
        "import tempfile; tempfile.mktemp()",
        "import mlflow.pyfunc; mlflow.pyfunc.load_model(uri)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    assert unsafe_calls(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import torch; torch.load(path, weights_only=True)",
        "import yaml; yaml.safe_load(text)",
        "import yaml; yaml.load(text, Loader=yaml.CSafeLoader)",
        "import numpy as np; np.load(path); np.load(path, allow_pickle=False)",
        "import json; json.load(file)",
        "import re; re.compile(text)",
        "import subprocess; subprocess.run([program], shell=False)",
        "import tempfile; tempfile.mkdtemp()",
    ],
)
def test_the_scan_lets_what_is_safe_pass(source: str) -> None:
    assert unsafe_calls(source) == []


# Secrets

SECRETS = {
    "MLFLOW_TRACKING_URI": "pg%40PLANTED-1",
    "MLFLOW_TRACKING_PASSWORD": "PLANTED-2-password",
    "MLFLOW_TRACKING_TOKEN": "PLANTED-3-token",
    "AWS_SECRET_ACCESS_KEY": "PLANTED-4/secret+key",
    "AWS_SESSION_TOKEN": "PLANTED-5-session",
    "OPTUNA_STUDY": "PLANTED-6-study",
}
"""By the variable that holds each; the first and last stand within an address."""


def planted(address: str, **more: str) -> dict[str, str]:
    """An environment with every secret; ``address`` has a place for the one of the tracking server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    study = f"postgresql+psycopg2://optuna:{SECRETS['OPTUNA_STUDY']}@127.0.0.1:1/study"
    return inherited | SECRETS | {"MLFLOW_TRACKING_URI": address, "OPTUNA_STUDY": study} | more


def leaks(content: bytes) -> set[bytes]:
    """Every planted secret that is there, as it is, decoded, or in base64 after a user's name."""
    pair = f"user:{SECRETS['MLFLOW_TRACKING_URI'].replace('%40', '@')}".encode()
    wanted = [*(value.encode() for value in SECRETS.values()), base64.b64encode(pair), b"PLANTED"]
    return {secret for secret in wanted if secret in content}


def assert_nothing_leaked(home: Path, *done: subprocess.CompletedProcess[str]) -> None:
    for process in done:
        assert not leaks((process.stdout + process.stderr).encode()), process.stdout + process.stderr
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files
    assert {str(path): leaks(path.read_bytes()) for path in files if leaks(path.read_bytes())} == {}


def ran(home: Path, environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), "--debug", *map(str, words), "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, cwd=home.parent, env=environment, timeout=300)


def sweep(home: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["sweep", "--dataset", "demo", "--recipe", "smoke", "--trials", "1", "--pruner", "none", *TINY]
    done = ran(home, environment, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def closed_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_address[1]


class Echo(BaseHTTPRequestHandler):
    """A server that refuses everything, and repeats in its error what it was sent."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_PATCH(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = f"refused: {self.headers} {self.path}".encode()
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def behind_a_password(port: int, seen: list[str]) -> type[BaseHTTPRequestHandler]:
    """Lets requests with the planted user and password through to the server on that port."""
    pair = f"user:{SECRETS['MLFLOW_TRACKING_URI'].replace('%40', '@')}".encode()
    wanted = "Basic " + base64.b64encode(pair).decode()

    class Proxy(Echo):
        def answer(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            if seen[-1] != wanted:
                super().answer()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            inner = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            inner.request(self.command, self.path, body, headers)
            answer = inner.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Type", "Content-Disposition"):
                if answer.getheader(name):
                    self.send_header(name, str(answer.getheader(name)))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            inner.close()

    return Proxy


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    port = closed_port()
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment |= {"MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.mark.ray
@pytest.mark.slow
def test_no_secret_is_said_or_kept_where_the_tracking_server_refuses_and_repeats_it(tmp_path: Path) -> None:
    home = tmp_path / "runs"
    with serving(Echo) as port:
        environment = planted(f"http://user:{SECRETS['MLFLOW_TRACKING_URI']}@127.0.0.1:{port}")
        swept = sweep(home, environment)
        assert "does not take the record" in swept.stderr
        others = [ran(home, environment, "ui"), ran(home, environment, "report")]
        others.append(ran(home, environment, "export", "--dataset", "demo", "--to", home / "best.yaml"))
    assert "DataError" not in others[1].stderr
    assert_nothing_leaked(home, swept, *others)


@pytest.mark.ray
@pytest.mark.slow
def test_no_secret_is_said_or_kept_where_the_tracking_server_takes_the_record(tmp_path: Path) -> None:
    home, seen = tmp_path / "runs", []
    with mlflow_server(tmp_path / "server") as inner, serving(behind_a_password(inner, seen)) as port:
        environment = planted(f"http://user:{SECRETS['MLFLOW_TRACKING_URI']}@127.0.0.1:{port}")
        del environment["MLFLOW_TRACKING_PASSWORD"], environment["MLFLOW_TRACKING_TOKEN"]
        swept = sweep(home, environment)
        shown = ran(home, environment, "ui")
    assert "does not take the record" not in swept.stderr, swept.stderr
    assert "MLflow: http://***@127.0.0.1" in shown.stdout
    with sqlite3.connect(tmp_path / "server" / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone()[0] >= 2
    assert_nothing_leaked(home, swept, shown)
    assert_nothing_leaked(tmp_path / "server", swept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        "http://user:{}@127.0.0.1:{}",
        "postgresql://user:{}@127.0.0.1:{}/db",
        "postgresql://user:{}@127.0.0.1:port-{}/db",
        "postgresql+nothing://user:{}@127.0.0.1:{}/db",
        "elsewhere://user:{}@127.0.0.1:{}/db",
    ],
)
def test_no_secret_is_said_or_kept_where_the_address_is_wrong_or_away(tmp_path: Path, address: str) -> None:
    home = tmp_path / "runs"
    (home / "mlflow").mkdir(parents=True)
    (home / "mlflow" / "kept").touch()
    environment = planted(address.format(SECRETS["MLFLOW_TRACKING_URI"], closed_port()))
    shown = ran(home, environment, "ui", "--port", closed_port())
    assert shown.returncode == (1 if "--debug" in shown.args else 2), shown.stderr
    assert_nothing_leaked(home, shown)

"""What the product never does: load code, run a shell, listen unasked, say a secret, skip an audit in silence."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import inspect
import json
import logging
import os
import shutil
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
from typing import Any

import pytest
from command_line import THIN, TINY, UNSPARED
from unsafe_calls import unsafe_calls

from latentsweep.records.redaction import RedactingFormatter, printable, redact, redact_lines, secrets_of

ROOT = Path(__file__).parents[1]
PRODUCT = [ROOT / "cli.py"] + [
    path for folder in ("platform", "trainables", "mlflow", "search_spaces") for path in (ROOT / folder).rglob("*.py")
]
ALLOWED = {
    (
        "trainables/measures/inception.py",
        "torch.jit.load",
    ): "the Inception weights, whose SHA-256 is checked beforehand",
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
    return subprocess.run(command, capture_output=True, text=True, cwd=home.parent, env=environment, timeout=900)


def sweep(home: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["sweep", "--dataset", "demo", "--recipe", "smoke", "--trials", "1", "--pruner", "none", *TINY, *THIN]
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
def test_no_secret_is_said_or_kept_where_the_tracking_server_refuses_and_repeats_it(
    measured_demo: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(measured_demo, tmp_path / "runs")
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
def test_no_secret_is_said_or_kept_where_the_tracking_server_takes_the_record(
    measured_demo: Path, tmp_path: Path
) -> None:
    home, seen = tmp_path / "runs", []
    shutil.copytree(measured_demo, home)
    with mlflow_server(tmp_path / "server") as inner, serving(behind_a_password(inner, seen)) as port:
        environment = planted(f"http://user:{SECRETS['MLFLOW_TRACKING_URI']}@127.0.0.1:{port}")
        del environment["MLFLOW_TRACKING_PASSWORD"], environment["MLFLOW_TRACKING_TOKEN"]
        swept = sweep(home, environment)
        shown = ran(home, environment, "ui")
    assert "does not take the record" not in swept.stderr, swept.stderr
    assert "MLflow itself: http://***@127.0.0.1" in shown.stdout
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


# Servers


def test_ray_listens_for_no_dashboard_and_the_pages_on_loopback() -> None:
    from latentsweep.commands.findings import ui
    from latentsweep.execution import cluster
    from latentsweep_mlflow import ui as pages

    assert "include_dashboard=False" in inspect.getsource(cluster)
    assert inspect.signature(cluster.cluster).parameters["address"].default == "local"
    assert inspect.signature(pages.serve).parameters["host"].default == "127.0.0.1"
    assert inspect.signature(ui).parameters["host"].default == "127.0.0.1"


LISTENING = """
from latentsweep.execution.cluster import cluster
with cluster(cpus=1):
    import psutil  # comes within Ray
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for connection in process.net_connections("inet"):
            if connection.status == "LISTEN":
                print(connection.laddr.ip)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_of_ones_own_listens_on_loopback_alone() -> None:
    environment = {**os.environ, UNSPARED: "1"}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=120, env=environment
    )
    if done.returncode:
        pytest.fail(done.stderr)
    assert {address.removeprefix("::ffff:") for address in done.stdout.split()} == {"127.0.0.1"}


def test_pages_for_others_say_what_they_expose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentsweep_mlflow import ui
    from trainables.errors import LatentsweepError

    def no_server(*_: object) -> None:
        raise LatentsweepError("as far as this goes")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ui, "_server", no_server)
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").touch()
    for host, warned in (("0.0.0.0", True), ("127.0.0.1", False)):
        said: list[str] = []
        with pytest.raises(LatentsweepError, match="as far as"):
            ui.serve(tmp_path, host=host, port=closed_port(), tell=said.append)
        assert any("MLflow asks for no password" in line for line in said) == warned


# Redaction


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:p%40ss%2Fword@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aB/cD+eFgHiJk")
    monkeypatch.setenv("SHORT_TOKEN", "run")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no such host in postgresql://user:p%40ss%2Fword@host/db", "no such host in postgresql://***@host/db"),
        ("login failed for p@ss/word", "login failed for ***"),
        ("signed with aB/cD+eFgHiJk.", "signed with ***."),
        ("s3://AKIA:other@bucket/store and http://u:p@h", "s3://***@bucket/store and http://***@h"),
        ("postgresql://host/db?user=u&password=hunter22", "postgresql://host/db?user=u&password=***"),
        ("{'Authorization': 'Bearer abcdef123456'}", "{'Authorization': 'Bearer ***'}"),
        ("{'secret_key': 'abc', 'key': 1}", "{'secret_key': '***', 'key': 1}"),
        ("the next run has 300 tokens; tokens: 300", "the next run has 300 tokens; tokens: 300"),
        (
            "DefaultEndpointsProtocol=https;AccountKey=ab+/c==;Suffix=x",
            "DefaultEndpointsProtocol=https;AccountKey=***;Suffix=x",
        ),
        ("https://a.blob.net/x?se=2026&sig=ab%2Fc&sp=r", "https://a.blob.net/x?se=2026&sig=***&sp=r"),
        ("SharedAccessKey=abc; X-Amz-Signature=0f0f", "SharedAccessKey=***; X-Amz-Signature=***"),
        ("Authorization: Token abc def", "Authorization: Token ***"),
        ("Authorization: abcdef", "Authorization: ***"),
        ('Proxy-Authorization: Digest username="u", response="0f"', "Proxy-Authorization: Digest ***"),
        ("Cookie: session=abc; other=def", "Cookie: ***"),
        ("curl -H 'Authorization: Basic YTpi' http://h", "curl -H 'Authorization: Basic ***' http://h"),
        (
            "GITHUB_PAT=abc MYSQL_PWD=/abc SSHPASS=abc PGPASSWORD=abc",
            "GITHUB_PAT=*** MYSQL_PWD=*** SSHPASS=*** PGPASSWORD=***",
        ),
        ("password='three short words' user=me", "password='***' user=me"),
        ('{"passphrase": "with \\"quotes\\" in it", "a": 1}', '{"passphrase": "***", "a": 1}'),
        ('said {\\"token\\": \\"two words\\", 1}', 'said {\\"token\\": \\"***\\", 1}'),
        ("-d 'password=two words' -v", "-d 'password=***' -v"),
        ('secret="no end of it', 'secret="***'),
        ("--api-key abc --verbose", "--api-key *** --verbose"),
        ("Server=h;Uid=sa;Pwd=abc;", "Server=h;Uid=sa;Pwd=***;"),
        (
            "PWD=/home/me OLDPWD=/ pass: 3, design=flat, compass: n",
            "PWD=/home/me OLDPWD=/ pass: 3, design=flat, compass: n",
        ),
        ("the token is missing; no password given", "the token is missing; no password given"),
        ("two\nlines", "two lines"),
        ("a\x1b[31mred\x07\u202e", "a\\x1b[31mred\\x07\\u202e"),
    ],
)
def test_what_is_told_is_one_line_without_secrets(text: str, clean: str) -> None:
    assert redact(text) == clean


def test_what_authorizes_a_request_ends_with_its_line() -> None:
    said = redact_lines("GET /\nAuthorization: AWS4-HMAC-SHA256 Credential=a/b, Signature=0f\nHost: h")
    assert said == "GET /\nAuthorization: AWS4-HMAC-SHA256 ***\nHost: h"


@pytest.mark.parametrize(
    "shape",
    [
        *("a", "-", "a-", "_", ".", " ", "\n", "'", '"', "\\", "=", ":", "://", "x://a@", "://a:b", "a b ", "a   "),
        *("token", "token=", "token=' ", "'token=a' ", "'token=", "token='a", 'token="\\', "secret_", "pass_word-"),
        *(
            "Bearer ",
            "Basic a",
            "Authorization: ",
            "Authorization: a\n",
            "Cookie",
            "--token ",
            "--token a ",
            "=token",
        ),
    ],
)
def test_redaction_takes_time_in_proportion_to_the_text(shape: str) -> None:
    def seconds(size: int) -> float:
        text = shape * (size // len(shape)) + " x"
        began = time.process_time()
        redact_lines(text)
        return time.process_time() - began

    assert seconds(200_000) < 1, "16 kB took 12 s where it was quadratic"


@pytest.mark.usefixtures("environment")
def test_a_traceback_in_a_log_keeps_its_lines_and_no_secret() -> None:
    try:
        raise ValueError("cannot parse postgresql://user:p%40ss%2Fword@host/db")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "with %s", ("aB/cD+eFgHiJk",), sys.exc_info())
    said = RedactingFormatter("%(levelname)s: %(message)s").format(record)
    assert said.startswith("ERROR: with ***\nTraceback")
    assert said.endswith("ValueError: cannot parse postgresql://***@host/db")


def test_the_secrets_of_an_environment_are_known_by_name_and_within_addresses() -> None:
    found = secrets_of(
        {"A_PASSWORD": "password-1", "URI": "x://u:pass%21word@h", "B_TOKEN_FILE": "/run/token", "HOME": "/home/me"}
        | {
            "GITHUB_PAT": "github-1",
            "MYSQL_PWD": "a word/",
            "SSHPASS": "sshpass-1",
            "PWD": "/home/me",
            "PATH": "/bin:/usr",
        }
        | {"AZURE_STORAGE_KEY": "azure-1", "API_KEY_OF_TEAM": "api-key-1", "COMPASS": "northwest", "\udcff": "\udcff"}
    )
    told = {"password-1", "pass%21word", "pass!word", "github-1", "a word/", "a%20word%2F", "sshpass-1"}
    assert set(found) == told | {"azure-1", "api-key-1"}
    assert printable("brain\n\ttumour é") == "brain\n\ttumour é"


def test_an_error_that_names_a_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from latentsweep.commands.app import app

    words = ["data", "prepare", "mine", "--source", "no\nsuch\x1b[2Jfolder", "--home", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: the source folder does not exist: no such\\x1b[2Jfolder")


# The audit


def loaded(name: str) -> Any:
    """A module of ``.ci``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def audit() -> Any:
    return loaded("audit")


def package(name: str, **more: object) -> dict[str, object]:
    return {"name": name, "version": "1.0", **more}


def answer(audit: Any, code: int, *packages: dict[str, object]) -> Any:
    return audit.Answer(code, json.dumps({"dependencies": packages, "fixes": []}), "")


CLEAN = package("torch", vulns=[])
HURT = package("ray", vulns=[{"id": "CVE-1", "fix_versions": ["1.1"]}])
MISSING = package("numpy", skip_reason="Dependency not found on PyPI")


def test_the_exit_code_of_an_audit_with_data_counts(audit: Any) -> None:
    assert audit.verdict([answer(audit, 0, CLEAN)]) == (0, ["audit: 1 pinned packages, 0 known vulnerabilities"])
    code, lines = audit.verdict([answer(audit, 1, CLEAN, HURT, MISSING)])
    assert code == 1
    assert lines[0] == "ray 1.0: CVE-1, mended in 1.1"
    assert lines[1] == "not audited, for want of data: numpy"
    assert audit.verdict([answer(audit, 1, CLEAN)])[0] == 1


def test_an_audit_without_data_is_a_stated_skip(audit: Any) -> None:
    away = audit.Answer(1, "", "Traceback\nConnectionError: no route to host\n")
    for answers in ([away], [answer(audit, 0, MISSING)], [answer(audit, 0, MISSING), away], [answer(audit, 0)], []):
        code, [line] = audit.verdict(answers)
        assert code == 0
        assert line.startswith("audit skipped: ")
    assert "no route to host" in audit.verdict([away])[1][0]


def test_an_audit_asks_the_second_service_where_the_first_has_no_data(audit: Any) -> None:
    asked = []

    def ask(service: str) -> Any:
        asked.append(service)
        return answer(audit, 0, MISSING) if service == "pypi" else answer(audit, 1, HURT)

    assert audit.audit(ask)[0] == 1
    assert asked == ["pypi", "osv"]


def test_an_audit_that_cannot_be_installed_says_so(audit: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(audit, "installed", lambda folder: "no matching distribution")
    assert audit.main(tmp_path) == 0
    assert capsys.readouterr().out.startswith("audit skipped: pip-audit==2.10.1 cannot be installed here")


def test_the_checks_of_a_change_run_the_audit() -> None:
    assert "make audit\n" in (ROOT / ".ci" / "run").read_text()
    assert ".ci/audit.py" in (ROOT / "Makefile").read_text()
    assert ".ci/licences.py" in (ROOT / "Makefile").read_text()


# Licences of the dependencies


@pytest.fixture(scope="module")
def licences() -> Any:
    return loaded("licences")


def install(folder: Path, name: str, version: str, *stated: str) -> None:
    """Puts metadata in ``folder`` as if the package was installed there."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *stated])
    )


def test_every_pinned_package_has_a_licence_that_a_dependency_may_have(licences: Any) -> None:
    pinned = licences.pins((ROOT / "constraints.txt").read_text())
    assert len(pinned) > 100
    code, lines = licences.check(pinned, [Path(path) for path in sys.path if path])
    assert code == 0, "\n".join(lines)
    assert lines == [f"licences: {len(pinned)} pinned packages, 0 refused"]


@pytest.mark.parametrize(
    "stated",
    [
        ["License-Expression: GPL-3.0-only"],
        ["License-Expression: MIT AND AGPL-3.0-or-later"],
        ["License-Expression: (MIT OR GPL-2.0-only) AND MIT"],
        ["Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)"],
        [
            "Classifier: License :: OSI Approved :: MIT License",
            "Classifier: License :: Other/Proprietary License",
        ],
        ["Classifier: License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)"],
        ["License: CC BY-NC-SA 4.0"],
    ],
)
def test_a_package_of_another_licence_is_refused_by_name_and_with_the_next_step(
    licences: Any, tmp_path: Path, stated: list[str]
) -> None:
    install(tmp_path, "Other_Package", "1.0", *stated)
    code, [line, last] = licences.check(licences.pins("# the set\nother-package==1.0\n"), [tmp_path])
    assert code == 1
    assert line.startswith("other-package 1.0: ")
    assert stated[-1].split(": ")[-1].split(" :: ")[-1] in line
    assert "take another package, or add the licence to ALLOWED in .ci/licences.py" in line
    assert last == "licences: 1 pinned packages, 1 refused"


@pytest.mark.parametrize(
    "stated",
    [
        ["License-Expression: MIT"],
        ["License-Expression: GPL-2.0-only OR MIT AND 0BSD"],
        ["License-Expression: (MIT OR Apache-2.0) AND BSD-3-Clause"],
        ["Classifier: License :: OSI Approved", "Classifier: License :: OSI Approved :: Apache Software License"],
        ["License: 3-Clause BSD License"],
    ],
)
def test_a_package_of_an_allowed_licence_passes(licences: Any, tmp_path: Path, stated: list[str]) -> None:
    install(tmp_path, "fine", "1.0+cpu", *stated)
    assert licences.check({"fine": "1.0"}, [tmp_path]) == (0, ["licences: 1 pinned packages, 0 refused"])


def test_a_package_that_states_no_licence_is_refused_until_somebody_reads_it(licences: Any, tmp_path: Path) -> None:
    install(tmp_path, "huey", "3.5.4", "License: UNKNOWN")
    assert licences.check({"huey": "3.5.4"}, [tmp_path])[0] == 0, "somebody has read this one"
    install(tmp_path / "later", "huey", "4.0", "License: UNKNOWN")
    code, lines = licences.check({"huey": "4.0"}, [tmp_path / "later"])
    assert code == 1
    assert "read its licence file, and add what that says to READ" in lines[0]


def test_licences_of_what_is_not_installed_are_a_stated_skip(licences: Any, tmp_path: Path, capsys: Any) -> None:
    assert licences.main(tmp_path / "nothing") == 0
    assert capsys.readouterr().out.startswith("licences skipped: nothing is installed at ")
    install(tmp_path, "other", "2.0", "License-Expression: GPL-3.0-only")
    code, lines = licences.check({"absent": "1.0", "other": "1.0"}, [tmp_path])
    assert code == 0
    assert lines == [
        "licences not looked at, since the pinned version isn't installed: absent, other",
        "licences: 0 pinned packages, 0 refused",
    ]


def test_the_page_on_trust_names_every_limit() -> None:
    from latentsweep.datasets.formats import limits

    page = (ROOT / "docs" / "trust.md").read_text()
    assert f"{limits.MAX_VOXELS:,}" in page
    assert f"{limits.MAX_SIDE}×{limits.MAX_SIDE}" in page
    for size in (limits.MAX_NIFTI_BYTES, limits.MAX_DICOM_BYTES, limits.MAX_RLE_BYTES):
        assert f"{size // 2**20} MiB" in page
    assert f"{limits.MAX_SECONDS:g} s" in page
    assert f"{limits.MAX_DEPTH} folders" in page
    assert "docs/trust.md" in (ROOT / "README.md").read_text()

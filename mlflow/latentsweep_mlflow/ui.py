"""MLflow's own pages of what was recorded. Only this machine reaches them unless ``--host`` says otherwise."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from mlflow.exceptions import MlflowException

from latentsweep.program.invocation import hint
from latentsweep.records.redaction import redact, redact_lines
from latentsweep_mlflow import keeper
from latentsweep_mlflow.database import database, find_artifacts, initialisation, tracking_uri
from latentsweep_mlflow.tracking import connect
from latentsweep_mlflow.views import save_views
from trainables.errors import LatentsweepError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_START_SECONDS = 90.0
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.2

_log = logging.getLogger(__name__)


def serve(
    home: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    open_browser: bool = False,
    tell: Callable[[str], None] = _log.info,
) -> None:
    """Show the record of ``home`` until Ctrl-C; where a tracking server is set, only say where its pages are.

    ``tell`` gets each line meant for the user. Raises :class:`LatentsweepError` where nothing was recorded
    yet, the port cannot be used, or MLflow does not start.
    """
    uri = tracking_uri(home)
    if uri.startswith(("http://", "https://")):
        _show(uri, uri, open_browser, tell)
        return
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file():
        raise LatentsweepError(f"nothing was recorded here yet; run a sweep first: {hint('sweep --dataset demo')}")
    _check_port(host, port)
    _take_own_files(uri)
    if host not in LOOPBACK:
        tell(
            f"warning: --host {host} shows every run, image and model of this home to whoever can reach the "
            "machine, and lets them change or delete the record; MLflow asks for no password"
        )
    try:
        with _server(home, uri, host, port) as (process, copying):
            address = f"http://{_reachable(host)}:{port}"
            _wait_until_up(process, copying, address, _server_log(home))
            _show(uri, address, open_browser, tell)
            tell("Ctrl-C ends it")
            while process.poll() is None:  # in steps: a signal that another thread gets doesn't end a blocking wait
                time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return
    raise LatentsweepError(f"MLflow's server ended by itself; the reason is in {_server_log(home)}")


def _take_own_files(uri: str) -> None:
    """The server is to show the files of this home, also where that was moved or copied."""
    try:
        with initialisation(uri):
            find_artifacts(uri)
    except OSError as error:
        raise LatentsweepError(
            f"MLflow's record must be readable: {redact(error)}; see to it and try again"
        ) from None


def _show(uri: str, address: str, open_browser: bool, tell: Callable[[str], None]) -> None:
    try:
        links = save_views(connect(uri), address)
    except (MlflowException, OSError) as error:
        raise LatentsweepError(
            f"MLflow at {redact(uri)} does not answer: {redact(error)}; start it, or unset MLFLOW_TRACKING_URI"
        ) from None
    for name, link in links.items():
        tell(f"the runs of {name}: {redact(link)}")
    tell(f"MLflow{' itself' if links else ''}: {redact(address)}")
    if open_browser:
        webbrowser.open(next(iter(links.values()), address))


@contextmanager
def _server(home: Path, uri: str, host: str, port: int) -> Iterator[tuple[subprocess.Popen[bytes], threading.Thread]]:
    """MLflow's server, which ends with the block and on SIGTERM, and the thread that writes its log.

    Where this process is killed, its keeper ends it.
    """
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,  # not as an argument, which every user of the machine can read
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (database(home).parent / "artifacts").as_uri(),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-P", keeper.__file__, str(os.getpid()), *server]
    log = _server_log(home)
    log.parent.mkdir(parents=True, exist_ok=True)
    with _interrupt_on_sigterm(), log.open("w", buffering=1) as output:
        # From the log's own folder: what lies in the current one must not be imported in place of a module.
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        copying = threading.Thread(target=_copy_without_secrets, args=(process, output), daemon=True)
        copying.start()
        try:
            yield process, copying
        finally:
            _end(process)
            copying.join(_STOP_SECONDS)


def _copy_without_secrets(process: subprocess.Popen[bytes], log: TextIO) -> None:
    """The server's output to its log, which stays in the home: MLflow quotes an address that it can't use."""
    assert process.stdout is not None
    for line in process.stdout:
        log.write(redact_lines(line.decode(errors="replace")))


@contextmanager
def _interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that the server never outlives the command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LatentsweepError(
                f"MLflow cannot listen on {host}:{port} ({error.strerror}); "
                f"try another port: {hint(f'ui --port {port + 1}')}"
            ) from None


def _wait_until_up(process: subprocess.Popen[bytes], copying: threading.Thread, address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_SECONDS)
    if process.poll() is not None:
        copying.join(_STOP_SECONDS)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise LatentsweepError(f"MLflow did not start: {redact(lines[-1] if lines else 'no output')}; all of it: {log}")


def _reachable(host: str) -> str:
    """An address by which this machine reaches a server that listens on ``host``."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _server_log(home: Path) -> Path:
    return database(home).with_name("server.log")

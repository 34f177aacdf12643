"""The pages: what a person sees in a browser, and how the server starts and ends."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentsweep.program.invocation import hint
from latentsweep.records.recorder import StepRecord
from latentsweep_mlflow import keeper, ui
from latentsweep_mlflow.recorder import recorder_for
from trainables.errors import LatentsweepError

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PARAMS = (
    "vae.latent_channels",
    "diffusion.frequency_weight",
    "diffusion.cutmix_probability",
    "sampling.early_stop_threshold",
)


@pytest.fixture(autouse=True)
def _no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_home_without_a_record_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LatentsweepError, match=f"run a sweep first: {hint('sweep --dataset demo')}"):
        ui.serve(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_one_line_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LatentsweepError, match=f"--port {port + 1}"):
            ui.serve(tmp_path, port=port)


def test_a_tracking_server_that_is_away_is_one_line_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://jane:s3cret@127.0.0.1:{unused_port()}")
    with pytest.raises(LatentsweepError, match="does not answer") as caught:
        ui.serve(tmp_path)
    assert "s3cret" not in str(caught.value)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four trials with curves, scores and an image each."""
    home = tmp_path_factory.mktemp("home")
    picture = home / "samples.png"
    now = time.time_ns() // 1_000_000
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        recorder = recorder_for(home, "demo")
        recorder.open_run("sweep", name="demo sweep", kind="sweep", params={"objective": "kid"})
        for number in range(4):
            key = f"trial/{number}"
            params = dict(zip(PARAMS, (4 + 4 * (number % 2), 0.1 * number, 0.25, 0.05), strict=True))
            recorder.open_run(key, name=f"trial {number}", kind="trial", parent="sweep", params=params)
            recorder.log(key, [StepRecord(s, now + s, {"train/loss": 1 / (1 + s) + number}) for s in range(20)])
            recorder.log(key, [StepRecord(20, now + 20, {"final/kid": 5.5 - number, "final/fid": 40.0 + number})])
            Image.fromarray(np.full((64, 64), 60 * number, np.uint8)).save(picture)
            recorder.log_file(key, picture, "images")
            recorder.close_run(key, "finished")
        recorder.close_run("sweep", "finished")
        assert recorder.complete
    return home


def start(home: Path, port: int) -> tuple[subprocess.Popen[str], list[str]]:
    """The command in a process of its own, from the repository's root, once its pages are up."""
    code = (
        "import sys, pathlib; from latentsweep_mlflow.ui import serve; "
        "serve(pathlib.Path(sys.argv[1]), port=int(sys.argv[2]), tell=lambda line: print(line, flush=True))"
    )
    command = [sys.executable, "-c", code, str(home), str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    told: list[str] = []
    for line in process.stdout:
        told.append(line.rstrip())
        if "Ctrl-C" in line:
            return process, told
    raise AssertionError("\n".join(told))


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[list[str]]:
    process, told = start(home, unused_port())
    yield told
    process.send_signal(signal.SIGINT)
    process.wait(20)


COMMAND = """
import os, subprocess, sys, time

wait = "import time; time.sleep(90)"
child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
server = [sys.executable, "-c", child, wait, sys.argv[2]]
subprocess.Popen([sys.executable, "-P", sys.argv[1], str(os.getpid()), *server], start_new_session=True)
print("started", flush=True)
time.sleep(90)
"""


def processes_with(mark: str) -> list[Path]:
    """Where ``/proc`` tells of processes whose command line has ``mark``."""
    return [entry for entry in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(entry)]


def wait_until_gone(mark: str) -> None:
    deadline = time.monotonic() + 60
    while left := processes_with(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc, on Linux only")
def test_a_keeper_ends_a_server_and_its_children_when_the_command_was_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", COMMAND, keeper.__file__, str(tmp_path)]
    command = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert command.stdout
    assert command.stdout.readline() == b"started\n"
    while len(processes_with(str(tmp_path))) < 4:
        time.sleep(0.1)
    command.kill()
    command.communicate()
    wait_until_gone(str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc, on Linux only")
def test_a_killed_command_leaves_no_server(home: Path) -> None:
    port = unused_port()
    process, _ = start(home, port)
    process.kill()
    process.communicate()
    wait_until_gone(str(port))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_command_ends_the_server_and_its_children(home: Path, number: signal.Signals) -> None:
    port = unused_port()
    process, told = start(home, port)
    assert told[0].startswith(f"the runs of demo: http://127.0.0.1:{port}/#/experiments/"), "what one clicks at first"
    assert told[1] == f"MLflow itself: http://127.0.0.1:{port}"
    process.send_signal(number)
    assert process.wait(20) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
    assert not processes_with(str(port))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


@pytest.mark.slow
def test_another_host_than_this_machine_is_warned_about(home: Path) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "Ctrl-C" in line:
            raise KeyboardInterrupt

    ui.serve(home, host="0.0.0.0", port=unused_port(), tell=tell)
    assert told[0].startswith("warning: --host 0.0.0.0 shows every run")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_person_sees_the_sweep_its_trials_their_parameters_curves_and_images(
    served: list[str], tmp_path: Path
) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    link = served[0].split(": ", 1)[1]
    flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync"
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", *flags.split()])
        page = browser.new_page(viewport={"width": 1920, "height": 1000})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(link)
        page.get_by_role("link", name="trial 3").wait_for(timeout=30_000)
        page.screenshot(path=tmp_path / "runs.png")
        text = page.inner_text("body")
        assert "demo sweep" in text
        for column in (*PARAMS, "final/kid", "final/fid"):
            assert column in text, f"{column} is no column of the table"
        trials = [line for line in text.splitlines() if line.startswith("trial ")]
        assert trials == ["trial 3", "trial 2", "trial 1", "trial 0"], "the best KID is not on top"
        page.goto(f"{link}&compareRunsMode=CHART")
        page.get_by_text("train/loss", exact=True).first.wait_for(timeout=30_000)
        page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for(state="attached", timeout=30_000)
        page.screenshot(path=tmp_path / "charts.png")
        page.goto(link)
        page.get_by_role("link", name="trial 2").click()
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_text("images", exact=True).first.click()
        page.get_by_text("samples.png", exact=True).first.click()
        page.locator("img[src*='samples.png'], img[src^='blob:'], .image-outer-container img").first.wait_for(
            timeout=30_000
        )
        page.screenshot(path=tmp_path / "image.png")
        browser.close()
    assert not [url for url in asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]

"""Ray's temporary folder: what is ours goes when its owner is gone, what is another's stays, and nobody reads it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import UNSPARED

from latentsweep.execution.ray_folder import TOKEN_PATH, RayFolder, remove_abandoned

HOLDER = """
import pathlib, sys
from latentsweep.execution import ray_folder

ray_folder._temporary = lambda: pathlib.Path(sys.argv[1])
folder = ray_folder.RayFolder.take()
(folder.temporary / "session").mkdir(parents=True)
print(folder.path, flush=True)
sys.stdin.read()
"""
IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--kill-child"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the machine's temporary one."""
    monkeypatch.setattr("latentsweep.execution.ray_folder._temporary", lambda: tmp_path)
    for name in (TOKEN_PATH, "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@contextmanager
def another_driver(temporary: Path, *within: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process with a folder of its own, which it keeps until it is killed."""
    process = subprocess.Popen(
        [*within, sys.executable, "-c", HOLDER, str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_a_folder_goes_when_its_owner_was_killed_and_not_before(temporary: Path) -> None:
    with another_driver(temporary) as (process, folder):
        remove_abandoned()
        assert (folder / "ray" / "session").is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        mine = RayFolder.take()
        assert list(temporary.iterdir()) == [mine.path]
    mine.remove()
    assert list(temporary.iterdir()) == []


def test_drivers_in_two_containers_leave_each_others_folders(temporary: Path) -> None:
    if not shutil.which("unshare") or subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True).returncode:
        pytest.skip("a namespace of processes cannot be made here")
    with (
        another_driver(temporary, *IN_A_CONTAINER) as (_, one),
        another_driver(temporary, *IN_A_CONTAINER) as (_, other),
    ):
        mine = RayFolder.take()
        assert {path.name for path in temporary.iterdir()} == {one.name, other.name, mine.path.name}
        assert (one / "ray" / "session").is_dir()
        mine.remove()


def test_what_others_left_under_our_prefix_neither_ends_a_job_nor_is_deleted(temporary: Path) -> None:
    (temporary / "ls-1-dangling").symlink_to(temporary / "nothing")
    (temporary / "ls-1-loop").symlink_to(temporary / "ls-1-loop")
    (temporary / "ls-1-file").write_text("a file")
    (temporary / "ls-notes").mkdir()
    (temporary / "ls-notes" / "thesis").write_text("precious")
    (temporary / "ls-999999-old").mkdir()
    for name, make in (
        ("ls-pipe", os.mkfifo),
        ("ls-folder", os.mkdir),
        ("ls-link", lambda path: os.symlink(temporary / "owner", path)),
    ):
        (temporary / name).mkdir()
        make(temporary / name / "owner")
        (temporary / name / "thesis").write_text("precious")
    (temporary / "ls-text").mkdir()
    (temporary / "ls-text" / "owner").write_text("me\n")
    before = sorted(temporary.rglob("*"))
    RayFolder.take().remove()
    assert sorted(temporary.rglob("*")) == before


def test_a_link_to_an_abandoned_folder_of_ours_is_not_followed(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    with another_driver(elsewhere) as (process, folder):
        process.kill()
        process.wait()
    (temporary / "ls-link").symlink_to(folder)
    remove_abandoned()
    assert (folder / "ray" / "session").is_dir()
    assert (temporary / "ls-link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is given to another user for this test, which takes root")
def test_a_folder_of_another_user_stays(temporary: Path) -> None:
    with another_driver(temporary) as (process, folder):
        process.kill()
        process.wait()
    os.chown(folder, 12345, 12345)
    remove_abandoned()
    assert folder.is_dir()


def test_no_child_of_a_driver_keeps_its_folder() -> None:
    folder = RayFolder.take()
    assert not os.get_inheritable(folder.lock)
    folder.remove()


def test_the_token_of_ray_is_for_its_user_alone_whatever_the_umask(temporary: Path) -> None:
    before = os.umask(0)
    try:
        folder = RayFolder.take()
        with folder.token():
            path = Path(os.environ[TOKEN_PATH])
            assert path.stat().st_mode & 0o777 == 0o600
            assert len(path.read_text()) == 64
            assert path.is_relative_to(folder.path)
    finally:
        os.umask(before)
    assert TOKEN_PATH not in os.environ
    assert folder.path.stat().st_mode & 0o777 == 0o700, "Ray opens its own folder to everybody"
    assert folder.temporary.parent == folder.path
    folder.remove()


def test_a_deletion_that_was_interrupted_left_no_token_and_is_taken_up(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    folder = RayFolder.take()
    folder.temporary.mkdir()
    with folder.token():
        pass
    with monkeypatch.context() as interrupted:
        interrupted.setattr("latentsweep.execution.ray_folder.shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            folder.remove()
    assert {path.name for path in folder.path.iterdir()} == {"owner", "ray"}
    os.close(folder.lock)
    remove_abandoned()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", [TOKEN_PATH, "RAY_AUTH_TOKEN"])
def test_a_token_that_the_user_named_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "mine")
    folder = RayFolder.take()
    with folder.token():
        assert os.environ[name] == "mine"
        assert not (folder.path / "token").exists()
    folder.remove()


WITH_RAY = """
import os, pathlib, stat, sys
from latentsweep.execution.cluster import cluster
from latentsweep.execution.ray_folder import remove_abandoned

with cluster(cpus=1):
    import ray
    assert ray.get(ray.remote(lambda: 3).remote()) == 3
    session = pathlib.Path(ray._private.worker._global_node.get_session_dir_path())
    outer = session.parents[1]
    assert stat.S_IMODE(outer.stat().st_mode) == 0o700
    assert stat.S_IMODE((outer / "token").stat().st_mode) == 0o600
    remove_abandoned()
    assert session.is_dir()
assert not outer.exists()
try:
    ray.put(1)
    raise AssertionError("a call after the end started another Ray")
except ray.exceptions.RaySystemError:
    pass
with cluster(cpus=1):
    assert ray.get(ray.remote(lambda: 4).remote()) == 4
assert not (pathlib.Path.home() / ".ray").exists()
"""


@pytest.mark.ray
@pytest.mark.slow
def test_ray_starts_twice_with_tokens_of_its_own_and_writes_none_in_the_users_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), UNSPARED: "1"}
    environment.pop("RAY_ENABLE_AUTO_CONNECT", None)  # which `cluster` sets
    done = subprocess.run(
        [sys.executable, "-c", WITH_RAY], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr

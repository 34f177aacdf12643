"""Two users share a folder as the page on clusters says; where one may not write, the line says why."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home
from latentsweep.storage.refusals import reason, remedy, why
from latentsweep.storage.store import Store
from trainables.errors import LatentsweepError

ALICE, BOB, TEAM = 23_456, 23_457, 34_567
ONE, OTHER = (StageKey("vae", 1, {"seed": seed}) for seed in (1, 2))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="two users are played by a process of root")


def build(folder: Path) -> Mapping[str, Any]:
    (folder / "weights").write_text("numbers")
    return {"good": True}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of the team that every user can reach: pytest's own ones are their user's alone."""
    outer = Path(tempfile.mkdtemp(dir="/tmp"))
    outer.chmod(0o755)
    folder = outer / "latentsweep"
    folder.mkdir()
    os.chown(folder, ALICE, TEAM)
    folder.chmod(0o2775)
    yield folder
    shutil.rmtree(outer)


def _play(user: int, umask: int, work: Callable[[], object], said: Any) -> None:
    os.setgroups([TEAM])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    os.umask(umask)
    try:
        said.send(work())
    except LatentsweepError as error:
        said.send(f"{type(error).__name__}: {error}")


def as_user(user: int, umask: int, work: Callable[[], object]) -> Any:
    """What ``work`` returns, or the error that it ends with, in a process of that user."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_play, args=(user, umask, work, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def test_users_of_one_group_share_a_store_that_was_set_up_as_the_page_says(shared: Path) -> None:
    def obtain(key: StageKey) -> Callable[[], object]:
        return lambda: Store(shared).obtain(key, build).name

    assert as_user(ALICE, 0o002, obtain(ONE)) == ONE.name
    assert as_user(BOB, 0o002, obtain(ONE)) == ONE.name
    assert as_user(BOB, 0o002, obtain(OTHER)) == OTHER.name
    assert as_user(ALICE, 0o002, lambda: Store(shared).remove(OTHER.name)) is True
    assert as_user(BOB, 0o002, lambda: Store(shared).remove(ONE.name)) is True
    assert as_user(BOB, 0o002, obtain(ONE)) == ONE.name
    assert as_user(ALICE, 0o002, lambda: len(Store(shared).entries())) == 1


def test_a_folder_that_another_user_keeps_for_himself_is_said_with_what_mends_it(shared: Path) -> None:
    assert as_user(ALICE, 0o022, lambda: Store(shared).obtain(ONE, build).name) == ONE.name
    said = as_user(BOB, 0o022, lambda: Store(shared).obtain(OTHER, build).name)
    assert said.startswith("StoreError: the store at ")
    assert f"belongs to user {ALICE}, with the mode " in said
    assert f"and you are user {BOB}" in said
    assert "umask 002" in said
    assert "make room" not in said
    assert "\n" not in said
    assert as_user(BOB, 0o022, lambda: Store(shared).obtain(ONE, build).name) == ONE.name, "what is there can be read"


def test_a_home_of_another_user_says_the_same(shared: Path) -> None:
    shared.chmod(0o2755)
    said = as_user(BOB, 0o022, lambda: Home(shared).writable(shared / "sweeps"))
    assert f"{shared} belongs to user {ALICE}, with the mode drwxr-sr-x" in said
    assert "umask 002" in said


def test_each_refusal_has_its_remedy(tmp_path: Path) -> None:
    assert remedy(errno.ENOSPC) == remedy(None) == "make room there"
    assert "mount" in remedy(errno.EROFS)
    assert remedy(errno.EACCES) == remedy(errno.EPERM)
    assert reason(errno.ENOSPC, tmp_path) == "No space left on device"
    assert f"{tmp_path} belongs to root" in reason(errno.EACCES, tmp_path / "new" / "file")
    assert why(OSError(errno.EROFS, "", str(tmp_path))) == "Read-only file system; mount it to be written"

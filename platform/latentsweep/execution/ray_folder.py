"""The temporary folder of a Ray that runs for one job, and whose it is: its driver's, for as long as that lives.

``ls-<random>/`` lies in the machine's temporary folder, where anybody may make anything. Ours holds ``owner``, which
its driver keeps locked. The lock goes with the driver, however it ends, and counts in every container that shares the
folder; numbers of processes do not. Beside it lie Ray's own folder, which Ray opens to everybody, and its token. Only
this user comes past the folder above them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX, _SHORT = "ls-", 20
_OWNER, _TOKEN, _RAY = "owner", "token", "ray"
_MARK = b"the folder of a Ray that latentsweep started; it is deleted when nobody locks this file\n"

TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
"""The environment variable by which Ray finds its token, which it would else write for every user to read."""
_SET_BY_USER = (TOKEN_PATH, "RAY_AUTH_TOKEN")

_token = secrets.token_hex(32)
"""One for all that this process starts, since Ray reads it once."""


@dataclass(frozen=True)
class RayFolder:
    """A folder that this process owns until :meth:`remove`."""

    path: Path
    lock: int
    """The descriptor that holds the lock. No child has it."""

    @classmethod
    def take(cls) -> RayFolder:
        """A new folder; removes those whose owners are gone. Its path is short, as that of a Unix socket must be."""
        remove_abandoned()
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_temporary()))
        draft = path / f".{_OWNER}"
        lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.suppress(OSError):  # where there are no locks, nobody deletes the folders of others
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, _MARK)
        draft.rename(path / _OWNER)  # locked before it has its name: nobody takes it for abandoned
        return cls(path, lock)

    @property
    def temporary(self) -> Path:
        """Where Ray puts its sockets and logs."""
        return self.path / _RAY

    @contextlib.contextmanager
    def token(self) -> Iterator[None]:
        """Has Ray read a token that this user alone can read, for the length of a ``with``.

        A token that the user named in the environment stays the one.
        """
        if any(name in os.environ for name in _SET_BY_USER):
            yield
            return
        path = self.path / _TOKEN
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_token)
        os.environ[TOKEN_PATH] = str(path)
        try:
            yield
        finally:
            del os.environ[TOKEN_PATH]

    def remove(self) -> None:
        """Deletes the folder, and gives it up."""
        _delete(self.path)
        os.close(self.lock)


def remove_abandoned() -> None:
    """Deletes the folders of this user whose owners are gone. Whatever else is called like them stays."""
    for path in _temporary().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # others may remove it meanwhile, or have put anything there
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    """Raises :class:`OSError` for a link, for a folder without our mark, and where its owner lives."""
    with contextlib.ExitStack() as opened:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        opened.callback(os.close, folder)
        mark = os.open(_OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        opened.callback(os.close, mark)
        if {os.fstat(folder).st_uid, os.fstat(mark).st_uid} == {os.getuid()} and os.read(mark, 200) == _MARK:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(path)


def _delete(path: Path) -> None:
    """Deletes a folder: its token first, its mark last, so that one that is interrupted is taken up by the next."""
    with contextlib.suppress(OSError):
        (path / _TOKEN).unlink()
    for inner in (path / _RAY, path):
        shutil.rmtree(inner, ignore_errors=True)


def _temporary() -> Path:
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= _SHORT else Path("/tmp")

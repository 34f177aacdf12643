"""The bounds of a store: what its names may look like, and removal that follows no link and leaves no folder.

Others may write to a store. So a name that was read there, in a listing, a manifest or the pointer to a checkpoint,
is used only after :func:`fits` or :func:`admit` has seen it. A link in a store is never ours: no stage makes one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from latentsweep.storage.refusals import DENIED, why
from trainables.errors import StoreError

_PART = r"[^./\\:\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]{0,199}"


class Form(Enum):
    """What a kind of name looks like: a regular expression for the whole of it, and words that say it."""

    RESULT = r"[a-z][a-z0-9_-]{0,63}/[0-9a-f]{16}", "stage/key, the key in 16 hexadecimal digits"
    FILE = rf"(?:{_PART}/){{0,7}}{_PART}", "the path of a file below the result, with no part that begins with a dot"
    CHECKPOINT = r"[0-9a-f]{32}\.safetensors", "32 hexadecimal digits and .safetensors"


def fits(form: Form, name: object) -> bool:
    """Whether ``name`` is a text of that form. Such a name leads out of no folder."""
    return isinstance(name, str) and re.fullmatch(form.value[0], name) is not None


def admit(form: Form, name: str) -> str:
    """The name itself; raises :class:`StoreError` for one of another form."""
    if not fits(form, name):
        raise StoreError(
            f"a name in a store must be {form.value[1]}; got {name!r}: find out who wrote it, and move it away"
        )
    return name


def link_in(root: Path, path: Path) -> Path | None:
    """The first link on the way from ``root`` to ``path``, which lies below it; None where there is none."""
    parts = path.relative_to(root).parts
    steps = (root.joinpath(*parts[: number + 1]) for number in range(len(parts)))
    return next((step for step in steps if step.is_symlink()), None)


def refuse_links(root: Path, path: Path) -> None:
    """Raises :class:`StoreError` where a link lies on the way from ``root`` to ``path``."""
    link = link_in(root, path)
    if link:
        raise StoreError(
            f"no file or folder of a store may be a link, and {link} is one; move it away, and run the same command "
            "again: to keep the store elsewhere, name that folder with --store"
        )


def remove_below(root: Path, name: str) -> None:
    """Deletes the file, link or folder ``name`` below ``root``, where it is there.

    Of a link, the link goes and nothing else. What vanishes meanwhile, or is written anew, is no error. Raises
    :class:`StoreError` where a folder on the way to it is a link, and where the system denies it.
    """
    *parents, last = PurePosixPath(name).parts
    here = root.joinpath(*parents)
    refuse_links(root, here)

    def refuse(function: Any, path: str, fault: Any) -> None:
        """Lets out what is denied: by the folder, where one may not delete in it, else by ``path`` itself."""
        inner = here / path
        _check_denied(fault[1], inner.parent if function in (os.unlink, os.rmdir) else inner)

    try:
        with _opened(root, parents) as folder:
            if stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                shutil.rmtree(last, onerror=refuse, dir_fd=folder)
            else:
                os.unlink(last, dir_fd=folder)
    except OSError as error:
        _check_denied(error, here)


def _check_denied(error: OSError, place: Path) -> None:
    """Raises :class:`StoreError` where the system denies that something is deleted at ``place``."""
    if error.errno in DENIED:
        said = why(OSError(error.errno, error.strerror, str(place)))
        raise StoreError(f"what is to be deleted from a store must be yours to delete: {said}") from error


def remove_links(folder: Path) -> None:
    """Deletes ``folder`` where it is a link, else every link below it; follows none."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    if not folder.is_dir():
        return
    for _, folders, files, here in os.fwalk(folder):
        for name in (*folders, *files):
            if stat.S_ISLNK(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=here)


def not_following(path: str, flags: int) -> int:
    """An ``opener`` for :func:`open`: raises :class:`OSError` where ``path`` is a link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _opened(root: Path, parents: list[str]) -> Iterator[int]:
    """A descriptor of the folder ``parents`` below ``root``: what it stands for stays the same whoever renames."""
    with contextlib.ExitStack() as stack:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        for part in parents:
            if part == "..":
                raise NotADirectoryError(part)
            folder = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            stack.callback(os.close, folder)
        yield folder

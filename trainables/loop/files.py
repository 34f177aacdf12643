"""Files for people, written whole or not at all, and the names of checkpoints."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

CHECKPOINT = "checkpoint.safetensors"


def write_whole(path: Path, text: str) -> None:
    """Writes a text where a user wants it, as :func:`replace_whole` does.

    But a link stays one, and what is no file, such as ``/dev/stdout``, is written as it is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        replace_whole(path, text)


def replace_whole(path: Path, text: str) -> None:
    """Writes a text in UTF-8 under a temporary name, then renames it: a reader sees the old or the new, never a part.

    A link at ``path`` is replaced, and what it leads to stays. Raises :class:`OSError`, and leaves ``path`` as it was
    then.
    """
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder under a temporary name beside ``path``, which is renamed when the block ends without an error.

    After an error it is deleted, and ``path`` is as it was. Raises :class:`OSError`, also where ``path`` is a file or
    a folder that isn't empty.
    """
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        os.replace(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def previous(path: Path) -> Path:
    """The path of the checkpoint before the one at ``path``."""
    return path.with_name(f"previous-{path.name}")

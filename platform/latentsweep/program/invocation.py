"""How this program is called, so that a line that a message hints at can be typed as it stands."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

CALLED = "LATENTSWEEP_CALLED"
"""In the environment of processes that work for a command: how the user called it."""

SCRIPT, INSTALLED = "cli.py", "latentsweep"
_CHECKOUT = Path(__file__).parents[3]


def hint(line: str) -> str:
    """The command ``line``, such as ``report demo``, with this program before it as the user called it."""
    return f"{called()} {line}"


def documented(line: str) -> str:
    """The same for a file that others read: with no path of this machine."""
    return f"{_documented()} {line}"


def called() -> str:
    """How the user called this program: ``latentsweep``, ``python -m latentsweep``, ``python cli.py`` or a path."""
    return os.environ.get(CALLED) or called_by(sys.argv[0], sys.orig_argv)


def called_by(script: str, typed: Sequence[str]) -> str:
    """The same from ``sys.argv[0]`` and ``sys.orig_argv``; what a document says where others call the package."""
    path, package = Path(script).absolute(), Path(__file__).parents[1]
    if path == package / "__main__.py":
        return shlex.join([typed[0], "-m", package.name])
    if path.resolve() == _CHECKOUT / SCRIPT:
        return shlex.join([typed[0], script])
    if path.name == INSTALLED:
        return INSTALLED if shutil.which(INSTALLED) == str(path) else shlex.quote(script)
    return _documented()


def _documented() -> str:
    return f"python {SCRIPT}" if (_CHECKOUT / SCRIPT).is_file() else INSTALLED

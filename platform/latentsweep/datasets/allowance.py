"""Parquet files of others, tried by a process that may take only so much memory.

What a file says of its size need not be true: the header of a page may claim more than the footer does, and an
encoding can repeat a long value for a few bytes. So a child process with limited memory reads such files first. On
Linux; elsewhere nothing is tried.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from trainables.errors import StoreError

READER = """
import resource, sys
import pyarrow as pa, pyarrow.parquet as pq

taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]),) * 2)
try:
    for path in sys.argv[2:]:
        pq.ParquetFile(path, pre_buffer=False).read(use_threads=False)
except (OSError, MemoryError, pa.ArrowException):
    sys.exit(3)
"""
REFUSED = 3
"""The exit code of a child that could not read one of the files, or not within its memory."""
ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""In the child's environment: those that reserve no addresses ahead, which would count as taken."""
COPIES, BESIDE = 3, 2**27
"""So many times the bytes of its columns, and so many more, a reader takes: the file, its pages, the table."""


def fits(paths: Sequence[Path], claimed: int) -> bool:
    """Whether each of these Parquet files is read within what a table of ``claimed`` bytes needs.

    False for one that can't be read, too. A file is tried once by each process. Raises :class:`StoreError` where the
    child ended in another way, such as by a signal: that says nothing of the files.
    """
    return sys.platform != "linux" or _tried(tuple(map(str, paths)), COPIES * claimed + BESIDE)


@functools.lru_cache(maxsize=32)
def _tried(paths: tuple[str, ...], most: int) -> bool:
    command = [sys.executable, "-P", "-c", READER, str(most), *paths]
    done = subprocess.run(command, env={**os.environ, **ALLOCATORS}, capture_output=True)
    if done.returncode not in (0, REFUSED):
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StoreError(
            f"the process that tries shards of others must end by itself, and ended with {done.returncode} "
            f"({last or 'a signal'}): run the same command again"
        )
    return done.returncode == 0

"""Damaged copies of valid files, and a process that reads them under watch.

As a script: ``fuzzing.py KIND FOLDER`` reads every file of the folder as a scan of that kind and prints, as JSON,
what came of each, the seconds it took, and the most memory that the process ever had.
"""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF)
DATA_BESIDE = ".img"
"""The end of the name of a file that is read with its header."""
Mutation = Callable[[bytes, np.random.Generator], bytes]


def cut(data: bytes, random: np.random.Generator) -> bytes:
    """The first part of the file."""
    return data[: random.integers(0, len(data))]


def flipped(data: bytes, random: np.random.Generator) -> bytes:
    """A few bits turned, anywhere."""
    content = bytearray(data)
    for place in random.integers(0, 8 * len(data), random.integers(1, 20)):
        content[place // 8] ^= 1 << place % 8
    return bytes(content)


def edited(data: bytes, random: np.random.Generator, header: int = 700) -> bytes:
    """Some fields of the first bytes with other values, often the smallest or largest ones."""
    content = bytearray(data)
    for _ in range(random.integers(1, 5)):
        width = int(random.choice([1, 2, 4, 8]))
        place = int(random.integers(0, min(header, len(data)) - 8))
        extreme = bytes([int(random.choice(EXTREMES))]) * width
        content[place : place + width] = extreme if random.random() < 0.6 else random.bytes(width)
    return bytes(content)


def shuffled(data: bytes, random: np.random.Generator) -> bytes:
    """A piece left out, repeated, or put elsewhere."""
    start, end, to = sorted(random.integers(0, len(data), 3))
    piece = data[start:end]
    return (data[:start] + data[end:], data[:end] + piece + data[end:], data[end:to] + piece + data[:start])[
        random.integers(3)
    ]


def within_gzip(data: bytes, random: np.random.Generator) -> bytes:
    """A damaged file, whole as an archive."""
    return gzip.compress(mutated(gzip.decompress(data), random), mtime=0)


def within_png(data: bytes, random: np.random.Generator) -> bytes:
    """A PNG with a damaged chunk whose checksum is right."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append([data[place + 4 : place + 8], data[place + 8 : place + 8 + length]])
        place += 12 + length
    chunk = chunks[random.integers(len(chunks))]
    chunk[1] = flipped(chunk[1], random) if chunk[1] else b"\0" * 9
    return data[:8] + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


GENERAL: tuple[Mutation, ...] = (cut, flipped, edited, edited, shuffled)


def mutated(data: bytes, random: np.random.Generator, special: Mutation | None = None) -> bytes:
    """One damaged copy; ``special`` makes every other one."""
    if special is not None and random.random() < 0.5:
        return special(data, random)
    return GENERAL[random.integers(len(GENERAL))](data, random)


def damaged_copies(valid: Path, folder: Path, count: int, seed: int, special: Mutation | None = None) -> None:
    """``count`` damaged copies of ``valid``, each in a folder of its own with its data; the same for a seed."""
    data = valid.read_bytes()
    for number in range(count):
        place = folder / f"PLANTED-{number:03d}"
        place.mkdir(parents=True)
        (place / f"SECRET{''.join(valid.suffixes)}").write_bytes(
            mutated(data, np.random.default_rng([seed, number]), special)
        )
        for other in valid.parent.glob(f"*{DATA_BESIDE}"):
            shutil.copy(other, place / f"SECRET{DATA_BESIDE}")


def read_apart(kind: str, folder: Path, timeout: float = 300) -> dict[str, Any]:
    """What reading every file of the folder came to, in a process of its own."""
    command = [sys.executable, __file__, kind, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == "", "a reader says something of a file"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def peak_gib() -> float:
    """The most memory that this process had at once (``ru_maxrss`` would begin with that of its parent)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


def main(kind: str, folder: Path) -> None:
    from latentsweep.datasets.scans import Scan, read_scan

    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != DATA_BESIDE):
        began = time.perf_counter()
        result = read_scan(Scan(kind, "PLANTED", "PLANTED", (path,)), 32)
        files.append(
            {
                "file": str(path.relative_to(folder)),
                "slices": sum(map(len, result.volumes)),
                "dropped": result.dropped,
                "rejects": [reason for reason, _, _ in result.rejects],
                "seconds": time.perf_counter() - began,
            }
        )
    print(json.dumps({"peak_gib": peak_gib(), "files": files}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

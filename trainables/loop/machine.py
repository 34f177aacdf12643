"""What this process may use of the machine, as affinity and control groups (containers) allow, and what is there.

``docker --cpus`` and a pod's limits are quotas of a control group: the system still shows every core and all of the
memory. Whoever counts either asks here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
"""Where the folders ``proc`` and ``sys`` of this machine lie."""

_VARIABLE = "OMP_NUM_THREADS"

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt(3)."""


def cores(root: Path = ROOT) -> int:
    """CPU cores that this process may use, at least 1.

    The least of the cores that it may run on and the quota of each of its control groups. A quota is rounded down: a
    thread that waits for the rest of a core keeps all others waiting.
    """
    return max(1, min(_allowed(), int(_quota(root))))


def memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process may use: the least of the machine's and each of its control groups'."""
    limits = [
        _number(folder / name) for folder, name in _files("memory", "memory.max", "memory.limit_in_bytes", root)
    ]
    return int(min([_installed(), *limits]))


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory, so that a step's activations don't go back to the system after each step."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def has_card_driver() -> bool:
    """Whether a driver of cards is installed; where none is, no card is here, and PyTorch need not be asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()  # AMD's
    return True


def tell_libraries() -> None:
    """Tells OpenMP and BLAS how many cores a quota leaves: they count by themselves, and know of none.

    To be called before they are loaded; child processes inherit it. Where no quota is, or the user has set a number,
    nothing changes.
    """
    here = cores()
    if here < _allowed():
        os.environ.setdefault(_VARIABLE, str(here))


def _allowed() -> int:
    """The cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _installed() -> float:
    """The machine's bytes of memory; infinite where the system doesn't say."""
    if sys.platform == "win32":
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")


def _quota(root: Path) -> float:
    """The cores that the control groups leave; more than any machine has where they set no limit."""
    found: list[float] = [sys.maxsize]
    for folder, name in _files("cpu", "cpu.max", "cpu.cfs_quota_us", root):
        if name == "cpu.max":
            quota, period = _number(folder / name), _number(folder / name, 1)
        else:
            quota, period = _number(folder / name), _number(folder / "cpu.cfs_period_us")
        if quota > 0 and 0 < period < sys.maxsize:  # version 1 writes -1 for no limit
            found.append(quota / period)
    return min(found)


def _number(path: Path, place: int = 0) -> float:
    """A number of a control group's file; the largest that there is where the file has none, or is not there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(path.read_text().split()[place])
    return sys.maxsize


def _files(controller: str, second: str, first: str, root: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each control group that this process is in, and the name of the limit's file there.

    A group is held to the limits of all above it. ``second`` and ``first`` are the names in the two versions of
    control groups.
    """
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    own: dict[str, str] = {}
    for line in memberships:
        _, controllers, group = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), group)  # version 2 names no controller
    for line in mounts:
        place, _, kind_and_options = line.partition(" - ")
        kind, _, options = kind_and_options.split(" ")[:3]
        if kind == "cgroup2" and "" in own:
            group, name = own[""], second
        elif kind == "cgroup" and controller in own and controller in options.split(","):
            group, name = own[controller], first
        else:
            continue
        base, point = (field.replace("\\040", " ") for field in place.split(" ")[3:5])
        folder = root / point.lstrip("/")
        yield folder, name
        inside = PurePosixPath(group)
        if inside.is_relative_to(base):  # else the mount shows this process's group as its root
            for part in inside.relative_to(base).parts:
                folder /= part
                yield folder, name

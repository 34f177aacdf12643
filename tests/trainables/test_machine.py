"""The cores and the memory that a process may use: in real control groups, and in stand-ins for other machines.

A stand-in is a folder tree with the files of ``/proc`` and ``/sys/fs/cgroup`` as Docker and Kubernetes show them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from trainables.loop import machine

ROOT = Path(__file__).parents[2]
GIB = 2**30
V1 = "12:memory:{0}\n4:cpu,cpuacct:{0}\n1:name=systemd:{0}\n"
V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 {0} /sys/fs/cgroup/cpu,cpuacct rw,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {0} /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
)
V2_MOUNTS = "30 23 0:26 {0} /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores and 256 GiB, but for processes of their own."""
    monkeypatch.setattr(machine, "_allowed", lambda: 64)
    monkeypatch.setattr(machine, "_installed", lambda: 256 * GIB)


def stand_in(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A folder with the files that ``/proc`` and ``/sys`` have in a container."""
    texts = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts}
    for name, text in (texts | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(cpu: str, memory: str, quota: str, limit: int) -> dict[str, str]:
    return {
        f"cpu,cpuacct/{cpu}cpu.cfs_quota_us": quota,
        f"cpu,cpuacct/{cpu}cpu.cfs_period_us": "100000\n",
        f"memory/{memory}memory.limit_in_bytes": f"{limit}\n",
    }


CONTAINERS = {
    "Docker, version 1, whose groups are told by the host's paths": (
        V1.format("/docker/4f2a"),
        V1_MOUNTS.format("/docker/4f2a"),
        v1("", "", "200000\n", 4 * GIB),
    ),
    "version 1 in its own namespace": (V1.format("/"), V1_MOUNTS.format("/"), v1("", "", "250000\n", 4 * GIB)),
    "a service on the host, version 1": (
        V1.format("/system.slice/job.service"),
        V1_MOUNTS.format("/"),
        v1("system.slice/job.service/", "system.slice/job.service/", "200000\n", 4 * GIB),
    ),
    "Docker or a pod, version 2": (
        "0::/\n",
        V2_MOUNTS.format("/"),
        {"cpu.max": "200000 100000\n", "memory.max": f"{4 * GIB}\n"},
    ),
    "version 2, where only the pod's group has a limit and the container's has none": (
        "0::/kubepods/pod7/c1\n",
        V2_MOUNTS.format("/"),
        {
            "kubepods/pod7/cpu.max": "50000 25000\n",
            "kubepods/pod7/memory.max": f"{4 * GIB}\n",
            "kubepods/pod7/c1/cpu.max": "max 100000\n",
            "kubepods/pod7/c1/memory.max": "max\n",
        },
    ),
    "both versions mounted, and the controllers in version 1": (
        V1.format("/docker/4f2a") + "0::/docker/4f2a\n",
        V1_MOUNTS.format("/docker/4f2a")
        + V2_MOUNTS.format("/docker/4f2a").replace("cgroup rw,", "cgroup/unified rw,"),
        v1("", "", "200000\n", 4 * GIB),
    ),
}


@pytest.mark.parametrize("where", CONTAINERS)
def test_a_containers_limits_are_the_cores_and_the_memory(tmp_path: Path, where: str) -> None:
    root = stand_in(tmp_path, *CONTAINERS[where])
    assert (machine.cores(root), machine.memory(root)) == (2, 4 * GIB)


NO_LIMITS = {
    "no control groups": ("", "", {}),
    "version 1": (V1.format("/"), V1_MOUNTS.format("/"), v1("", "", "-1\n", 9223372036854771712)),
    "version 2": ("0::/\n", V2_MOUNTS.format("/"), {"cpu.max": "max 100000\n", "memory.max": "max\n"}),
    "version 2 of the root, which has no such files": ("0::/\n", V2_MOUNTS.format("/"), {}),
    "files that say nothing": ("0::/\n", V2_MOUNTS.format("/"), {"cpu.max": "", "memory.max": "much\n"}),
}


@pytest.mark.parametrize("where", NO_LIMITS)
def test_without_a_limit_all_of_the_machine_is_there(tmp_path: Path, where: str) -> None:
    root = stand_in(tmp_path, *NO_LIMITS[where])
    assert (machine.cores(root), machine.memory(root)) == (64, 256 * GIB)


@pytest.mark.parametrize(
    ("quota", "cores"), [("10000", 1), ("100000", 1), ("190000", 1), ("350000", 3), ("9900000", 64)]
)
def test_a_quota_is_rounded_down_and_leaves_one_core_at_least(tmp_path: Path, quota: str, cores: int) -> None:
    root = stand_in(tmp_path, "0::/\n", V2_MOUNTS.format("/"), {"cpu.max": f"{quota} 100000\n"})
    assert machine.cores(root) == cores


def test_libraries_are_told_the_quota_where_there_is_one_and_a_users_number_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "_quota", lambda root: 64.0)
    machine.tell_libraries()
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setattr(machine, "_quota", lambda root: 2.5)
    machine.tell_libraries()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    machine.tell_libraries()
    assert os.environ["OMP_NUM_THREADS"] == "7"


def real_group(controller: str) -> Iterator[Path]:
    """A new control group of version 1 or 2 that has the controller; skips where this process may make none."""
    for parent in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
        listed = parent / "cgroup.subtree_control"
        if not (parent / "cgroup.procs").exists() or (listed.exists() and controller not in listed.read_text()):
            continue
        group = parent / f"latentsweep-{uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    pytest.skip(f"this process may make no control group for {controller}: only the stand-ins are tried")


@pytest.fixture
def cpu_group() -> Iterator[Path]:
    yield from real_group("cpu")


@pytest.fixture
def memory_group() -> Iterator[Path]:
    yield from real_group("memory")


def inside(group: Path, function: str) -> int:
    """What a process in the group gets from a function of ``trainables.loop.machine``."""
    code = f"from trainables.loop import machine; print(machine.{function}())"
    words = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"', sys.executable, "-c", code]
    return int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def test_a_process_in_a_real_group_with_a_quota_counts_its_cores(cpu_group: Path) -> None:
    if (cpu_group / "cpu.max").exists():
        (cpu_group / "cpu.max").write_text("130000 100000")
    else:
        (cpu_group / "cpu.cfs_quota_us").write_text("130000")
    assert inside(cpu_group, "cores") == 1


def test_a_process_in_a_real_group_with_a_limit_counts_its_memory(memory_group: Path) -> None:
    limit = next(
        memory_group / name for name in ("memory.max", "memory.limit_in_bytes") if (memory_group / name).exists()
    )
    limit.write_text(str(GIB))
    assert inside(memory_group, "memory") == GIB


def test_nobody_else_counts_cores_or_memory() -> None:
    words = ("cpu_count", "sched_getaffinity", "SC_PHYS_PAGES", "SC_NPROCESSORS", "psutil", "virtual_memory")
    counting = [
        f"{path.relative_to(ROOT)}: {word}"
        for folder in ("platform", "trainables", "mlflow", "search_spaces", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for word in words
        if word in path.read_text() and path != ROOT / "trainables/loop/machine.py"
    ]
    assert counting == ["benchmarks/sweep.py: sched_getaffinity"], "that benchmark gives itself so many cores"

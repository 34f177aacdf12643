"""A Ray cluster of three nodes on one host: the driver's, without cores, and two that work, as on other machines.

A working node lives in a network namespace with its own address, and in a mount namespace in which the driver's
folder, Ray's and the user's caches are empty: what it knows of the driver came over the network.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

RAY = Path(sys.executable).with_name("ray")
NETWORKS = 250
"""How many of them one host can have: each has a part of 10.213.0.0/16."""


@dataclass
class Network:
    """A bridge with the driver's address on it and two namespaces behind it."""

    number: int

    @property
    def bridge(self) -> str:
        return f"ls{self.number}"

    @property
    def driver(self) -> str:
        return f"10.213.{self.number}.1"

    def address(self, node: int) -> str:
        return f"10.213.{self.number}.{node + 2}"

    def namespace(self, node: int) -> str:
        return f"{self.bridge}-{node}"


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Two empty machines; skips the test where the system doesn't let it make them."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("two machines on one host are network and mount namespaces, which take root, ip and unshare")
    net = free_network()
    commands = [
        f"ip addr add {net.driver}/24 dev {net.bridge}",
        f"ip link set {net.bridge} up",
    ]
    for node in (0, 1):
        name, outside, inside = net.namespace(node), f"{net.bridge}o{node}", f"{net.bridge}i{node}"
        commands += [
            f"ip netns add {name}",
            f"ip link add {outside} type veth peer name {inside}",
            f"ip link set {outside} master {net.bridge} up",
            f"ip link set {inside} netns {name}",
            f"ip -n {name} addr add {net.address(node)}/24 dev {inside}",
            f"ip -n {name} link set {inside} up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"two machines on one host cannot be made here: {command}: {done.stderr.strip()}")
        yield net
    finally:
        for node in (0, 1):
            kill_all(net, node)
            subprocess.run(["ip", "link", "delete", f"{net.bridge}o{node}"], capture_output=True)
            subprocess.run(["ip", "netns", "delete", net.namespace(node)], capture_output=True)
        subprocess.run(["ip", "link", "delete", net.bridge], capture_output=True)


def free_network() -> Network:
    """A network that no other run of pytest has taken; its bridge is there. Skips the test where none can be made."""
    for shift in range(NETWORKS):
        net = Network((os.getpid() + shift) % NETWORKS)
        done = subprocess.run(f"ip link add {net.bridge} type bridge".split(), capture_output=True, text=True)
        if not done.returncode:
            return net
        if "File exists" not in done.stderr:
            break
    pytest.skip(f"two machines on one host cannot be made here: {done.stderr.strip()}")


def processes(net: Network, node: int) -> list[int]:
    """The processes of a node."""
    said = subprocess.run(["ip", "netns", "pids", net.namespace(node)], capture_output=True, text=True).stdout
    return [int(pid) for pid in said.split()]


def kill_all(net: Network, node: int) -> None:
    """SIGKILL for every process of a node, as when its power fails."""
    while found := processes(net, node):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


@dataclass
class Cluster:
    """A running Ray cluster; ``environment`` is the driver's, with its token."""

    net: Network
    folder: Path
    environment: dict[str, str]
    port: int

    @property
    def address(self) -> str:
        return f"{self.net.driver}:{self.port}"

    def start_node(self, node: int, environment: Mapping[str, str], hidden: list[Path]) -> subprocess.Popen[bytes]:
        """A node with one core, to which the ``hidden`` folders are empty; it ends with its last process."""
        cache = self.folder / f"node-{node}"
        cache.mkdir(exist_ok=True)
        private = [*hidden, self.folder / "ray", Path.home() / ".cache", Path.home() / ".ray"]
        for folder in private:
            folder.mkdir(parents=True, exist_ok=True)
        mounts = " && ".join(f"mount -t tmpfs tmpfs '{folder}'" for folder in private)
        start = f"'{RAY}' start --address={self.address} --node-ip-address={self.net.address(node)} --num-cpus=1"
        flags = "--num-gpus=0 --object-store-memory=100000000 --disable-usage-stats --block"
        script = f"{mounts} && exec {start} {flags}"
        log = self.folder / f"node-{node}.log"
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.net.namespace(node), "unshare", "--mount", "bash", "-c", script],
            env={
                **self.environment,
                **environment,
                "LATENTSWEEP_CACHE": str(cache),
                "GLOO_SOCKET_IFNAME": f"{self.net.bridge}i{node}",  # the host's name means loopback in both
            },
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        wait_until_started(process, log)
        return process


def wait_until_started(process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Until ``ray start`` says in its log that it is done."""
    deadline = time.monotonic() + seconds
    while "Ray runtime started" not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.2)


@contextlib.contextmanager
def cluster(net: Network) -> Iterator[Cluster]:
    """The driver's node, without cores, with token authentication."""
    folder = Path(tempfile.mkdtemp(prefix="ls-nodes-"))
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    with socket.socket() as free:
        free.bind((net.driver, 0))
        running = Cluster(net, folder, environment, free.getsockname()[1])
    log = folder / "head.log"
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", f"--node-ip-address={net.driver}", f"--port={running.port}", "--num-cpus=0"),
            *("--num-gpus=0", "--include-dashboard=false", "--object-store-memory=100000000"),
            *("--disable-usage-stats", "--block", f"--temp-dir={folder}/ray"),
        ],
        env=environment,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
    )
    try:
        wait_until_started(head, log)
        yield running
    finally:
        for node in (0, 1):
            kill_all(net, node)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)

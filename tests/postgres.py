"""A PostgreSQL server for tests: an instance of its own in a temporary folder, by Debian's package or another."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ACCOUNT = "postgres"
"""The server refuses root: started by root, it runs as this one."""


@dataclass(frozen=True)
class Postgres:
    """A running server; ``password`` is that of its only user, and must never be said by anybody."""

    host: str
    port: int
    password: str
    folder: Path
    binaries: Path

    def database(self, name: str) -> str:
        """The address of a new, empty database of that name."""
        import psycopg2

        connection = psycopg2.connect(
            host=self.host, port=self.port, user="team", password=self.password, dbname="postgres"
        )
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        return f"postgresql+psycopg2://team:{self.password}@{self.host}:{self.port}/{name}"

    def start(self) -> None:
        settings = f"-c listen_addresses={self.host} -c port={self.port} -c unix_socket_directories={self.folder}"
        self._control(f"--log={self.folder}/log", f"--options={settings} -c fsync=off", "start")

    def stop(self) -> None:
        """At once, as when the machine is lost."""
        self._control("--mode=immediate", "stop")

    def _control(self, *words: str) -> None:
        programs, data = self.binaries, self.folder / "data"
        _as_account([programs / "pg_ctl", "--pgdata", data, "--wait", "--silent", *words])


def binaries() -> Path | None:
    """The folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


@contextlib.contextmanager
def postgres(host: str = "127.0.0.1") -> Iterator[Postgres]:
    """A server that listens on ``host``; skips the test where there is none installed."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="latentsweep-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, ACCOUNT)
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    server = Postgres(host, port, secrets.token_hex(16), folder, programs)
    secret = folder / "password"
    secret.write_text(server.password)
    secret.chmod(0o644)
    try:
        _as_account(
            [
                *(programs / "initdb", "--pgdata", folder / "data", "--username=team", f"--pwfile={secret}"),
                *("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            ]
        )
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_account(words: list[object]) -> None:
    command = list(map(str, words))
    if os.geteuid() == 0:
        command = ["runuser", "-u", ACCOUNT, "--", *command]
    subprocess.run(command, check=True, capture_output=True, cwd="/")

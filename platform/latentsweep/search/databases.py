"""Where Optuna's studies are kept: in a SQLite file in each sweep's folder, or in one PostgreSQL database for all.

The database's address may hold a password, so it is never part of a message, a log line or a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from trainables.errors import ConfigError, LatentsweepError, StoreError

ENVIRONMENT = "LATENTSWEEP_STUDY"
CONNECT_SECONDS = 10
WAIT_SECONDS = 60
"""Seconds to wait for another process that makes the tables."""

RELEASE_SECONDS = 3
"""Seconds to wait for the lock of a driver that was killed: so long the server may take to notice that it is gone."""

KEEPALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""With these, the server releases the lock of a machine that vanished within a minute."""


def storage(folder: Path, database: str = "", *, reading: bool = False) -> str | RDBStorage:
    """Optuna's storage for the study of a sweep; ``reading`` makes no file, and opens one that is read-only, too.

    Raises :class:`StoreError` where the database doesn't answer.
    """
    if not database:
        path = folder / "study.db"
        if not reading:
            return f"sqlite:///{path}"
        mode = "rw" if os.access(path, os.W_OK) and os.access(folder, os.W_OK) else "ro"  # rw mends what a kill left
        address = quote(quote(str(path)))  # SQLAlchemy takes one quoting away, and SQLite that of a file: name
        return f"sqlite:///file:{address}?mode={mode}&uri=true"
    with translate_errors(database), _hold_lock(database, "latentsweep tables", wait=True):
        arguments = {"connect_timeout": CONNECT_SECONDS}
        return RDBStorage(database, engine_kwargs={"pool_pre_ping": True, "connect_args": arguments})


@contextlib.contextmanager
def hold_study_lock(database: str, name: str) -> Iterator[None]:
    """Keeps drivers on other machines from the study ``name``, for the length of a ``with``.

    It holds an advisory lock of a connection, which the server releases when this process ends. Raises
    :class:`LatentsweepError` where another driver holds it, :class:`StoreError` where the database doesn't answer.
    """
    with translate_errors(database), _hold_lock(database, f"latentsweep study {name}", wait=False):
        yield


@contextlib.contextmanager
def translate_errors(database: str) -> Iterator[None]:
    """Raises :class:`StoreError` for any error of the database: one line, without the database's address."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        if not database:
            said = str(getattr(cause, "orig", None) or cause).splitlines()[0]
            raise StoreError(
                f"the study's file study.db must be there, whole, and writable by whoever searches ({said}); mend "
                "that, or put back a copy of it, and run the same command again"
            ) from None
        raise StoreError(
            f"the study's database{_place(database)} must answer ({type(cause).__name__}); see --study-storage or "
            f"{ENVIRONMENT}, and run the same command again: it goes on"
        ) from None


def check(database: str) -> str:
    """Returns the address; raises :class:`ConfigError` for another kind of database than PostgreSQL."""
    if database and not database.startswith(("postgresql://", "postgresql+")):
        raise ConfigError(
            "--study-storage takes a PostgreSQL database, as postgresql+psycopg2://USER:PASSWORD@HOST/NAME; it got "
            f"an address of another kind ({database.partition(':')[0]})"
        )
    return database


@contextlib.contextmanager
def _hold_lock(database: str, name: str, *, wait: bool) -> Iterator[None]:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    arguments = {"connect_timeout": CONNECT_SECONDS, "options": KEEPALIVE}
    try:
        engine = sqlalchemy.create_engine(
            database, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
        )
    except ImportError as error:
        raise StoreError(
            f"a study in PostgreSQL needs its client ({error.name}): pip install 'latentsweep[cluster]'"
        ) from None
    with engine.connect() as connection:
        deadline = time.monotonic() + (WAIT_SECONDS if wait else RELEASE_SECONDS)
        while not connection.scalar(sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(number))):
            if time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise LatentsweepError(
                f"only one process may drive {name.removeprefix('latentsweep study ')} and one on another machine "
                "does; wait for it to end"
            )
        yield


def _place(database: str) -> str:
    try:
        host = sqlalchemy.make_url(database).host
    except SQLAlchemyError:
        return ""
    return f" on {host}" if host else ""

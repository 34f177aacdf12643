"""A client of MLflow, whose store answers, and the experiment of a name there."""

from __future__ import annotations

import logging
import os
import socket
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from latentsweep_mlflow.database import find_artifacts, initialisation

ORIGIN = {"mlflow.user": "latentsweep", "mlflow.source.name": "latentsweep", "mlflow.source.type": "LOCAL"}
"""Tags of every run, in place of what MLflow takes from the machine: the account, the script and its folder."""

_HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_PROBE_SECONDS = 3.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect(uri: str) -> MlflowClient:
    """A client of ``uri`` whose store answers; raises MLflow's own errors, or :class:`OSError`.

    Tables are created by one process at a time: several that first touch a SQLite file crash each other.
    Requests give up after ten seconds and aren't repeated, unless MLflow's variables say otherwise, since the
    callers have their own way to try again.
    """
    for name, value in _HTTP_LIMITS.items():
        os.environ.setdefault(name, value)
    # What MLflow would print, with a traceback and the address, reaches the user as our one line.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _probe(uri)
    with initialisation(uri):
        find_artifacts(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str, root: str | None = None) -> str:
    """The experiment called ``name``: found, brought back from MLflow's bin, or created."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=root)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process was faster
    assert found is not None
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _probe(uri: str) -> None:
    """Fail fast on a database server that is away: MLflow itself would retry for more than three minutes."""
    address = urlsplit(uri)
    port = _DATABASE_PORTS.get(address.scheme.partition("+")[0])
    if port is not None and address.hostname:
        socket.create_connection((address.hostname, address.port or port), timeout=_PROBE_SECONDS).close()

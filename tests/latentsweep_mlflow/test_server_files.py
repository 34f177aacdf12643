"""What the team's server exposes, and that this folder never hides the real MLflow."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())["services"]
    return loaded


def test_only_mlflow_is_published_and_only_to_this_machine(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"mlflow": ["${MLFLOW_BIND:-127.0.0.1}:${MLFLOW_PORT:-5000}:5000"]}


def test_every_secret_comes_from_the_environment_and_has_no_default(services: dict[str, Any]) -> None:
    secrets = {
        name: str(value)
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|ACCESS_KEY|BACKEND_STORE_URI", name)
    }
    assert len(secrets) >= 6
    assert not [name for name, value in secrets.items() if not re.search(r"\$\{[A-Z0-9_]+(:\?[^}]*)?\}", value)]


def test_every_variable_of_the_server_is_in_its_readme() -> None:
    text = (ROOT / "mlflow" / "compose.yaml").read_text()
    readme = (ROOT / "mlflow" / "README.md").read_text()
    variables = set(re.findall(r"\$\{([A-Z0-9_]+)", text))
    assert variables
    assert {name for name in variables if f"`{name}`" not in readme} == set()


@pytest.mark.slow
def test_the_real_mlflow_is_imported_from_the_root_of_the_repository() -> None:
    assert not (ROOT / "mlflow" / "__init__.py").exists()
    code = "import mlflow; print(mlflow.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(ROOT / "mlflow") + "/" not in run.stdout.strip()
    assert run.stdout.strip().endswith("__init__.py")


@pytest.mark.slow
def test_no_telemetry_leaves_a_process_that_uses_the_recorder() -> None:
    code = (
        "import os; os.environ.pop('CI', None); import latentsweep_mlflow.recorder;"
        "from mlflow.telemetry.client import get_telemetry_client; print(get_telemetry_client())"
    )
    environment = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "None"

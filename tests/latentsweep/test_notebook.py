"""The notebook of ``examples``: its cells run one after another, and nothing that they gave is kept with it.

They run in a process of their own, as one script: no cell uses more of Jupyter than its shown last value.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
CHECKED = """
assert images.shape == (8, 32, 32) and images.dtype == "uint8"
assert len(found.leaderboard) == 2 and {row["rank"] for row in found.leaderboard} == {1, 2}
assert (images == found.load(found.best(despite_guards=True).origin["trial"]).sample(8)).all()
"""


def cells() -> list[str]:
    """The code of its cells."""
    book = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_holds_no_outputs() -> None:
    book = json.loads(NOTEBOOK.read_text())
    assert book["nbformat"] == 4
    for cell in book["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert not any(line.startswith(("%", "!")) for code in cells() for line in code.splitlines())


@pytest.mark.slow
@pytest.mark.ray
def test_the_notebook_runs_from_its_first_cell_to_its_last(prepared_demo: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared_demo, tmp_path / "quickstart-runs")
    script = tmp_path / "cells.py"
    script.write_text("import matplotlib\n\nmatplotlib.use('agg')\n" + "\n".join([*cells(), CHECKED]))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "", "the functions print nothing"

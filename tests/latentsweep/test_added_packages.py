"""A reader and a network of an installed package, and what a broken package leaves of the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from added_packages import add_package
from command_line import ROOT

READER = """
import numpy as np
from latentsweep.datasets.formats.readers import Reader
from latentsweep.datasets.volumes import Volume

def one(path):
    with open(path, "rb") as file:
        file.seek(5)
        return Volume(np.load(file).astype(np.float32), np.eye(4))

def read(paths):
    return [one(path) for path in paths], []

row = Reader(label="scanner", suffixes=(".scan",), signature=rb"SCAN1", read=read, one_file=True)
"""
NETWORK = """
from dataclasses import dataclass
import torch
from torch import nn
from trainables.config import Config, setting

class Plain(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.enter, self.leave = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z_t, t, masks=None, condition=None):
        return self.leave(torch.relu(self.enter(z_t.to(self.enter.weight.dtype))))

@dataclass(frozen=True, kw_only=True)
class TwoLayers(Config):
    "Two convolutions."
    width: int = setting(8, "channels between them", low=1)

    def __call__(self, channels, config):
        return Plain(channels, self.width)
"""
TRAINED = """
import sys
from pathlib import Path
from types import SimpleNamespace
from small_dataset import brief_on
from latentsweep.configuration import Configuration
from latentsweep.jobs.model_card import recipe_rows
from latentsweep.report.repetition import changes
from latentsweep.stages.model_folder import read_model, write_model
from latentsweep.storage.home import Home
from trainables.recipes import SMOKE
from trainables.space import SearchSpace

folder = Path(sys.argv[1])
recipe = SMOKE.replace(**{
    "data.image_size": 32, "vae.widths": (8, 16), "vae.max_steps": 2, "vae.validations": 1, "diffusion.steps": 2,
    "diffusion.widths": (8, 16), "diffusion.attention_levels": (), "diffusion.embedding_channels": 16,
    "diffusion.validations": 1, "diffusion.batch_size": 2, "sampling.steps": 2,
    "diffusion.denoiser": "two_layers", "diffusion.two_layers_width": 5,
})
pipeline = brief_on(Home(folder / "runs")).pipeline(recipe)
pipeline.denoiser()
write_model(folder / "model", pipeline.store, pipeline.keys, Configuration("tiny", 0, recipe))
model = read_model(folder / "model")
sweep = SimpleNamespace(
    plan=SimpleNamespace(recipe_name="smoke", recipe=recipe), search=SimpleNamespace(space=SearchSpace({}))
)
print([row for row in recipe_rows(recipe) if "two_layers" in row[0]])
print([row for row in changes(sweep) if "two_layers" in row[0]])
print(type(model.denoiser).__name__, tuple(model.denoiser.enter.weight.shape)[0], model.images([0, 1]).shape)
"""


def run(packages: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    paths = [str(packages), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    line = [sys.executable, *map(str, words)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_a_reader_of_a_package_prepares_its_files_and_is_named_in_the_manifest(tmp_path: Path) -> None:
    packages, source, home = tmp_path / "packages", tmp_path / "scans", tmp_path / "runs"
    packages.mkdir()
    add_package(packages, "scanner-files", READER, {"readers": {"scanner": "row"}}, version="2.5")
    random = np.random.default_rng(0)
    for number in range(8):
        (source / f"patient{number}").mkdir(parents=True)
        with (source / f"patient{number}" / "flair.scan").open("wb") as file:
            file.write(b"SCAN1")
            np.save(file, random.integers(50, 255, (40, 40, 4)))
    words = ("data", "prepare", "mine", "--source", source, "--home", home, "--size", 32, "--jobs", 1, "--json")
    manifest = json.loads(run(packages, "cli.py", *words).stdout)
    assert manifest["counts"]["volumes"] == 8
    assert manifest["settings"]["readers"] == {"scanner": ["scanner-files", "2.5"]}
    assert "scanner" not in run(tmp_path, "cli.py", *words, code=2).stdout, "without the package there is no scan"


@pytest.mark.slow
def test_a_network_of_a_package_is_trained_and_loaded(tmp_path: Path) -> None:
    add_package(tmp_path, "two-layers", NETWORK, {"denoisers": {"two_layers": "TwoLayers"}})
    card, report, drawn = run(tmp_path, "-c", TRAINED, tmp_path).stdout.splitlines()
    assert card == "[('diffusion.two_layers_width', '–', '5')]", "what has no default in a sweep has a dash"
    assert report == "[('diffusion.two_layers_width', '–', 5)]"
    assert drawn.split() == ["Plain", "5", "(2,", "32,", "32)"]


@pytest.mark.slow
def test_a_broken_package_stops_no_command_and_is_told_by_the_one_that_lists(tmp_path: Path) -> None:
    for kind in ("losses", "samplers", "metrics", "denoisers", "readers"):
        add_package(tmp_path, f"bad-{kind}", "import nothing_of_that_name", {kind: {f"bad_{kind}": "it"}})
    assert json.loads(run(tmp_path, "cli.py", "plan", "--recipe", "smoke", "--json").stdout)
    lines = run(tmp_path, "cli.py", "plugins").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["losses", "samplers", "metrics", "denoisers", "readers"]
    assert all("No module named 'nothing_of_that_name'; mend that package or uninstall it" in line for line in lines)
    asked = run(tmp_path, "cli.py", "plan", "--recipe", "smoke", "--set", "sampling.sampler=bad_samplers", code=2)
    assert "the plug-in 'bad_samplers' of bad-samplers can't be used: ModuleNotFoundError" in asked.stderr
    assert asked.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_plug_in_with_a_taken_name_is_listed_as_broken_alone_and_without_the_doc_of_a_dataclass(
    tmp_path: Path,
) -> None:
    code = NETWORK.replace('    "Two convolutions."\n', "")
    names = {"unet": "TwoLayers", "two_layers": "TwoLayers"}
    add_package(tmp_path, "two-layers", code, {"denoisers": names})
    found = json.loads(run(tmp_path, "cli.py", "plugins", "--json").stdout)["denoisers"]
    assert [(each["name"], each["meaning"]) for each in found["usable"]] == [("two_layers", "")]
    (line,) = found["broken"]
    assert line.startswith("the plug-in 'unet' of two-layers can't be used as DiffusionConfig.denoiser: there is a")
    assert "denoisers: two_layers, of two-layers 1.0\n" in run(tmp_path, "cli.py", "plugins").stdout

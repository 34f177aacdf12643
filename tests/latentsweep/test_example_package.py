"""The package of ``examples/latentsweep-charbonnier``, installed into a folder of its own and used from there."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import ROOT, THIN

from latentsweep.configuration import read_configuration
from latentsweep.stages.keys import keys_of
from trainables.denoiser.samplers import Step, ddim
from trainables.errors import ConfigError
from trainables.recipes import SMOKE

EXAMPLE = ROOT / "examples" / "latentsweep-charbonnier"
USED = """
import json, sys
from pathlib import Path
import torch
import latentsweep
from latentsweep.configuration import Configuration
from latentsweep.execution.worker import Brief
from latentsweep.stages.keys import keys_of
from latentsweep.stages.stage import Identity
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from small_dataset import plant
from trainables.denoiser.losses import frequency_loss
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE

folder, network = Path(sys.argv[1]), Path(sys.argv[2])
home, weights = Home(folder / "runs"), find_weights(network)
data = plant(home)
small = SMOKE.replace(**{
    "data.image_size": 32, "vae.widths": (8, 16), "vae.max_steps": 2, "vae.validations": 1,
    "diffusion.widths": (8, 16), "diffusion.attention_levels": (), "diffusion.embedding_channels": 16,
    "diffusion.steps": 2, "diffusion.validations": 1, "diffusion.batch_size": 2, "sampling.steps": 2,
    "evaluation.samples": 3, "evaluation.bootstrap": 10, "evaluation.rungs": 0,
})
recipe = small.replace(**{
    "vae.reconstruction_loss": "charbonnier_loss",
    "diffusion.frequency_loss": "charbonnier_loss",
    "diffusion.frequency_weight": 0.1,
    "diffusion.charbonnier_loss_epsilon": 0.2,
    "sampling.sampler": "damped",
    "sampling.damped_damping": 0.1,
    "evaluation.metrics": ["grey_difference"],
})
identity = Identity(recipe, data.fingerprint, 0, weights.sha256)
evaluation = Brief.of(home, Store.of(home), data.name, weights, identity, Execution()).pipeline(recipe).evaluation()
Configuration("tiny", 0, recipe).write(folder / "best.yaml")
space = {"dimensions": {
    "diffusion.frequency_loss": ["complex_l1", "charbonnier_loss"],
    "diffusion.charbonnier_loss_epsilon": {"low": 0.01, "high": 1.0, "log": True},
}}
search = latentsweep.sweep("tiny", recipe="smoke", space=space, device="cpu", dry_run=True, home=home, settings={
    "data.image_size": 32, "vae.widths": [8, 16], "diffusion.widths": [8, 16], "diffusion.attention_levels": []})

ranked = latentsweep.sweep("tiny", recipe="smoke", space=space, device="cpu", dry_run=True, home=home,
    objectives="grey_distance")


def digests(recipe, **changes):
    return {stage: key.digest for stage, key in keys_of(recipe.replace(**changes), "d", 0, "w").items()}


two, one = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
print(json.dumps({
    "metrics": evaluation.summary["points"][0]["metrics"],
    "loss": frequency_loss(recipe.diffusion)(one, two).tolist(),
    "same": frequency_loss(recipe.diffusion)(one, one).tolist(),
    "plain": digests(SMOKE),
    "idle": digests(SMOKE, **{"diffusion.charbonnier_loss_epsilon": 3.0}),
    "used": digests(recipe),
    "loss changed": digests(recipe, **{"diffusion.charbonnier_loss_epsilon": 0.3}),
    "sampler changed": digests(recipe, **{"sampling.damped_damping": 0.2}),
    "identity": recipe.diffusion.plugin_identity(),
    "trials": search.forecast["trials"],
    "dimensions": list(search.plan.space.dimensions),
    "measured": ranked.plan.recipe.evaluation.metrics,
}))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    folder = tmp_path_factory.mktemp("packages")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(EXAMPLE)], check=True)
    return folder


def run(packages: Path, *words: object) -> str:
    paths = [str(packages), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def used(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process found that trained and measured with the package."""
    folder = tmp_path_factory.mktemp("used")
    found: dict[str, Any] = json.loads(run(packages, "-c", USED, folder, THIN[1]).splitlines()[-1])
    return found | {"file": folder / "best.yaml"}


def changed(ours: dict[str, str], theirs: dict[str, str]) -> set[str]:
    """The stages whose keys differ."""
    return {stage for stage in ours if ours[stage] != theirs[stage]}


def test_its_sampler_without_damping_is_ddim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    example = importlib.import_module("latentsweep_charbonnier")
    z_t, x0, noise = torch.randn(3, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    step = Step(z_t, x0, noise, 0.3, 0.6, None, 0.0, lambda: noise)
    assert torch.allclose(example.Damped()(step), ddim(step))
    assert torch.allclose(example.Damped(damping=1.0)(step), 0.6**0.5 * x0)


@pytest.mark.slow
def test_its_loss_trains_its_sampler_draws_and_its_metric_measures(used: dict[str, Any]) -> None:
    assert "gen/grey_difference" in used["metrics"]
    assert used["loss"] == pytest.approx([(1 + 0.2**2) ** 0.5 - 0.2] * 2)
    assert used["same"] == pytest.approx([0, 0], abs=1e-7)


@pytest.mark.slow
def test_its_fields_are_in_the_keys_of_what_they_change_and_in_no_others(used: dict[str, Any]) -> None:
    without = {stage: key.digest for stage, key in keys_of(SMOKE, "d", 0, "w").items()}
    assert used["plain"] == used["idle"] == without, "an installed package changes no key of a recipe without it"
    assert changed(used["used"], used["loss changed"]) == {"denoiser", "samples", "evaluation"}
    assert changed(used["used"], used["sampler changed"]) == {"samples", "evaluation"}
    assert used["identity"] == {
        "frequency_loss": "charbonnier_loss",
        "frequency_loss from": {"charbonnier_loss": ["latentsweep-charbonnier", "0.1.0"]},
        "charbonnier_loss_epsilon": 0.2,
    }


@pytest.mark.slow
def test_its_field_can_be_searched(used: dict[str, Any]) -> None:
    assert used["dimensions"] == ["diffusion.frequency_loss", "diffusion.charbonnier_loss_epsilon"]


@pytest.mark.slow
def test_its_metric_can_be_an_objective_and_is_measured_then(used: dict[str, Any]) -> None:
    assert used["measured"] == ["grey_distance"]


@pytest.mark.slow
def test_where_it_is_not_installed_its_configuration_is_refused_in_one_line(used: dict[str, Any]) -> None:
    assert "charbonnier_loss_epsilon: 0.2" in used["file"].read_text()
    with pytest.raises(ConfigError, match=r"got 'charbonnier_loss'; if it is a plug-in, install its package here"):
        read_configuration(used["file"])


@pytest.mark.slow
def test_the_command_lists_what_it_adds(packages: Path) -> None:
    said = run(packages, "cli.py", "plugins")
    for words in (
        "losses: charbonnier_loss, of latentsweep-charbonnier 0.1.0: ",
        "  diffusion.charbonnier_loss_epsilon = 0.05: ε, where the parabola turns into the L1",
        "  sampling.damped_damping = 0.0: ",
        "metrics: grey_difference, of latentsweep-charbonnier",
    ):
        assert words in said
    plain = json.loads(run(packages, "cli.py", "plugins", "--json"))
    assert plain["losses"]["usable"][0]["fields"]["vae.charbonnier_loss_epsilon"]["allowed"] == "1e-06 to 10"

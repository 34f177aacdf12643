"""A sweep of a space with more autoencoders than trials, as a user runs it: what is trained, and what is recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import cli
from swept import mlflow_runs, study_of, sweep_words, trained_in

pytestmark = [pytest.mark.ray, pytest.mark.slow]
"""Slow, since Ray starts and six networks are trained."""

TRIALS = 3
SPACE = """
dimensions:
  vae.latent_channels: [2, 4, 6, 8]
  diffusion.frequency_weight: [0.0, 0.3]
"""


def test_only_the_autoencoders_that_trials_ask_for_are_trained(tmp_path: Path, measured_demo: Path) -> None:
    home = tmp_path / "runs"
    shutil.copytree(measured_demo, home)
    said = json.loads(cli(home, *sweep_words(tmp_path, "demo", TRIALS, space=SPACE)).stdout)
    assert said["counts"]["complete"] == TRIALS
    asked = {trial.params["vae.latent_channels"] for trial in study_of(home, said["sweep"]).trials}
    assert len(asked) < 4
    assert trained_in(home) == {
        "vae": len(asked),
        "latents": len(asked),
        "reconstruction": len(asked),
        "denoiser": TRIALS,
        "samples": TRIALS,
        "evaluation": TRIALS,
    }
    kinds = [run.data.tags["latentsweep.kind"] for run in mlflow_runs(home, "demo")]
    assert (kinds.count("vae"), kinds.count("trial")) == (len(asked), TRIALS)

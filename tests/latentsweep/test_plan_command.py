"""``plan`` answers without a GPU: the memory by part, the rung, and how trials share a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from latentsweep.commands.app import app
from latentsweep.configuration import Configuration
from latentsweep.execution import packing
from trainables.loop.settings import Execution
from trainables.recipes import SMOKE


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(packing, "cores", lambda: 8)


def said(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["plan", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def plan(*words: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(said(*words, "--json"))
    return content


@pytest.mark.slow
def test_it_shows_both_trainings_by_part_and_how_trials_share_the_card() -> None:
    text = said("--recipe", "paper")
    assert "no CUDA card here: planned for one of 6 GiB" in text
    for part in ("weights", "gradients", "optimiser", "average", "activations", "workspace", "allocator's cap"):
        assert part in text
    assert "a card of 6 GiB holds 4 at a time" in text


def test_as_json_the_parts_are_bytes() -> None:
    content = plan("--recipe", "paper", "--card-gib", 6)
    denoiser = content["trainings"]["diffusion"]
    assert denoiser["parts_bytes"]["optimizer"] == pytest.approx(2 * denoiser["parts_bytes"]["gradients"], rel=1e-3)
    assert denoiser["parts_bytes"]["context"] == 2**29
    assert (content["gpu_share"], content["trials_per_card"]) == (0.25, 4)
    assert 4 * (denoiser["cap_gib"] + 0.5) == pytest.approx(6.0)


def test_a_small_card_shows_the_rung_that_would_be_taken() -> None:
    assert plan("--recipe", "paper", "--card-gib", 2.5)["trainings"]["vae"]["micro_batch"] == 16


@pytest.mark.slow
def test_it_takes_a_configuration_and_what_is_set(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    Configuration("demo", 0, SMOKE, Execution(micro_batch=2)).write(path)
    content = plan("--config", path, "--set", "vae.batch_size=64")
    assert content["trainings"]["vae"]["rung"] == "micro-batch 2 of 64"


@pytest.mark.slow
def test_what_fits_no_card_is_one_line_with_the_numbers() -> None:
    error = said("--recipe", "paper", "--card-gib", 1, code=2)
    assert error.startswith("error: the card has 1.00 GiB for a process")
    assert error.count("\n") == 1

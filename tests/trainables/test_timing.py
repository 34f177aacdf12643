"""The time of a step: that of the loop's own steps, whatever is validated between them, and quickly measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainables.autoencoder import training as vae_training
from trainables.denoiser import training as diffusion_training
from trainables.loop.settings import Execution
from trainables.measures.weights import find_weights
from trainables.recipes import SMOKE, Recipe
from trainables.resources import pieces, timing
from trainables.resources.timing import step_seconds

TINY = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "vae.batch_size": 4,
        "diffusion.widths": (8, 8),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.batch_size": 4,
    }
)


def slowed(monkeypatch: pytest.MonkeyPatch, loop: object, name: str, seconds: Sequence[float]) -> list[int]:
    """Makes a function of a loop, called once a step, take so many seconds more; counts the calls."""
    called, original = [0], getattr(loop, name)

    def slow(*args: object, **options: object) -> object:
        time.sleep(seconds[min(called[0], len(seconds) - 1)])
        called[0] += 1
        return original(*args, **options)

    monkeypatch.setattr(loop, name, slow)
    return called


@pytest.mark.slow
@pytest.mark.parametrize(("section", "loop"), [("vae", vae_training), ("diffusion", diffusion_training)])
def test_a_step_is_timed_in_the_loop_itself_and_what_comes_between_steps_is_not(
    section: str, loop: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"vae": "validation_loss", "diffusion": "validation_mse"}[section]
    validations = slowed(monkeypatch, loop, measured, [1.0])
    steps = slowed(monkeypatch, loop, "accumulate", [0.5, 0.5, 0.03])
    found = step_seconds(TINY, section, Execution(), slices=20, seconds=0.5)
    assert 0.03 < found < 0.2
    assert validations[0] <= 4, "before and after each of two runs"
    assert steps[0] < timing.PILOT + 20


def test_a_slow_step_is_measured_by_the_pilot_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = slowed(monkeypatch, vae_training, "accumulate", [0.2])
    assert 0.19 < step_seconds(TINY, "vae", Execution(), slices=20, seconds=0.3) < 0.8
    assert steps[0] == timing.PILOT


def test_a_discriminator_that_joins_later_counts_by_its_share_of_the_training() -> None:
    durations = [(1, 1.0), (2, 1.0), (3, 5.0), (4, 1.0), (5, 1.0), (6, 3.0), (7, 3.0)]
    assert timing._mean_of_phases(durations, 0.75, 8) == pytest.approx(0.75 * 1.0 + 0.25 * 3.0)
    assert timing._mean_of_phases(durations, 0.0, 8) == pytest.approx(9 / 5)
    recipe = TINY.replace(**{"vae.adversarial_weight": 0.001, "vae.adversarial_start": 0.5})
    assert step_seconds(recipe, "vae", Execution(), slices=20, seconds=0.1) > 0


def test_everything_that_is_told_or_kept_on_the_way_is_in_the_step() -> None:
    recipe = TINY.replace(
        **{
            "diffusion.position_condition": True,
            "diffusion.augmentation_probability": 0.5,
            "diffusion.self_conditioning": 0.5,
            "diffusion.noise_label": "log_sigma",
            "diffusion.ema_lengths": (0.05, 0.1),
            "diffusion.prediction": "v",
            "diffusion.zero_terminal_snr": True,
        }
    )
    assert step_seconds(recipe, "diffusion", Execution(), slices=3, seconds=0.1) > 0


@pytest.mark.parametrize("section", ["vae", "diffusion"])
@pytest.mark.parametrize(
    ("always", "seconds", "batches", "expected"),
    [
        (0.0, 0.7, [2], 3.2),
        (0.0, 3.0, [2, 8], 3.2),
        (0.0, 30.0, [2, 8, 32], 3.2),
        (1.0, 6.0, [2, 8], 4.2),
        (1.0, 4.0, [2], 19.2),
    ],
)
def test_a_slow_step_is_timed_on_parts_of_the_batch(
    section: str,
    always: float,
    seconds: float,
    batches: list[int],
    expected: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each sample takes a tenth of a second, and a step ``always`` seconds more; one part can't tell these apart."""
    timed: list[int] = []

    def take(recipe: Recipe, section: str, *_: object, **__: object) -> float:
        timed.append(getattr(recipe, section).batch_size)
        return always + 0.1 * timed[-1]

    monkeypatch.setattr(pieces, "step_seconds", take)
    recipe = TINY.replace(**{f"{section}.batch_size": 32})
    found = pieces.bounded_step_seconds(recipe, section, Execution(), slices=40, seconds=seconds)
    assert found == pytest.approx(expected)
    assert timed == batches


def test_an_image_takes_longer_the_more_evaluations_it_has() -> None:
    short, long = (
        pieces.drawing_seconds(TINY.replace(**{"sampling.steps": steps}), Execution()) for steps in (2, 200)
    )
    assert 0 < short < long


@pytest.mark.slow
def test_features_and_the_step_of_a_segmentation_network_take_time() -> None:
    for piece in ("features", "segmentation"):
        assert pieces.piece_seconds(piece, TINY, find_weights(), Execution(), 20, 0.1) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("device", "batch"), [("cpu", 8), ("cuda", 32)])
def test_features_are_timed_warm_and_by_as_many_images_as_a_pass_computes(
    device: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []

    class Extractor:
        def __init__(self, *_: object) -> None:
            pass

        def features(self, images: np.ndarray) -> None:
            time.sleep(0.16 if passes else 1.0)
            passes.append(len(images))

    monkeypatch.setattr(pieces, "InceptionExtractor", Extractor)
    execution: Any = SimpleNamespace(prepare=lambda: torch.device(device))
    weights: Any = None
    assert 0.16 / batch <= pieces.measuring_seconds(weights, execution) < 0.5 / batch
    assert passes == [batch, batch]


@pytest.mark.slow
def test_an_image_is_timed_warm_and_by_as_many_as_a_pass_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    decoded: list[int] = []

    def draw(_: object, noise: torch.Tensor, **__: object) -> SimpleNamespace:
        time.sleep(0.32 if drawn else 1.0)
        drawn.append(len(noise))
        return SimpleNamespace(latents=noise[None])

    def decode(_: object, latents: torch.Tensor, __: object) -> None:
        time.sleep(0.16 if decoded else 1.0)
        decoded.append(len(latents))

    monkeypatch.setattr(pieces, "sample", draw)
    monkeypatch.setattr(pieces, "decode_to_bytes", decode)
    found = pieces.drawing_seconds(TINY.replace(**{"sampling.steps": pieces.EVALUATIONS}), Execution())
    assert (drawn, decoded) == ([32, 32], [8, 8]), "as the sampler and the decoder fill up on a CPU"
    assert 0.03 <= found < 0.05

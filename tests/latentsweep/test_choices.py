"""Every choice of the denoiser's training and sampling can be searched: planned and asked for, nothing trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_dataset import plant

from latentsweep.datasets.slices import PreparedDataset
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan, planned
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.storage.home import Home
from trainables.errors import ConfigError
from trainables.measures.weights import InceptionWeights
from trainables.recipes import PAPER, SMOKE
from trainables.space import THRESHOLD, Choice, SearchSpace, stage_of

CHOICES: dict[str, list[Any]] = {
    "diffusion.prediction": ["epsilon", "v", "x0"],
    "diffusion.schedule": ["paper", "cosine", "linear"],
    "diffusion.loss_weighting": ["none", "min_snr"],
    "diffusion.min_snr_gamma": [1.0, 5.0],
    "diffusion.frequency_weighting": ["none", "loss"],
    "diffusion.loss_power": [1.0, 1.5, 2.0],
    "diffusion.zero_terminal_snr": [False, True],
    "diffusion.timestep_sampling": ["uniform", "stratified", "logit_normal", "log_normal"],
    "diffusion.log_sigma_mean": [-1.2, -0.5],
    "diffusion.log_sigma_spread": [1.0, 1.2],
    "diffusion.noise_label": ["timestep", "log_sigma"],
    "diffusion.self_conditioning": [0.0, 0.5],
    "diffusion.ema_decay": [0.999, 0.9999],
    "diffusion.ema_warmup": [False, True],
    "diffusion.guide_share": [0.1, 0.3],
    "sampling.ema_length": [0.0, 0.05, 0.1],
    "sampling.autoguidance": [1.0, 1.5],
    "sampling.guidance_low": [0.0, 0.4],
    "sampling.guidance_high": [0.0, 3.2],
    "sampling.sampler": ["ddim", "dpmpp_2m"],
    "sampling.steps": [10, 25],
    "sampling.eta": [0.0, 1.0],
}
"""Fields and values that a search would try."""

KEPT = {"diffusion.ema_lengths": (0.05, 0.1), "diffusion.guide_share": 0.2, "sampling.autoguidance": 2.0}
"""What a training must keep so that sampling can choose."""

RANGES = {
    "diffusion.loss_power": {"low": 1, "high": 2},
    "diffusion.min_snr_gamma": {"low": 1, "high": 20, "log": True},
    "diffusion.ema_decay": {"low": 0.99, "high": 0.9999},
    "sampling.steps": {"low": 5, "high": 50},
    "sampling.eta": {"low": 0, "high": 1},
    "sampling.autoguidance": {"low": 1, "high": 3},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return plant(Home(tmp_path_factory.mktemp("choices") / "runs"))


def plan_of(dataset: PreparedDataset, dimensions: Mapping[str, Any], **changes: Any) -> SweepPlan:
    space = SearchSpace.from_plain({"dimensions": dimensions})
    recipe = SMOKE.replace(**KEPT | changes)
    return planned(dataset, "smoke", recipe, space, SearchConfig(), 0, InceptionWeights(Path("none"), "0" * 64))


def asked(folder: Path, plan: SweepPlan, count: int) -> list[dict[str, Any]]:
    """The parameters of the first trials, each told some score."""
    folder.mkdir()
    search, found = Search(folder, plan.space, plan.search, plan.seed), []
    for _ in range(count):
        trial = search.ask()
        if trial is None:
            break
        number, params = trial
        search.tell(number, [Point(params, {"gen/kid": float(number), "gen/kid_se": 1.0})], {})
        found.append(params)
    return found


ACTING = {
    "diffusion.frequency_weighting": {"diffusion.frequency_weight": 0.1},
    "diffusion.log_sigma_mean": {"diffusion.timestep_sampling": "log_normal"},
    "diffusion.log_sigma_spread": {"diffusion.timestep_sampling": "log_normal"},
}
"""Beside what a field acts that does nothing in the recipe."""


@pytest.mark.slow
@pytest.mark.parametrize("field", CHOICES)
def test_every_value_is_asked_for_and_has_keys_of_its_own(
    field: str, dataset: PreparedDataset, tmp_path: Path
) -> None:
    plan = plan_of(dataset, {field: CHOICES[field]}, **ACTING.get(field, {}))
    assert SweepPlan.read(written(tmp_path, plan)).name == plan.name
    found = asked(tmp_path / "study", plan, len(CHOICES[field]) + 1)
    assert sorted(str(params[field]) for params in found) == sorted(map(str, CHOICES[field]))
    keys = [plan.keys(params) for params in found]
    assert len({each.evaluation.name for each in keys}) == len(found)
    assert len({each.latents.name for each in keys}) == 1, "none of them touches the autoencoder"
    trainings = 1 if stage_of(field) == "sampling" else len(found)
    assert len({each.denoiser.name for each in keys}) == trainings


@pytest.mark.slow
@pytest.mark.parametrize("field", RANGES)
def test_numbers_are_searched_between_two_ends(field: str, dataset: PreparedDataset, tmp_path: Path) -> None:
    plan = plan_of(dataset, {field: RANGES[field]})
    values = [params[field] for params in asked(tmp_path / "study", plan, 6)]
    assert len(set(values)) == 6
    for value in values:
        assert RANGES[field]["low"] <= value <= RANGES[field]["high"]
        plan.keys({field: value})


@pytest.mark.slow
def test_all_of_them_are_searched_together(dataset: PreparedDataset, tmp_path: Path) -> None:
    dimensions = CHOICES | {"diffusion.prediction": ["v", "x0"], "sampling.early_stop_threshold": [0.0, 0.05]}
    plan = plan_of(dataset, dimensions)
    found = asked(tmp_path / "study", plan, 12)
    assert len(found) == 12
    # A value that does nothing beside the others, such as η of dpmpp_2m, is no other configuration.
    effects = {str(plan.recipe.replace(**params | {THRESHOLD: 0.0}).identity()) for params in found}
    assert len({plan.keys(params).evaluation.name for params in found}) == len(effects) >= 10


@pytest.mark.parametrize(
    ("dimensions", "says"),
    [
        (
            {"diffusion.prediction": ["epsilon", "v"], "diffusion.zero_terminal_snr": [True]},
            "take prediction v or x0",
        ),
        ({"sampling.ema_length": [0.0, 0.2]}, r"those of diffusion.ema_lengths \(0.05, 0.1\) have or make, got 0.2"),
    ],
)
def test_combinations_that_cannot_be_trained_are_refused_before_anything_starts(
    dimensions: dict[str, Any], says: str, dataset: PreparedDataset
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        plan_of(dataset, dimensions)
    assert "\n" not in str(caught.value)


def test_a_sweep_keeps_its_name_when_configurations_get_new_fields() -> None:
    space = SearchSpace({"vae.latent_channels": Choice((4, 8))}, recipe="paper")
    paper = PAPER.replace(**{"diffusion.frequency_norm": "ortho", "diffusion.gradient_clip": 1.0})  # as it was read
    plan = SweepPlan("demo", "f" * 16, "paper", paper, space, SearchConfig(), 0, "w")
    assert plan.name == "demo-paper-94cc44de", "as before there were the choices above"
    other = PAPER.replace(**{"diffusion.ema_lengths": [0.1]})
    assert dataclasses.replace(plan, recipe=other).name != plan.name


def written(folder: Path, plan: SweepPlan) -> Path:
    """A sweep's folder with this plan."""
    place = folder / plan.name
    place.mkdir()
    (place / "sweep.json").write_text(json.dumps(plan.to_plain()))
    return place

"""A small sweep on disk: a study that was asked and told, and a store with the results that its trials name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentsweep.report import importance
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.study import Search
from latentsweep.search.trials import Point
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.recipes import recipe_named
from trainables.space import THRESHOLD, Choice, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "diffusion.frequency_weight": Choice((0.0, 0.1, 0.3)),
        THRESHOLD: Choice((0.0, 0.05)),
    }
)
Metrics = Callable[[Mapping[str, Any]], dict[str, float]]


def metrics_of(params: Mapping[str, Any]) -> dict[str, float]:
    """Four channels and a heavy frequency loss are best; stopping early saves half the steps and costs 0.4."""
    kid = 20.123456 + 10 * (params["vae.latent_channels"] == 8) - 5 * params["diffusion.frequency_weight"]
    kid += 0.4 * (params[THRESHOLD] > 0)
    return {
        "gen/kid": kid,
        "gen/kid_se": 0.25,
        "gen/kid_floor": 1.7654321,
        "gen/fid": 3 * kid,
        "gen/samples": 64.0,
        "gen/reference_samples": 32.0,
        "gen/steps_mean": 25.0 if params[THRESHOLD] else 50.0,
        "gen/near_copies": 0.015625,
        "recon/kid": 12.345678,
    }


@dataclasses.dataclass(frozen=True)
class Made:
    """A sweep on disk."""

    home: Home
    plan: SweepPlan
    search: Search
    store: Store

    @property
    def name(self) -> str:
        return self.plan.name

    def stored(self, params: Mapping[str, Any], *, shape: tuple[int, int] = (40, 60)) -> list[str]:
        """Puts the results of a trial into the store, each with a picture or two; returns their names."""
        pictures = {
            "vae": ["vae_training"],
            "samples": ["trajectory"],
            "reconstruction": ["reconstructions", "latents_autoencoder"],
            "evaluation": [
                "generated_threshold_0",
                "generated_threshold_0.05",
                "nearest_neighbours",
                "power_spectra",
                "early_stop",
            ],
        }
        keys = self.plan.keys(params)
        for key in reversed(list(keys.evaluation.lineage())):
            self.store.obtain(
                key, lambda folder, key=key: self._built(folder, key, pictures.get(key.stage, []), shape)
            )
        return keys.names()

    def _built(self, folder: Path, key: StageKey, pictures: Sequence[str], shape: tuple[int, int]) -> dict[str, Any]:
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "records.json").write_text("[]")
        for name in pictures:
            noise = np.random.default_rng(len(name)).integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / "figures" / f"{name}.png")
        return {"split": "validation", "shown": 0.0, "extractor": "made up", "sha": "made up"}


@pytest.fixture
def every_forest() -> None:
    """For a test of the importance of fields: all forests of a report are grown."""


@pytest.fixture(autouse=True)
def _few_forests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests grow few: forests take most of the time of a report."""
    if "every_forest" not in request.fixturenames:
        monkeypatch.setattr(importance, "RESAMPLES", 3)


@pytest.fixture
def make_sweep(tmp_path: Path) -> Callable[..., Made]:
    """Makes a sweep of so many trials of the smoke recipe on a dataset that was never prepared."""

    def make(
        trials: int = 6,
        *,
        metrics: Metrics = metrics_of,
        changes: Mapping[str, Any] | None = None,
        space: SearchSpace = SPACE,
        stored: bool = True,
        dataset: str = "scans",
        pairing: Callable[[Mapping[str, Any]], dict[str, str] | None] = lambda params: None,
        **search: Any,
    ) -> Made:
        recipe = recipe_named("smoke").replace(**(changes or {}))
        if space.thresholds:
            recipe = recipe.replace(**{"sampling.threshold_grid": space.thresholds})
        plan = SweepPlan(dataset, "f" * 64, "smoke", recipe, space, SearchConfig(**search), 0, "a" * 64)
        home = Home(tmp_path / "runs")
        folder = home.writable(home.sweeps / plan.name)
        write_json(folder / "sweep.json", {**plan.to_plain(), "threads": 3})
        made = Made(home, plan, Search(folder, plan.space, plan.search, plan.seed), Store(home.store))
        for _ in range(trials):
            asked = made.search.ask()
            assert asked
            number, params = asked
            names = made.stored(params) if stored else made.plan.keys(params).names()
            thresholds = space.thresholds or (recipe.sampling.early_stop_threshold,)
            own = [{**params, THRESHOLD: t} if space.thresholds else dict(params) for t in thresholds]
            told = [Point(p, metrics({THRESHOLD: 0.0, **p}), pairing(p)) for p in own]
            made.search.tell(number, told, {"keys": names})
        return made

    return make

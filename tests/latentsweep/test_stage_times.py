"""How long stages take: as the store has timed them, or by pieces that are timed once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_dataset import plant

from latentsweep.execution.packing import pack_trials
from latentsweep.jobs import timing
from latentsweep.jobs.timing import StageTimes
from latentsweep.stages.keys import keys_of
from latentsweep.stages.table import STAGES
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.autoencoder.training import vae_steps
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE, Recipe

PIECES = {"vae": 0.2, "diffusion": 0.1, "image": 0.5, "features": 0.3}
MEASURED = SMOKE.replace(**{"data.mask": True, "downstream.measured": True})


@pytest.fixture
def times(tmp_path: Path) -> StageTimes:
    """Of a planted dataset and an empty store; what is measured is noted in ``measured``."""
    home = Home(tmp_path / "runs")
    dataset = plant(home)
    return StageTimes(Store.of(home), dataset, lambda piece, recipe: {**PIECES, "segmentation": 0.7}[piece])


def of(times: StageTimes, recipe: Recipe) -> dict[str, float]:
    keys = keys_of(recipe, times.dataset.fingerprint, 0, "w" * 64)
    return {name: times.of(keys[name], recipe) for name in keys}


def test_every_stage_takes_time_and_trainings_take_their_steps(times: StageTimes) -> None:
    found, slices = of(times, SMOKE), times.dataset.counts("subject")["train"]
    assert all(seconds > 0 for seconds in found.values())
    assert found["vae"] == pytest.approx(0.2 * vae_steps(SMOKE.vae, slices))
    assert found["denoiser"] == pytest.approx(0.1 * 600 + 32 * 0.8)
    assert found["samples"] == pytest.approx(64 * 0.5)


def test_segmentation_networks_take_their_steps_and_the_slices_that_are_drawn(times: StageTimes) -> None:
    found, slices = of(times, MEASURED), times.dataset.counts("subject")["train"]
    config = MEASURED.downstream
    each, shares = config.seeds * config.steps * 0.7, len(config.fractions)
    assert found["segmentation"] == pytest.approx(shares * each)
    assert found["downstream"] == pytest.approx(slices * 0.5 + (1 + shares) * each)
    assert set(found) == set(STAGES)
    costs = times.costs(keys_of(MEASURED, times.dataset.fingerprint, 0, "w" * 64), MEASURED)
    assert costs.ending > found["downstream"]
    assert costs.reference > found["segmentation"]


def test_a_stage_of_this_size_in_the_store_is_not_timed(times: StageTimes) -> None:
    def compute(folder: Path) -> dict[str, float]:
        time.sleep(0.02)
        return {}

    mine, other = (keys_of(SMOKE, times.dataset.fingerprint, seed, "w" * 64).samples for seed in (0, 1))
    entry = times.store.obtain(mine, compute)
    assert mine != other
    assert times.of(other, SMOKE) == entry.seconds
    assert entry.seconds < 1


def test_each_piece_is_timed_once_for_all_that_it_costs_the_same_in(times: StageTimes) -> None:
    asked: list[str] = []
    times.measure = lambda piece, recipe: asked.append(piece) or 1.0  # type: ignore[func-returns-value]
    of(times, SMOKE)
    of(times, SMOKE.replace(**{"diffusion.steps": 7, "vae.max_steps": 7}))
    assert sorted(asked) == sorted(PIECES)
    of(times, SMOKE.replace(**{"diffusion.widths": (16, 32, 64)}))
    assert sorted(asked) == sorted([*PIECES, "diffusion", "image"])


def test_the_costs_of_a_sweep_follow_from_its_pieces(times: StageTimes) -> None:
    costs = times.costs(keys_of(SMOKE, times.dataset.fingerprint, 0, "w" * 64), SMOKE)
    assert (costs.vae_step, costs.denoiser_step) == (0.2, 0.1)
    assert costs.rung == pytest.approx(32 * 0.8)
    assert costs.ending == pytest.approx(64 * 0.5 + 64 * 0.3)


def test_here_a_piece_is_timed_as_this_process_takes_it(
    tmp_path: Path, real_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0.1)
    home = Home(tmp_path / "runs")
    packing = pack_trials(SMOKE, concurrent=1, card_gib=None, execution=Execution(device="cpu"))
    here = StageTimes.here(home, plant(home), InceptionWeights(Path("none"), "w" * 64), packing)
    small = SMOKE.replace(
        **{"diffusion.widths": (8, 16), "diffusion.attention_levels": (), "diffusion.batch_size": 2}
    )
    assert here.measure("diffusion", small) > 0

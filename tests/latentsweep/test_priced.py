"""Proposals and pruning by a Gaussian process that knows what autoencoders cost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from latentsweep.jobs.sweep import Sweep
from latentsweep.metrics import NEAR_COPIES
from latentsweep.search.choice import SearchConfig
from latentsweep.search.priced import Priced, Prices
from latentsweep.search.study import Search
from latentsweep.search.surrogate import Surrogate
from latentsweep.search.trials import Point
from trainables.errors import INFRASTRUCTURE
from trainables.space import THRESHOLD, Choice, Range, SearchSpace

SPACE = SearchSpace(
    {
        "vae.latent_channels": Choice((4, 8)),
        "vae.warp_share": Choice((0.0, 0.5)),
        "vae.kl_weight": Choice((1e-6, 1e-5)),
        "diffusion.frequency_weight": Range(0.0, 0.3),
    }
)
STEPS = 100


def opened(folder: Path, price: float = 1.0, space: SearchSpace = SPACE, **settings: Any) -> Search:
    folder.mkdir(exist_ok=True)
    search = Search(folder, space, SearchConfig(**{"sampler": "gp", "pruner": "gp", **settings}), seed=0)
    search.prices = Prices(STEPS, lambda: price)
    return search


def asked(search: Search) -> tuple[int, dict[str, Any]]:
    return search.ask() or pytest.fail("it has none")


def score(params: dict[str, Any]) -> float:
    """The best has 8 channels, no warps and a frequency weight of 0.1."""
    own = 3.0 * (params["vae.latent_channels"] == 4) + 2.0 * (params["vae.warp_share"] > 0)
    return float(10 + own + 4 * ((params["diffusion.frequency_weight"] - 0.1) / 0.2) ** 2)


def run(search: Search, trials: int) -> None:
    """Runs so many trials one by one, with a rung each at a quarter, where the score is twice that of the end."""
    for _ in range(trials):
        number, params = asked(search)
        if search.report(number, STEPS // 4, {"rung/kid": 2 * score(params)}):
            search.prune(number, {})
        else:
            search.tell(number, [Point(params, {"gen/kid": score(params)})], {})


def autoencoders(search: Search) -> set[tuple[Any, ...]]:
    return {tuple(trial.params[name] for name in SPACE.touching("vae")) for trial in search.run_trials()}


def test_the_best_is_found_in_a_few_trials(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    run(search, 9)
    assert search.leader().values[0] < 10.5
    assert "PRUNED" in {trial.state.name for trial in search.run_trials()}


def test_the_dearer_an_autoencoder_is_the_fewer_are_asked_for(tmp_path: Path) -> None:
    cheap, dear = opened(tmp_path / "cheap", 0.1), opened(tmp_path / "dear", 1e9)
    for search in (cheap, dear):
        run(search, 6)
    assert len(autoencoders(dear)) == 1 < len(autoencoders(cheap))


def test_a_denoiser_of_more_steps_must_promise_more(tmp_path: Path) -> None:
    space = SearchSpace({"diffusion.steps": Choice((100, 10_000)), "diffusion.frequency_weight": Range(0.0, 0.3)})
    search = opened(tmp_path / "s", space=space, pruner="none")
    steps = []
    for _ in range(8):
        number, params = asked(search)
        steps.append(params["diffusion.steps"])
        found = 10 + 4 * ((params["diffusion.frequency_weight"] - 0.1) / 0.2) ** 2 - 0.5 * (steps[-1] > 100)
        search.tell(number, [Point(params, {"gen/kid": found})], {})
    assert steps[1:].count(100) >= 6, "hundred times as many steps gain half a point"
    assert Prices(100).denoiser({}) == Prices().denoiser({"diffusion.steps": 50}) == 1.0


def test_a_trial_that_can_hardly_be_the_best_ends_and_the_first_does_not(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = asked(search)
    assert not search.report(number, 25, {"rung/kid": 20.0})
    search.tell(number, [Point(params, {"gen/kid": 10.0})], {})
    (worse, _), (better, _) = asked(search), asked(search)
    assert search.report(worse, 25, {"rung/kid": 60.0})
    assert not search.report(better, 25, {"rung/kid": 2.0})


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_a_search_goes_on_after_a_kill_while_a_configuration_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    search = opened(tmp_path / "s", sampler=sampler)
    run(search, 1)
    suggest, written = optuna.Trial._suggest, list[str]()

    def killed(self: optuna.Trial, name: str, distribution: Any) -> Any:
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt
        return suggest(self, name, distribution)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "_suggest", killed)
        with pytest.raises(KeyboardInterrupt):
            search.ask()
    again = opened(tmp_path / "s", sampler=sampler)
    assert again.requeue() == 1
    run(again, 2)
    assert len(again.run_trials()) == 3


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_space_of_thresholds_alone_has_one_training(tmp_path: Path, sampler: str) -> None:
    space = SearchSpace({THRESHOLD: Choice((0.0, 0.05))})
    search = opened(tmp_path / "s", space=space, sampler=sampler)
    number, params = asked(search)
    assert not search.report(number, 25, {"rung/kid": 20.0})
    search.tell(number, [Point({THRESHOLD: each}, {"gen/kid": 10 + each}) for each in (0.0, 0.05)], {})
    assert params[THRESHOLD] in (0.0, 0.05)
    assert search.ask() is None


def test_what_failed_or_is_refused_is_no_improvement(tmp_path: Path) -> None:
    search = opened(tmp_path / "s")
    number, params = asked(search)
    search.tell(number, [Point(params, {"gen/kid": 10.0})], {})
    copyist, params = asked(search)
    search.tell(copyist, [Point(params, {"gen/kid": 0.1, NEAR_COPIES.name: 0.6, NEAR_COPIES.bound: 0.1})], {})
    failed, _ = asked(search)
    search.fail(failed, "it diverged", "divergence")
    lost, _ = asked(search)
    search.fail(lost, "no worker", INFRASTRUCTURE)
    found = Priced(search.distributions, search.run_trials(), search.prices)
    assert found.scores == {number: 10.0, copyist: 10.0, failed: 10.0}
    assert [trial.number for trial in found.tried] == [number]


def test_an_autoencoder_that_diverges_is_left_for_another(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", price=3.0)
    for _ in range(12):
        number, params = asked(search)
        if params["vae.warp_share"]:
            search.fail(number, "it diverged", "divergence")
        else:
            search.tell(number, [Point(params, {"gen/kid": score(params)})], {})
    failed = [trial.state.name == "FAIL" for trial in search.run_trials()]
    assert sum(failed) < 6


def test_two_objectives_are_searched_without_it(tmp_path: Path) -> None:
    search = opened(tmp_path / "s", objectives=("kid", "memorisation"))
    number, _ = asked(search)
    assert not search.report(number, 25, {"rung/kid": 20.0})


def test_a_rung_of_a_search_that_does_not_know_its_steps_is_no_end() -> None:
    assert 0 < Prices().share({}, 25) < 1
    assert Prices(100).share({}, 25) == 0.25
    assert Prices(100).share({"diffusion.steps": 50}, 25) == 0.5


def test_the_model_adds_what_dimensions_do() -> None:
    x = np.array([[a, b, c] for a, b, c in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))], dtype=float)
    scores = np.array([10.0, 8.0, 8.0, 12.0])
    flags = np.array([True] * 3)
    model = Surrogate(flags, flags, x, np.ones(4), scores, np.empty((0, 3)))
    both, all_three = model.chance(np.array([[1.0, 1, 0], [1, 1, 1]]), x[1])
    assert both > 0.6 > all_three
    waits = Surrogate(flags, flags, x, np.ones(4), scores, np.array([[1.0, 1, 0]]))
    new = np.array([[1.0, 1, 0]])
    assert waits.improvement(new, x[1])[0] < model.improvement(new, x[1])[0], "it runs already"


def test_what_an_autoencoder_costs_is_read_from_the_store() -> None:
    took = {"vae": 30.0, "denoiser": 10.0}
    trials = [SimpleNamespace(params={}, user_attrs={"keys": []}), SimpleNamespace(params={}, user_attrs={})]
    store = SimpleNamespace(find=lambda key: SimpleNamespace(seconds=took[key]) if key in took else None)
    sweep: Any = SimpleNamespace(
        search=SimpleNamespace(run_trials=lambda: trials, prices=Prices(STEPS)),
        plan=SimpleNamespace(keys=lambda params: SimpleNamespace(vae="vae", denoiser="denoiser")),
        store=store,
    )
    assert Sweep._price(sweep) == 3.0
    trials[0].params["diffusion.steps"] = STEPS // 5
    assert Sweep._price(sweep) == pytest.approx(0.6), "a denoiser of all steps takes 50 seconds"
    del took["vae"]
    assert Sweep._price(sweep) == 1.0, "it is not in the store"

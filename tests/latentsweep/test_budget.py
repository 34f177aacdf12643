"""The budget: what a trial needs, how many share a card, and which cards are used."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from latentsweep.execution import packing
from latentsweep.execution.packing import GIB, Card, Packing, pack_trials, shared_by
from trainables.errors import ConfigError
from trainables.loop.settings import Execution
from trainables.recipes import PAPER, SMOKE
from trainables.resources.memory import CONTEXT

CORES = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "cores", lambda: CORES)


def on(free: Mapping[int, float], recipe=PAPER, **options) -> Packing:  # type: ignore[no-untyped-def]
    """The packing on cards with so many GiB free of 24."""
    present = [Card(index, 24 * GIB, int(gib * GIB)) for index, gib in free.items()]
    return pack_trials(recipe, **{"concurrent": None, "card_gib": None, "present": present, **options})


def test_without_a_card_trials_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    pack = pack_trials(SMOKE, concurrent=1, card_gib=None)
    assert (pack.concurrent, pack.threads, pack.gpu_share) == (1, CORES, 0)
    assert pack.memory_gib("diffusion") is None
    assert pack.limited("vae", Execution(threads=2)) == Execution(threads=2)


@pytest.mark.slow
def test_trials_share_a_six_gigabyte_card_by_what_they_need() -> None:
    pack = on({0: 24})
    assert pack.card_bytes == 6 * GIB, "planned for 6 GiB unless told otherwise"
    assert pack.concurrent == pack.per_card == 4
    assert pack.per_card * pack.needs["diffusion"].memory.need <= 6 * GIB
    assert (pack.gpu_share, pack.vae_share) == (0.25, 0.5), "four denoisers to a card, and two autoencoders"
    assert pack.cards == (0,)
    assert pack.visible_devices is None


@pytest.mark.parametrize("trials", [2, 4])
def test_the_caps_of_packed_trials_and_their_contexts_are_the_card(trials: int) -> None:
    pack = on({0: 24}, concurrent=trials)
    assert pack.per_card == trials
    cap = pack.limited("diffusion", Execution()).memory_gib
    assert cap is not None
    assert cap * GIB >= pack.needs["diffusion"].memory.peak
    assert trials * (cap * GIB + CONTEXT) <= 6 * GIB
    assert trials * pack.gpu_share <= 1


def test_fewer_trials_than_fit_get_more_memory_each() -> None:
    one, four = (on({0: 24}, concurrent=count).memory_gib("diffusion") for count in (1, 4))
    assert one is not None
    assert four is not None
    assert one > 3 * four


def test_the_free_part_of_a_card_bounds_what_is_asked_for() -> None:
    assert on({0: 4}, SMOKE, concurrent=1, card_gib=12.0).card_bytes == 4 * GIB
    assert on({0: 20}, SMOKE, concurrent=1, card_gib=12.0).card_bytes == 12 * GIB


def test_a_card_that_others_fill_is_left_out_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pack = on({0: 0.4, 1: 6, 2: 6})
    assert (pack.cards, pack.left_out) == ((1, 2), (0,))
    assert pack.concurrent == 8
    assert pack.visible_devices == "1,2"
    line = pack.left_out_line()
    assert line is not None
    assert "not used: card 0" in line
    assert "; used: card 1, 2" in line


def test_the_cards_are_those_that_were_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert on({0: 0.4, 1: 6, 2: 6}).visible_devices == "6,7"


def test_the_cards_that_give_the_most_trials_at_once_are_chosen() -> None:
    room = {0: 8, 1: 4, 2: 4}
    assert shared_by(room, 2, 100) == (2, [0, 1, 2]), "six at once, as against four on the large card alone"
    assert shared_by({0: 20, 1: 4}, 2, 100) == (10, [0]), "ten on the large card, as against four on both"
    assert shared_by({0: 20, 1: 4}, 2, 2) == (1, [0, 1]), "no more share a card than must"
    assert shared_by({0: 5, 1: 5}, 2, 100) == (2, [0, 1])


def test_cards_of_different_sizes_hold_equally_many() -> None:
    pack = on({0: 24, 1: 12, 2: 6}, card_gib=24.0, concurrent=8)
    assert pack.per_card * len(pack.cards) >= pack.concurrent == 8
    assert pack.per_card * pack.needs["diffusion"].memory.need <= pack.card_bytes


def test_what_doesnt_fit_whole_is_planned_on_a_rung_of_the_ladder() -> None:
    pack = on({0: 24}, card_gib=2.5)
    assert pack.needs["vae"].execution.micro_batch == 16
    assert pack.needs["vae"].memory.need <= 2.5 * GIB
    assert pack.needs["diffusion"].execution == Execution()


@pytest.mark.slow
def test_a_trial_that_fits_no_card_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"card has 1\.00 GiB .* 0\.50 GiB of memory and takes \d\.\d+ GiB"):
        on({0: 24}, card_gib=1.0)


def test_a_training_set_that_lies_on_the_card_counts() -> None:
    few, many = (on({0: 24}, slices=count).needs["vae"].memory for count in (1000, 31_938))
    assert many.need - few.need == pytest.approx(1.1 * 30_938 * 128 * 128, rel=0.01)


@pytest.mark.parametrize(("option", "value"), [("card_gib", 0.0), ("concurrent", 0)])
def test_numbers_that_mean_nothing_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match="must be"):
        on({0: 24}, **{option: value})


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_job_names_no_card_by_its_index(device: str) -> None:
    with pytest.raises(ConfigError, match=rf"one of auto, cpu, cuda, .* got '{device}'"):
        on({0: 24, 1: 24}, execution=Execution(device=device))

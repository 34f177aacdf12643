"""The budget: what a trial needs, and how many share a card."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from latentsweep.budget import GIB, packing, training_bytes
from trainables.errors import ConfigError
from trainables.recipes import PAPER, SMOKE


def card(monkeypatch: pytest.MonkeyPatch, gib: float, count: int = 1) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=int(gib * GIB))
    )


def test_the_need_grows_with_the_batch_and_holds_the_weights() -> None:
    small, large = (training_bytes(PAPER.replace(**{"diffusion.batch_size": b}), "diffusion") for b in (8, 16))
    assert 17e6 * 4 * 5 < small < large < 6 * GIB
    assert training_bytes(SMOKE, "vae") < training_bytes(PAPER, "vae")


def test_without_a_card_trials_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 0, count=0)
    pack = packing(SMOKE, concurrent=1, card_gib=None)
    assert pack.concurrent == 1
    assert pack.gpu_share == 0


def test_trials_share_a_six_gigabyte_card_by_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 24)
    pack = packing(SMOKE, concurrent=None, card_gib=None)
    assert pack.card_bytes == 6 * GIB, "planned for 6 GiB unless told otherwise"
    assert pack.concurrent * pack.trial_bytes <= 6 * GIB
    assert pack.concurrent * pack.gpu_share <= 6 / 24
    assert 0 < pack.vae_share <= 6 / 24


def test_the_real_card_bounds_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 4)
    assert packing(SMOKE, concurrent=1, card_gib=12.0).card_bytes == 4 * GIB


def test_a_trial_that_fits_no_card_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 6)
    with pytest.raises(ConfigError, match=r"GiB and the card has 1\.0"):
        packing(PAPER, concurrent=None, card_gib=1.0)

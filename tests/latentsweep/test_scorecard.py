"""What ``train`` and ``evaluate`` end with: a card of seven rows, and what it says in words."""

from __future__ import annotations

import pytest

from latentsweep.commands import scores
from latentsweep.metrics import CARD
from latentsweep.pages.scorecard import HEADINGS, compared, few_images, scorecard, verdict

GOOD = {
    "gen/samples": 200.0,
    "gen/reference_samples": 139.0,
    "gen/kid": 57.84321,
    "gen/kid_low": 50.04,
    "gen/kid_high": 66.66,
    "gen/kid_floor": -0.31,
    "gen/fid": 120.44,
    "gen/fid_low": 110.0,
    "gen/fid_high": 130.0,
    "gen/fid_floor": 98.2,
    "gen/precision": 0.42,
    "gen/precision_floor": 0.84,
    "gen/recall": 0.9,
    "gen/recall_floor": 0.84,
    "gen/near_copies": 0.0,
    "gen/near_copies_bound": 0.025,
    "gen/ms_ssim": 0.31,
    "recon/kid": 40.25,
    "recon/fid": 105.0,
    "recon/precision": 0.7,
    "recon/recall": 0.71,
    "recon/ssim": 0.912345,
    "recon/psnr": 28.123456,
}


def row(name: str, metrics: dict[str, float]) -> tuple[str, ...]:
    return next(each.cells for each in scorecard(metrics).rows if each.name == name)


def test_a_card_has_a_row_for_each_metric_of_the_table_that_was_measured_and_no_other() -> None:
    card = scorecard(GOOD)
    assert [each.name for each in card.rows] == [metric.short or metric.label for metric in CARD]
    assert [each.name for each in card.rows] == [
        "KID ×1000", "FID", "SSIM", "PSNR (dB)", "precision", "recall", "near copies",
    ]  # fmt: skip
    assert card.header == HEADINGS
    assert [each.name for each in scorecard({"gen/fid": 1.0}).rows] == ["FID"]


def test_a_score_stands_with_its_interval_its_floor_and_its_reconstructions_rounded_as_its_metric_says() -> None:
    assert row("KID ×1000", GOOD)[:3] == ("57.8 [50.0, 66.7]", "-0.3", "40.2")
    assert row("SSIM", GOOD)[:3] == ("–", "–", "0.912")
    assert row("near copies", GOOD)[:3] == ("0.0%", "–", "–")


def test_a_distance_is_read_against_the_floor() -> None:
    assert row("KID ×1000", GOOD)[-1] == "58.2 above the floor"
    assert row("KID ×1000", GOOD | {"gen/kid_low": -1.0})[-1] == "as real slices"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "What to improve first: the autoencoder."),
        ({"recon/kid": 10.0}, "What to improve first: the denoiser."),
    ],
)
def test_the_verdict_says_which_network_to_improve(change: dict[str, float], said: str) -> None:
    assert verdict(GOOD | change)[-1] == said
    assert said not in verdict(GOOD | change | {"gen/kid_low": -1.0})


def test_shares_are_read_against_the_floor_and_copies_against_their_bound() -> None:
    assert row("precision", GOOD)[-1] == "50% of the floor"
    assert row("recall", GOOD)[-1] == "as real slices"
    assert row("near copies", GOOD)[-1] == "as few as by chance"
    assert row("near copies", GOOD | {"gen/near_copies": 0.5})[-1] == "too many: it copies"


def test_what_was_not_measured_leaves_a_gap_and_says_nothing() -> None:
    bare = {"gen/kid": 5.0, "gen/precision": 0.5, "gen/near_copies": 0.1}
    assert [each.cells for each in scorecard(bare).rows] == [
        ("5.0", "–", "–", ""),
        ("0.5", "–", "–", ""),
        ("10.0%", "–", "–", "no bound was measured"),
    ]
    assert verdict(bare) == []
    assert compared(bare) == ""


def test_what_the_guards_refuse_is_said_before_where_the_score_is_lost() -> None:
    refused, lost, _ = verdict(GOOD | {"gen/near_copies": 0.5})
    assert refused == "The guards refuse it: copies 100 of 200 (bound 5)."
    assert lost.startswith("Above the floor it lies 58.2 in KID ×1000, of which the autoencoder loses 40.6")


def test_few_images_are_said_to_be_few_on_either_side() -> None:
    assert few_images(GOOD) == ""
    assert few_images({"gen/samples": 24.0, "gen/reference_samples": 139.0}).startswith("24 images are few")
    assert few_images({"gen/samples": 24.0, "gen/reference_samples": 9.0}).startswith("24 images and 9 real slices")


def test_a_card_fits_a_terminal_of_80_columns_with_a_line_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "WIDTH", 80)
    scores.show_scores("on the test split", GOOD)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "on the test split, 200 images against 139 real slices:"
    assert [line.split()[0] for line in lines[2:9]] == ["KID", "FID", "SSIM", "PSNR", "precision", "recall", "near"]
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines)
    assert not any("gen/" in line for line in lines)

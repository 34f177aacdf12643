"""The gap of each arm: parts that add up, intervals over seeds, and what is shown of parts below 0."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats

from latentsweep.ablation.page import charts, tables
from latentsweep.ablation.statistics.effect import Run
from latentsweep.ablation.statistics.gaps import ArmGap, gaps
from latentsweep.pages.gap import gap_of, gap_words

SCORES = {"full": ([57.0, 61.0, 59.0], [150.0, 171.0, 165.0]), "bare": ([6.0, 7.5, 6.6], [30.0, 34.0, 35.0])}
"""What each arm's reconstructions and slices score by seed, in KID; the floor is 8."""


def runs_of(*, samples: float = 64.0) -> list[Run]:
    runs = []
    for arm, (reconstructed, kids) in SCORES.items():
        for seed, (recon, kid) in enumerate(zip(reconstructed, kids, strict=True)):
            metrics = {"gen/kid_floor": 8.0, "recon/kid": recon, "gen/kid": kid}
            metrics |= {"gen/fid_floor": 74.0, "recon/fid": 70.0 + recon, "gen/fid": 70.0 + kid}
            metrics |= {"gen/samples": samples, "gen/samples_floor": 64.0}
            runs.append(Run(arm, seed, metrics, f"study/{arm}/seed-{seed}"))
    return runs


def found(runs: list[Run] | None = None) -> dict[tuple[str, str], ArmGap]:
    return {(gap.metric, gap.arm): gap for gap in gaps(runs or runs_of(), list(SCORES))}


def test_floor_autoencoder_and_denoiser_add_up_to_the_score_in_each_seed() -> None:
    for gap in found().values():
        parts = np.array([gap.floor.values, gap.autoencoder.values, gap.denoiser.values])
        assert parts.sum(axis=0) == pytest.approx(gap.generated.values)
        assert gap.floor.mean + gap.autoencoder.mean + gap.denoiser.mean == pytest.approx(gap.generated.mean)
    full = found()["gen/kid", "full"]
    assert full.autoencoder.values == (49.0, 53.0, 51.0)
    assert full.denoiser.values == (93.0, 110.0, 106.0)
    assert list(found()) == [("gen/kid", "full"), ("gen/kid", "bare"), ("gen/fid", "full"), ("gen/fid", "bare")]


def test_the_intervals_are_students_over_seeds_and_a_floor_that_never_varies_has_none() -> None:
    gap = found()["gen/kid", "full"]
    for part in (gap.autoencoder, gap.denoiser, gap.generated):
        interval = scipy.stats.t.interval(0.95, 2, np.mean(part.values), scipy.stats.sem(part.values))
        assert (part.low, part.high) == pytest.approx(interval)
    assert (gap.floor.low, gap.floor.high) == (None, None)


def test_a_run_without_all_three_scores_is_left_out_and_an_arm_without_such_a_run_too() -> None:
    runs = runs_of()
    lost = [
        dataclasses.replace(run, metrics={k: v for k, v in run.metrics.items() if k != "recon/kid"})
        if run.arm == "bare" or run.seed == 1
        else run
        for run in runs
    ]
    gap = found(lost)
    assert ("gen/kid", "bare") not in gap
    assert gap["gen/kid", "full"].seeds == (0, 2)
    assert gap["gen/kid", "full"].runs == ("study/full/seed-0", "study/full/seed-2")
    assert gap["gen/fid", "bare"].seeds == (0, 1, 2)
    one = gaps([runs[0]], ["full"])[0]
    assert (one.denoiser.mean, one.denoiser.low) == (93.0, None)


def test_a_part_below_0_stands_as_it_is_with_a_word() -> None:
    own = [gap for gap in found().values() if gap.metric == "gen/kid"]
    table = tables.gap_table("gen/kid", own, 1, reference="full")
    assert table.rows[1].cells[1].startswith("−1.3 [")
    assert [note for note in table.notes if note.startswith("Below 0")] == [
        "Below 0: bare (autoencoder); a part below 0 is sampling noise, or slices that score better than "
        "reconstructions."
    ]
    only = tables.gap_table("gen/kid", own[:1], 1, reference="full")
    assert not any("Below 0" in note for note in only.notes)


def test_a_frechet_distance_of_other_numbers_of_slices_is_said_to_hold_that_too() -> None:
    def notes(samples: float, metric: str) -> str:
        own = [gap for gap in gaps(runs_of(samples=samples), list(SCORES)) if gap.metric == metric]
        return " ".join(tables.gap_table(metric, own, 1, reference="full").notes)

    assert "falls with their number" in notes(200.0, "gen/fid")
    assert "falls with their number" not in notes(64.0, "gen/fid")
    assert "falls with their number" not in notes(200.0, "gen/kid")


def test_the_bars_begin_where_the_part_before_ends_and_run_back_where_it_is_below_0() -> None:
    own = [gap for gap in found().values() if gap.metric == "gen/kid"]
    axes = charts.gap_figure({"gen/kid": own}, {"gen/kid": 0}).axes[0]
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bool(bar.get_hatch())) for bar in axes.patches]
    full, bare = own
    assert bars[:3] == [
        (0.0, 8.0, False),
        (8.0, 8.0 + full.autoencoder.mean, False),
        (pytest.approx(59.0), pytest.approx(full.generated.mean), False),
    ]
    begin, end, hatched = bars[4]
    assert (begin, end, hatched) == (8.0, pytest.approx(8.0 + bare.autoencoder.mean), True)
    assert end < begin
    words = charts.gap_words({"gen/kid": own}, {"gen/kid": 0})
    assert "full 8 + 51 + 103 = 162" in words


def test_one_models_gap_is_a_sentence() -> None:
    metrics = runs_of()[0].metrics
    gap = gap_of(metrics, "kid")
    assert gap is not None
    assert (gap.total, gap.autoencoder, gap.denoiser) == (142.0, 49.0, 93.0)
    assert gap_words(metrics) == (
        "Above the floor it lies 142.0 in KID ×1000, of which the autoencoder loses 49.0 and the denoiser 93.0; "
        "146.0 in FID, of which the autoencoder loses 53.0 and the denoiser 93.0."
    )
    below = {"gen/kid": 4.0, "gen/kid_floor": 1.0, "recon/kid": 5.0}
    assert gap_words(below) == (
        "Above the floor it lies 3.0 in KID ×1000, of which the autoencoder loses 4.0 and the denoiser −1.0 (a part "
        "below 0 is sampling noise, or slices that score better than reconstructions)."
    )
    assert gap_words({"gen/kid": 4.0, "gen/kid_floor": float("nan"), "recon/kid": 5.0}) == ""

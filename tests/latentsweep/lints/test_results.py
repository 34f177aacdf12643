"""Lints of results, on the borders of each."""

from __future__ import annotations

import numpy as np
import pytest

from latentsweep.lints import Measurement, comparison_lints, result_lints
from trainables.recipes import IMPROVED, PAPER, Recipe

Records = list[dict[str, float]]


def codes(recipe: Recipe = IMPROVED, **given: object) -> list[str]:
    arguments = {"latents": {}, "vae_records": [], "denoiser_records": [], "metrics": {}, **given}
    return [found.code for found in result_lints(recipe, **arguments)]  # type: ignore[arg-type]


def curves(name: str, validation: list[float], fall: float, noise: float = 0.02) -> Records:
    """Validations at equal distances and 25 noisy training losses before each, falling by the share ``fall``."""
    random = np.random.default_rng(0)
    total = 25 * len(validation)
    level = 1 - fall * np.arange(total) / total + random.normal(0, noise, total)
    training = [{"step": float(i + 1), f"train/{name}": float(v), "train/kl": 1.0} for i, v in enumerate(level)]
    return training + [{"step": 25.0 * (i + 1), f"val/{name}": v} for i, v in enumerate(validation)]


@pytest.mark.parametrize(
    ("validation", "fall", "fires"),
    [
        ([0.9, 0.7, 0.6, 0.7, 0.75, 0.8], 0.5, True),
        ([0.9, 0.7, 0.6, 0.62, 0.63, 0.64], 0.5, False),  # no more than 10 %
        ([0.9, 0.7, 0.65, 0.6, 0.59, 0.8], 0.5, False),  # a single validation
        ([0.9, 0.7, 0.6, 0.8, 0.61, 0.6], 0.5, False),  # back again
        ([0.9, 0.7, 0.6, 0.7, 0.75, 0.8], 0.0, False),  # training stands still: no overfit
        ([0.9, 0.7, 0.6, 0.7, 0.75, 0.8], -0.5, False),  # training diverges too
        ([0.5, 0.9], 0.5, False),
        ([], 0.5, False),
    ],
)
def test_overfit_needs_a_lasting_rise_and_a_training_loss_that_goes_on_falling(
    validation: list[float], fall: float, fires: bool
) -> None:
    expected = ["overfit"] if fires else []
    assert codes(denoiser_records=curves("mse", validation, fall)) == expected
    assert codes(vae_records=curves("reconstruction", validation, fall)) == expected


def test_an_untrained_network_has_not_overfitted() -> None:
    records = [{"step": 0.0, "val/mse": 0.55}, *curves("mse", [0.9, 0.7, 0.6, 0.7, 0.75, 0.8], 0.5)]
    assert codes(denoiser_records=records) == ["overfit"], "the best is that of step 75"


def test_the_autoencoders_whole_loss_is_compared_at_the_full_weight() -> None:
    records = curves("reconstruction", [0.5, 0.4, 0.4, 0.4, 0.4], 0.5)
    records += [{"step": 25.0 * (i + 1), "val/loss": v} for i, v in enumerate([0.6, 0.5, 0.6, 0.7, 0.7])]
    assert codes(vae_records=records) == ["overfit"]
    growing = [{**record, "train/kl": 1e6 * record["step"]} if "train/kl" in record else record for record in records]
    assert codes(vae_records=growing) == []


def test_a_loss_that_is_not_the_mse_is_compared_with_itself() -> None:
    records = curves("reconstruction", [0.5, 0.4, 0.4, 0.4, 0.4], 0.5)
    records += [{"step": 25.0 * (i + 1), "val/loss": v} for i, v in enumerate([0.6, 0.5, 0.6, 0.7, 0.7])]
    growing = [{**record, "train/fidelity": record["step"]} if "train/kl" in record else record for record in records]
    assert codes(vae_records=growing) == [], "its own training loss doesn't fall"


@pytest.mark.parametrize(
    ("deviation", "mean", "fires"),
    [
        ([1.0, 1.2], [0.0, 0.2], False),
        ([1.0, 1.3], [0.0, 0.0], True),
        ([0.7, 1.0], [0.0, 0.0], True),
        ([1.0, 1.0], [0.0, -0.3], True),
    ],
)
def test_the_scale_of_latents_matters_unless_they_are_whitened(
    deviation: list[float], mean: list[float], fires: bool
) -> None:
    latents = {"channel_deviation": deviation, "channel_mean": mean}
    assert codes(PAPER, latents=latents) == (["latent-scale"] if fires else [])
    assert codes(IMPROVED, latents=latents) == []


@pytest.mark.parametrize(
    ("stopped", "unfinished", "code"),
    [
        (0.0, 0.0, "threshold-never"),
        (0.02, 0.0, None),
        (1.0, 0.05, None),
        (1.0, 0.06, "threshold-early"),
        (0.11, 0.11, "threshold-early"),  # seven grey images of 64, whatever the mean of steps
        (1.0, None, None),  # an earlier version's result doesn't know
    ],
)
def test_an_early_stop_is_judged_by_what_it_did(stopped: float, unfinished: float | None, code: str | None) -> None:
    metrics = {"gen/stopped": stopped, "gen/steps_mean": 45.0}
    metrics |= {} if unfinished is None else {"gen/unfinished": unfinished}
    assert codes(PAPER, metrics=metrics) == ([code] if code else [])
    assert codes(PAPER.replace(**{"sampling.early_stop_threshold": 0.0}), metrics=metrics) == []


@pytest.mark.parametrize(
    ("share", "samples", "fires"),
    [(0.04, 1000, False), (0.06, 1000, True), (0.06, 200, True), (0.0625, 16, False), (0.01, 200, False)],
)
def test_near_copies_must_be_many_and_more_than_by_chance(share: float, samples: int, fires: bool) -> None:
    metrics = {"gen/near_copies": share, "gen/samples": float(samples)}
    assert codes(metrics=metrics) == (["near-copies"] if fires else [])


@pytest.mark.parametrize(("count", "fires"), [(5, False), (6, True), (8, True)])
def test_near_copies_are_judged_by_the_guards_bound_where_it_is_recorded(count: int, fires: bool) -> None:
    metrics = {"gen/near_copies": count / 200, "gen/near_copies_bound": 5 / 200, "gen/samples": 200.0}
    assert codes(metrics=metrics) == (["near-copies"] if fires else [])
    assert codes(metrics=metrics | {"gen/near_copies_bound": 0.5}) == []


@pytest.mark.parametrize(
    ("generated", "reconstructed", "error", "fires"),
    [(40.0, 25.0, 2.0, True), (40.0, 12.0, 2.0, False), (8.0, 6.0, 3.0, False), (1.0, 9.0, 1.0, False)],
)
def test_the_autoencoder_limits_where_half_of_the_distance_is_its_own(
    generated: float, reconstructed: float, error: float, fires: bool
) -> None:
    metrics = {"gen/kid": generated, "gen/kid_floor": 2.0, "recon/kid": reconstructed, "recon/kid_se": error}
    assert codes(metrics=metrics) == (["vae-limits"] if fires else [])


@pytest.mark.parametrize(
    ("samples", "references", "fires"), [(200, 100, False), (199, 130, True), (500, 99, True), (64, 64, True)]
)
def test_few_images_on_either_side_are_told_with_the_measured_floor(
    samples: int, references: int, fires: bool
) -> None:
    metrics = {"gen/fid": 60.0, "gen/fid_floor": 33.3, "gen/samples_floor": 64.0}
    metrics |= {"gen/samples": float(samples), "gen/reference_samples": float(references)}
    found = result_lints(IMPROVED, latents={}, vae_records=[], denoiser_records=[], metrics=metrics)
    assert [lint.code for lint in found] == (["few-samples"] if fires else [])
    assert all("64 real training slices in their place score 33.3" in lint.evidence for lint in found)


def test_a_comparison_names_what_differs_and_whose_it_is() -> None:
    base = Measurement("a", 200, 130, "inception", "r1")
    assert comparison_lints([]) == comparison_lints([base]) == []
    other = Measurement("b", 200, 100, "inception", "r2")
    (found,) = comparison_lints([base, Measurement("c", 200, 130, "inception", "r1"), other])
    assert found.evidence == "reference images: 130 (a, c), 100 (b); reference: r1 (a, c), r2 (b)"


def test_a_run_without_numbers_is_left_alone() -> None:
    assert codes(PAPER) == []

"""Lints of a recipe measure what the recipe does, whatever its parts are called."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from latentsweep.lints import configuration_lints
from latentsweep.lints.configuration import cutmix_error, initial_share
from latentsweep.lints.frequency import frequency_proportion, kept_amplitudes
from trainables.denoiser import losses
from trainables.denoiser.averages import update_ema
from trainables.recipes import IMPROVED, PAPER, SMOKE, Recipe


def codes(recipe: Recipe) -> list[str]:
    return [found.code for found in configuration_lints(recipe)]


def evidence(recipe: Recipe, code: str) -> str:
    return next(found.evidence for found in configuration_lints(recipe) if found.code == code)


def test_the_improved_recipe_is_clean_and_the_papers_faults_are_the_known_ones() -> None:
    assert codes(IMPROVED) == []
    assert codes(PAPER) == ["frequency-inert", "cutmix-target", "threshold-never"]
    assert codes(SMOKE) == ["few-samples"]


@pytest.mark.parametrize("name", [name for name in losses.FREQUENCY_LOSSES if name != "squared_l2"])
def test_losses_that_act_are_far_from_proportional_to_the_mse(name: str) -> None:
    recipe = PAPER.replace(**{"diffusion.frequency_loss": name})
    assert "frequency-inert" not in codes(recipe)
    assert frequency_proportion(recipe)[1] > 0.2


def test_a_frequency_loss_is_judged_by_its_gradient_not_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.FREQUENCY_LOSSES, "focal", lambda p, t, norm: 7 * (p - t).square().mean(dim=(1, 2, 3)))
    monkeypatch.setitem(losses.FREQUENCY_LOSSES, "squared_l2", losses.complex_l1)
    recipe = PAPER.replace(**{"diffusion.frequency_loss": "focal"})
    assert "is 7 times that of the MSE" in evidence(recipe, "frequency-inert")
    assert "frequency-inert" not in codes(PAPER)


def test_the_frequency_lint_is_silent_at_weight_zero_and_speaks_of_reweighting_under_min_snr() -> None:
    assert "frequency-inert" not in codes(PAPER.replace(**{"diffusion.frequency_weight": 0.0}))
    weighted = PAPER.replace(**{"diffusion.loss_weighting": "min_snr"})
    assert "adds 25.6 to every timestep's weight" in evidence(weighted, "frequency-inert")
    weighted = weighted.replace(**{"diffusion.frequency_norm": "ortho"})
    assert "adds 0.1 to every timestep's weight" in evidence(weighted, "frequency-inert")


def test_the_frequency_lint_says_what_forgets_the_factor_and_what_does_not() -> None:
    said = evidence(PAPER, "frequency-inert")
    assert "squared_l2 is 256 times that of the MSE" in said
    assert said.endswith("the loss is 26.6 times the MSE, and AdamW forgets constants")
    clipped = evidence(PAPER.replace(**{"diffusion.gradient_clip": 1.0}), "frequency-inert")
    assert "only diffusion.gradient_clip=1 sees them" in clipped
    assert clipped.endswith("cuts the MSE's gradient from a norm of 0.0376 on")


def test_with_the_weights_of_the_mse_a_multiple_of_it_is_forgotten_too() -> None:
    weighted = PAPER.replace(**{"diffusion.loss_weighting": "min_snr", "diffusion.frequency_weighting": "loss"})
    assert evidence(weighted, "frequency-inert").endswith("26.6 times the MSE, and AdamW forgets constants")


FORMS = {"squared_l2": 0.2, "high_pass": 0.2, "complex_l1": 0.0, "log_amplitude": 0.0, "focal": 1 / 3}
"""What the minimiser of each keeps of a wave that a fifth of the latents have. Of two values it is the mean for a
square, the more frequent one for an L1, and for focal, whose weight is the error, a²/(1 − a)² = 0.2/0.8."""


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("name", losses.FREQUENCY_LOSSES)
def test_a_frequency_loss_is_biased_if_its_minimiser_is_not_the_mean(name: str, prediction: str) -> None:
    changes = {"frequency_loss": name, "frequency_weight": 0.1, "prediction": prediction}
    recipe = SMOKE.replace(**{f"diffusion.{field}": value for field, value in changes.items()})
    alone, together = kept_amplitudes(recipe)
    assert alone == pytest.approx(FORMS[name], abs=0.006)
    assert ("frequency-biased" in codes(recipe)) == (FORMS[name] != 0.2)
    assert min(alone, 0.2) <= together <= max(alone, 0.2)
    assert "frequency-biased" not in codes(recipe.replace(**{"diffusion.frequency_weight": 0.0}))


def test_the_weights_of_the_mse_keep_most_of_what_a_biased_loss_would_erase() -> None:
    """With an MSE of weight 1 and λ of an L1, at a coefficient of modulus 1: 2(a − 0.2) + λ(0.8 − 0.2) = 0."""
    biased = IMPROVED.replace(**{"diffusion.frequency_weight": 0.1, "diffusion.prediction": "x0"})
    assert kept_amplitudes(biased)[1] == pytest.approx(0.2 - 0.1 * 0.6 / 2, abs=0.006)
    assert "0.170" in evidence(biased, "frequency-biased")
    unweighted = biased.replace(**{"diffusion.frequency_weighting": "none"})
    assert kept_amplitudes(unweighted)[1] == 0, "min-SNR takes the MSE's weight to 0.02"
    severities = [
        found.severity
        for recipe in (biased, unweighted)
        for found in configuration_lints(recipe)
        if found.code == "frequency-biased"
    ]
    assert severities == ["note", "warning"]


@pytest.mark.parametrize(("decay", "warmup"), [(0.9999, False), (0.99, False), (0.9999, True), (0.5, True)])
def test_the_initial_share_is_what_the_training_loop_leaves(decay: float, warmup: bool) -> None:
    average, model = (torch.nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2))
    torch.nn.init.ones_(average.weight)
    torch.nn.init.zeros_(model.weight)
    for step in range(40):
        update_ema(average, model, step, decay, warmup)
    assert initial_share(40, decay, warmup) == pytest.approx(average.weight.item(), rel=1e-9)


@pytest.mark.parametrize(
    ("steps", "decay", "warmup", "fires"),
    [
        (100_000, 0.9999, False, False),
        (40_000, 0.9999, False, True),
        (2_000, 0.9999, True, False),
        (4, 0.9999, True, False),
        (2_000, 0.99, False, False),
        (2_000, 0.8, False, True),
        (100_000, 0.98, False, True),
        (2_000, 0.0, False, True),
        (2_000, 1.0, False, True),
    ],
)
def test_an_average_must_forget_its_start_and_still_average(
    steps: int, decay: float, warmup: bool, fires: bool
) -> None:
    changes = {"diffusion.steps": steps, "diffusion.ema_decay": decay, "diffusion.ema_warmup": warmup}
    assert ("ema-length" in codes(IMPROVED.replace(**changes))) == fires
    chosen = changes | {"diffusion.ema_lengths": (0.1,), "sampling.ema_length": 0.1}
    assert "ema-length" not in codes(IMPROVED.replace(**chosen)), "another average samples"


def test_cutmix_of_noisy_latents_spoils_the_more_targets_the_more_often_it_acts() -> None:
    share, error = cutmix_error(PAPER)
    # Two independent draws differ by 2 in the mean square.
    assert error == pytest.approx(2 * share, rel=0.1)
    always, worse = cutmix_error(PAPER.replace(**{"diffusion.cutmix_probability": 1.0}))
    assert always > 3 * share
    assert worse > 3 * error
    assert "cutmix-target" not in codes(PAPER.replace(**{"diffusion.cutmix_probability": 0.0}))


@pytest.mark.parametrize(
    ("rule", "threshold", "steps", "code"),
    [
        ("noise_norm", 0.05, 50, "threshold-never"),
        ("noise_norm", 0.0, 50, None),
        ("noise_norm", 0.5, 50, None),
        ("noise_norm", 1.5, 50, "threshold-early"),
        ("x0_change", 0.05, 50, None),
        ("x0_change", 0.05, 2, "threshold-never"),
        ("noise_norm", 0.5, 1, "threshold-never"),
    ],
)
def test_a_threshold_is_judged_before_a_run_where_that_can_be_known(
    rule: str, threshold: float, steps: int, code: str | None
) -> None:
    changes = {"early_stop_rule": rule, "early_stop_threshold": threshold, "steps": steps}
    recipe = IMPROVED.replace(**{f"sampling.{name}": value for name, value in changes.items()})
    assert codes(recipe) == ([code] if code else [])


def test_importing_the_lints_is_light() -> None:
    code = (
        "import sys, latentsweep.lints; print([m for m in ('torch', 'scipy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

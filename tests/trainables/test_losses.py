"""Powers of the error, frequency losses and min-SNR weights against what is known of them."""

import pytest
import torch

from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.losses import FREQUENCY_LOSSES, min_snr_weights, power, sum_losses
from trainables.denoiser.process import add_noise, target, to_x0_and_noise
from trainables.errors import ConfigError


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    prediction, wanted = torch.randn((2, 3, 2, 8, 6), generator=torch.Generator().manual_seed(seed))
    return prediction, wanted


def test_every_frequency_loss_that_the_configuration_allows_exists() -> None:
    field = DiffusionConfig.__dataclass_fields__["frequency_loss"]
    assert set(field.metadata["choices"]) == set(FREQUENCY_LOSSES)


def test_squared_l2_is_the_mse_of_each_sample_by_parseval() -> None:
    prediction, wanted = pair()
    mse = (prediction - wanted).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(FREQUENCY_LOSSES["squared_l2"](prediction, wanted), mse)


def test_squared_l2_has_the_gradient_of_the_mse_and_the_others_point_elsewhere() -> None:
    prediction, wanted = pair()
    prediction.requires_grad_()
    (reference,) = torch.autograd.grad((prediction - wanted).square().mean(dim=(1, 2, 3)).sum(), prediction)
    for name, loss in FREQUENCY_LOSSES.items():
        (gradient,) = torch.autograd.grad(loss(prediction, wanted).sum(), prediction)
        cosine = torch.cosine_similarity(gradient.flatten(), reference.flatten(), dim=0)
        assert (cosine > 0.9999) == (name == "squared_l2"), name


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
def test_a_frequency_loss_is_one_nonnegative_number_a_sample_independent_of_the_batch(name: str) -> None:
    prediction, wanted = pair()
    values = FREQUENCY_LOSSES[name](prediction, wanted)
    assert values.shape == (3,)
    assert (values > 0).all()
    torch.testing.assert_close(values[1:2], FREQUENCY_LOSSES[name](prediction[1:2], wanted[1:2]))


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0])
def test_a_frequency_loss_and_its_gradient_are_zero_at_equality(name: str, scale: float) -> None:
    wanted = scale * pair()[1]
    prediction = wanted.clone().requires_grad_()
    value = FREQUENCY_LOSSES[name](prediction, wanted).sum()
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert torch.equal(prediction.grad, torch.zeros_like(wanted))


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
@pytest.mark.parametrize("error", [1e-25, 1e-8, 1e6])
def test_gradients_are_finite_for_tiny_and_huge_errors(name: str, error: float) -> None:
    wanted = torch.zeros(1, 1, 4, 4)
    prediction = torch.full_like(wanted, error).requires_grad_()
    FREQUENCY_LOSSES[name](prediction, wanted).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
def test_frequency_losses_of_half_precision_are_float32(name: str) -> None:
    # A difference taken in bf16, before the cast, would be off by 1e-3.
    prediction, wanted = (x.bfloat16() for x in pair())
    expected = FREQUENCY_LOSSES[name](prediction.float(), wanted.float())
    values = FREQUENCY_LOSSES[name](prediction, wanted)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)


def test_complex_l1_is_the_mean_modulus() -> None:
    wave = torch.cos(2 * torch.pi * torch.arange(8) / 8).expand(1, 1, 8, 8)
    # A cosine of one frequency has two coefficients of modulus 8·8/2/8 = 4 in an orthonormal 8×8 FFT.
    assert FREQUENCY_LOSSES["complex_l1"](wave, torch.zeros_like(wave)).item() == pytest.approx(2 * 4 / 64, rel=1e-4)


def test_log_amplitude_is_blind_to_phase() -> None:
    prediction, _ = pair()
    shifted = prediction.roll((2, 1), dims=(2, 3))
    assert FREQUENCY_LOSSES["log_amplitude"](shifted, prediction).max() < 1e-5
    assert FREQUENCY_LOSSES["log_amplitude"](2 * prediction, prediction).min() > 0.1


def test_high_pass_ignores_a_constant_and_grows_with_frequency() -> None:
    zeros, x = torch.zeros(1, 1, 8, 8), torch.arange(8)
    costs = [
        FREQUENCY_LOSSES["high_pass"](torch.cos(2 * torch.pi * k * x / 8).expand(1, 1, 8, 8), zeros).item()
        for k in (0, 1, 2, 3)
    ]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert costs[2] == pytest.approx(4 * costs[1], rel=1e-4)
    assert costs[3] == pytest.approx(9 * costs[1], rel=1e-4)


def test_high_pass_costs_white_errors_what_the_mse_does() -> None:
    noise = torch.randn((64, 4, 16, 16), generator=torch.Generator().manual_seed(0))
    assert FREQUENCY_LOSSES["high_pass"](noise, torch.zeros_like(noise)).mean().item() == pytest.approx(1, abs=0.02)


def test_focal_weighs_each_frequency_by_its_error_over_the_largest() -> None:
    prediction, wanted = pair()
    modulus = torch.fft.fft2(prediction - wanted, norm="ortho").abs()
    expected = (modulus / modulus.amax(dim=(2, 3), keepdim=True) * modulus**2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(FREQUENCY_LOSSES["focal"](prediction, wanted), expected)


def test_min_snr_weights_are_their_closed_form() -> None:
    alpha_bar = torch.tensor([0.5, 0.9, 0.1], dtype=torch.float64)  # SNR 1, 9 and 1/9
    expected = {"x0": [1, 5, 1 / 9], "epsilon": [1, 5 / 9, 1], "v": [1 / 2, 5 / 10, (1 / 9) / (10 / 9)]}
    for prediction, values in expected.items():
        weights = min_snr_weights(alpha_bar, 5.0, prediction)
        assert weights.dtype == torch.float32
        assert weights.tolist() == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_weighted_losses_of_all_predictions_are_min_snr_times_the_loss_on_x0(prediction: str) -> None:
    generator = torch.Generator().manual_seed(0)
    z0, noise, error = torch.randn((3, 4, 2, 3, 3), generator=generator, dtype=torch.float64)
    alpha_bar = torch.tensor([0.99, 0.7, 0.3, 0.01], dtype=torch.float64)
    wanted = target(z0, noise, alpha_bar, prediction)
    x0, _ = to_x0_and_noise(wanted + error, add_noise(z0, noise, alpha_bar), alpha_bar, prediction)
    on_x0 = (x0 - z0).square().mean(dim=(1, 2, 3)) * (alpha_bar / (1 - alpha_bar)).clamp(max=5)
    weighted = error.square().mean(dim=(1, 2, 3)) * min_snr_weights(alpha_bar, 5.0, prediction)
    torch.testing.assert_close(weighted, on_x0, rtol=1e-6, atol=0)


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_min_snr_gives_pure_noise_no_weight(prediction: str) -> None:
    assert min_snr_weights(torch.tensor([0.0, 0.5]), 5.0, prediction).tolist() == pytest.approx(
        [0.0, {"v": 0.5, "x0": 1.0}[prediction]]
    )


def test_min_snr_refuses_an_unknown_prediction() -> None:
    with pytest.raises(ConfigError, match="score"):
        min_snr_weights(torch.tensor([0.5]), 5.0, "score")


@pytest.mark.parametrize(
    ("name", "factor"),
    [("squared_l2", 64), ("complex_l1", 8), ("focal", 64), ("high_pass", 64), ("log_amplitude", None)],
)
def test_an_fft_without_a_scale_makes_a_spectrum_as_large_as_the_root_of_its_size(
    name: str, factor: float | None
) -> None:
    prediction, wanted = torch.randn(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(4))
    loss = FREQUENCY_LOSSES[name]
    ortho, unscaled = loss(prediction, wanted, "ortho"), loss(prediction, wanted, "backward")
    torch.testing.assert_close(loss(prediction, wanted), ortho)
    if factor:
        torch.testing.assert_close(unscaled, factor * ortho)
    else:
        assert (unscaled > ortho).all(), "amplitudes well above 1, whose logarithm no longer sees a factor"


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_a_power_is_the_mean_of_its_definition_over_each_sample(p: float) -> None:
    prediction, wanted = pair()
    expected = [sum(abs(e) ** p for e in sample.flatten().tolist()) / 96 for sample in prediction - wanted]
    assert power(prediction, wanted, p).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("p", [1.0, 1.01, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("error", [0.0, 1e-25, 1e-8, 1.0, 1e6])
def test_the_gradient_of_a_power_is_finite_and_0_at_equality(p: float, error: float) -> None:
    wanted = torch.zeros(1, 1, 4, 4)
    prediction = torch.full_like(wanted, error).requires_grad_()
    power(prediction, wanted, p).sum().backward()
    assert prediction.grad is not None
    expected = p * error ** (p - 1) / 16 if error else 0.0
    assert prediction.grad.flatten().tolist() == pytest.approx([expected] * 16, rel=1e-4, abs=1e-30)


def test_a_power_of_half_precision_is_float32() -> None:
    prediction, wanted = (x.bfloat16() for x in pair())
    values = power(prediction, wanted, 1.5)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, power(prediction.float(), wanted.float(), 1.5), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("p", "least"), [(1.0, 0.0), (1.5, 1 / 17), (2.0, 0.2), (3.0, 1 / 3)])
def test_only_the_power_2_is_least_at_the_mean(p: float, least: float) -> None:
    """Of a pattern that a fifth of the data have: a/(1 − a) = (0.2/0.8)^(1/(p − 1)), and nothing for p = 1."""
    shares = torch.linspace(0, 1, 2041)[:, None, None, None]
    costs = 0.2 * power(shares, torch.ones_like(shares), p) + 0.8 * power(shares, torch.zeros_like(shares), p)
    assert shares.flatten()[costs.argmin()].item() == pytest.approx(least, abs=1e-3)


WEIGHTED = DiffusionConfig(prediction="v", loss_weighting="min_snr", frequency_loss="complex_l1")


def parts(config: DiffusionConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sums of the losses of three samples, what their sums are made of, (3, 3), and the min-SNR weights, (3,)."""
    prediction, wanted = pair()
    alpha_bar = torch.tensor([0.9, 0.5, 0.001])
    each = torch.stack(
        [
            power(prediction, wanted, config.loss_power),
            power(prediction, wanted, 2),
            FREQUENCY_LOSSES[config.frequency_loss](prediction, wanted),
        ]
    )
    return sum_losses(config, prediction, wanted, alpha_bar), each, min_snr_weights(alpha_bar, 5.0, "v")


@pytest.mark.parametrize("weighting", ["none", "loss"])
def test_a_frequency_loss_has_the_timesteps_weight_if_asked(weighting: str) -> None:
    found, (error, mse, frequency), weights = parts(WEIGHTED.replace(frequency_weighting=weighting))
    counted = frequency * weights if weighting == "loss" else frequency
    expected = torch.stack([weights * error + 0.1 * counted, mse, frequency]).sum(dim=1)
    torch.testing.assert_close(found, expected)
    share = 0.1 * counted[2] / (weights[2] * error[2])
    assert (share < 0.2) == (weighting == "loss"), "the noisiest sample's, which min-SNR gives a thousandth"


@pytest.mark.parametrize("weighting", ["none", "loss"])
def test_without_weights_of_timesteps_a_frequency_loss_has_none(weighting: str) -> None:
    config = WEIGHTED.replace(loss_weighting="none", frequency_weighting=weighting)
    found, (error, _, frequency), _ = parts(config)
    torch.testing.assert_close(found[0], (error + 0.1 * frequency).sum())


def test_a_power_takes_the_place_of_the_mse_in_the_total_alone() -> None:
    found, (error, mse, _), weights = parts(WEIGHTED.replace(loss_power=1.5, frequency_weight=0.0))
    torch.testing.assert_close(found, torch.stack([(weights * error).sum(), mse.sum(), torch.tensor(0.0)]))
    assert not torch.allclose(error, mse)


@pytest.mark.parametrize("p", [0.9, 3.1])
def test_a_power_beside_its_range_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match="loss_power must be at"):
        DiffusionConfig(loss_power=p)

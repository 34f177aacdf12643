"""Self-conditioning: the denoiser gets its own estimate of x₀, for a share of a training batch and in sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.denoiser.averages import Averages
from trainables.denoiser.condition import NOTHING, Condition, estimated, with_estimates
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.process import add_noise, to_x0_and_noise
from trainables.denoiser.sampling import SamplingTrace, initial_noise, sample
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.training import train_denoiser
from trainables.denoiser.unet import UNet
from trainables.loop.records import Record, Report, ignore_report
from trainables.loop.settings import Execution

PLAIN = DiffusionConfig(
    widths=(8, 8),
    blocks=1,
    attention_levels=(),
    embedding_channels=16,
    dropout=0.5,
    prediction="v",
    batch_size=4,
    steps=12,
    validations=3,
    ema_decay=0.0,
    learning_rate=1e-3,
    precision="fp32",
)
INFORMED = PLAIN.replace(self_conditioning=0.5)
SHAPE = (2, 8, 8)


class KilledError(Exception):
    """Stands for a kill right after a checkpoint."""


def trained(
    folder: Path, config: DiffusionConfig = INFORMED, report: Report = ignore_report, **execution: Any
) -> tuple[UNet, list[Record]]:
    """The averaged denoiser, which is the last step's, and its records without their time."""
    folder.mkdir(exist_ok=True)
    mean = torch.randn(12, *SHAPE, generator=torch.Generator().manual_seed(2)).half()
    data = Latents(mean, torch.full_like(mean, -3), NO_WHITENING, torch.linspace(0, 1, 12))
    averages: Averages
    averages, records = train_denoiser(
        config, data, data, seed=3, folder=folder, execution=Execution(**execution), report=report
    )
    return averages.own, [{name: value for name, value in record.items() if name != "time"} for record in records]


def randomised(config: DiffusionConfig) -> UNet:
    """A UNet with no zero weights left, as a trained one."""
    torch.manual_seed(0)
    model = UNet(SHAPE[0], config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def noisy(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z_t, t and ᾱ_t of some latents."""
    z0, noise = torch.randn((2, count, *SHAPE), generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 999, count).long()
    alpha_bar = alphas_cumprod(INFORMED).float()[t]
    return add_noise(z0, noise, alpha_bar), t, alpha_bar


def test_all_other_weights_start_the_same_and_it_is_no_part_of_a_key_at_0() -> None:
    torch.manual_seed(5)
    plain = UNet(SHAPE[0], PLAIN).state_dict()
    torch.manual_seed(5)
    informed = UNet(SHAPE[0], INFORMED).state_dict()
    assert all(torch.equal(informed[name], value) for name, value in plain.items())
    assert informed.keys() - plain.keys() == {"estimate.weight"}
    assert "self_conditioning" not in PLAIN.identity()


def test_an_estimate_is_further_channels_of_the_input() -> None:
    model = randomised(INFORMED)
    z_t, t, _ = noisy(3)
    estimate = torch.randn_like(z_t)
    assert model.estimate is not None
    weight = torch.cat((model.enter.weight, model.estimate.weight), dim=1)
    both = torch.nn.functional.conv2d(torch.cat((z_t, estimate), dim=1), weight, model.enter.bias, padding=1)
    torch.testing.assert_close(model.enter(z_t) + model.estimate(estimate), both)
    told = model(z_t, t, condition=Condition(estimate=estimate))
    assert (told - model(z_t, t)).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert torch.equal(model(z_t, t, condition=Condition(estimate=torch.zeros_like(z_t))), model(z_t, t))


@pytest.mark.parametrize(
    ("share", "batch", "count"), [(0.5, 16, 8), (0.5, 1, 1), (0.1, 4, 1), (1.0, 4, 4), (0, 4, 0)]
)
def test_a_share_of_a_batch_gets_an_estimate_and_at_least_one_sample(share: float, batch: int, count: int) -> None:
    assert estimated(PLAIN.replace(self_conditioning=share), batch) == count


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_the_first_samples_get_x0_as_the_network_sees_it_without_an_estimate_or_dropout(prediction: str) -> None:
    config = INFORMED.replace(prediction=prediction)
    model = randomised(config).requires_grad_(True).train()
    z_t, t, alpha_bar = noisy(4)
    estimate = with_estimates(config, model, z_t, t, alpha_bar, NOTHING, 3).estimate
    assert estimate is not None
    expected, _ = to_x0_and_noise(model.eval()(z_t, t), z_t, alpha_bar, prediction)
    torch.testing.assert_close(estimate[:3], expected[:3].detach())
    assert (estimate[3:] == 0).all()
    assert not estimate.requires_grad


@pytest.mark.parametrize("count", [-2, 0])
def test_a_share_of_the_batch_without_chosen_samples_takes_no_pass(count: int) -> None:
    model = randomised(INFORMED)
    model.forward = None  # type: ignore[assignment]
    z_t, t, alpha_bar = noisy(2)
    condition = Condition(torch.tensor([0.1, 0.2]))
    told = with_estimates(INFORMED, model, z_t, t, alpha_bar, condition, count)
    assert told.estimate is not None
    assert not told.estimate.any()
    assert told.position is condition.position


def test_the_network_trains_with_its_dropout_after_the_first_pass() -> None:
    model = randomised(INFORMED).train()
    with_estimates(INFORMED, model, *noisy(2), NOTHING, 2)
    assert all(module.training for module in model.modules())


def test_the_weights_that_take_an_estimate_are_trained_and_the_training_is_another(tmp_path: Path) -> None:
    model, records = trained(tmp_path / "informed")
    _, without = trained(tmp_path / "plain", PLAIN)
    assert model.estimate is not None
    assert model.estimate.weight.abs().min() > 0
    assert records[0] == without[0], "untrained, they predict the same"
    assert records[-1] != without[-1]


def test_a_run_that_was_killed_and_continued_equals_one_that_was_not(tmp_path: Path) -> None:
    expected, records = trained(tmp_path / "whole")

    def kill(heard: Sequence[Record]) -> None:
        if heard[-1]["step"] >= 8:
            raise KilledError

    with pytest.raises(KilledError):
        trained(tmp_path / "broken", report=kill)
    model, again = trained(tmp_path / "broken")
    assert again == records
    assert all(torch.equal(model.state_dict()[name], value) for name, value in expected.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("rung", [{"micro_batch": 1}, {"micro_batch": 3}, {"checkpoint_activations": True}], ids=str)
def test_a_rung_of_the_ladder_changes_nothing_but_the_order_of_sums(rung: dict[str, Any], tmp_path: Path) -> None:
    expected, _ = trained(tmp_path / "whole")
    model, _ = trained(tmp_path / "rung", **rung)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=2e-5)


def drawn(
    denoise: Any, seeds: Sequence[int], config: SamplingConfig, diffusion: DiffusionConfig = INFORMED, **rest: Any
) -> SamplingTrace:
    noise = initial_noise(seeds, SHAPE)
    return sample(denoise, noise, seeds=seeds, diffusion=diffusion, config=config, **rest)


FREE = SamplingConfig(steps=5, early_stop_threshold=0.0, early_stop_rule="x0_change", precision="fp32")


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_2m"])
def test_an_evaluation_gets_the_estimate_of_the_one_before_and_the_first_gets_0(sampler: str) -> None:
    heard: list[torch.Tensor] = []
    model = randomised(INFORMED)

    def denoise(z_t: torch.Tensor, t: torch.Tensor, *, condition: Condition) -> torch.Tensor:
        assert condition.estimate is not None
        heard.append(condition.estimate[:1])
        return model(z_t, t, condition=condition)

    trace = drawn(denoise, range(3), FREE.replace(sampler=sampler), snapshots=range(5))
    estimates = [x0 for _, _, x0 in trace.snapshots]
    assert not heard[0].any()
    assert len(heard) == 5
    assert all(torch.equal(given, before) for given, before in zip(heard[1:], estimates, strict=False))


@pytest.mark.parametrize("guidance", [None, 1.0, 2.0])
def test_an_image_of_a_seed_is_the_same_bits_in_any_batch(guidance: float | None) -> None:
    """Without positions, and with them and guidance; some samples of the batch stop before others."""
    diffusion = INFORMED.replace(position_condition=guidance is not None)
    model, config = randomised(diffusion), FREE if guidance is None else FREE.replace(guidance=guidance)

    def draw(seeds: Sequence[int], config: SamplingConfig) -> SamplingTrace:
        places = None if guidance is None else torch.tensor([seed / 20 for seed in seeds])
        return drawn(model, seeds, config, diffusion, positions=places)

    config = config.replace(early_stop_threshold=draw(range(20), config).measures[:, 3].median().item())
    reference = draw(range(20), config)
    assert len(reference.steps_used.unique()) > 1
    for seeds in ([7], [3, 19, 7]):
        assert torch.equal(draw(seeds, config).latents[0], reference.latents[0][seeds])


def test_guidance_gives_both_sides_the_estimate() -> None:
    heard: list[Condition] = []

    def denoise(z_t: torch.Tensor, t: torch.Tensor, *, condition: Condition) -> torch.Tensor:
        heard.append(condition)
        return 0.1 * z_t

    drawn(denoise, [1, 2], FREE.replace(steps=2, guidance=2.0), positions=torch.tensor([0.0, 1.0]))
    assert [each.position is None for each in heard] == [False, True] * 2
    one, other = (each.estimate for each in heard[2:])
    assert one is not None
    assert other is one
    assert one.any()


def test_without_self_conditioning_a_denoiser_is_told_nothing() -> None:
    trace = drawn(lambda z_t, t: 0.1 * z_t, [1, 2], FREE, PLAIN)
    assert trace.latents.isfinite().all()


@pytest.mark.slow
def test_samples_are_the_data_whose_sign_the_first_estimate_decides(tmp_path: Path) -> None:
    """A denoiser of one pattern, as bright as dark in the data: its samples are either, and none is the grey mean."""
    config = INFORMED.replace(
        dropout=0.0, batch_size=32, steps=250, cutmix_probability=0.0, frequency_weight=0.0, warmup_steps=10,
        learning_rate=5e-3, posterior="mean", validations=1, ema_decay=0.9,
    )  # fmt: skip
    random = torch.Generator().manual_seed(1)
    pattern, signs = torch.randn(SHAPE, generator=random), torch.arange(64).remainder(2) * 2.0 - 1
    mean = pattern * signs[:, None, None, None] + 0.1 * torch.randn(64, *SHAPE, generator=random)
    data = Latents(mean, torch.full_like(mean, -9), NO_WHITENING)
    (tmp_path / "run").mkdir()
    averages, _ = train_denoiser(config, data, data, seed=0, folder=tmp_path / "run", execution=Execution())
    latents = drawn(averages.own, range(32), FREE.replace(steps=10), config).latents[0]
    shares = (latents * pattern).sum(dim=(1, 2, 3)) / pattern.square().sum()
    assert (shares.abs() - 1).abs().median() < 0.2
    assert 0.2 < (shares > 0).float().mean() < 0.8

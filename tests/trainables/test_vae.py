"""The autoencoder: the paper's architecture line by line, its ranges and its loss."""

import math

import pytest
import torch
from torch import nn

from trainables.autoencoder.losses import vae_loss
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.vae import LOG_VARIANCE_RANGE, Autoencoder, sample_posterior
from trainables.config import fingerprint
from trainables.errors import ConfigError
from trainables.loop.layers import ResidualBlock, SelfAttention, norm_groups
from trainables.recipes import RECIPES

SMALL = VaeConfig(widths=(4, 8), blocks=1, latent_channels=3)


@pytest.fixture(scope="module")
def paper() -> Autoencoder:
    return Autoencoder(VaeConfig())


def of_kind(module: nn.Module, kind: type) -> list:
    return [m for m in module.modules() if type(m) is kind]


def test_the_paper_maps_128_pixels_to_8_channels_of_16_and_back(paper: Autoencoder) -> None:
    with torch.no_grad():
        mean, log_variance = paper.encode(torch.rand(1, 1, 128, 128) * 2 - 1)
        images = paper.decode(mean)
    assert mean.shape == log_variance.shape == (1, 8, 16, 16)
    assert images.shape == (1, 1, 128, 128)
    assert images.abs().max() < 1


@pytest.mark.parametrize(("half", "stages"), [("encoder", [32, 64, 128, 256]), ("decoder", [256, 128, 64, 32])])
def test_the_paper_has_two_residual_blocks_in_each_stage_with_groupnorm_and_silu(
    paper: Autoencoder, half: str, stages: list[int]
) -> None:
    blocks = of_kind(getattr(paper, half), ResidualBlock)
    assert [b.conv2.out_channels for b in blocks] == [width for width in stages for _ in range(2)]
    assert all(b.conv1.kernel_size == b.conv2.kernel_size == (3, 3) for b in blocks)
    assert all(isinstance(b.norm1, nn.GroupNorm) and isinstance(b.norm2, nn.GroupNorm) for b in blocks)


def test_the_paper_halves_by_strided_3x3_and_doubles_by_transposed_4x4_convolutions(paper: Autoencoder) -> None:
    down = [c for c in of_kind(paper.encoder, nn.Conv2d) if c.stride == (2, 2)]
    up = of_kind(paper.decoder, nn.ConvTranspose2d)
    assert [(c.kernel_size, c.in_channels, c.out_channels) for c in down] == [
        ((3, 3), 32, 64),
        ((3, 3), 64, 128),
        ((3, 3), 128, 256),
    ]
    assert [(c.kernel_size, c.stride, c.in_channels, c.out_channels) for c in up] == [
        ((4, 4), (2, 2), 256, 128),
        ((4, 4), (2, 2), 128, 64),
        ((4, 4), (2, 2), 64, 32),
    ]


@pytest.mark.parametrize("attention", [True, False])
def test_self_attention_is_optional_and_sees_only_the_lowest_resolution(attention: bool) -> None:
    model = Autoencoder(SMALL.replace(attention=attention))
    sides: list[int] = []
    for layer in of_kind(model, SelfAttention):
        layer.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[-1]))
    model.decode(model.encode(torch.zeros(1, 1, 16, 16))[0])
    assert sides == ([8, 8] if attention else [])


@pytest.mark.parametrize("masks", [False, True])
def test_with_patches_squares_of_pixels_are_channels_in_and_out(masks: bool) -> None:
    config = SMALL.replace(patch_size=2)
    model, images = Autoencoder(config, masks), torch.rand(2, 1 + masks, 16, 16) * 2 - 1
    squares = images.reshape(2, 1 + masks, 8, 2, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 4 + 4 * masks, 8, 8)
    seen: list[torch.Tensor] = []
    first = of_kind(model.encoder, nn.Conv2d)[0]
    first.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    mean, _ = model.encode(images)
    assert torch.equal(seen[0], squares)
    assert config.compression == 4
    assert mean.shape == (2, 3, 4, 4)
    assert model.decode(mean).shape == images.shape


@pytest.mark.parametrize(("patch", "kernel"), [(2, 4), (4, 8), (8, 16)])
def test_squares_of_any_side_are_drawn_by_overlapping_kernels(patch: int, kernel: int) -> None:
    model = Autoencoder(SMALL.replace(patch_size=patch))
    last = of_kind(model.decoder, nn.ConvTranspose2d)[-1]
    assert (last.in_channels, last.out_channels) == (4, 2)
    assert (last.kernel_size, last.stride) == ((kernel, kernel), (patch, patch))
    images = torch.zeros(1, 1, 4 * patch, 4 * patch)
    assert model.decode(model.encode(images)[0]).shape == images.shape


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 12, 20, 32, 64, 96, 192, 256, 384, 512])
def test_norm_groups_divide_every_width_and_keep_four_channels_where_they_can(channels: int) -> None:
    groups = norm_groups(channels)
    assert channels % groups == 0
    assert groups <= 32
    assert channels // groups >= min(channels, 4)


def test_log_variance_is_clamped_to_the_stated_range() -> None:
    model = Autoencoder(SMALL)
    with torch.no_grad():
        model.encoder[-1].bias.copy_(torch.tensor([0.0] * 3 + [1e4, -1e4, 0.0]))
        _, log_variance = model.encode(torch.zeros(1, 1, 8, 8))
    low, high = LOG_VARIANCE_RANGE
    assert log_variance[0, 0].unique().tolist() == [high]
    assert log_variance[0, 1].unique().tolist() == [low]


def test_a_posterior_sample_has_the_posteriors_mean_and_spread() -> None:
    noise = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    drawn = sample_posterior(torch.full_like(noise, 2.0), torch.full_like(noise, math.log(9.0)), noise)
    assert drawn.mean().item() == pytest.approx(2.0, abs=0.05)
    assert drawn.std().item() == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("reduction", "count"), [("sum", 12), ("mean", 1)])
def test_the_loss_is_the_pixel_mse_plus_the_weighted_kl_of_a_gaussian(reduction: str, count: int) -> None:
    mean, log_variance = torch.full((2, 3, 2, 2), 0.5), torch.full((2, 3, 2, 2), math.log(4.0))
    images, shown = torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.2)
    losses = vae_loss(VaeConfig(kl_reduction=reduction), images, shown, mean, log_variance, kl_weight=0.1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.5, 2.0), torch.distributions.Normal(0.0, 1.0)
    ).item()
    assert losses["reconstruction"].item() == pytest.approx(0.04)
    assert losses["kl"].item() == pytest.approx(expected * count, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(0.04 + 0.1 * expected * count, rel=1e-5)


def test_an_unknown_kl_reduction_is_refused() -> None:
    with pytest.raises(ConfigError, match="kl_reduction"):
        VaeConfig(kl_reduction="none")


def test_every_weight_learns_after_the_zero_initialised_ones_have_moved() -> None:
    torch.manual_seed(0)
    model = Autoencoder(SMALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        images, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 3, 4, 4)
        mean, log_variance = model.encode(images)
        reconstructions = model.decode(sample_posterior(mean, log_variance, noise))
        config = SMALL.replace(kl_reduction="mean")
        losses = vae_loss(config, images, reconstructions, mean, log_variance, kl_weight=1.0)
        losses["loss"].backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("paper", "8a8b74abcfaa8ba5"), ("improved", "f3220e3359f165ea"), ("smoke", "cbe40a8f20a414ad")],
)
def test_trained_autoencoders_keep_their_identity_when_choices_are_added(recipe: str, expected: str) -> None:
    """Else what the stores hold would be trained again; of the recipes as they were before there were the choices."""
    before = {"reconstruction_loss": "mse", "rotation_degrees": 10.0, "translation": 0.05, "scaling": 0.05}
    weight = 1e-6 if recipe == "smoke" else 1e-5
    assert fingerprint(RECIPES[recipe].vae.replace(kl_weight=weight, **before).identity()) == expected

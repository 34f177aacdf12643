"""The UNet: the paper's architecture line by line, and what its output depends on."""

import pytest
import torch
from torch import nn

from trainables.denoiser.condition import Condition
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.unet import UNet, timestep_embedding
from trainables.loop.layers import ResidualBlock, SelfAttention

SMALL = DiffusionConfig(widths=(8, 16), blocks=1, attention_levels=(1,), embedding_channels=16, dropout=0.0)


def randomised(model: nn.Module) -> nn.Module:
    """The model with no zero weights left, as a trained one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                spread = parameter[0].numel() ** -0.5
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module")
def paper() -> UNet:
    return UNet(8, DiffusionConfig())


def test_the_paper_has_17_million_parameters(paper: UNet) -> None:
    assert sum(p.numel() for p in paper.parameters()) == 17_039_304


def test_the_output_has_the_latents_shape(paper: UNet) -> None:
    with torch.no_grad():
        assert paper(torch.randn(2, 8, 16, 16), torch.tensor([0, 999])).shape == (2, 8, 16, 16)


def test_the_paper_has_two_residual_blocks_on_each_level_down_and_one_for_each_skip_up(paper: UNet) -> None:
    down = [[b.residual.conv2.out_channels for b in level] for level in paper.down]
    up = [[b.residual.conv2.out_channels for b in level] for level in paper.up]
    assert down == [[64] * 2, [128] * 2, [256] * 2]
    assert up == [[256] * 3, [128] * 3, [64] * 3]
    assert [[b.residual.conv1.in_channels for b in level] for level in paper.up] == [
        [512, 512, 384],
        [384, 256, 192],
        [192, 128, 128],
    ]


def test_every_block_of_the_paper_has_dropout_and_scale_and_shift_from_512_channels_of_time(paper: UNet) -> None:
    blocks = [m for m in paper.modules() if hasattr(m, "modulate")]
    assert len(blocks) == 6 + 2 + 9
    for block in blocks:
        assert block.residual.dropout == 0.1
        assert block.modulate.in_features == 512
        assert block.modulate.out_features == 2 * block.residual.conv2.out_channels


def test_the_paper_attends_at_8x8_only(paper: UNet) -> None:
    sides: list[int] = []
    hooks = [
        m.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[-1]))
        for m in paper.modules()
        if isinstance(m, SelfAttention)
    ]
    with torch.no_grad():
        paper(torch.randn(1, 8, 16, 16), torch.tensor([3]))
    for hook in hooks:
        hook.remove()
    assert sides == [8] * 5


def test_conditional_groupnorm_scales_by_one_plus_scale_and_then_shifts() -> None:
    block = randomised(ResidualBlock(8, 8)).eval()
    modulation = torch.randn(2, 16)
    x = torch.randn(2, 8, 4, 4)
    scale, shift = modulation[:, :8, None, None], modulation[:, 8:, None, None]
    h = block.norm2(block.conv1(nn.functional.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, modulation), x + block.conv2(nn.functional.silu(h)))


def test_attention_equals_softmax_over_positions() -> None:
    layer = randomised(SelfAttention(16)).eval()
    x = torch.randn(2, 16, 3, 5)
    query, key, value = layer.qkv(layer.norm(x).flatten(2).mT).chunk(3, dim=-1)
    weights = (query @ key.mT / 16**0.5).softmax(dim=-1)
    expected = x + layer.project(weights @ value).mT.reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_output_depends_on_the_timestep_and_each_sample_on_its_own() -> None:
    model = randomised(UNet(2, SMALL)).eval()
    z = torch.randn(1, 2, 4, 4).expand(2, -1, -1, -1)
    with torch.no_grad():
        early, late = model(z, torch.tensor([1, 900]))
        again = model(z, torch.tensor([900, 1]))
    assert (early - late).abs().max() > 1e-3
    torch.testing.assert_close(again.flip(0), torch.stack([early, late]))


@pytest.mark.parametrize("channels", [8, 9, 512])
def test_the_timestep_embedding_tells_all_timesteps_apart(channels: int) -> None:
    embedding = timestep_embedding(torch.arange(1000), channels)
    assert embedding.shape == (1000, channels)
    assert torch.pdist(embedding).min() > 1e-4


@pytest.mark.parametrize("widths", [(8,), (6, 10), (8, 12, 20, 24)])
def test_other_widths_and_depths_work(widths: tuple[int, ...]) -> None:
    config = SMALL.replace(widths=widths, attention_levels=(len(widths) - 1,), embedding_channels=9)
    assert UNet(3, config)(torch.randn(1, 3, 16, 16), torch.tensor([5])).shape == (1, 3, 16, 16)


def test_with_patches_it_is_the_unet_of_the_latent_whose_squares_are_channels() -> None:
    patched = randomised(UNet(3, SMALL.replace(patch_size=2, self_conditioning=0.5)))
    plain = UNet(12, SMALL.replace(self_conditioning=0.5))
    plain.load_state_dict(patched.state_dict())
    z, estimate, t = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.tensor([3, 900])

    def squares(latents: torch.Tensor) -> torch.Tensor:
        return latents.reshape(2, 3, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 4, 4)

    expected = plain(squares(z), t, condition=Condition(estimate=squares(estimate)))
    got = patched(z, t, condition=Condition(estimate=estimate))
    assert got.shape == z.shape
    torch.testing.assert_close(squares(got), expected)


def test_every_weight_gets_a_gradient_once_none_is_zero() -> None:
    model = randomised(UNet(2, SMALL))
    model(torch.randn(2, 2, 4, 4), torch.tensor([1, 2])).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_dropout_acts_in_training_alone_and_follows_the_global_seed() -> None:
    model = randomised(UNet(2, SMALL.replace(dropout=0.5)))
    z, t = torch.randn(1, 2, 4, 4), torch.tensor([7])

    def output(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return model(z, t)

    model.train()
    assert torch.equal(output(0), output(0))
    assert not torch.equal(output(0), output(1))
    model.eval()
    assert torch.equal(output(0), output(1))

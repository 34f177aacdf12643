"""The copy of a network that computes in half precision, held against PyTorch's autocast."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.condition import NOTHING, Condition
from trainables.denoiser.unet import UNet
from trainables.loop.precision import WorkingCopy, convert, dtype_of
from trainables.recipes import SMOKE

T = torch.tensor([3, 500, 900, 40])


def unet() -> UNet:
    torch.manual_seed(0)
    model = UNet(
        4,
        SMOKE.diffusion.replace(
            widths=(16, 32), embedding_channels=32, position_condition=True, noise_label="log_sigma"
        ),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def latents() -> torch.Tensor:
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def loss(model: nn.Module, *, told: bool = True) -> torch.Tensor:
    positions = torch.tensor([0.1, torch.nan, 0.9, 0.5])
    labels = torch.tensor([[0.0], [0.3], [0.0], [1.0]])
    output: torch.Tensor = model.eval()(latents(), T, condition=Condition(positions, labels) if told else NOTHING)
    return output.float().square().mean()


@pytest.mark.parametrize("told", [False, True])
def test_a_denoiser_computes_to_the_bit_what_autocast_does_on_the_cpu(told: bool) -> None:
    model = unet()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = loss(model, told=told)
    assert torch.equal(loss(convert(model, torch.bfloat16), told=told), expected)


def test_an_autoencoder_learns_to_the_bit_what_it_does_under_autocast_on_the_cpu() -> None:
    torch.manual_seed(0)
    model, images = Autoencoder(SMOKE.vae.replace(attention=True)), torch.rand(3, 1, 32, 32)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)

    def learn(network: Autoencoder) -> None:
        mean, log_variance = network.encode(images)
        (network.decode(mean).float() - images).square().mean().backward()
        assert log_variance.dtype == torch.bfloat16

    by_autocast, working = copy.deepcopy(model), WorkingCopy(model, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        learn(by_autocast)
    learn(working.network)
    working.collect()
    for ours, theirs in zip(model.parameters(), by_autocast.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def test_gradients_of_several_passes_are_added_in_fp32() -> None:
    model = unet()
    working = WorkingCopy(model, torch.bfloat16)
    pairs = [
        pair
        for pair in zip(model.parameters(), working.network.parameters(), strict=True)
        if pair[1].dtype == torch.bfloat16
    ]
    assert pairs
    passes = []
    for _ in range(3):
        loss(working.network).backward()
        passes.append([copied.grad.float() for _, copied in pairs if copied.grad is not None])
        working.collect()
    assert len(passes[0]) == len(pairs)
    for (master, copied), *each in zip(pairs, *passes, strict=True):
        assert copied.grad is None
        assert master.grad is not None
        assert torch.equal(master.grad, each[0] + each[1] + each[2])


def test_it_takes_the_masters_weights_when_it_is_refreshed() -> None:
    model = unet()
    working = WorkingCopy(model, torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    working.refresh()
    for master, copied in zip(model.parameters(), working.network.parameters(), strict=True):
        assert torch.equal(master.to(copied.dtype), copied)


def test_in_fp32_a_network_computes_itself() -> None:
    model = unet()
    working = WorkingCopy(model, torch.float32)
    assert working.network is model
    loss(working.network).backward()
    before = [weight.grad for weight in model.parameters()]
    working.refresh()
    working.collect()
    assert all(
        one is other for one, other in zip(before, (weight.grad for weight in model.parameters()), strict=True)
    )


@pytest.mark.parametrize("network", [unet(), Autoencoder(SMOKE.vae)], ids=["denoiser", "autoencoder"])
def test_norms_stay_in_fp32_on_the_cpu_and_nothing_does_on_a_card(network: nn.Module) -> None:
    on_cpu, on_card = (convert(network, torch.float16, device) for device in ("cpu", "cuda"))
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.GroupNorm)}
    assert norms
    originals = dict(network.named_parameters())
    for name, weight in on_cpu.named_parameters():
        stays = name.rpartition(".")[0] in norms or name == "position.null"
        assert (weight is originals[name]) == stays
    assert {weight.dtype for weight in on_card.parameters()} == {torch.float16}
    assert dtype_of(on_cpu) == dtype_of(on_card) == torch.float16
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}

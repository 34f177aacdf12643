"""The patch discriminator: its patches, its loss, who learns from what, and what is refused."""

from __future__ import annotations

import pytest
import torch

from trainables.autoencoder.discriminator import Adversary, PatchDiscriminator, adversary_of, hinge_loss
from trainables.autoencoder.settings import VaeConfig
from trainables.errors import ConfigError
from trainables.recipes import SMOKE

CPU = torch.device("cpu")
SCALER = torch.amp.GradScaler("cpu", enabled=False)
OPPOSED = VaeConfig(adversarial_weight=0.1, adversarial_start=0.5)


def opponent(config: VaeConfig = OPPOSED, steps: int = 10) -> Adversary:
    found = adversary_of(config, steps=steps, seed=0, device=CPU, dtype=torch.float32)
    assert found.working is not None
    return found


def network(adversary: Adversary) -> torch.nn.Module:
    return adversary.modules["discriminator"]


@pytest.mark.parametrize("side", [16, 64, 128])
def test_there_is_a_score_for_every_patch(side: int) -> None:
    assert PatchDiscriminator()(torch.zeros(2, 1, side, side)).shape == (2, 1, side // 4 - 2, side // 4 - 2)


def test_its_layers_have_one_two_and_four_times_its_width() -> None:
    convolutions = [layer for layer in PatchDiscriminator(12).layers if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [12, 24, 48, 1]
    config = VaeConfig(adversarial_weight=0.1, adversarial_width=12)
    adversary = adversary_of(config, steps=10, seed=0, device=CPU, dtype=torch.float32)
    assert network(adversary).layers[0].out_channels == 12  # type: ignore[index]


def test_a_score_sees_34_pixels_a_side() -> None:
    discriminator = PatchDiscriminator()
    for layer in discriminator.layers:
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda x: x  # type: ignore[method-assign]  # statistics of the whole slice
    images = torch.zeros(1, 1, 64, 64, requires_grad=True)
    discriminator(images)[0, 0, 7, 7].backward()
    assert images.grad is not None
    seen = images.grad[0, 0].abs().sum(dim=0).nonzero()
    assert int(seen.max() - seen.min()) + 1 == 34


def test_a_slices_scores_do_not_depend_on_its_batch() -> None:
    discriminator, images = PatchDiscriminator(), torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(discriminator(images)[1:2], discriminator(images[1:2]))


def test_the_hinge_loss_wants_a_margin_of_one_on_either_side() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert (hinge_loss(real, 1) + hinge_loss(fake, -1)).item() == pytest.approx(0.5 * (0.25 + 0.625))


def test_without_a_weight_there_is_no_adversary_and_the_loss_is_the_same_tensor() -> None:
    nobody, loss = adversary_of(VaeConfig(), steps=10, seed=0, device=CPU, dtype=torch.float32), torch.zeros(())
    assert nobody.working is None
    assert nobody.active, "the loss has all its terms from the first step on"
    assert nobody.oppose(loss, torch.zeros(1, 1, 16, 16)) is loss
    assert nobody.modules == nobody.optimizers == nobody.take() == {}


def test_making_one_draws_nothing_from_the_generator_that_the_autoencoder_draws_from() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    opponent()
    assert torch.equal(torch.rand(4), expected)


def test_each_side_learns_from_its_own_loss_alone() -> None:
    adversary, shown = opponent(), torch.rand(2, 1, 16, 16, requires_grad=True)
    adversary.begin(5, 1e-3)
    adversary.oppose(torch.zeros(()), shown).backward()
    assert shown.grad is not None
    assert shown.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network(adversary).parameters())
    before = shown.grad.clone()
    adversary.learn(torch.rand(2, 1, 16, 16), shown, 1.0, SCALER)
    assert torch.equal(shown.grad, before)
    assert all(parameter.grad is not None for parameter in network(adversary).parameters())


def test_it_waits_for_its_share_of_the_steps() -> None:
    adversary, images, loss = opponent(), torch.rand(2, 1, 16, 16), torch.zeros(())
    for step in range(10):
        adversary.begin(step, 1e-3)
        assert (adversary.oppose(loss, images) is loss) == (step < 5)
        adversary.learn(images, images, 1.0, SCALER)
        adversary.update(SCALER)
        adversary.note()
        assert bool(adversary.take()) == (step >= 5)


def test_it_learns_to_tell_slices_from_blurred_ones() -> None:
    random = torch.Generator().manual_seed(0)
    adversary = opponent()
    for _ in range(60):
        sharp = torch.rand(8, 1, 32, 32, generator=random) * 2 - 1
        blurred = torch.nn.functional.avg_pool2d(sharp, 5, stride=1, padding=2)
        adversary.begin(5, 2e-3)
        adversary.learn(sharp, blurred, 1.0, SCALER)
        adversary.update(SCALER)
    adversary.take()
    assert network(adversary)(sharp).mean() > 0.5 > -0.5 > network(adversary)(blurred).mean()


def test_a_discriminator_that_would_never_begin_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"adversarial_start must be below 1 .* got 1: .* set adversarial_weight to 0"
    ):
        SMOKE.replace(**{"vae.adversarial_weight": 0.1, "vae.adversarial_start": 1})
    assert SMOKE.replace(**{"vae.adversarial_start": 1}).vae.adversarial_start == 1

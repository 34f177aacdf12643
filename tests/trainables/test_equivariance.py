"""The equivariance term: what τ is, that it is one and the same of slices and latents, and what the loss is."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainables.autoencoder.batch import draw_step
from trainables.autoencoder.discriminator import Adversary
from trainables.autoencoder.equivariance import draw_turns, transform, turn
from trainables.autoencoder.losses import trained_names, vae_loss_names
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.training import accumulate
from trainables.autoencoder.vae import Autoencoder, sample_posterior
from trainables.errors import ConfigError
from trainables.loop.draws import generator
from trainables.loop.precision import WorkingCopy
from trainables.recipes import IMPROVED

CONFIG = VaeConfig(widths=(8, 8), blocks=1, attention=False, latent_channels=3, batch_size=6, equivariance_weight=0.5)


def test_the_coins_name_all_eight_flips_and_quarter_turns() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    turns = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=torch.bool)
    found = {tuple(each.flatten().tolist()) for each in turn(picture.expand(8, -1, -1, -1), turns)}
    quarter = [picture.rot90(k, (2, 3)) for k in range(4)]
    assert found == {tuple(each.flatten().tolist()) for k in quarter for each in (k, k.flip(3))}
    drawn = draw_turns(4000, generator(0, "turns"))
    shares = torch.bincount((drawn * torch.tensor([4, 2, 1])).sum(dim=1), minlength=8) / 4000
    assert (shares - 1 / 8).abs().max() < 0.03


def test_a_transform_halves_by_area_as_bilinear_interpolation_does() -> None:
    x, turns = torch.randn(6, 3, 8, 8), draw_turns(6, generator(1, "turns"))
    expected = F.interpolate(turn(x, turns), scale_factor=0.5, mode="bilinear", align_corners=False)
    torch.testing.assert_close(transform(x, turns), expected)


@pytest.mark.parametrize("loss", ["mse", "l1"])
def test_the_term_compares_the_transformed_slice_with_what_the_transformed_latent_decodes_to(loss: str) -> None:
    torch.manual_seed(0)
    config = CONFIG.replace(reconstruction_loss=loss, kl_weight=0.0)
    images, draws = torch.rand(6, 1, 16, 16) * 2 - 1, draw_step(config, 6, 16, 0, 3)
    gradients = []
    for weight in (0.0, 0.5):
        torch.manual_seed(1)
        model = Autoencoder(config)
        scaler, each = torch.amp.GradScaler("cpu", enabled=False), config.replace(equivariance_weight=weight)
        given = draws if weight else draws._replace(turns=None)
        working = WorkingCopy(model, torch.float32)
        values = accumulate(each, working, images, given, [slice(0, 6)], scaler, Adversary(each))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    names = dict(zip(trained_names(config), values.tolist(), strict=True))
    assert draws.turns is not None
    model.zero_grad()
    z = sample_posterior(*model.encode(images), draws.noise)
    term = {"mse": F.mse_loss, "l1": F.l1_loss}[loss](
        model.decode(transform(z, draws.turns)), transform(images, draws.turns)
    )
    (0.5 * term).backward()
    alone = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert names["equivariance"] == pytest.approx(term.item(), rel=1e-5)
    torch.testing.assert_close(gradients[1] - gradients[0], alone, rtol=1e-3, atol=1e-6)


def test_without_a_weight_nothing_is_drawn_and_nothing_is_named() -> None:
    plain = CONFIG.replace(equivariance_weight=0.0)
    assert trained_names(plain) == vae_loss_names(plain) == vae_loss_names(CONFIG)
    before, with_term = (draw_step(config, 6, 16, 4, 3) for config in (plain, CONFIG))
    assert before.turns is None
    assert all(torch.equal(one, other) for one, other in zip(before[:4], with_term[:4], strict=True))


def test_a_latent_that_cannot_be_halved_is_refused() -> None:
    odd = {"data.image_size": 136, "diffusion.widths": (8,), "diffusion.attention_levels": ()}
    with pytest.raises(ConfigError, match="needs latents of even sides, which it halves, got 17"):
        IMPROVED.replace(**odd, **{"vae.equivariance_weight": 0.1})

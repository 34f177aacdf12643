"""The autoencoder's augmentation: a flip mixes no pixels, and a warp blurs the less the larger the slice."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainables.autoencoder.batch import augment, draw_maps, draw_step, only_flips
from trainables.autoencoder.settings import VaeConfig
from trainables.autoencoder.training import train_vae
from trainables.data.images import to_unit, warp
from trainables.errors import ConfigError
from trainables.loop.draws import generator
from trainables.loop.settings import Execution
from trainables.recipes import IMPROVED, PAPER, SMOKE

WARPED = VaeConfig(batch_size=16, widths=(8, 8))


def random_slices(count: int, side: int) -> torch.Tensor:
    """White noise, of which a blur loses most."""
    return torch.randint(0, 256, (count, side, side), dtype=torch.uint8, generator=generator(0, "slices"))


def high_frequencies(images: torch.Tensor) -> float:
    """The mean power of (N, 1, H, W) at frequencies above half of Nyquist's."""
    power = torch.fft.fft2(images).abs().square()
    frequency = torch.fft.fftfreq(images.shape[-1]).abs()
    return float(power[..., torch.maximum(frequency[:, None], frequency) > 0.25].mean())


@pytest.mark.parametrize("recipe", [IMPROVED, SMOKE])
def test_the_recipes_flip_and_mix_no_pixels(recipe: object) -> None:
    vae = recipe.vae  # type: ignore[attr-defined]
    slices = random_slices(40, 16)
    images = augment(slices, draw_maps(vae, 40, generator(1, "maps")), 16)
    whole = to_unit(slices)
    same, flipped = ((images - each).abs().amax(dim=(1, 2, 3)) < 1e-4 for each in (whole, whole.flip(3)))
    assert (same | flipped).all()
    assert 10 < flipped.sum() < 30
    assert (PAPER.vae.rotation_degrees, PAPER.vae.translation, PAPER.vae.scaling) == (10.0, 0.05, 0.05)


def test_a_share_of_a_batch_is_at_most_flipped_and_the_rest_is_warped_as_before() -> None:
    before = draw_step(WARPED, 64, 16, 3, 7)
    spared = draw_step(WARPED.replace(warp_share=0.5), 64, 16, 3, 7)
    for name in ("indices", "noise", "kl_weight"):
        assert torch.equal(getattr(before, name), getattr(spared, name))
    as_before = (before.maps == spared.maps).flatten(1).all(dim=1)
    assert 0 < as_before.sum() < 16
    assert torch.equal(spared.maps[~as_before], only_flips(before.maps)[~as_before])
    none = draw_step(WARPED.replace(warp_share=0.0), 64, 16, 3, 7)
    assert torch.equal(none.maps, only_flips(before.maps))


def test_the_flip_of_a_map_is_that_of_the_warp_at_any_angle() -> None:
    config = WARPED.replace(rotation_degrees=180.0)
    maps = draw_maps(config, 200, generator(2, "maps"))
    kept = only_flips(maps)
    assert torch.equal(
        kept, draw_maps(config.replace(rotation_degrees=0.0, translation=0.0, scaling=0.0), 200, generator(2, "maps"))
    )
    assert set(kept[:, 0, 0].tolist()) == {-1.0, 1.0}


def test_slices_are_warped_at_their_own_size_and_then_reduced_by_area() -> None:
    slices, maps = random_slices(8, 32), draw_maps(WARPED, 8, generator(3, "maps"))
    expected = F.avg_pool2d(warp(to_unit(slices), maps), 2)
    torch.testing.assert_close(augment(slices, maps, 16), expected)


def test_a_warp_of_larger_slices_keeps_more_high_frequencies() -> None:
    large = random_slices(32, 64)
    small = F.avg_pool2d(large.float().unsqueeze(1), 2).squeeze(1).round().to(torch.uint8)
    maps = draw_maps(WARPED, 32, generator(4, "maps"))
    plain, late, early = (
        high_frequencies(images) for images in (to_unit(small), augment(small, maps, 32), augment(large, maps, 32))
    )
    assert late < 0.5 * plain, "a warp at the final size halves them"
    assert early > 1.3 * late


def test_a_training_takes_larger_slices_than_it_is_validated_by(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = WARPED.replace(
        batch_size=4, max_steps=2, warp_share=0.5, attention=False, blocks=1, validations=1, precision="fp32"
    )
    model, records = train_vae(
        config, random_slices(8, 32), random_slices(4, 16), seed=0, folder=tmp_path, execution=Execution()
    )
    assert model.encode(torch.zeros(1, 1, 16, 16))[0].shape[-1] == 8
    assert [record["step"] for record in records if "val/loss" in record] == [0, 2]


def test_slices_are_never_enlarged_after_a_warp() -> None:
    assert IMPROVED.replace(**{"vae.warp_size": 256}).vae.warp_size == 256
    with pytest.raises(ConfigError, match=r"vae.warp_size must be 0 or at least data.image_size \(128\), got 64"):
        IMPROVED.replace(**{"vae.warp_size": 64})

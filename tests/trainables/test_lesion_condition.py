"""A denoiser that is told how much of a slice is lesion."""

from __future__ import annotations

import pytest
import torch

from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.condition import Condition, draw_positions, lesion_border, lesion_sizes
from trainables.denoiser.guidance import guided
from trainables.denoiser.latents import NO_WHITENING, Latents
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.unet import UNet
from trainables.errors import ConfigError
from trainables.recipes import SMOKE, Recipe

TOLD = SMOKE.diffusion.replace(
    widths=(8, 16),
    embedding_channels=16,
    batch_size=8,
    lesion_condition=True,
    condition_dropout=0.5,
    precision="fp32",
)


def latents(count: int = 64) -> Latents:
    mean = torch.zeros(count, 4, 8, 8)
    return Latents(mean, mean - 20, NO_WHITENING, lesions=torch.arange(count).float() % 3)


def test_the_border_is_the_median_share_of_slices_with_lesion() -> None:
    shares = torch.tensor([0.0, 0.1, 0.0, 0.3, 0.2])
    assert lesion_border(shares) == pytest.approx(0.2)
    assert lesion_sizes(shares, lesion_border(shares)).tolist() == [0, 1, 0, 2, 1]
    assert lesion_border(torch.zeros(3)) == 0
    assert lesion_sizes(torch.tensor([0.0, 0.1]), 0.0).tolist() == [0, 2]


def test_a_step_tells_each_sample_its_lesion_or_nothing() -> None:
    data = latents()
    draws = draw_step(TOLD, data, 3, 0)
    told = noisy_batch(TOLD, data, alphas_cumprod(TOLD), draws).condition.lesion
    assert told is not None
    assert draws.dropped is not None
    assert data.lesions is not None
    assert torch.equal(told.isnan(), draws.dropped)
    assert torch.equal(told[~draws.dropped], data.lesions[draws.indices][~draws.dropped])
    plain = TOLD.replace(lesion_condition=False)
    assert noisy_batch(plain, data, alphas_cumprod(plain), draw_step(plain, data, 3, 0)).condition.lesion is None


def test_the_network_begins_as_the_one_that_is_told_nothing_and_tells_sizes_apart() -> None:
    torch.manual_seed(0)
    plain = UNet(4, TOLD.replace(lesion_condition=False)).eval()
    torch.manual_seed(0)
    network = UNet(4, TOLD).eval()
    for each in (plain, network):
        for layer in (each.leave, *(block.residual for block in each.middle)):
            for weight in layer.parameters():
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    z, t = torch.randn(4, 4, 8, 8), torch.tensor([1, 5, 50, 500])
    condition = Condition(lesion=torch.tensor([0.0, 1.0, 2.0, torch.nan]))
    assert torch.equal(plain(z, t), network(z, t, condition=condition))
    assert network.lesion is not None
    network.lesion.sizes.data.normal_(generator=torch.Generator().manual_seed(2))
    alike = z[:1].expand(4, -1, -1, -1), t[:1].expand(4)
    found = network(*alike, condition=condition)
    assert all(not torch.allclose(found[i], found[j]) for i in range(4) for j in range(i))
    assert torch.allclose(found[3:], network(*alike)[3:], atol=1e-6), "not told is one vector, however it is not told"


def test_guidance_goes_away_from_what_is_said_without_the_lesion() -> None:
    def denoise(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return z + (0 if condition.lesion is None else condition.lesion[:, None, None, None])

    z, lesion = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 2.0])
    output = guided(denoise, ["lesion"], weight=3.0)(z, torch.zeros(2), lesion)
    assert output[:, 0, 0, 0].tolist() == [3.0, 6.0]


def test_sampling_tells_each_sample_its_lesion_beside_its_position() -> None:
    heard: list[Condition] = []

    def denoise(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        heard.append(condition)
        return z

    seeds, config = [3, 4], SMOKE.sampling.replace(steps=2)
    noise = initial_noise(seeds, (1, 4, 4))
    lesions, positions = torch.tensor([0.0, 2.0]), torch.tensor([0.5, 0.6])
    trace = sample(denoise, noise, seeds=seeds, diffusion=TOLD, config=config, positions=positions, lesions=lesions)
    assert trace.lesions is lesions
    for condition in heard:
        assert condition.lesion is not None
        assert condition.position is not None
        assert condition.lesion[:2].tolist() == [0.0, 2.0]
        assert condition.position[:2].tolist() == pytest.approx([0.5, 0.6])


def test_a_seed_takes_position_and_lesion_of_one_slice() -> None:
    rows = torch.arange(50).float()
    assert torch.equal(draw_positions(range(20), rows), draw_positions(range(20), rows + 100) - 100)


def test_lesions_are_told_only_where_masks_say_what_they_are() -> None:
    with pytest.raises(ConfigError, match=r"diffusion\.lesion_condition needs data\.mask"):
        SMOKE.replace(**{"diffusion.lesion_condition": True})
    SMOKE.replace(**{"data.mask": True, "diffusion.lesion_condition": True, "sampling.guidance": 2.0})
    assert "lesion_condition" not in Recipe().diffusion.identity()

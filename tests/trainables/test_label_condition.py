"""A denoiser that is told labels of a slice's patient, such as the tumour's grade."""

from __future__ import annotations

import pytest
import torch

from trainables.denoiser.batch import draw_step, noisy_batch
from trainables.denoiser.condition import Condition
from trainables.denoiser.diffusion import MOST_CATEGORIES
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
    label_condition=("grade", "age"),
    condition_dropout=0.5,
    precision="fp32",
)


def latents(count: int = 64) -> Latents:
    mean, numbers = torch.zeros(count, 4, 8, 8), torch.arange(count).float()
    return Latents(mean, mean - 20, NO_WHITENING, categories=torch.stack([numbers % 2, numbers % 12], dim=1))


def test_a_step_tells_each_sample_all_its_labels_or_none() -> None:
    data = latents()
    draws = draw_step(TOLD, data, 3, 0)
    told = noisy_batch(TOLD, data, alphas_cumprod(TOLD), draws).condition.categories
    assert told is not None
    assert draws.dropped is not None
    assert data.categories is not None
    assert 0 < draws.dropped.sum() < len(told)
    assert torch.equal(told.isnan(), draws.dropped[:, None].expand(-1, 2))
    assert torch.equal(told[~draws.dropped], data.categories[draws.indices][~draws.dropped])
    plain = TOLD.replace(label_condition=())
    assert noisy_batch(plain, data, alphas_cumprod(plain), draw_step(plain, data, 3, 0)).condition.categories is None


def test_the_network_begins_as_the_one_that_is_told_nothing_and_tells_categories_apart() -> None:
    torch.manual_seed(0)
    plain = UNet(4, TOLD.replace(label_condition=())).eval()
    torch.manual_seed(0)
    network = UNet(4, TOLD).eval()
    for each in (plain, network):
        for layer in (each.leave, *(block.residual for block in each.middle)):
            for weight in layer.parameters():
                torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    z, t = torch.randn(1, 4, 8, 8).expand(4, -1, -1, -1), torch.tensor([50]).expand(4)
    last = float(MOST_CATEGORIES - 1)
    condition = Condition(categories=torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, last], [torch.nan, torch.nan]]))
    assert torch.equal(plain(z, t), network(z, t, condition=condition))
    for number, label in enumerate(network.categories):
        label.sizes.data.normal_(generator=torch.Generator().manual_seed(number))
    found = network(z, t, condition=condition)
    assert all(not torch.allclose(found[i], found[j]) for i in range(4) for j in range(i))
    assert torch.allclose(found[3:], network(z, t)[3:], atol=1e-6), "not told is one vector, however it is not told"


def test_guidance_goes_away_from_what_is_said_without_the_labels() -> None:
    def denoise(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        return z + (0 if condition.categories is None else condition.categories.sum(dim=1)[:, None, None, None])

    z, categories = torch.zeros(2, 1, 2, 2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    output = guided(denoise, ["categories"], weight=3.0)(z, torch.zeros(2), categories)
    assert output[:, 0, 0, 0].tolist() == [3.0, 6.0]


def test_sampling_tells_each_sample_its_labels() -> None:
    heard: list[Condition] = []

    def denoise(z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        heard.append(condition)
        return z

    seeds, config, categories = [3, 4], SMOKE.sampling.replace(steps=2), torch.tensor([[0.0, 2.0], [1.0, 3.0]])
    noise = initial_noise(seeds, (1, 4, 4))
    trace = sample(denoise, noise, seeds=seeds, diffusion=TOLD, config=config, categories=categories)
    assert trace.categories is categories
    assert len(heard) == 2
    for condition in heard:
        assert condition.categories is not None
        assert torch.equal(condition.categories[:2], categories)


def test_a_recipe_names_each_label_once_and_guides_by_labels_alone() -> None:
    with pytest.raises(ConfigError, match="must name each column once, got grade, grade"):
        SMOKE.replace(**{"diffusion.label_condition": ["grade", "grade"]})
    SMOKE.replace(**{"diffusion.label_condition": ["grade"], "sampling.guidance": 2.0})
    assert "label_condition" not in Recipe().diffusion.identity()

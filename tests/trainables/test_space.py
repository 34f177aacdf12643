"""Search spaces are refused before anything starts."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from trainables.errors import ConfigError
from trainables.recipes import SMOKE, recipe_named
from trainables.space import Choice, SearchSpace

SEARCHED = {
    "vae.latent_channels",
    "diffusion.frequency_weight",
    "diffusion.cutmix_probability",
    "sampling.early_stop_threshold",
}


@pytest.mark.parametrize("dataset", ["kaggle", "brats_flair", "brats_t1ce", "demo"])
def test_the_shipped_spaces_cover_the_four_questions(dataset: str) -> None:
    space: SearchSpace = importlib.import_module(f"search_spaces.{dataset}").SPACE
    assert set(space.dimensions) == SEARCHED
    space.check(recipe_named(space.recipe))
    assert SearchSpace.from_plain(space.to_plain()) == space
    assert len(list(space.vae_variants(recipe_named(space.recipe)))) == 2


@pytest.mark.parametrize(
    ("dimensions", "says"),
    [
        ({"diffusion.colour": [1]}, "unknown field 'diffusion.colour'"),
        ({"diffusion.frequency_weight": []}, "empty list"),
        ({"diffusion.frequency_weight": {"low": 1.0, "high": 1.0}}, "empty range"),
        ({"diffusion.frequency_weight": {"low": 0.0, "high": 1.0, "log": True}}, "low above 0"),
        ({"diffusion.frequency_weight": {"low": -1.0, "high": 1.0}}, "refused.*at least 0"),
        ({"vae.latent_channels": [4, 0]}, "refused.*at least 1"),
        ({"vae.kl_weight": {"low": 0.1, "high": 1.0}}, "list of values"),
        ({"sampling.early_stop_threshold": {"low": 0.1, "high": 1.0}}, "list of values"),
        ({"sampling.ema_length": {"low": 0.0, "high": 0.1}}, "list of values"),
        ({"sampling.ema_length": [0, 0.1]}, r"of diffusion.ema_lengths \(none\) have or make, got 0.1"),
        ({"sampling.after_steps": [0, 10]}, "no one knows before a training.*leave it out"),
        ({"diffusion.frequency_weight": 3}, "list of values or a mapping"),
        ({"diffusion.cutmix_probability": [0.1, 0.1]}, "twice"),
        ({"vae.widths": [[16, 32], [16, 32]]}, "twice"),
        ({"vae.widths": [[16, 32], [16, "32"]]}, r"refused.*must be tuple\[int"),
        ({"vae.widths": [[16, 32], "[16"]}, r"refused.*must be tuple\[int, ...\], got '\[16'"),
        ({"vae.widths": [[16, 32], []]}, "refused.*at least one stage"),
        ({"vae.widths": [[16, 32], [[16], 32]]}, "list of values or a mapping"),
        ({"vae.widths": [[4, 4], [4] * 7]}, "refused.*image_size must be a multiple of 256"),
        ({"vae.latent_channels": [[4, 8]]}, "refused.*must be int"),
        ({}, "at least one dimension"),
    ],
)
def test_a_space_that_cannot_work_is_refused(dimensions: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        SearchSpace.from_plain({"dimensions": dimensions}).check(SMOKE)
    assert "\n" not in str(caught.value)


def test_only_dimensions_of_data_and_autoencoder_multiply_autoencoders() -> None:
    space = SearchSpace({"vae.latent_channels": Choice((4, 8)), "diffusion.dropout": Choice((0.0, 0.1, 0.2))})
    channels = [recipe.vae.latent_channels for recipe in space.vae_variants(SMOKE)]
    assert channels == [4, 8]
    assert space.size == 6


@pytest.mark.parametrize("given", [((16, 32), (16, 32, 64)), ([16, 32], [16, 32, 64]), ("[16, 32]", "[16, 32, 64]")])
def test_a_value_can_be_a_list_and_is_held_as_its_text(given: tuple[Any, ...]) -> None:
    space = SearchSpace({"vae.widths": Choice(given), "vae.latent_channels": Choice((2, 16))}, "smoke")
    space.check(SMOKE)
    assert space.dimensions["vae.widths"].examples() == ("[16, 32]", "[16, 32, 64]")
    assert SearchSpace.from_plain(space.to_plain()) == space
    in_yaml = [list(value) if isinstance(value, tuple) else value for value in given]
    assert SearchSpace.from_plain({"dimensions": {"vae.widths": in_yaml}}).dimensions == {
        "vae.widths": space.dimensions["vae.widths"]
    }
    variants = [(r.vae.widths, r.vae.latent_channels, r.latent_size) for r in space.vae_variants(SMOKE)]
    assert variants == [((16, 32), 2, 32), ((16, 32), 16, 32), ((16, 32, 64), 2, 16), ((16, 32, 64), 16, 16)]

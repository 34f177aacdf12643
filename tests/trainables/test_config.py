"""Configurations check themselves and say what is wrong in one line."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from trainables.config import Config, as_scalar, fingerprint, setting
from trainables.errors import ConfigError
from trainables.loop.settings import Execution
from trainables.recipes import IMPROVED, PAPER, RECIPES, SMOKE, Recipe, recipe_named


def test_a_recipe_survives_its_plain_form() -> None:
    for recipe in RECIPES.values():
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("vae.latent_channels", 0, "at least 1"),
        ("vae.latent_channels", 4.5, "must be int"),
        ("diffusion.dropout", 1.5, "at most 0.9"),
        ("diffusion.prediction", "noise", "one of epsilon, v, x0"),
        ("diffusion.frequency_weight", float("nan"), "must be float"),
        ("diffusion.learning_rate", float("inf"), "must be float"),
        ("diffusion.timesteps", 20, "at most diffusion.timesteps"),
        ("diffusion.attention_levels", [5], "below the 3 levels"),
        ("diffusion.beta_max", 1e-5, "below beta_max"),
        ("data.image_size", 100, "multiple of"),
        ("diffusion.zero_terminal_snr", True, "'epsilon'; take prediction v or x0"),
        ("diffusion.timestep_sampling", "cosine", "one of uniform, stratified, logit_normal"),
        ("diffusion.ema_lengths", [0.05, 0.3], "at most 0.28"),
        ("diffusion.ema_lengths", [0.05, 0.05], "each length once"),
        ("sampling.ema_length", 0.1, r"those of diffusion.ema_lengths \(none\) have or make, got 0.1; add it"),
        ("sampling.ema_length", 0.3, "at most 0.28"),
        ("sampling.autoguidance", 1.5, "needs a guide, which diffusion.guide_share above 0 keeps"),
        ("diffusion.guide_share", 1.0, "at most 0.99"),
        ("vae.nothing", 1, "unknown field"),
        ("nothing.at_all", 1, "no section"),
    ],
)
def test_a_refused_value_names_the_rule_and_the_value(field: str, value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        PAPER.replace(**{field: value})
    assert "\n" not in str(caught.value)


def test_a_later_field_leaves_older_results_their_keys_until_it_is_used() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Section(Config):
        steps: int = setting(5, "there from the beginning")
        sharpness: float = setting(0.0, "came later", later=True)

    assert Section().identity() == {"steps": 5}
    assert Section(sharpness=0.5).identity() == {"steps": 5, "sharpness": 0.5}

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Whole(Config):
        section: Config = setting(Section(), "a section")

    assert Whole().identity() == {"section": {"steps": 5}}


DENOISERS = {
    "paper": ("aa9db2536726f3dc", "a2c9b56a02120b86"),
    "improved": ("349ed9e29c7ce08d", "cebaf371c350f6aa"),
    "smoke": ("3f40656fac5fd168", "77bf2dce0ad84cf2"),
}
"""What the keys of the recipes' denoisers and samples were made of before there were any later fields."""
SINCE = {
    "diffusion.frequency_weight": 0.1,
    "diffusion.frequency_weighting": "none",
    "diffusion.flip_probability": 0.0,
    "diffusion.cutmix_labelled": False,
}
REREAD = {
    "paper": {"diffusion.frequency_norm": "ortho", "diffusion.gradient_clip": 1.0},
    "improved": SINCE,
    "smoke": SINCE,
}
"""What has been read otherwise or was added to a recipe since, as it was."""


@pytest.mark.parametrize("name", DENOISERS)
def test_later_choices_of_the_denoiser_leave_the_recipes_keys_as_they_were(name: str) -> None:
    recipe = RECIPES[name].replace(**REREAD.get(name, {}))
    assert (fingerprint(recipe.diffusion.identity()), fingerprint(recipe.sampling.identity())) == DENOISERS[name]


@pytest.mark.parametrize(
    ("field", "value", "acts"),
    [
        ("vae.adversarial_width", 16, {"vae.adversarial_weight": 0.01}),
        ("diffusion.frequency_weighting", "loss", {"diffusion.frequency_weight": 0.1}),
        ("diffusion.cutmix_labelled", True, {"diffusion.cutmix_probability": 0.25}),
        ("diffusion.augmented_copies", 4, {"diffusion.augmentation_probability": 0.5}),
        ("diffusion.log_sigma_mean", -0.5, {"diffusion.timestep_sampling": "log_normal"}),
        ("diffusion.log_sigma_spread", 1.0, {"diffusion.timestep_sampling": "log_normal"}),
        ("sampling.eta", 0.5, {"sampling.sampler": "ddim"}),
        ("sampling.guidance_low", 0.4, {"diffusion.guide_share": 0.25, "sampling.autoguidance": 1.5}),
    ],
)
def test_a_field_that_does_nothing_makes_no_key_of_its_own(field: str, value: Any, acts: dict[str, Any]) -> None:
    still = IMPROVED.replace(
        **{
            "diffusion.frequency_weight": 0.0,
            "diffusion.cutmix_probability": 0.0,
            "diffusion.frequency_weighting": "none",
            "diffusion.cutmix_labelled": False,
            "sampling.sampler": "dpmpp_2m",
        }
    )
    assert still.replace(**{field: value}).identity() == still.identity()
    acting = still.replace(**acts)
    assert acting.replace(**{field: value}).identity() != acting.identity()


def test_what_does_not_change_a_result_stays_out_of_the_identity() -> None:
    assert Execution(threads=3, workers=2).identity() == {}
    assert "frequency_weight" in PAPER.diffusion.identity()


def test_the_fingerprint_depends_on_values_and_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_whole_numbers_are_taken_for_floats_so_that_keys_agree() -> None:
    one, other = (SMOKE.replace(**{"sampling.threshold_grid": grid}) for grid in ([0, 0.5], [0.0, 0.5]))
    assert fingerprint(one.sampling.identity()) == fingerprint(other.sampling.identity())
    one, other = (SMOKE.replace(**{"diffusion.frequency_weight": value}) for value in (1, 1.0))
    assert one == other
    assert fingerprint(one.diffusion.identity()) == fingerprint(other.diffusion.identity())


def test_the_improved_recipe_mends_what_the_paper_gets_wrong() -> None:
    diffusion = IMPROVED.diffusion
    assert (diffusion.whiten, diffusion.ema_warmup, diffusion.prediction) == (True, True, "v")
    assert (diffusion.loss_weighting, diffusion.cutmix_form) == ("min_snr", "z0")
    assert (diffusion.frequency_weight, diffusion.frequency_weighting, diffusion.loss_power) == (0.0, "loss", 2.0)
    assert diffusion.frequency_loss != "squared_l2", "what a search tries beside none"
    assert diffusion.cutmix_labelled
    assert IMPROVED.data.split == "subject"
    assert IMPROVED.vae.reconstruction_loss == "l1"
    assert IMPROVED.vae.kl_weight == SMOKE.vae.kl_weight == 1e-6, "at 1e-5 most of the channels carry noise"
    assert IMPROVED.vae.rotation_degrees == IMPROVED.vae.translation == IMPROVED.vae.scaling == 0, "flips alone"


def test_every_setting_says_what_it_means() -> None:
    for section in dataclasses.fields(Recipe):
        for field in dataclasses.fields(getattr(PAPER, section.name)):
            assert len(field.metadata["doc"]) > 8, field.name


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="paper, improved, small, smoke"):
        recipe_named("best")


@pytest.mark.parametrize("given", [[8, 16], (8, 16), "[8, 16]", as_scalar((8, 16))])
def test_a_list_or_its_text_becomes_a_tuple(given: object) -> None:
    assert PAPER.vae.replace(widths=given).widths == (8, 16)
    assert PAPER.vae.replace(widths=given).identity()["widths"] == [8, 16]


@pytest.mark.parametrize("text", ["", "8", "[8", "{}", "null", "[" * 100_000])
def test_a_text_that_is_no_list_is_refused_as_it_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"widths must be tuple\[int, ...\], got '"):
        PAPER.vae.replace(widths=text)

"""The keys of all stages, digit by digit: what is in somebody's store must be found again."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest

from latentsweep.stages.keys import keys_of
from latentsweep.stages.stage import Stage
from latentsweep.stages.table import STAGES, TABLE, function_of
from trainables.config import fingerprint
from trainables.recipes import RECIPES, SMOKE, Recipe

GOLDEN = Path(__file__).parents[1] / "golden" / "stage_digests.json"
DATASET = fingerprint("a dataset that is made up", length=64)
WEIGHTS = fingerprint("weights that are made up", length=64)
SEEDS = (0, 7)
SPLITS = ("validation", "test")

LATER = {
    "data.folds": 5,
    "data.fold": 1,
    "vae.reconstruction_loss": "charbonnier",
    "vae.ms_ssim_weight": 0.05,
    "vae.gradient_weight": 0.3,
    "vae.adversarial_weight": 0.0005,
    "vae.adversarial_start": 0.25,
    "vae.equivariance_weight": 0.25,
    "vae.latent_noise": 0.4,
    "vae.warp_share": 0.5,
    "vae.warp_size": 96,
    "diffusion.frequency_norm": "backward",
    "diffusion.cutmix_labelled": True,
    "diffusion.frequency_weighting": "loss",
    "diffusion.loss_power": 1.5,
    "diffusion.position_condition": True,
    "diffusion.condition_dropout": 0.2,
    "diffusion.augmentation_probability": 0.12,
    "diffusion.augmented_copies": 2,
    "diffusion.flip_probability": 0.25,
    "diffusion.novelty_weighting": 0.5,
    "diffusion.zero_terminal_snr": True,
    "diffusion.timestep_sampling": "stratified",
    "diffusion.log_sigma_mean": -0.5,
    "diffusion.log_sigma_spread": 1.0,
    "diffusion.noise_label": "log_sigma",
    "diffusion.self_conditioning": 0.5,
    "diffusion.ema_lengths": (0.05, 0.1),
    "diffusion.guide_share": 0.1,
    "sampling.guidance": 1.5,
    "sampling.guidance_low": 0.4,
    "sampling.guidance_high": 3.2,
    "sampling.autoguidance": 1.5,
    "sampling.ema_length": 0.1,
    "sampling.after_steps": 100,
}
"""Fields of the recipe that came after there were stores, away from their defaults."""

MASKS = {"data.mask": True, "data.mask_label": 4, "vae.mask_weight": 0.5, "diffusion.lesion_condition": True}
"""Those of masks, which came after them: without them the keys of the others are what they were."""

LABELS = {"diffusion.label_condition": ("grade",)}
"""Those of labels, for which the same holds."""

PATCHES = {"vae.adversarial_width": 16, "vae.patch_size": 2, "diffusion.patch_size": 2}
"""The last of them, of patches and of a narrower discriminator."""

DOWNSTREAM = {"data.mask": True, "downstream.measured": True}
"""Where segmentation networks are trained on what is drawn: two stages more."""

CONFIGURATIONS: dict[str, Recipe] = {
    **RECIPES,
    "downstream": SMOKE.replace(**DOWNSTREAM),
    "later": SMOKE.replace(**LATER),
    "masks": SMOKE.replace(**LATER, **MASKS),
    "labels": SMOKE.replace(**LATER, **MASKS, **LABELS),
    "patches": SMOKE.replace(**LATER, **MASKS, **LABELS, **PATCHES),
}


def digests_of(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The digest of each stage, by seed and split."""
    found = {}
    for seed in SEEDS:
        for split in SPLITS:
            keys = keys_of(recipe, DATASET, seed, WEIGHTS, split)
            found[f"seed {seed}, {split}"] = {stage: key.digest for stage, key in keys.items()}
    return found


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_digests_of_all_stages_are_what_they_were(name: str) -> None:
    """``LATENTSWEEP_REWRITE_GOLDEN=1`` writes them anew, for a change that is meant to compute everything again."""
    digests = digests_of(CONFIGURATIONS[name])
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("LATENTSWEEP_REWRITE_GOLDEN"):
        golden[name] = digests
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    assert digests == golden[name]


def test_every_stage_and_no_other_has_a_digest_that_is_pinned() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(CONFIGURATIONS)
    own = {stage.name for stage in STAGES.values() if not stage.wanted(SMOKE)}
    assert own == {"segmentation", "downstream"}
    for name, each in golden.items():
        expected = set(STAGES) if name == "downstream" else set(STAGES) - own
        assert all(set(stages) == expected for stages in each.values())


def test_the_configuration_of_later_fields_sets_each_of_them() -> None:
    recipe = CONFIGURATIONS["patches"]
    for section in fields(Recipe):
        values = getattr(recipe, section.name)
        for field in fields(values):
            alone = field.metadata["plugins"] and not {*(field.metadata["choices"] or ())} - {field.default}
            if field.metadata["later"] and not alone:  # without a plug-in there is one value
                assert getattr(values, field.name) != field.default, f"{section.name}.{field.name}"


@pytest.mark.parametrize("stage", TABLE, ids=lambda stage: stage.name)
def test_the_functions_that_the_table_names_are_there(stage: Stage) -> None:
    for named in filter(None, (stage.run, stage.replay)):
        if isinstance(named, partial):
            assert callable(function_of(*named.args))

"""The YAML that a person reads, edits and trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from latentsweep.configuration import Configuration, execution_of, overridden, read_configuration
from latentsweep.records.results import value_of
from trainables.errors import ConfigError
from trainables.loop.settings import Execution
from trainables.recipes import RECIPES, SMOKE


@pytest.mark.parametrize("name", RECIPES)
def test_a_configuration_survives_the_file(tmp_path: Path, name: str) -> None:
    configuration = Configuration(
        "kaggle", 7, RECIPES[name], Execution(threads=2), {"sweep": "s", "trial": 3, "scores": {"gen/kid": 1.5}}
    )
    configuration.write(tmp_path / "best.yaml")
    assert read_configuration(tmp_path / "best.yaml") == configuration


def test_a_list_that_a_trial_searched_is_a_list_in_the_file(tmp_path: Path) -> None:
    found = {"vae.widths": "[8, 16]", "vae.latent_channels": 2}
    recipe, path = SMOKE.replace(**found), tmp_path / "best.yaml"
    Configuration("kaggle", 7, recipe, origin={"parameters": found}).write(path)
    read = read_configuration(path)
    assert yaml.safe_load(path.read_text())["recipe"]["vae"]["widths"] == [8, 16]
    assert read.recipe == recipe == overridden(SMOKE, ["vae.widths=[8, 16]", "vae.latent_channels=2"])
    assert {field: value_of(read.recipe, field) for field in found} == read.origin["parameters"]


def test_the_file_says_what_each_field_means(tmp_path: Path) -> None:
    Configuration("kaggle", 0, SMOKE).write(tmp_path / "best.yaml")
    line = next(line for line in (tmp_path / "best.yaml").read_text().splitlines() if "frequency_weight:" in line)
    assert "weight λ_freq of the frequency loss" in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{unbalanced: [", "is not YAML"),
        ("just words", "not a latentsweep configuration"),
        ("version: 0\nrecipe: {}\n", "version 0 .* reads version 1; export it again"),
        ("recipe: {}\n", "version None"),
        ("version: 1\nrecipe: {vae: {colour: 3}}\ndataset: d\nseed: 0\n", "unknown field 'recipe.vae.colour'"),
        ("version: 1\nrecipe: {vae: {blocks: none}}\ndataset: d\nseed: 0\n", "blocks must be int"),
        ("version: 1\nrecipe: {vae: 3}\ndataset: d\nseed: 0\n", "recipe.vae must be a mapping"),
        ("version: 1\nrecipe: {}\nseed: 0\n", "must name a dataset"),
        ("version: 1\nrecipe: {}\ndataset: d\nseed: 0\nmore: 1\n", "unknown entry 'more'"),
        ("\x00\xff", "is not YAML|not a latentsweep"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_configuration(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration"):
        read_configuration(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_configuration(tmp_path)


def test_options_override_fields() -> None:
    recipe = overridden(SMOKE, ["diffusion.steps=12", "vae.widths=[8, 8]", "diffusion.whiten=false"])
    assert (recipe.diffusion.steps, recipe.vae.widths, recipe.diffusion.whiten) == (12, (8, 8), False)
    with pytest.raises(ConfigError, match="field=value"):
        overridden(SMOKE, ["diffusion.steps"])
    with pytest.raises(ConfigError, match="unknown field"):
        overridden(SMOKE, ["diffusion.stepz=3"])


def test_an_exported_file_is_plain_yaml_for_others(tmp_path: Path) -> None:
    Configuration("kaggle", 0, SMOKE).write(tmp_path / "best.yaml")
    content = yaml.safe_load((tmp_path / "best.yaml").read_text())
    assert content["recipe"]["diffusion"]["steps"] == SMOKE.diffusion.steps


def test_a_number_with_an_exponent_is_a_number() -> None:
    changed = overridden(SMOKE, ["vae.kl_weight=1e-4", "diffusion.learning_rate= 2.5E-3"])
    assert (changed.vae.kl_weight, changed.diffusion.learning_rate) == (1e-4, 2.5e-3)


def test_fields_of_the_execution_are_set_beside_those_of_the_recipe() -> None:
    words = ["diffusion.steps=7", "execution.tf32=true", " execution.micro_batch=4"]
    settings, execution = execution_of(words, "cpu")
    assert settings == ["diffusion.steps=7"]
    assert execution == Execution(device="cpu", tf32=True, micro_batch=4)
    kept = Execution(threads=3, device="cuda")
    assert execution_of([], None, kept) == ([], kept)
    with pytest.raises(ConfigError, match="unknown field 'colour'"):
        execution_of(["execution.colour=red"], None)
    with pytest.raises(ConfigError, match="tf32 must be bool"):
        execution_of(["execution.tf32=7"], None)


@pytest.mark.parametrize("field", ["threads=2", "workers=2", "memory_gib=1.5"])
def test_what_a_job_sets_itself_is_not_set_by_hand(field: str) -> None:
    with pytest.raises(ConfigError, match="must be left to the job, which sets it by --"):
        execution_of([f"execution.{field}"], None)

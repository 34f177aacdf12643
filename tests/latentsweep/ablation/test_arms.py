"""Arms that are whole configurations: what a user types, what it means, and what is refused in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from latentsweep.ablation.design.arms import WHOLE, GivenArm, given_arms
from latentsweep.ablation.design.contrasts import of_whole
from latentsweep.ablation.design.plan import AblationPlan, needed, sharing
from latentsweep.ablation.page import summary
from latentsweep.ablation.page.content import Content
from latentsweep.ablation.page.files import as_html, as_latex, as_markdown
from latentsweep.ablation.statistics.effect import Run
from latentsweep.ablation.statistics.effects import effects, summaries
from latentsweep.configuration import Configuration
from latentsweep.jobs import ablation_results
from latentsweep.pages.tables import Row, Table
from trainables.errors import ConfigError
from trainables.recipes import IMPROVED, PAPER, SMOKE

COMMON = ("data.split=subject", "data.image_size=64")
TEXTS = ("improved", "paper", "paper, EMA warmed up = paper diffusion.ema_warmup=true")


def plan(arms: tuple[GivenArm, ...], settings: tuple[str, ...] = COMMON) -> AblationPlan:
    first = arms[0]
    return AblationPlan("demo", "f" * 16, first.source, first.recipe, WHOLE, (), 0, "test", "w" * 64, arms, settings)


def test_an_arm_is_a_recipe_with_changes_and_what_all_arms_have() -> None:
    improved, paper, warm = given_arms(TEXTS, COMMON)
    assert [arm.name for arm in (improved, paper, warm)] == ["improved", "paper", "paper, EMA warmed up"]
    common = {"data.split": "subject", "data.image_size": 64}
    assert improved.recipe == IMPROVED.replace(**common)
    assert paper.recipe == PAPER.replace(**common)
    assert warm.recipe == PAPER.replace(**common, **{"diffusion.ema_warmup": True})
    (unnamed,) = given_arms(("smoke", "smoke  vae.widths=[8, 16, 32] vae.blocks=2"), ())[1:]
    assert unnamed.name == "smoke, vae.widths=[8, 16, 32], vae.blocks=2"
    assert unnamed.recipe == SMOKE.replace(**{"vae.widths": (8, 16, 32), "vae.blocks": 2})


def test_an_arm_may_be_a_file_of_export(tmp_path: Path) -> None:
    path = tmp_path / "my best.yaml"
    recipe = SMOKE.replace(**{"diffusion.steps": 70, "sampling.threshold_grid": (0.1, 0.2)})
    Configuration("kaggle", 3, recipe).write(path)
    file, changed, _ = given_arms([f"mine = {path}", f"{path} diffusion.steps=80", "smoke"], ())
    assert file.recipe == recipe.replace(**{"sampling.threshold_grid": ()})
    assert changed.recipe.diffusion.steps == 80
    assert file.source == "my-best"


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ((), (), "twice or more"),
        (("smoke",), (), "twice or more"),
        (("smoke", "smoek"), (), "RECIPE one of paper, improved, small, smoke or a configuration file"),
        (("smoke", "there/is/none.yaml"), (), "there is no configuration"),
        (("smoke", "smoke"), (), "a name of its own"),
        (("a b = smoke", "a-b = smoke diffusion.steps=7"), (), "a name of its own"),
        (("smoke", "改 = smoke diffusion.steps=7"), (), "letter or digit"),
        (("a = smoke", "b = smoke"), (), "one configuration"),
        (("a = smoke", "b = smoke sampling.threshold_grid=[0.3]"), (), "one configuration"),
        (("smoke", "b = smoke diffusion.steps=600"), (), "one configuration"),
        (("improved", "paper"), (), "--set data.split=subject"),
        (("paper", "improved"), (), "--set data.split=subject"),
        (("paper", "b = paper data.image_size=64"), (), "--set data.image_size=128"),
        (("paper", "b = paper evaluation.samples=50"), (), "--set evaluation.samples=200"),
        (("smoke", "b = smoke diffusion.steps=7"), ("diffusion.steps=8",), "both give diffusion.steps"),
        (("smoke", "b = smoke diffusion.stepps=7"), (), "diffusion.stepps"),
        (("smoke", "b = smoke diffusion.steps=[7"), (), "is not YAML"),
    ],
)
def test_arms_that_cannot_be_are_one_line(texts: tuple[str, ...], settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", "\\[")) as raised:
        given_arms(texts, settings)
    assert "\n" not in str(raised.value)


def test_the_first_arm_is_what_the_others_are_compared_with_and_they_share_through_the_store() -> None:
    arms = given_arms(
        ("smoke", "late = smoke diffusion.learning_rate=0.01", "small = smoke vae.latent_channels=4"), ()
    )
    made = plan(arms, ())
    design = made.design
    assert design.reference.name == "smoke"
    assert [dict(contrast.weights) for contrast in design.contrasts] == [
        {"late": 1.0, "smoke": -1.0},
        {"small": 1.0, "smoke": -1.0},
    ]
    assert [dict(arm.changes) for arm in design.arms[1:]] == [
        {"diffusion.learning_rate": 0.01},
        {"vae.latent_channels": 4},
    ]
    jobs = made.jobs(range(2))
    assert (needed(jobs)["vae"], needed(jobs)["denoiser"]) == (4, 6)
    assert sharing(design, jobs)["late"] == "its own denoiser"


def test_only_arms_that_differ_in_the_threshold_alone_share_their_samples() -> None:
    threshold = "sampling.early_stop_threshold"
    arms = given_arms(
        ("smoke", f"stop = smoke {threshold}=0.02", f"other = smoke {threshold}=0.3 sampling.steps=9"), ()
    )
    grids = {arm.name: arm.recipe.sampling.threshold_grid for arm in of_whole(arms).arms}
    assert grids == {"smoke": (0.0, 0.02), "stop": (0.0, 0.02), "other": ()}
    jobs = plan(arms, ()).jobs([0])
    assert (needed(jobs)["samples"], needed(jobs)["denoiser"]) == (2, 1)


def test_a_study_of_arms_is_known_by_names_and_recipes_and_comes_back_from_its_file(tmp_path: Path) -> None:
    made = plan(given_arms(TEXTS, COMMON))
    (tmp_path / "ablation.json").write_text(json.dumps({"plan": made.to_plain()}))
    assert AblationPlan.read(tmp_path) == made
    assert made.name.startswith("demo-improved-arms-")
    renamed = plan(given_arms((*TEXTS[:2], TEXTS[2].replace("warmed", "warm")), COMMON))
    changed = plan(given_arms((*TEXTS[:2], TEXTS[2] + " diffusion.steps=9"), COMMON))
    told = plan(given_arms(TEXTS, COMMON[::-1]), COMMON[::-1])
    assert len({made.name, renamed.name, changed.name}) == 3
    assert told.name == made.name, "the order of --set makes no other study"


def test_a_study_of_components_is_known_as_it_was_before_there_were_arms() -> None:
    before = AblationPlan("demo", "f" * 16, "smoke", SMOKE, "leave-one-out", ("cutmix",), 0, "test", "w" * 64)
    assert set(before.to_plain()) == {
        *("dataset", "fingerprint", "recipe_name", "recipe", "kind", "components", "tune", "split", "weights"),
    }


def test_the_command_that_repeats_a_study_of_arms_gives_the_same_study() -> None:
    made = plan(given_arms(TEXTS, COMMON))
    words = shlex.split(ablation_results.command_of(made, 3))
    given = [words[place + 1] for place, word in enumerate(words) if word == "--arm"]
    settings = tuple(words[place + 1] for place, word in enumerate(words) if word == "--set")
    assert plan(given_arms(given, settings), settings).name == made.name


def content(**changes: Any) -> Content:
    names = ["improved", "without EMA"]
    runs = [
        Run(name, seed, {"gen/kid": 50.0 + 40 * (name != "improved") + seed}, f"study/{name}/seed-{seed}")
        for name in names
        for seed in range(4)
    ]
    runs = [Run(r.arm, r.seed, {"gen/kid": r.metrics["gen/kid"] + 0.1 * r.seed * len(r.arm)}, r.key) for r in runs]
    contrasts = of_whole(given_arms(("improved", "without EMA = improved diffusion.ema_decay=0"), ())).contrasts
    return Content(
        name="demo-improved-arms",
        dataset="demo",
        facts=[],
        design="whole configurations",
        reference="improved",
        seeds=range(4),
        arms=[(name, "–", "–") for name in names],
        components=[],
        runs=runs,
        summaries={"gen/kid": summaries(runs, names, "gen/kid")},
        effects={"gen/kid": effects(runs, contrasts, "gen/kid", seeds=range(4))},
        command="python cli.py ablate",
        **changes,
    )


def test_the_page_speaks_of_configurations_whatever_they_are_called() -> None:
    made = content()
    assert summary.headline(made) == (
        "Of 1 configuration against improved, judged by KID ×1000 (lower is better): 1 is worse (without EMA)."
    )
    (group,) = summary.groups(made)
    assert group.heading == "Worse than the reference"
    assert group.lines[0][0] == "without EMA"
    assert group.lines[0][1].startswith("against improved, KID ×1000 is ")
    assert "component" not in summary.headline(made) + as_html(made).partition("<main")[2]


def test_wall_time_is_a_table_of_the_page_and_inequality_a_sentence_of_its_summary() -> None:
    rows = (Row("improved (reference)", "arm", ("10", "10.2"), ()),)
    wall = Table("Wall time", "10 minutes a run.", ("arm", "planned (min)", "taken (min)"), rows, ("Planned: so.",))
    made = content(walltime=wall, unequal="The arms' wall times were not equal: so.")
    for text in (as_html(made), as_markdown(made), as_latex(made)):
        assert "10 minutes a run." in text
        assert "10.2" in text
    assert "The arms' wall times were not equal: so." in summary.sentences(made)
    assert "Wall time" not in as_html(content()) + as_markdown(content()) + as_latex(content())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--arm", "smoke", "--arm", "b = smoke vae.blocks=2", "--components", "ema"), "leave --components out"),
        (("--arm", "smoke", "--arm", "b = smoke vae.blocks=2", "--recipe", "paper"), "leave --recipe out"),
        (("--arm", "smoke", "--arm", "paper", "--design", "factorial"), "--arm goes with --design arms"),
        (("--design", "arms"), "--arm twice or more"),
    ],
)
def test_options_that_contradict_an_arm_are_refused_before_anything_is_made(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    from latentsweep.commands.app import app

    done = CliRunner().invoke(app, ["ablate", "--dataset", "demo", *words, "--home", str(tmp_path / "runs")])
    assert message in str(done.exception) + done.output
    assert not (tmp_path / "runs").exists()

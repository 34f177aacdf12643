"""Equal wall time: what minutes become, what arms go on sharing, and what is said of what they took."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import THIN, TINY, cli
from mlflow import MlflowClient
from processes import Job

from latentsweep.ablation.design import walltime
from latentsweep.ablation.design.arms import given_arms
from latentsweep.ablation.design.components import chosen
from latentsweep.ablation.design.contrasts import Design, design_of, of_whole
from latentsweep.ablation.design.plan import AblationPlan, needed
from latentsweep.ablation.design.walltime import WallTime, allotted, inequality, timings
from latentsweep.ablation.page.tables import walltime_table
from latentsweep.jobs import ablation_results
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.recipes import SMOKE

SLICES = {"subject": 700, "slice": 720}
VAE, DENOISER = 0.2, 0.05
ARMS = ("smoke", "small = smoke vae.latent_channels=4", "late = smoke diffusion.steps=1200 diffusion.min_snr_gamma=3")


def seconds(design: Design) -> dict[str, float]:
    """Step times: those of arms whose denoiser has another loss weighting are twice as long."""
    return {
        key: VAE if section == "vae" else DENOISER * (2 if arm.recipe.diffusion.min_snr_gamma == 3 else 1)
        for key, (arm, section) in timings(design).items()
    }


def plan(**changes: Any) -> AblationPlan:
    arms = given_arms(ARMS, ())
    fields: dict[str, Any] = {"arms": arms, "minutes": 10.0} | changes
    return AblationPlan("demo", "f" * 16, "smoke", arms[0].recipe, "arms", (), 0, "test", "w" * 64, **fields)


def wall(made: AblationPlan) -> WallTime:
    arms = allotted(made.design, made.minutes or 0, seconds(made.design), SLICES)
    return WallTime(arms, 1, 2, "two cores", "2026-11-23T16:00:00+00:00")


def test_minutes_are_shared_as_the_recipe_does_and_filled_to_the_last_step() -> None:
    design = of_whole(given_arms(ARMS, ()))
    found = allotted(design, 10, seconds(design), SLICES)
    smoke = found["smoke"]
    share = 1100 * VAE / (1100 * VAE + 600 * DENOISER)
    assert smoke.vae_steps == int(600 * share / VAE)
    for each in found.values():
        assert 600 - each.denoiser_step < 60 * sum(each.minutes) <= 600 + 1e-6
    assert smoke.changes == {
        "vae.max_steps": smoke.vae_steps,
        "diffusion.steps": smoke.denoiser_steps,
    }


def test_arms_of_one_autoencoder_go_on_sharing_it_at_the_references_split() -> None:
    made = plan()
    arms = wall(made).arms
    assert arms["late"].vae_steps == arms["smoke"].vae_steps
    assert arms["late"].denoiser_steps == pytest.approx(arms["smoke"].denoiser_steps / 2, abs=1)
    jobs = made.jobs(range(3), wall(made).changes)
    assert (needed(jobs)["vae"], needed(jobs)["denoiser"]) == (6, 9)


def test_arms_that_differ_at_sampling_alone_go_on_training_nothing() -> None:
    design = design_of(SMOKE, chosen(["early-stop", "cutmix"]), "leave-one-out")
    found = allotted(design, 10, seconds(design), SLICES)
    assert found["full"] == found["without early-stop"]
    made = AblationPlan(
        "demo", "f" * 16, "smoke", SMOKE, "leave-one-out", ("early-stop", "cutmix"), 0, "test", "w" * 64, minutes=10.0
    )
    changes = {name: each.changes for name, each in found.items()}
    counts = needed(made.jobs([0], changes))
    assert (counts["vae"], counts["denoiser"], counts["samples"]) == (1, 2, 2)


def test_epochs_rise_where_they_would_end_a_training_before_its_minutes() -> None:
    design = of_whole(
        given_arms(("a = smoke vae.epochs=2 vae.max_steps=null", "b = smoke vae.latent_channels=4"), ())
    )
    found = allotted(design, 10, seconds(design), SLICES)["a"]
    per_epoch = 700 // 8
    assert found.changes["vae.epochs"] == -(-found.vae_steps // per_epoch)
    assert found.vae_steps > 2 * per_epoch
    made = SMOKE.replace(**{"vae.epochs": 2, **found.changes})
    assert walltime.vae_steps(made.vae, 700) == found.vae_steps


def test_arms_are_timed_once_for_each_thing_that_a_step_depends_on() -> None:
    arms = ("smoke", "b = smoke diffusion.ema_decay=0.99 vae.learning_rate=1e-4", "c = smoke vae.latent_channels=4")
    found = [(arm.name, section) for arm, section in timings(of_whole(given_arms(arms, ()))).values()]
    assert found == [("smoke", "vae"), ("smoke", "diffusion"), ("c", "vae"), ("c", "diffusion")]


def test_too_few_minutes_are_one_line_with_the_measured_times() -> None:
    design = of_whole(given_arms(ARMS, ()))
    with pytest.raises(ConfigError, match=r"leaves 'smoke' 0 steps of 0.2 s for its autoencoder.*give more minutes"):
        allotted(design, 0.001, seconds(design), SLICES)


def test_the_minutes_are_part_of_the_study_and_what_they_became_is_not() -> None:
    assert len({plan().name, plan(minutes=20.0).name, plan(minutes=None).name}) == 3
    assert "minutes" not in plan(minutes=None).to_plain()
    assert "--minutes 10.0" in ablation_results.command_of(plan(), 3)


def test_what_was_measured_is_read_back_as_it_was_and_damage_is_one_line(tmp_path: Path) -> None:
    assert WallTime.read(tmp_path) is None
    found = wall(plan())
    found.write(tmp_path)
    assert WallTime.read(tmp_path) == found
    (tmp_path / walltime.FILE).write_text('{"arms": {"a": {}}}')
    with pytest.raises(DataError, match=r"walltime\.json must hold the steps"):
        WallTime.read(tmp_path)


def test_a_dry_run_says_that_steps_are_to_be_measured_or_what_they_became(tmp_path: Path) -> None:
    made = plan()
    before = ablation_results.as_text(ablation_results.forecast(made, Store(tmp_path), 3))
    assert "10 minutes a run" in before
    assert "measured when the study is first run" in before
    found = wall(made)
    told = ablation_results.forecast(made, Store(tmp_path), 3, found)
    assert json.loads(json.dumps(told))["steps"]["smoke"] == dict(found.arms["smoke"].changes)
    assert f"diffusion.steps={found.arms['late'].denoiser_steps}" in ablation_results.as_text(told)
    late = next(arm["changes"] for arm in told["arms"] if arm["arm"] == "late")
    assert late == {"diffusion.min_snr_gamma": 3.0, "diffusion.steps": found.arms["late"].denoiser_steps}
    assert "minutes" not in ablation_results.forecast(plan(minutes=None), Store(tmp_path), 3)


def test_a_study_of_minutes_has_nothing_in_the_store_before_its_steps_are_known(tmp_path: Path) -> None:
    made = plan()
    keys = made.jobs([0])[0].keys
    store = Store(tmp_path)
    for key in (keys.vae, keys.reference):
        store.obtain(key, lambda folder: {})
    assert ablation_results.forecast(made, store, 1)["in_store"] == {"reference": 1}


TOOK = {"smoke": [(2.0, 8.0), (2.2, 8.2)], "small": [(2.0, 8.5), (2.0, 8.6)], "late": [(2.0, 8.0), (2.2, 8.2)]}


@pytest.mark.parametrize(
    ("took", "words"),
    [
        ({}, ""),
        ({"smoke": [(1.0, 2.0)]}, ""),
        (TOOK, ""),
        (
            TOOK | {"small": [(2.0, 9.0), (2.0, 9.6)]},
            "the trainings of small took 11.3 minutes on average, 11 % more",
        ),
    ],
)
def test_a_spread_of_more_than_a_tenth_is_said_in_words(
    took: Mapping[str, list[tuple[float, float]]], words: str
) -> None:
    said = inequality(took)
    assert words in said
    assert bool(words) == bool(said)


def test_the_table_has_planned_and_taken_minutes_of_each_arm() -> None:
    made = plan()
    shown = walltime_table(made, wall(made), {name: TOOK[name] for name in ("smoke", "small")})
    rows = {row.name: dict(zip(shown.header[1:], row.cells, strict=True)) for row in shown.rows}
    assert set(rows) == {"smoke (reference)", "small", "late"}
    assert rows["smoke (reference)"]["planned (min)"] == "10"
    assert rows["smoke (reference)"]["taken (min)"] == "10.2"
    assert rows["small"]["of it denoiser"] == "8.55"
    assert rows["late"]["taken (min)"] == "–"
    text = shown.as_markdown()
    assert "2 at once with 1 thread each" in text
    assert "within 10 % of each other" in text


def words(seeds: int) -> list[str]:
    arms = ["--arm", "small = smoke", "--arm", "two blocks = smoke diffusion.blocks=2"]
    return ["ablate", "--dataset", "demo", *arms, "--minutes", "0.1", "--seeds", str(seeds), *TINY, *THIN]


@pytest.mark.ray
@pytest.mark.slow
def test_a_study_of_minutes_measures_once_and_keeps_its_steps_through_a_kill_and_more_seeds(
    measured_demo: Path, tmp_path: Path
) -> None:
    home = shutil.copytree(measured_demo, tmp_path / "runs")
    assert "measured when the study is first run" in cli(home, *words(1), "--dry-run").stdout
    job = Job.start(home, *words(1))
    job.wait_for(lambda: list(home.glob(f"ablations/*/{walltime.FILE}")))
    os.killpg(job.process.pid, signal.SIGKILL)
    job.process.wait()
    (path,) = home.glob(f"ablations/*/{walltime.FILE}")
    kept = path.read_bytes()

    said = json.loads(cli(home, *words(1), "--json").stdout)
    more = json.loads(cli(home, *words(2), "--json").stdout)
    assert path.read_bytes() == kept
    assert more["study"] == said["study"] == path.parent.name
    assert {name: len(arm["taken"]) for name, arm in more["wall_time"]["arms"].items()} == {
        "small": 2,
        "two blocks": 2,
    }

    arms = WallTime.read(path.parent).arms  # type: ignore[union-attr]
    entries = [entry.manifest for entry in Store(home / "store").entries()]
    trained = {
        (m["inputs"]["diffusion"]["blocks"], m["inputs"]["diffusion"]["steps"], m["inputs"]["seed"])
        for m in entries
        if m["stage"] == "denoiser"
    }
    assert trained == {
        (blocks, arms[name].denoiser_steps, seed)
        for blocks, name in ((1, "small"), (2, "two blocks"))
        for seed in (0, 1)
    }
    vaes = [m["inputs"] for m in entries if m["stage"] == "vae"]
    assert [(each["seed"], each["vae"]["max_steps"]) for each in sorted(vaes, key=lambda each: each["seed"])] == [
        (seed, arms["small"].vae_steps) for seed in (0, 1)
    ]

    assert f"diffusion.steps={arms['small'].denoiser_steps}" in cli(home, *words(2), "--dry-run").stdout
    page = (path.parent / "ablation.md").read_text()
    assert "**Wall time.** 0.1 minutes a run" in page
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    kinds = {run.data.tags["latentsweep.kind"]: run for run in runs}
    assert kinds["ablation"].data.params["minutes"] == "0.1"
    assert walltime.FILE in {file.path for file in client.list_artifacts(kinds["ablation"].info.run_id)}
    assert len(runs) == 5
    for run in runs:
        if run.data.tags["latentsweep.kind"] == "ablation-run":
            steps = arms[run.data.tags["latentsweep.arm"]].denoiser_steps
            assert run.data.params["diffusion.steps"] == str(steps)
            assert run.data.metrics["cost/autoencoder_seconds"] > 0

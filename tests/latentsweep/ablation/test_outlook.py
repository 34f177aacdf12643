"""What a study could show, said before it is trained: from the noise that the store knows, or stated defaults."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latentsweep.ablation.design.plan import AblationPlan
from latentsweep.jobs import ablation_outlook, ablation_results
from latentsweep.jobs.ablation_outlook import Noise, known_noise, power_words
from latentsweep.storage.bucket import NOWHERE, Bucket, Place
from latentsweep.storage.entries import MANIFEST, StageKey
from latentsweep.storage.store import Store
from trainables.errors import ConfigError
from trainables.measures.distances import kernel_by_group, kernel_distance
from trainables.recipes import SMOKE

SUBJECTS = [f"s{g}" for g in range(8) for _ in range(5)]


def plan(**changes: Any) -> AblationPlan:
    names = ("channels", "cutmix")
    return AblationPlan("demo", "f" * 16, "smoke", SMOKE, "leave-one-out", names, 0, "test", "w" * 64, **changes)


def filled(folder: Path, monkeypatch: pytest.MonkeyPatch, place: Place = NOWHERE) -> Store:
    """A store with three seeds of each arm, whose KID comes from features; the arms lie apart, the seeds a little."""
    generator = np.random.default_rng(0)
    real = 0.3 * generator.normal(size=(8, 4)).repeat(5, axis=0) + generator.normal(size=(40, 4))

    def load(folder: Path) -> Any:
        assert (folder / MANIFEST).exists(), "the reference isn't on this machine"
        return SimpleNamespace(features=real, subjects=SUBJECTS)

    monkeypatch.setattr(ablation_outlook, "Reference", SimpleNamespace(load=load))
    store = Store(folder, place)
    for place, job in enumerate(plan().jobs(range(3))):
        made = generator.normal(size=(40, 4)) + (2 + place % 3) * np.eye(4)[place % 3]
        point = {
            "threshold": 0.0,
            "metrics": {"gen/kid": 1000 * kernel_distance(made, real)},
            "kernel_by_subject": kernel_by_group(made, real, SUBJECTS),
        }
        for key in reversed(list(job.keys.evaluation.lineage())):
            store.obtain(key, lambda _, point=point: {"points": [point]})
    return store


def test_the_noise_is_that_of_seeds_of_one_configuration_and_of_other_subjects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, monkeypatch)
    kids = np.array(
        [
            [
                store.find(job.keys.evaluation).summary["points"][0]["metrics"]["gen/kid"]
                for job in plan().jobs([seed])
            ]  # type: ignore[union-attr]
            for seed in range(3)
        ]
    )
    found = known_noise(store, plan())
    assert found.configurations == 3
    assert found.spread == pytest.approx(math.sqrt(np.log(kids).var(axis=0, ddof=1).mean()))
    assert found.subjects == 8
    assert found.se_subjects is not None
    assert 0 < found.se_subjects < 1
    assert known_noise(store, AblationPlan("other", "0" * 16, *plan_fields())) == Noise()


def test_the_noise_is_known_on_a_machine_to_which_a_bucket_must_bring_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(f"file://{tmp_path}/bucket")
    here = known_noise(filled(tmp_path / "a", monkeypatch, bucket), plan())
    there = Store(tmp_path / "b", bucket)
    assert known_noise(there, plan()) == here
    assert [path.parent.parent.name for path in there.root.glob(f"*/*/{MANIFEST}")] == ["reference"]


@pytest.mark.parametrize("stage", ["evaluation", "reference", "denoiser"])
def test_one_run_that_two_versions_measured_or_trained_is_not_two_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    store = filled(tmp_path, monkeypatch)
    before = known_noise(store, plan())
    (*_, job) = plan().jobs([0])
    key = with_version(job.keys.evaluation, stage, 99)
    for each in reversed(list(key.lineage())):
        store.obtain(each, lambda _: {"points": [{"threshold": 0.0, "metrics": {"gen/kid": 1000.0}}]})
    assert known_noise(store, plan()) == before


def with_version(key: StageKey, stage: str, version: int) -> StageKey:
    """The key where a stage in its lineage has another version."""
    upstream = tuple(with_version(each, stage, version) for each in key.upstream)
    return replace(key, upstream=upstream, version=version if key.stage == stage else key.version)


def plan_fields() -> tuple[Any, ...]:
    return ("smoke", SMOKE, "leave-one-out", ("channels", "cutmix"), 0, "test", "w" * 64)


def test_the_dry_run_says_what_the_seeds_show_and_where_the_subjects_cap_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path, monkeypatch)
    told = ablation_results.as_text(ablation_results.forecast(plan(), store, 5, noise=known_noise(store, plan())))
    assert "5 seeds show a difference of " in told
    assert "seeds of 3 configurations in the store vary by " in told
    assert "With 8 held-out subjects, no number of seeds shows less than " in told
    assert "standard deviations of a paired difference" not in told


def test_without_anything_in_the_store_the_stated_default_is_taken() -> None:
    words = power_words(plan(), 5, Noise())
    assert words.startswith("5 seeds show a difference of 12 % of the score or more here, in four studies of five")
    assert "seeds are taken to vary by 5 %, as the store knows of none" in words
    assert "What the held-out subjects add isn't known: the store has no such runs yet" in words
    assert power_words(plan(), 1, Noise()).startswith("one seed tells nothing about chance")


def test_more_seeds_show_less_down_to_what_the_subjects_leave() -> None:
    noise = Noise(subjects=10, se_subjects=0.04, df_subjects=8.0)
    words = [power_words(plan(), seeds, noise) for seeds in (3, 8, 500)]
    least = [int(each.split("difference of ")[1].split(" %")[0]) for each in words]
    cap = int(words[0].split("shows less than ")[1].split(" %")[0])
    assert least[0] > least[1] > least[2] == cap


def test_the_margin_is_part_of_a_study_and_its_default_leaves_old_names() -> None:
    assert plan().name == plan(margin=0.1).name != plan(margin=0.2).name
    assert "margin" not in plan().to_plain()
    assert plan(margin=0.2).to_plain()["margin"] == 0.2
    assert "--margin 20" in ablation_results.command_of(plan(margin=0.2), 3)
    assert "--margin" not in ablation_results.command_of(plan(), 3)


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, math.nan])
def test_a_margin_that_is_no_share_is_one_line(margin: float, tmp_path: Path) -> None:
    from latentsweep.ablation.design.plan import plan_of

    data: Any = SimpleNamespace(name="demo", fingerprint="f" * 16, splits=lambda _: ["test"])
    weights: Any = SimpleNamespace(sha256="w" * 64)
    with pytest.raises(ConfigError, match="--margin is a change that doesn't matter, above 0 and below 100 %"):
        plan_of(
            data,
            "smoke",
            SMOKE,
            "leave-one-out",
            ("cutmix",),
            seeds=3,
            tune=0,
            most=9,
            weights=weights,
            margin=margin,
        )

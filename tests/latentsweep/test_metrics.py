"""The table of metrics: it knows all that is recorded, and says of it what every table and judgement needs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_images import SIZE, Shrunk, slices, small_reference

from latentsweep import metrics
from latentsweep.jobs.train import by_split
from latentsweep.metrics import (
    FINALS,
    FLOOR,
    LEADERBOARD,
    METRICS,
    OBJECTIVES,
    REPORT,
    SECONDS_PER_IMAGE,
    STUDY,
    Metric,
    metric_of,
)
from latentsweep.search import leaderboard
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC, measure_arms
from trainables.measures.evaluation import (
    MEASURES,
    EvaluationConfig,
    compare_reconstructions,
    evaluate_generated,
    evaluate_reconstructions,
)
from trainables.measures.memorisation import nearest
from trainables.measures.overlap import evaluate_masks

ROOT = Path(__file__).parents[2]


def made_up_rows() -> list[dict[str, Any]]:
    """Segmentation networks of two seeds on two patients."""
    arms = ((REAL, 0.25), (REAL, 1.0), (SYNTHETIC, 0.0), (BOTH, 0.25), (BOTH, 1.0))
    scores = {"slices": 5, "dice": [0.5, 0.7], "hausdorff": [3.0, 4.0]}
    return [{"arm": arm, "fraction": share, "seed": seed, **scores} for arm, share in arms for seed in (0, 1)]


def recorded() -> set[str]:
    """The name of every number that a run's evaluation measures."""
    config, reference, images = EvaluationConfig(**SIZE), small_reference(), slices(20, 5)
    neighbours, features = nearest(images, slices(60, 1)), Shrunk().features(images)
    used = np.repeat([25, 15], [15, 5])
    sampled = {"steps_used": used, "steps": 25, "remaining": used / 100, "seconds": 40.0}
    return {
        *evaluate_generated(images, features, neighbours, reference, config, **sampled),
        *evaluate_reconstructions(images, images / 127.5 - 1),
        *measure_arms(made_up_rows(), drawn=10, copies=1),
        *evaluate_masks(np.array([[[0]], [[1]]]), np.array([[[1]], [[1]]])),
        *compare_reconstructions(reference.floor_images, reference.floor_features, reference, config),
    }


def names_of(metric: Metric) -> set[str]:
    """A metric's name and those of its partners; where it has a floor, that has partners, too."""
    own = {metric.name, *(metric.name + suffix for suffix in metric.partners if suffix != FLOOR)}
    return own | ({name + FLOOR for name in own} if FLOOR in metric.partners else set())


def test_what_is_measured_and_the_table_are_the_same_names() -> None:
    table = {name for metric in METRICS.values() for name in names_of(metric) if not name.startswith("cost/")}
    stated = {SECONDS_PER_IMAGE.bound}  # by whoever searches, not by what measures
    assert recorded() == table - stated
    taken = EvaluationConfig.__dataclass_fields__["metrics"].metadata["taken"]
    generated = {name.removeprefix("gen/") for name in table if name.startswith("gen/")}
    assert generated <= set(taken), "no plug-in may have the name of one"
    assert {metric.stem for metric in METRICS.values() if metric.name.startswith("gen/")} == {*MEASURES}


def test_every_metric_is_documented() -> None:
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for name in METRICS:
        if not name.startswith("cost/") and (name not in {m.reconstructed for m in metrics.COMPARED}):
            assert f"`{name}`" in documented


def test_no_two_metrics_have_one_label_or_one_place() -> None:
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)
    for place in ("leaderboard", "report", "study"):
        taken = [getattr(metric, place) for metric in METRICS.values() if getattr(metric, place) is not None]
        assert sorted(taken) == list(range(1, len(taken) + 1)), place


def test_the_places_are_filled_in_order() -> None:
    assert [metric.stem for metric in LEADERBOARD] == ["kid", "fid", "steps_mean", "near_copies"]
    assert list(leaderboard.METRICS) == ["gen/kid", "gen/kid_se", "gen/fid", "gen/steps_mean", "gen/near_copies"]
    assert [metric.stem for metric in REPORT] == [
        *("kid", "fid", "steps_mean", "near_copies", "precision", "recall"),
    ]
    assert [metric.name for metric in STUDY] == [
        *("gen/kid", "gen/fid", "gen/swd", "gen/precision", "gen/recall", "gen/near_copies", "gen/memorisation"),
        "recon/psnr",
    ]


def test_the_end_results_have_the_names_that_mlflow_has_always_had() -> None:
    assert FINALS == {
        "gen/kid": "final/kid",
        "gen/kid_se": "final/kid_se",
        "gen/kid_floor": "final/kid_floor",
        "gen/fid": "final/fid",
        "gen/fid_floor": "final/fid_floor",
        "gen/steps_mean": "final/steps_mean",
        "gen/near_copies": "final/near_copies",
        "gen/downstream_dice": "final/downstream_dice",
        "gen/downstream_dice_loss": "final/downstream_dice_loss",
        "gen/downstream_dice_loss_se": "final/downstream_dice_loss_se",
        "recon/ssim": "final/recon_ssim",
        "recon/psnr": "final/recon_psnr",
    }


def test_objectives_keep_their_names_are_better_when_lower_and_are_end_results() -> None:
    assert list(OBJECTIVES) == ["kid", "fid", "memorisation", "steps", "dice"]
    assert [metric.name for metric in OBJECTIVES.values() if metric.rung] == ["gen/kid", "gen/fid", "gen/near_copies"]
    for metric in OBJECTIVES.values():
        assert metric.better == "lower"
        assert metric.final, "the runs' table sorts by the objective"


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("gen/kid", 257.84, "257.8"),
        ("gen/kid", -0.04, "0.0"),
        ("gen/near_copies", 0.0312, "3.1%"),
        ("gen/precision", 0.71428, "0.714"),
        ("gen/samples", 64.0, "64"),
        ("gen/fid", None, "–"),
        ("of/nobody", 0.1234, "0.123"),
    ],
)
def test_a_value_is_written_as_its_row_says(name: str, value: float | None, written: str) -> None:
    assert metric_of(name).format(value) == written


def test_another_number_goes_by_its_own_name_and_is_better_neither_way() -> None:
    other = metric_of("of/nobody")
    assert (other.label, other.better, other.unit) == ("of/nobody", None, "")


def test_a_metrics_name_stands_in_the_table_and_nowhere_else_in_the_product() -> None:
    names = {name for metric in METRICS.values() for name in (*names_of(metric), metric.at_end, metric.at_rungs)}
    found = []
    for folder in ("platform/latentsweep", "mlflow/latentsweep_mlflow"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "metrics.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in names:
                    found.append(f"{path.name}:{node.lineno}: {node.value}")
    assert found == []


def test_measurements_of_a_split_keep_those_of_generated_slices_from_those_of_reconstructions() -> None:
    measured = {"gen/kid": 20.0, "recon/kid": 6.0, "gen/kid_floor": 1.0, "recon/ssim": 0.5}
    assert by_split("test", measured) == {
        "test/kid": 20.0,
        "test/recon/kid": 6.0,
        "test/kid_floor": 1.0,
        "test/ssim": 0.5,
    }

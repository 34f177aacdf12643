"""The paper's tables: recorded trainings on the test split beside what is known of the paper."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from latentsweep.configuration import Configuration
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.pages.tables import Table
from latentsweep.report import paper_tables
from latentsweep.stages.pipeline import Keys, keys_of
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.recipes import recipe_named


def built(records: list[dict[str, float]], summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "records.json").write_text(json.dumps(records))
    return summary


def trained(home: Home, dataset: str = "my_scans") -> dict[str, Keys]:
    """A recorded training, measured on both held-out splits."""
    recipe = recipe_named("smoke")
    store, folder = Store(home.store), home.writable(home.trained / f"{dataset}-1a2b3c4d")
    Configuration(dataset, 0, recipe).write(folder / "config.yaml")
    keys = {split: keys_of(recipe, "f" * 64, 0, "a" * 64, split) for split in ("validation", "test")}
    records: dict[str, list[dict[str, float]]] = {
        "vae": [{"step": 1, "train/loss": 9.0}, {"step": 2, "val/loss": 0.5}, {"step": 4, "val/loss": 0.125}],
        "denoiser": [{"step": 2, "val/mse": 1.0}, {"step": 4, "val/mse": 0.25}, {"step": 6, "val/mse": 0.5}],
    }
    for split, ours in keys.items():
        fid = 40.0 if split == "validation" else 50.125
        scores = {"gen/paper_ssim": 0.4321, "gen/paper_psnr": 15.678, "gen/fid": fid, "gen/samples": 64.0}
        summaries: dict[str, dict[str, Any]] = {
            "reference": {"split": split},
            "evaluation": {
                "points": [
                    {"threshold": 0.05, "metrics": {"gen/fid": 99.0}},
                    {"threshold": recipe.sampling.early_stop_threshold, "metrics": scores},
                ]
            },
        }
        for key in reversed(list(ours.evaluation.lineage())):
            store.obtain(key, functools.partial(built, records.get(key.stage, []), summaries.get(key.stage, {})))
    write_json(folder / "uses.json", sorted({name for ours in keys.values() for name in ours.names()}))
    return keys


def texts(table: Table) -> list[tuple[str, ...]]:
    return [(row.name, *row.cells) for row in table.rows]


def test_losses_are_the_first_and_the_best_validation_and_their_reduction(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    ours, paper = texts(paper_tables(home).losses)
    assert ours == ("my_scans", "my_scans-1a2b3c4d", "0.5", "0.125", "75 %", "1", "0.25", "75 %")
    assert paper[-3:] == ("≈ 60", "7.84", "82–95 %")
    assert set(paper[2:5]) == {"–"}, "what isn't known of the paper is a dash"


def test_quality_is_that_of_the_test_split_under_the_trainings_own_threshold(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    ours, paper = texts(paper_tables(home).quality)
    assert ours[2:7] == ("by subject", "64", "0.432", "15.68", "50.12")
    assert "317.17" in paper
    assert "nothing to do with each other" in paper_tables(home).quality.caption


def test_the_caption_says_how_often_others_used_each_test_split(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    said = "The test split of my_scans was used in {} earlier decision{}."
    assert said.format(0, "s (none on record)") in paper_tables(home).quality.caption
    for name, prepared in (("my_scans-1a2b3c4d", "f"), ("a study", "f"), ("a study of another", "e")):
        dataset = PreparedDataset("my_scans", home.datasets / "my_scans", {"fingerprint": prepared * 64})
        note_use(home, dataset, "study", name, "test", "subject")
    assert said.format(1, "") in paper_tables(home).quality.caption


@pytest.mark.parametrize("freed", ["vae", "denoiser", "reference", "evaluation"])
def test_a_freed_result_leaves_dashes(tmp_path: Path, freed: str) -> None:
    home = Home(tmp_path)
    keys = trained(home)
    for ours in keys.values():
        Store(home.store).remove(getattr(ours, freed).name)
    tables = paper_tables(home)
    assert "–" in texts(tables.losses if freed in ("vae", "denoiser") else tables.quality)[0]


def test_a_home_without_trainings_has_the_papers_row_alone(tmp_path: Path) -> None:
    tables = paper_tables(Home(tmp_path))
    assert len(tables.losses.rows) == len(tables.quality.rows) == 1
    assert "317.17" in tables.as_markdown()
    assert "\\toprule" in tables.as_latex()


def test_latex_is_escaped_and_every_row_is_complete(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    text = paper_tables(home).as_latex()
    assert text.isascii(), "no character that needs a package"
    assert "my\\_scans" in text
    assert "75 \\%" in text
    for table in text.split("\\begin{tabular}")[1:]:
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert len({line.count(" & ") for line in rows}) == 1
        assert rows[0].count(" & ") + 1 == len(table[1 : table.index("}")])

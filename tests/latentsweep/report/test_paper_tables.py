"""The paper's tables: recorded trainings on the test split beside what is known of the paper."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from latentsweep.configuration import Configuration
from latentsweep.datasets.ledger import note_use
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.pages.tables import Table
from latentsweep.report import paper_tables
from latentsweep.report.paper_tables import losses_cells
from latentsweep.stages.keys import Keys, keys_of
from latentsweep.storage.home import Home, write_json
from latentsweep.storage.store import Store
from trainables.recipes import recipe_named


def built(records: list[dict[str, float]], summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    (folder / "records.json").write_text(json.dumps(records))
    return summary


UNTRAINED: dict[str, dict[str, float]] = {"vae": {"val/loss": 1.0}, "denoiser": {"val/mse": 1.25}}
"""What the two trainings record at step 0."""


def trained(
    home: Home, dataset: str = "my_scans", *, older: bool = False, sd: bool = True, copies: int = 0
) -> dict[str, Keys]:
    """A recorded training, measured on both held-out splits; an ``older`` one without the untrained losses."""
    recipe = recipe_named("smoke")
    store, folder = Store(home.store), home.writable(home.trained / f"{dataset}-1a2b3c4d")
    Configuration(dataset, 0, recipe).write(folder / "config.yaml")
    fingerprint = hashlib.sha256(dataset.encode()).hexdigest()
    keys = {split: keys_of(recipe, fingerprint, 0, "a" * 64, split) for split in ("validation", "test")}
    records: dict[str, list[dict[str, float]]] = {
        "vae": [{"step": 1, "train/loss": 9.0}, {"step": 2, "val/loss": 0.5}, {"step": 4, "val/loss": 0.125}],
        "denoiser": [{"step": 2, "val/mse": 1.0}, {"step": 4, "val/mse": 0.25}, {"step": 6, "val/mse": 0.5}],
    }
    if not older:
        records = {stage: [{"step": 0, **UNTRAINED[stage]}, *found] for stage, found in records.items()}
    for split, ours in keys.items():
        fid = 40.0 if split == "validation" else 50.125
        scores = {
            "gen/paper_ssim": 0.4321,
            "gen/paper_psnr": 15.678,
            "gen/fid": fid,
            "gen/samples": 64.0,
            "gen/near_copies": copies / 64,
            "gen/near_copies_bound": 2 / 64,
            "gen/reference_samples": 139.0,
            "recon/ssim": 0.8118,
            "recon/ssim_sd": 0.0512,
            "recon/psnr": 24.317,
        }
        if sd:
            scores |= {"gen/paper_ssim_sd": 0.0987, "gen/paper_psnr_sd": 1.234}
        summaries: dict[str, dict[str, Any]] = {
            "latents": {"rows": 1865},
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


def row(table: Table, training: str) -> dict[str, str]:
    """A training's row by its headings; those of the same name are numbered from the second on."""
    found = next(cells for cells in texts(table) if cells[1].startswith(training))
    heads = [f"{head} {table.header[:at].count(head) + 1}".removesuffix(" 1") for at, head in enumerate(table.header)]
    return dict(zip(heads, found, strict=True))


def test_losses_are_the_untrained_and_the_best_validation_and_their_reduction(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    ours = row(paper_tables(home).losses, "my_scans")
    assert list(ours.values())[2:] == ["1,865", "1", "0.125", "87.5 %", "1.25", "0.25", "80.0 %"]
    assert list(ours)[3:] == [
        *("VAE, untrained", "VAE, best", "reduction"),
        *("diffusion, untrained", "diffusion, best", "reduction 2"),
    ]


def test_an_older_training_shows_its_first_validation_and_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home, older=True)
    table = paper_tables(home).losses
    ours = row(table, "my_scans")
    assert (ours["VAE, untrained"], ours["reduction"]) == ("0.5 (step 2)", "75.0 %")
    assert (ours["diffusion, untrained"], ours["reduction 2"]) == ("1 (step 2)", "75.0 %")
    assert "of the first validation, with its step" in table.caption


def test_a_training_whose_plug_in_is_gone_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    trained(home)
    trained(home, "other_scans")
    path = home.trained / "other_scans-1a2b3c4d" / "config.yaml"
    path.write_text(path.read_text().replace("frequency_loss: complex_l1", "frequency_loss: huber"))
    found = texts(paper_tables(home).losses)
    assert {cells[0] for cells in found} >= {"my_scans"}
    assert "other_scans" not in {cells[0] for cells in found}
    (warned,) = caplog.messages
    assert warned.startswith("the training other_scans-1a2b3c4d is not looked at: ")
    assert "got 'huber'; if it is a plug-in, install its package here" in warned


def test_an_untrained_loss_is_never_the_best(tmp_path: Path) -> None:
    records = [{"step": 0.0, "val/mse": 0.5}, {"step": 3.0, "val/mse": 2.0}, {"step": 6.0, "val/mse": 1.0}]
    assert losses_cells(records, "val/mse") == ("0.5", "1", "−100.0 %")


def test_the_papers_values_are_its_own_per_dataset(tmp_path: Path) -> None:
    tables = paper_tables(Home(tmp_path))
    assert texts(tables.losses) == [
        ("brats_flair", "the paper", "31,938", "–", "0.0036", "–", "≈ 59", "10.35", "82.5 %"),
        ("brats_t1ce", "the paper", "8,149", "–", "0.0062", "–", "≈ 51", "2.67", "94.8 %"),
        ("kaggle", "the paper", "1,616", "–", "0.0297", "–", "≈ 57", "7.84", "86.3 %"),
    ]
    unknown = ("–", "–")
    assert texts(tables.quality) == [
        *(
            (name, "the paper", "by slice", "200", "200", ssim, psnr, fid, "–", *unknown, *reconstructed)
            for name, ssim, psnr, fid, reconstructed in (
                ("brats_flair", "0.6573 ± 0.0447", "16.11 ± 1.69", "147.53", unknown),
                ("brats_t1ce", "0.1377 ± 0.0717", "11.49 ± 1.45", "395.33", unknown),
                ("kaggle", "0.1437 ± 0.0494", "13.32 ± 2.48", "317.17", ("0.2534 ± –", "5.52 ± –")),
            )
        )
    ]


def test_a_training_stands_above_the_papers_row_of_its_dataset(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for dataset in ("kaggle", "my_scans", "brats_flair"):
        trained(home, dataset)
    for table in paper_tables(home):
        assert [f"{each.name} {each.kind}" for each in table.rows] == [
            *("brats_flair training", "brats_flair paper", "brats_t1ce paper"),
            *("kaggle training", "kaggle paper", "my_scans training"),
        ]


def test_quality_is_that_of_the_test_split_under_the_trainings_own_threshold(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    table = paper_tables(home).quality
    ours = row(table, "my_scans")
    assert (ours["split rule"], ours["generated"], ours["real slices"]) == ("by subject", "64", "139")
    assert (ours["SSIM ± sd"], ours["PSNR (dB) ± sd"]) == ("0.4321 ± 0.0987", "15.68 ± 1.23")
    assert (ours["FID"], ours["FID floor"], ours["KID ×1000"]) == ("50.12", "–", "–")
    reconstructed = ours["SSIM of reconstructions ± sd"], ours["PSNR of reconstructions (dB) ± sd"]
    assert reconstructed == ("0.8118 ± 0.0512", "24.32 ± –")
    for said in ("nothing to do with each other", "the whole test split", "other numbers of slices", "split rule"):
        assert said in table.caption


def test_a_result_from_before_spreads_were_recorded_has_a_dash_for_them(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home, sd=False)
    ours = row(paper_tables(home).quality, "my_scans")
    assert (ours["SSIM ± sd"], ours["PSNR (dB) ± sd"]) == ("0.4321 ± –", "15.68 ± –")


def test_the_caption_says_how_often_others_used_each_test_split(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    said = "The test split of my_scans was used in {} earlier decision{}."
    assert said.format(0, "s (none on record)") in paper_tables(home).quality.caption
    own = hashlib.sha256(b"my_scans").hexdigest()
    for name, prepared in (("my_scans-1a2b3c4d", own), ("a study", own), ("a study of another", "e" * 64)):
        dataset = PreparedDataset("my_scans", home.datasets / "my_scans", {"fingerprint": prepared})
        note_use(home, dataset, "study", name, "test", "subject")
    assert said.format(1, "") in paper_tables(home).quality.caption


def test_a_note_names_what_the_guards_refuse(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    trained(home, "copied", copies=37)
    tables = paper_tables(home)
    note = "The guards refuse copied-1a2b3c4d: copies 37 of 64 (bound 2)."
    assert tables.quality.notes == (note,)
    assert note in tables.as_markdown()
    assert note in tables.as_latex()


@pytest.mark.parametrize("freed", ["vae", "latents", "denoiser", "reference", "evaluation"])
def test_a_freed_result_leaves_dashes(tmp_path: Path, freed: str) -> None:
    home = Home(tmp_path)
    keys = trained(home)
    for ours in keys.values():
        Store(home.store).remove(getattr(ours, freed).name)
    tables = paper_tables(home)
    table = tables.quality if freed in ("reference", "evaluation") else tables.losses
    assert list(row(table, "my_scans").values()).count("–") >= (1 if freed == "latents" else 3)


def test_a_home_without_trainings_has_the_papers_rows_alone(tmp_path: Path) -> None:
    tables = paper_tables(Home(tmp_path))
    assert len(tables.losses.rows) == len(tables.quality.rows) == 3
    assert "317.17" in tables.as_markdown()
    assert "\\toprule" in tables.as_latex()


def test_latex_is_escaped_and_every_row_is_complete(tmp_path: Path) -> None:
    home = Home(tmp_path)
    trained(home)
    text = paper_tables(home).as_latex()
    assert text.isascii(), "no character that needs a package"
    assert "my\\_scans" in text
    assert "80.0 \\%" in text
    for table in text.split("\\begin{tabular}")[1:]:
        rows = [line for line in table.splitlines() if line.endswith("\\\\")]
        assert len({line.count(" & ") for line in rows}) == 1
        assert rows[0].count(" & ") + 1 == len(table[1 : table.index("}")])

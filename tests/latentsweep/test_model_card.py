"""The card that ``train`` leaves beside a model says what is known of it, from the tables, and claims no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from disc_dataset import plant_discs
from small_dataset import plant

from latentsweep.configuration import Configuration
from latentsweep.datasets.slices import JOINT
from latentsweep.jobs import model_card
from latentsweep.jobs.model_card import (
    CARD,
    PICTURE,
    SHOWN,
    UNSTATED,
    Grid,
    card,
    grid_of,
    recipe_rows,
    stated_licence,
    write_card,
)
from latentsweep.jobs.train import Retraining, Training
from latentsweep.metrics import COMPARED
from latentsweep.stages.samples import IMAGES
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import Home
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.loop.checkpoint import save_tensors
from trainables.measures.weights import InceptionWeights
from trainables.recipes import IMPROVED, Recipe

RECIPE = IMPROVED.replace(**{"data.image_size": 64, "diffusion.steps": 30, "sampling.early_stop_threshold": 0.25})
HONEST = {
    "gen/kid": 20.04,
    "gen/kid_floor": 1.5,
    "gen/kid_low": 17.0,
    "gen/kid_high": 23.0,
    "recon/kid": 6.0,
    "recon/ssim": 0.91,
    "gen/samples": 64.0,
    "gen/near_copies": 0.0,
    "gen/near_copies_bound": 2 / 64,
    "gen/memorisation": 0.93,
}
COPYIST = HONEST | {"gen/near_copies": 0.5}
NOTHING = Grid(np.empty((0, 8, 8), np.uint8), 0)


def training(folder: Path, metrics: Mapping[str, float] = HONEST, recipe: Recipe = RECIPE, **origin: Any) -> Training:
    home = Home(folder / "runs")
    job = Retraining(
        home,
        Configuration("tiny", 7, recipe, origin=origin),
        plant_discs(home, "tiny", side=64, labelled=True) if recipe.data.mask else plant(home),
        InceptionWeights(Path("not-needed"), "0" * 64),
    )
    job.folder.mkdir(parents=True, exist_ok=True)
    point = {"threshold": recipe.sampling.early_stop_threshold, "metrics": dict(metrics)}
    measured = Entry("evaluation/0", Path("unused"), {"summary": {"points": [point]}})
    return Training(job, dict.fromkeys(job.keys, measured), {}, True, [])


def front(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_its_front_matter_is_what_a_hub_reads_and_claims_no_licence(tmp_path: Path) -> None:
    said = front(card(training(tmp_path), NOTHING))
    assert said["license"] == "unknown"
    assert said["library_name"] == "latentsweep"
    assert said["pipeline_tag"] == "unconditional-image-generation"
    assert all(isinstance(tag, str) for tag in said["tags"])


def test_scores_come_with_interval_floor_and_reconstructions(tmp_path: Path) -> None:
    text = card(training(tmp_path), NOTHING)
    assert row(text, "KID ×1000") == ["KID ×1000", "lower", "20.0", "17.0 to 23.0", "1.5", "6.0"]
    assert row(text, "SSIM of reconstructions")[2:] == ["–", "–", "–", "0.91"]
    absent = [metric.label for metric in COMPARED[1:]]
    assert not any(f"| {label} |" in text for label in absent)


def test_it_names_the_data_by_counts_and_fingerprint_and_no_place_or_subject(tmp_path: Path) -> None:
    text = card(training(tmp_path), NOTHING)
    assert row(text, "train") == ["train", "3", "3"]
    assert "`of tiny`" in text
    assert "No subject is in two splits" in text
    assert str(tmp_path) not in text
    by_slice = card(training(tmp_path, recipe=RECIPE.replace(**{"data.split": "slice"})), NOTHING)
    assert "of subjects that the training saw" in by_slice


def test_it_lists_the_fields_that_differ_from_the_default(tmp_path: Path) -> None:
    text = card(training(tmp_path), NOTHING)
    assert row(text, "`diffusion.steps`") == ["`diffusion.steps`", str(IMPROVED.diffusion.steps), "30"]
    assert "`diffusion.prediction`" not in text
    assert "seed 7" in text
    assert "demo-smoke-1, configuration 4" in card(training(tmp_path, sweep="demo-smoke-1", trial=4), NOTHING)


def test_an_interval_without_recorded_ends_is_that_of_the_standard_error(tmp_path: Path) -> None:
    measured = {"gen/kid": 20.0, "gen/kid_se": 1.0}
    assert row(card(training(tmp_path, measured), NOTHING), "KID ×1000")[3] == "18.0 to 22.0"


def test_a_model_with_masks_says_what_it_draws_and_what_it_was_trained_on(tmp_path: Path) -> None:
    told = {"diffusion.lesion_condition": True, "diffusion.label_condition": ["grade"]}
    recipe = RECIPE.replace(**{"data.mask": True, **told})
    done = training(tmp_path, recipe=recipe)
    text = card(done, NOTHING)
    assert "64×64 pixels, each with its lesion mask," in text
    assert "# uint8 (16, 2, 64, 64)" in text
    assert "are in `images/masks`" in text
    assert "--lesion small" in text
    assert "--label grade=…" in text
    assert "told these labels: grade." in text
    assert JOINT in done.job.fingerprint
    assert f"fingerprint `{done.job.fingerprint}`" in text
    plain = card(training(tmp_path / "plain"), NOTHING)
    assert "# uint8 (16, 64, 64)" in plain
    assert "mask" not in plain
    assert "--lesion" not in plain
    assert "--label" not in plain


def test_a_model_that_draws_by_a_plug_in_names_what_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = training(tmp_path)
    monkeypatch.setattr(SamplingConfig, "chosen_plugins", lambda self, field: {"theirs": print})
    text = card(done, NOTHING)
    assert "It draws by theirs of another package, so `sampler.py` refuses it" in text
    assert "latentsweep sample . --count 16" in text
    assert "sampler.open_model" not in text


def test_a_field_of_a_plug_in_has_no_default_to_differ_from() -> None:
    fields = IMPROVED.to_dict()
    fields["diffusion"] |= {"denoiser": "theirs", "theirs_width": 5}
    rows = list(recipe_rows(SimpleNamespace(to_dict=lambda: fields)))  # type: ignore[arg-type]
    assert rows == [("diffusion.denoiser", "unet", "theirs"), ("diffusion.theirs_width", "–", "5")]


def test_it_says_first_what_the_guards_refuse(tmp_path: Path) -> None:
    assert "passed" in row(card(training(tmp_path), NOTHING), "near copies")
    text = card(training(tmp_path, COPYIST), NOTHING)
    assert "copies 32 of 64 (bound 2)" in text.split("## Draw slices")[0]
    assert "refused" in row(text, "near copies")


@pytest.mark.parametrize(
    ("left_out", "words"), [(0, "None is a near copy"), (1, "a near copy of training slices was left out (1)")]
)
def test_it_says_how_many_near_copies_the_grid_leaves_out(tmp_path: Path, left_out: int, words: str) -> None:
    assert words in card(training(tmp_path), Grid(np.zeros((2, 8, 8), np.uint8), left_out))
    assert "No slices are shown" in card(training(tmp_path), NOTHING)


class Measured:
    """A pipeline whose samples are ``images``, the first of which are also its training slices."""

    recipe = RECIPE

    def __init__(self, folder: Path, images: np.ndarray, copies: int) -> None:
        self.images, self.copies = images, copies
        index = torch.stack([torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images))])
        save_tensors(folder / IMAGES, {"images": torch.from_numpy(images), "index": index})
        self.entry = Entry("samples/0", folder, {"summary": {"thresholds": [0.0, 0.25]}})

    def samples(self) -> Entry:
        return self.entry

    def reference(self) -> Entry:
        return self.entry

    def slices(self, split: str) -> SimpleNamespace:
        assert split == "train"
        others = np.random.default_rng(1).integers(0, 256, (4, 32, 32), np.uint8)
        return SimpleNamespace(images=np.concatenate([self.images[: self.copies], others]))


def slices(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32), np.uint8)


@pytest.mark.parametrize(("count", "copies", "shown"), [(40, 0, SHOWN), (40, 3, SHOWN), (5, 5, 0), (5, 1, 4)])
def test_the_grid_has_the_first_slices_that_copy_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, copies: int, shown: int
) -> None:
    null = SimpleNamespace(null=np.full(10, 1.3))
    monkeypatch.setattr(model_card, "Reference", SimpleNamespace(load=lambda _: null))
    images = slices(count)
    grid = grid_of(Measured(tmp_path, images, copies))  # type: ignore[arg-type]
    assert np.array_equal(grid.images, images[copies : copies + shown])
    assert grid.left_out == copies


def test_a_copyists_samples_are_searched_a_few_times_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def all_copies(some: np.ndarray, _: np.ndarray) -> SimpleNamespace:
        searched.append(len(some))
        return SimpleNamespace(distances=np.zeros(len(some)))

    monkeypatch.setattr(model_card, "Reference", SimpleNamespace(load=lambda _: SimpleNamespace(null=np.ones(10))))
    monkeypatch.setattr(model_card, "nearest", all_copies)
    assert grid_of(Measured(tmp_path, slices(200), 0)).left_out == 200  # type: ignore[arg-type]
    assert searched == [16, 32, 64, 88]


def test_no_slice_is_shown_where_near_copies_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_card, "Reference", SimpleNamespace(load=lambda _: SimpleNamespace(null=np.zeros(0))))
    assert len(grid_of(Measured(tmp_path, slices(5), 0)).images) == 0  # type: ignore[arg-type]


def test_a_licence_that_a_user_stated_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_card, "grid_of", lambda _: Grid(slices(4), 0))
    done = training(tmp_path)
    path = write_card(done, None)  # type: ignore[arg-type]
    assert (done.job.folder / PICTURE).is_file()
    assert path == done.job.folder / CARD
    assert stated_licence(path) == UNSTATED
    assert "has not stated one" in path.read_text()
    stated = "license: other\nlicense_name: our own"
    path.write_text(path.read_text().replace(UNSTATED, stated, 1))
    write_card(done, None)  # type: ignore[arg-type]
    assert front(path.read_text())["license_name"] == "our own"
    assert "has not stated one" not in path.read_text()


def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Training, Path]:
    monkeypatch.setattr(model_card, "grid_of", lambda _: Grid(slices(4), 0))
    done = training(folder)
    return done, write_card(done, None)  # type: ignore[arg-type]


def test_a_licence_of_several_lines_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, path = written(tmp_path, monkeypatch)
    path.write_text(path.read_text().replace(UNSTATED, "license:\n- mit\n- cc-by-4.0", 1))
    write_card(done, None)  # type: ignore[arg-type]
    assert front(path.read_text())["license"] == ["mit", "cc-by-4.0"]
    assert "has not stated one" not in path.read_text()


@pytest.mark.parametrize(
    ("words", "others"),
    [
        ("- research-only", "- research-only\n- mine"),
        ("## Intended use", "license: mit\n\n## Intended use"),
        ("---\nlicense: unknown\n", "license: mit\n"),
        ("<!-- latentsweep", "<!-- I"),
    ],
)
def test_a_card_that_a_user_edited_is_left_as_it_is_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, words: str, others: str
) -> None:
    done, path = written(tmp_path, monkeypatch)
    edited = path.read_text().replace(words, others, 1)
    assert edited != path.read_text()
    path.write_text(edited)
    write_card(done, None)  # type: ignore[arg-type]
    assert path.read_text() == edited
    assert "README.md was edited, so it stays as it is" in caplog.text


def test_a_card_that_nobody_edited_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, path = written(tmp_path, monkeypatch)
    before = path.read_text()
    monkeypatch.setattr(model_card, "grid_of", lambda _: NOTHING)
    write_card(done, None)  # type: ignore[arg-type]
    assert "No slices are shown" in path.read_text() != before

"""What ``release`` writes: clean samples, a data sheet, a Croissant file, checksums, and nothing of a real slice."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import THIN
from disc_dataset import plant_discs
from PIL import Image
from typer.testing import CliRunner

import latentsweep
from latentsweep.api import releases
from latentsweep.commands.app import app
from latentsweep.configuration import Configuration
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.jobs import data_sheet
from latentsweep.jobs import release as job
from latentsweep.jobs.clean_samples import MOST_DRAWN, draw_clean
from latentsweep.jobs.image_folder import read_images
from latentsweep.jobs.release import Release
from latentsweep.metrics import KID
from latentsweep.stages.model_folder import Drawn, write_model
from latentsweep.stages.pipeline import Pipeline
from latentsweep.storage.home import Home
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError
from trainables.figures import image_grid, outlined
from trainables.loop.files import whole_folder
from trainables.loop.settings import Execution
from trainables.measures.weights import InceptionWeights
from trainables.recipes import SMOKE

MASKED = SMOKE.replace(
    **{
        "data.image_size": 32,
        "data.mask": True,
        "vae.widths": (8, 16),
        "vae.latent_channels": 4,
        "vae.max_steps": 12,
        "vae.validations": 1,
        "vae.mask_weight": 1.0,
        "diffusion.widths": (8, 16),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 16,
        "diffusion.validations": 1,
        "diffusion.steps": 20,
        "diffusion.batch_size": 8,
        "diffusion.warmup_steps": 2,
        "diffusion.ema_warmup": True,
        "sampling.steps": 3,
        "evaluation.samples": 6,
        "evaluation.rungs": 0,
        "evaluation.bootstrap": 10,
    }
)
COUNT, SEED = 5, 30
SOURCE, LICENCE = "study 12 of | our <b>hospital</b>", "https://creativecommons.org/licenses/by/4.0/"


@dataclasses.dataclass(frozen=True)
class Trained:
    """A home with a dataset, and the folder of a model of it."""

    home: Home
    model: Path
    dataset: PreparedDataset
    weights: InceptionWeights

    def release(self, to: Path, **asked: Any) -> Release:
        """Releases the model from its folder."""
        given = {"count": COUNT, "seed": SEED, "despite_guards": True} | asked
        return job.release(self.home, str(self.model), to, lambda _: self.dataset, self.weights, **given)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small model of slices and masks that nothing was measured of."""
    folder = tmp_path_factory.mktemp("release")
    home, weights = Home(folder / "runs"), InceptionWeights(Path(THIN[1]), sha256(Path(THIN[1])))
    dataset = plant_discs(home, each=24)
    pipeline = Pipeline(Store.of(home), dataset, MASKED, 0, Execution(device="cpu", threads=1), weights)
    pipeline.denoiser()
    write_model(folder / "model", pipeline.store, pipeline.keys, Configuration("discs", 0, MASKED))
    return Trained(home, folder / "model", dataset, weights)


@pytest.fixture(scope="module")
def released(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of it, for tests that only read."""
    to = tmp_path_factory.mktemp("out") / "deep" / "release"
    found = trained.release(to, source=SOURCE, licence=LICENCE)
    assert (found.folder, found.samples, found.asked) == (to, COUNT, COUNT)
    return to


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "samples.csv").read_text().splitlines()))


def test_it_holds_samples_masks_overlays_and_the_documents_and_nothing_else(released: Path) -> None:
    stems = [Path(row["file"]).name for row in table(released)]
    pictures = {f"samples/{part}{stem}" for part in ("", "masks/", "overlays/") for stem in stems}
    documents = {
        "README.md",
        "SHA256SUMS",
        "config.yaml",
        "croissant.json",
        "grid.png",
        "metrics.json",
        "samples.csv",
    }
    assert files_of(released) == pictures | documents
    assert len(stems) == COUNT
    assert [path.name for path in released.parent.iterdir()] == ["release"], "no draft is left"


def test_its_samples_are_those_of_the_seeds_in_its_table(trained: Trained, released: Path) -> None:
    images = latentsweep.load(trained.model, home=trained.home).draw(COUNT, seed=SEED)
    assert images.masks is not None
    for row, image, mask in zip(table(released), images.images, images.masks, strict=True):
        assert row["file"] == f"samples/seed-{int(row['seed']):06d}.png"
        assert np.array_equal(np.asarray(Image.open(released / row["file"])), image)
        assert np.array_equal(np.asarray(Image.open(released / "samples/masks" / Path(row["file"]).name)), mask)


def test_no_picture_of_it_holds_a_real_slice(trained: Trained, released: Path) -> None:
    """The pictures are the drawn slices, their masks, their outlines, and a grid that consists of these alone."""
    real = {image.tobytes() for image in trained.dataset.load("all").images}
    images, folder = read_images(released / "samples"), released / "samples"
    masks = read_images(folder / "masks")
    assert len(real) > COUNT
    assert not real & {image.tobytes() for image in images}
    overlays = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "overlays").iterdir())])
    assert np.array_equal(overlays, outlined(images, masks))
    assert np.array_equal(np.asarray(Image.open(released / "grid.png")), np.asarray(image_grid(overlays)))
    assert all(not Image.open(path).info for path in released.rglob("*.png")), "pictures hold pixels alone"


def test_no_text_of_it_holds_a_pseudonym_or_a_place(
    trained: Trained, released: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = {"subject": "PSEUDONYM-S", "volume": "PSEUDONYM-V"}
    manifest = trained.dataset.manifest | {"rejects": [{"places": [named]}], "source": "PSEUDONYM-SEAL"}
    dataset = dataclasses.replace(trained.dataset, manifest=manifest)
    monkeypatch.setattr(PreparedDataset, "check_unchanged", lambda self: None)
    dataclasses.replace(trained, dataset=dataset).release(tmp_path / "again")
    for path in tmp_path.glob("again/*.*"):
        if path.suffix != ".png":
            text = path.read_text()
            assert "PSEUDONYM" not in text
            assert str(tmp_path) not in text
            assert str(trained.home.root) not in text
            assert str(Path.home()) not in text


def test_its_checksums_are_of_every_file(released: Path) -> None:
    lines = (released / "SHA256SUMS").read_text().splitlines()
    said = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert said == {name: sha256(released / name) for name in files_of(released) - {"SHA256SUMS"}}
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=released, check=True)


def test_the_data_sheet_says_source_counts_recipe_scores_and_limits(trained: Trained, released: Path) -> None:
    text = (released / "README.md").read_text()
    assert f"Where the real slices come from: {SOURCE.replace('<', '&lt;')}" in text
    assert f"Licence of the source: {LICENCE}" in text
    assert "| train | 24 | 24 |" in text
    assert "No patient is in two splits." in text
    assert "| `diffusion.steps` | 20000 | 20 |" in text
    numbers = json.loads((released / "metrics.json").read_text())
    assert set(numbers) == {"validation", "test"}
    for split, each in numbers.items():
        scores = text.split(f"On the {split} split:")[1].split("##")[0]
        kid, floor, low = (KID.format(each[f"gen/kid{end}"]) for end in ("", "_floor", "_low"))
        assert f"| KID ×1000 | lower | {kid} | {low} to" in scores
        assert f"| {floor} |" in scores
    assert "The test split of discs was used in 0 earlier decisions" in text
    assert "was not measured" in text.split("## Use for a task")[1].split("##")[0]
    assert "Not for diagnosis" in text.split("## Intended use and limits")[1]
    assert "![The first of the slices](grid.png)" in text


def test_what_nobody_stated_is_not_stated(trained: Trained, tmp_path: Path) -> None:
    trained.release(tmp_path / "release", count=1)
    text = (tmp_path / "release/README.md").read_text()
    assert text.count("not stated") == 2
    assert "license" not in json.loads((tmp_path / "release/croissant.json").read_text())


def test_a_downstream_result_is_shown_where_there_is_one() -> None:
    found = {"gen/downstream_dice": 0.71, "gen/downstream_dice_real": 0.75, "gen/downstream_dice_loss": 0.29}
    assert list(data_sheet.downstream_rows({"test": found})) == [
        ("downstream Dice", "test", "0.71 (from real slices: 0.75)", "–")
    ]


def test_croissants_own_validator_accepts_its_description_and_reads_the_slices(released: Path) -> None:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: pip install mlcroissant")
    dataset = croissant.Dataset(jsonld=str(released / "croissant.json"))
    issues = dataset.metadata.issues
    assert not issues.errors
    assert all("citeAs" in warning for warning in issues.warnings), "nobody has published it yet"
    read = list(dataset.records("samples"))
    assert [row["samples/file"].decode() for row in read] == [row["file"] for row in table(released)]
    assert [row["samples/seed"] for row in read] == [int(row["seed"]) for row in table(released)]
    for what, folder in (("slices", "samples"), ("masks", "samples/masks")):
        pictures = [np.asarray(row[f"{what}/picture"].convert("L")) for row in dataset.records(what)]
        assert {picture.tobytes() for picture in pictures} == {
            image.tobytes() for image in read_images(released / folder)
        }


class Copyist:
    """Draws training slices: at every third seed one as it is, flipped, or shifted; else another patient's slice."""

    def __init__(self, dataset: PreparedDataset) -> None:
        self.training, self.others = (dataset.load(split).images for split in ("train", "test"))

    def is_copy(self, seed: int) -> bool:
        return seed % 3 == 0

    def drawn(self, seeds: Sequence[int], *_: Any) -> Drawn:
        return Drawn(np.stack([self.slice(seed) for seed in seeds]))

    def slice(self, seed: int) -> np.ndarray:
        if not self.is_copy(seed):
            random = np.random.default_rng(seed)
            return np.asarray(random.integers(0, 256, self.training.shape[1:], np.uint8))
        image = self.training[1 + seed // 3 % 3]
        return [image, image[:, ::-1], np.roll(image, 2, axis=0)][seed // 3 % 3]


@pytest.fixture
def copyist(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Copyist:
    made = Copyist(trained.dataset)
    monkeypatch.setattr(job, "trained_model", lambda *_: (made, Execution(device="cpu", threads=1)))
    return made


def test_near_copies_are_left_out_and_others_drawn_in_their_place(
    trained: Trained, copyist: Copyist, tmp_path: Path
) -> None:
    found = trained.release(tmp_path / "release", count=6, seed=0)
    expected = [1, 2, 4, 5, 7, 8]
    assert (found.samples, found.drawn, found.near_copies) == (6, 9, 3)
    assert [int(row["seed"]) for row in table(tmp_path / "release")] == expected
    assert not any(copyist.is_copy(seed) for seed in expected)
    real = {image.tobytes() for image in copyist.training}
    assert copyist.slice(0).tobytes() in real
    assert not real & {image.tobytes() for image in read_images(tmp_path / "release/samples")}
    text = (tmp_path / "release/README.md").read_text()
    assert "3 of the 9 drawn slices are near copies and were left out" in text
    assert "**the model copies**" in text


def test_a_copyist_gives_fewer_slices_and_that_is_said(
    trained: Trained, copyist: Copyist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copyist, "slice", lambda seed: Copyist.slice(copyist, 1 if seed == 7 else 0))
    found = trained.release(tmp_path / "release", count=4, seed=0)
    assert (found.samples, found.asked, found.drawn) == (1, 4, 4 * MOST_DRAWN)
    monkeypatch.setattr(copyist, "slice", lambda seed: Copyist.slice(copyist, 0))
    with pytest.raises(DataError, match="all 16 that were drawn are near copies"):
        trained.release(tmp_path / "none", count=4)
    assert not (tmp_path / "none").exists()


def test_the_null_is_shown_beside_the_distances(trained: Trained, released: Path) -> None:
    text = (released / "README.md").read_text()
    audit = [
        line.split(" | ") for line in text.splitlines() if line.startswith(("| held-out", "| drawn", "| released"))
    ]
    assert [row[1] for row in audit] == ["24", str(COUNT), str(COUNT)]
    shown = [float(row["distance"]) for row in table(released)]
    assert float(audit[2][3]) == pytest.approx(np.median(shown), abs=1e-3)


def draws(copies: Callable[[int], bool]) -> Callable[[Sequence[int]], Drawn]:
    """Draws the one training slice at the seeds that ``copies`` names, and noise elsewhere."""

    def draw(seeds: Sequence[int]) -> Drawn:
        return Drawn(np.stack([noise(0 if copies(seed) else seed + 1) for seed in seeds]))

    return draw


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)


def test_a_seed_is_drawn_once_and_the_search_ends_when_enough_are_found() -> None:
    training, null, told = noise(0)[None], np.full(10, 1.3), []
    found = draw_clean(
        draws(lambda seed: seed in (3, 4)), training, null, 4, seed=2, progress=lambda *far: told.append(far)
    )
    assert found.seeds == [2, 5, 6, 7]
    assert len(found.distances) == 6
    assert found.left_out == 2
    assert told == [(2, 4), (4, 4)]
    assert (found.kept > found.limit).all()


def test_a_release_needs_held_out_slices_to_tell_copies_by() -> None:
    with pytest.raises(DataError, match="told by held-out slices, got none"):
        draw_clean(draws(lambda _: False), noise(0)[None], np.zeros(0), 4)


def test_a_model_that_the_guards_refuse_is_refused_unless_told_otherwise(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job.guards, "refusal", lambda metrics: "copies 3 of 6 (bound 1)")
    with pytest.raises(ConfigError, match=r"the guards refuse .*: copies 3 of 6 .* or say --despite-guards"):
        trained.release(tmp_path / "release", despite_guards=False)
    assert not list(tmp_path.iterdir())
    found = trained.release(tmp_path / "release", count=1)
    assert found.refused == "copies 3 of 6 (bound 1)"
    assert (
        "**The guards refuse the model that drew them: copies 3 of 6" in (tmp_path / "release/README.md").read_text()
    )


def test_a_folder_with_something_in_it_is_left_as_it_is(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    trained.release(tmp_path / "mine", count=1)
    before = files_of(tmp_path)
    file = tmp_path / "file"
    file.write_text("mine")
    for to in (tmp_path / "mine", file, Path("/proc")):
        with pytest.raises(DataError, match="must be new or empty"):
            trained.release(to, count=1)
    assert files_of(tmp_path) == before | {"file"}


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "evaluated_run", lambda *_: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="must be writable"):
        trained.release(tmp_path / "file" / "release", count=1)


def test_the_current_folder_can_be_a_release(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    trained.release(Path(), count=1)
    assert (tmp_path / "here" / "SHA256SUMS").exists()


def test_a_release_that_fails_leaves_nothing(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "write_json", full)
    with pytest.raises(DataError, match="the folder of a release must be writable"):
        trained.release(tmp_path / "release", count=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_somebody_fills_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    def write() -> Iterator[None]:
        with whole_folder(tmp_path / "to") as draft:
            (draft / "ours").touch()
            (tmp_path / "to").mkdir()
            (tmp_path / "to/theirs").touch()
            yield

    with pytest.raises(OSError, match="not empty"):
        list(write())
    assert files_of(tmp_path) == {"to/theirs"}


def test_the_command_says_how_many_there_are_and_how_many_were_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def write(run: str, to: Path, **given: Any) -> Release:
        asked.update(given, run=run)
        return Release(to, 3, 4, 16, 13, "copies 13 of 16")

    monkeypatch.setattr(releases, "release", write)
    words = ["release", "--run", "discs", "--to", str(tmp_path / "r"), "--count", "4", "--licence", "CC0-1.0"]
    done = CliRunner().invoke(app, [*words, "--home", str(tmp_path / "runs")])
    assert "3 slices of the 4 that were asked for in" in done.stdout
    assert "13 of 16 drawn ones were near copies of training slices and are left out" in done.stdout
    assert "the guards refuse the model: copies 13 of 16" in done.stdout
    assert (asked["run"], asked["count"], asked["licence"], asked["despite_guards"]) == ("discs", 4, "CC0-1.0", False)
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert (found["samples"], found["near_copies"], found["folder"]) == (3, 13, str(tmp_path / "r"))

"""What we wrote and read back, damaged: one line that says what to do, or a rebuild; never a traceback."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fuzzing
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from made_up_manifest import made_up

from latentsweep.configuration import Configuration, overridden, read_configuration
from latentsweep.datasets.manifest import MANIFEST_FORM, write_manifest
from latentsweep.datasets.overview import overview
from latentsweep.datasets.png import encode
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import Slices, open_dataset
from latentsweep.search.choice import SearchConfig
from latentsweep.search.plan import SweepPlan
from latentsweep.search.spaces import search_space
from latentsweep.stages.latents import Encoded, read_latents, write_latents
from latentsweep.stages.model_folder import read_model
from latentsweep.storage.entries import StageKey
from latentsweep.storage.home import sha256_of
from latentsweep.storage.store import Store
from trainables.errors import ConfigError, DataError, LatentsweepError
from trainables.loop.checkpoint import load_tensors, save_tensors
from trainables.recipes import recipe_named

COUNT = 200


def outcomes(path: Path, read: Callable[[], object], seed: int) -> set[str]:
    """Reads COUNT damaged copies in place of the file; what came of it, by name. Anything but ours is raised."""
    valid = path.read_bytes()
    found, lines = set(), set()
    for number in range(COUNT):
        path.write_bytes(fuzzing.mutated(valid, np.random.default_rng([seed, number])))
        try:
            read()
            found.add("read")
        except LatentsweepError as error:
            lines.add(str(error))
            found.add(type(error).__name__)
    path.write_bytes(valid)
    read()
    assert not [line for line in lines if "\n" in line]
    return found


@pytest.fixture
def configuration() -> Configuration:
    return Configuration("demo", 0, recipe_named("smoke"), origin={"sweep": "demo-1", "scores": {"final/kid": 3.0}})


@pytest.mark.slow
def test_a_damaged_configuration_is_one_line(tmp_path: Path, configuration: Configuration) -> None:
    configuration.write(tmp_path / "best.yaml")
    assert outcomes(tmp_path / "best.yaml", lambda: read_configuration(tmp_path / "best.yaml"), 1) == {
        "read",
        "ConfigError",
    }


def test_a_damaged_plan_of_a_sweep_is_one_line(tmp_path: Path) -> None:
    recipe, space = recipe_named("smoke"), search_space("demo", None)
    plan = SweepPlan("demo", "f" * 64, "smoke", recipe, space, SearchConfig(), 0, "w")
    (tmp_path / "sweep.json").write_text(json.dumps(plan.to_plain()))
    assert "DataError" in outcomes(tmp_path / "sweep.json", lambda: SweepPlan.read(tmp_path), 2)


def test_a_damaged_search_space_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("recipe: improved\ndimensions:\n  vae.latent_channels: [4, 8]\n  diffusion.dropout: [0.0, 0.1]\n")
    assert outcomes(path, lambda: search_space("demo", path), 3) == {"read", "ConfigError"}


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "version: 1\ndataset: *a29\nrecipe: {}\n",
        "recipe: &r {vae: *r}",
        "[" * 5000,
        "seed: " + "1" * 5000,
        "dataset: 2020-99-99",
        "!!python/object/apply:os.system [id]",
        "recipe: !!binary '???'",
    ],
)
def test_yaml_that_is_a_bomb_or_a_program_is_not_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(text)
    for read in (lambda: read_configuration(path), lambda: search_space("demo", path)):
        with pytest.raises(ConfigError) as caught:
            read()
        assert len(str(caught.value)) < 1000
    with pytest.raises(ConfigError):
        overridden(recipe_named("smoke"), [f"diffusion.steps={text}"])


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared dataset of six slices of 32×32 pixels."""
    folder = tmp_path / "datasets" / "mine"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    rows = [SliceRow(f"s{i}", f"v{i}", i, "train", "train", encode(image)) for i, image in enumerate(images)]
    write_manifest(folder, made_up() | {"version": 1, "name": "mine", "shards": write_shards(folder, rows)})
    return folder


def used(folder: Path) -> None:
    dataset = open_dataset(folder.parent, folder.name)
    overview(dataset)
    dataset.load("train")


def test_a_damaged_manifest_of_a_dataset_is_one_line(prepared: Path) -> None:
    assert outcomes(prepared / "manifest.json", lambda: used(prepared), 4) == {"read", "DataError"}


def test_a_damaged_shard_of_a_dataset_is_one_line(prepared: Path) -> None:
    assert outcomes(prepared / "slices-00000.parquet", lambda: used(prepared), 5) == {"DataError"}


def vouched_for(folder: Path) -> None:
    """Writes the shard's hash, as somebody who wants a false one to be read would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    shard = manifest["shards"][0]
    shard["sha256"] = sha256_of(folder / shard["file"])
    write_manifest(folder, manifest)


@pytest.mark.slow
def test_a_false_shard_with_the_right_hash_does_no_harm(prepared: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, fuzzing, test_damaged_files as t\n"
        "t.outcomes(p := Path(sys.argv[2]) / 'slices-00000.parquet', lambda: (t.vouched_for(p.parent), "
        "t.used(p.parent)), 6)\n"
        "print(fuzzing.peak_gib())"
    )
    places = [str(Path(__file__).parents[1]), str(prepared)]
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{code}"]
    done = subprocess.run([*command, *places], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) < 2


def test_a_shard_elsewhere_is_not_followed(prepared: Path, tmp_path: Path) -> None:
    (prepared / "slices-00000.parquet").rename(tmp_path / "slices-00000.parquet")
    manifest = json.loads((prepared / "manifest.json").read_text())
    for name in ("../../slices-00000.parquet", str(tmp_path / "slices-00000.parquet")):
        manifest["shards"][0]["file"] = name
        write_manifest(prepared, manifest)
        with pytest.raises(DataError, match="damaged"):
            used(prepared)


def test_slices_larger_than_the_manifest_says_are_not_decoded(prepared: Path) -> None:
    rows = pq.read_table(prepared / "slices-00000.parquet").to_pylist()
    large = [SliceRow(**{k: r[k] for k in MANIFEST_ROW}, png=encode(np.zeros((3000, 3000), np.uint8))) for r in rows]
    manifest = json.loads((prepared / "manifest.json").read_text())
    write_manifest(prepared, manifest | {"shards": write_shards(prepared, large)})
    with pytest.raises(DataError, match="32×32"):
        used(prepared)


MANIFEST_ROW = [field.name for field in dataclasses.fields(SliceRow) if field.name not in ("png", "mask")]


def test_a_manifest_without_any_one_of_its_keys_is_damaged(prepared: Path) -> None:
    whole = json.loads((prepared / "manifest.json").read_text())
    for key in MANIFEST_FORM:
        write_manifest(prepared, {name: value for name, value in whole.items() if name != key})
        with pytest.raises(DataError, match="damaged"):
            used(prepared)


def posterior(split: str, count: int) -> Encoded:
    slices = Slices(np.zeros((count, 8, 8), np.uint8), ["s"] * count, ["v"] * count, np.arange(count, dtype=np.int32))
    return Encoded(split, slices, torch.ones(count, 4, 2, 2), torch.zeros(count, 4, 2, 2))


@pytest.mark.slow
def test_a_damaged_shard_of_latents_is_rebuilt(tmp_path: Path) -> None:
    key = StageKey("latents", 1, {})

    def build(folder: Path) -> dict[str, object]:
        return write_latents(folder, [posterior("train", 20), posterior("test", 4)])

    def read() -> None:
        entry = Store(tmp_path).obtain(key, build)
        latents = read_latents(entry.folder, dict(entry.summary), "train", whiten=True)
        assert latents.mean.shape == (20, 4, 2, 2)
        assert torch.all(latents.mean == 1)

    read()
    assert outcomes(Store(tmp_path).folder(key.name) / "latents-00000.parquet", read, 7) == {"read"}


def test_a_damaged_file_of_weights_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"a": torch.ones(8, 8), "b": torch.zeros(3)}, {"step": 3, "extra": {"best": 1.0}})
    assert outcomes(path, lambda: load_tensors(path), 8) == {"StoreError"}


def test_weights_of_another_configuration_are_one_line(tmp_path: Path, configuration: Configuration) -> None:
    configuration.write(tmp_path / "config.yaml")
    for name in ("vae", "denoiser", "scaling"):
        save_tensors(tmp_path / f"{name}.safetensors", {"mean": torch.ones(3)})
    with pytest.raises(DataError, match=r"not those of its config\.yaml") as caught:
        read_model(tmp_path)
    assert "\n" not in str(caught.value)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["dataset"] == "demo"

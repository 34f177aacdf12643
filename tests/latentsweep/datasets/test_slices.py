import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_manifest import made_up
from PIL import Image

from latentsweep.datasets import shards
from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.png import decode, encode, encode_stored
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import open_dataset
from latentsweep.storage.home import sha256_of
from trainables.errors import DataError


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 32, 32), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, images, monkeypatch):
    """A dataset of seven slices in three shards."""
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 3)
    folder = tmp_path / "datasets" / "mine"
    folder.mkdir(parents=True)
    rows = [
        SliceRow(
            f"s{i // 4}", f"v{i // 2}", i, ("train", "test")[i // 4], ("train", "validation")[i % 2], encode(image)
        )
        for i, image in enumerate(images)
    ]
    written = write_shards(folder, rows)
    write_manifest(folder, made_up() | {"version": 1, "name": "mine", "shards": written})
    return folder


def opened(folder):
    return open_dataset(folder.parent, folder.name)


def test_slices_come_back_as_they_were_written(folder, images):
    assert [shard["rows"] for shard in opened(folder).manifest["shards"]] == [3, 3, 1]
    everything = opened(folder).load("all")
    np.testing.assert_array_equal(everything.images, images)
    assert everything.images.dtype == np.uint8
    assert everything.indices.tolist() == list(range(7))
    assert everything.indices.dtype == np.int32
    assert everything.subjects == ["s0"] * 4 + ["s1"] * 3


def test_a_split_is_taken_by_either_rule(folder, images):
    np.testing.assert_array_equal(opened(folder).load("test").images, images[4:])
    np.testing.assert_array_equal(opened(folder).load("validation", rule="slice").images, images[1::2])


def test_splits_that_do_not_exist_or_are_empty_are_errors(folder):
    for split, rule, message in [
        ("val", "subject", "must be one of train, validation, test or all"),
        ("test", "patient", "must be one of subject, slice"),
        ("validation", "subject", "the validation split of mine by subject holds no slice"),
    ]:
        with pytest.raises(DataError, match=message):
            opened(folder).load(split, rule=rule)


def test_pandas_opens_it(folder, images):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(sorted(folder.glob("*.parquet")), columns=["subject", "slice", "image"])
    assert table["slice"].tolist() == list(range(7))
    picture = Image.open(io.BytesIO(table["image"][5]["bytes"]))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), images[5])


def test_polars_opens_it(folder, images):
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(folder / "*.parquet")
    assert table.schema["slice"] == polars.Int32
    cell = table.filter(polars.col("slice") == 6)["image"].struct.field("bytes")[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(cell))), images[6])


def test_hugging_face_datasets_opens_it_as_pictures(folder, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = sorted(map(str, folder.glob("*.parquet")))
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(table.features["image"], datasets.Image)
    np.testing.assert_array_equal(np.asarray(table[3]["image"]), images[3])
    assert table[3]["volume"] == "v1"


def test_a_dataset_that_is_not_there_says_which_commands_get_it(tmp_path):
    for name, words in {
        "kaggle": ["kaggle competitions download -c rsna-miccai-brain-tumor-radiogenomic-classification", "unzip"],
        "brats_flair": ["synapse.org"],
        "demo": ["data prepare demo"],
        "mine": ["data prepare mine --source"],
    }.items():
        with pytest.raises(DataError) as caught:
            open_dataset(tmp_path / "datasets", name)
        assert all(word in str(caught.value) for word in [*words, f"data prepare {name}", f"--home {tmp_path}"])
        assert "\n" not in str(caught.value)


def test_a_folder_without_a_manifest_is_not_prepared(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="is not prepared"):
        opened(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_manifest_is_an_error(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="manifest of the dataset mine is damaged"):
        opened(folder)


def test_a_manifest_of_another_format_is_an_error(folder):
    (folder / "manifest.json").write_text(json.dumps({"version": 99, "shards": []}))
    with pytest.raises(DataError, match="has format 99"):
        opened(folder)


def test_a_damaged_cut_or_missing_shard_is_an_error(folder):
    path = folder / "slices-00001.parquet"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for bad in (bytes(flipped), content[:-10], b""):
        path.write_bytes(bad)
        with pytest.raises(DataError, match=r"slices-00001\.parquet of the dataset mine is damaged"):
            opened(folder)
    path.unlink()
    with pytest.raises(DataError, match="missing or damaged"):
        opened(folder)


def test_a_shard_with_other_rows_than_the_manifest_says_is_an_error(folder):
    path = folder / "slices-00001.parquet"
    pq.write_table(pa.table(pq.read_table(path)).slice(0, 1), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][1]["sha256"] = sha256_of(path)
    write_manifest(folder, manifest)
    with pytest.raises(DataError, match="damaged"):
        opened(folder)


@pytest.mark.parametrize("side", [1, 16, 128, 300])
def test_a_stored_png_is_the_same_picture(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side), dtype=np.uint8)
    assert np.array_equal(decode(encode_stored(image), side), image)
    with Image.open(io.BytesIO(encode_stored(image))) as picture:
        picture.verify()
        assert picture.mode == "L"

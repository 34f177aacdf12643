"""The latent cache: what goes in comes out, and opens in the tools that people have."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from latentsweep.datasets.slices import Slices
from latentsweep.stages.latents import Encoded, read_latents, read_positions, write_latents
from trainables.errors import StoreError

SHAPE = (4, 2, 2)


def encoded(split: str, count: int, offset: float) -> Encoded:
    random = torch.Generator().manual_seed(count)
    slices = Slices(np.zeros((count, 8, 8), np.uint8), ["s"] * count, ["v"] * count, np.arange(count, dtype=np.int32))
    mean = torch.randn(count, *SHAPE, generator=random) * 3 + offset
    return Encoded(split, slices, mean, torch.randn(count, *SHAPE, generator=random) - 2)


@pytest.fixture
def parts() -> list[Encoded]:
    return [encoded("train", 200, 5.0), encoded("validation", 3, 0.0), encoded("test", 4, 0.0)]


def test_what_was_written_is_read_back_by_split(tmp_path: Path, parts: list[Encoded]) -> None:
    summary = json.loads(json.dumps(write_latents(tmp_path, parts)))
    assert summary["rows"] == 207
    for part in parts:
        latents = read_latents(tmp_path, summary, part.split, whiten=False)
        assert latents.mean.dtype == torch.float16
        torch.testing.assert_close(latents.mean.float(), part.mean, rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(latents.log_variance.float(), part.log_variance, rtol=1e-3, atol=1e-2)


def test_values_read_as_they_lie_are_those_that_parquet_holds(
    tmp_path: Path, parts: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentsweep.stages.latents.ROWS_PER_SHARD", 64)
    summary = write_latents(tmp_path, parts)
    assert len(summary["shards"]) == 4
    assert all(shard["values_at"] for shard in summary["shards"])
    elsewhere = {**summary, "shards": [{**shard, "values_at": None} for shard in summary["shards"]]}
    for split in ("train", "validation", "test", "none"):
        read, parsed = (read_latents(tmp_path, of, split, whiten=False) for of in (summary, elsewhere))
        assert torch.equal(read.mean, parsed.mean)
        assert torch.equal(read.log_variance, parsed.log_variance)


def test_a_layout_whose_values_do_not_lie_together_is_read_by_parquet(
    tmp_path: Path, parts: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentsweep.stages.latents.MAX_PAGE_BYTES", 64)
    summary = write_latents(tmp_path, parts)
    assert summary["shards"][0]["values_at"] is None
    assert torch.equal(read_latents(tmp_path, summary, "train", whiten=False).mean, parts[0].mean.half())


def test_a_shard_that_was_cut_after_its_check_is_one_line(tmp_path: Path, parts: list[Encoded]) -> None:
    summary = write_latents(tmp_path, parts)
    path = tmp_path / "latents-00000.parquet"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreError, match="is cut short: run the same command again"):
        read_latents(tmp_path, summary, "train", whiten=False)


def test_whitening_on_reading_gives_unit_spread_by_the_training_split(tmp_path: Path, parts: list[Encoded]) -> None:
    summary = write_latents(tmp_path, parts)
    latents = read_latents(tmp_path, summary, "train", whiten=True)
    indices = torch.arange(len(latents)).repeat(50)
    noise = torch.randn(len(indices), *SHAPE, generator=torch.Generator().manual_seed(0))
    drawn = latents.draw(indices, noise)
    assert drawn.mean(dim=(0, 2, 3)).abs().max() < 0.02
    assert (drawn.std(dim=(0, 2, 3)) - 1).abs().max() < 0.02
    back = latents.statistics.unwhiten(latents.draw(torch.arange(5), None))
    torch.testing.assert_close(back, latents.mean[:5].float(), rtol=1e-4, atol=1e-4)


def test_the_shards_open_in_pandas_polars_and_datasets(
    tmp_path: Path, parts: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_latents(tmp_path, parts)
    path = str(tmp_path / "latents-00000.parquet")
    expected = parts[0].mean[0].flatten().half().tolist()
    assert list(pd.read_parquet(path)["mean"].iloc[0]) == expected
    assert pl.read_parquet(path)["mean"][0].to_list() == expected
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    table = datasets.Dataset.from_parquet(path, cache_dir=str(tmp_path / "cache"))
    assert list(table[0]["mean"]) == expected
    assert table[0]["split"] == "train"


def test_a_position_is_a_slices_place_among_those_kept_of_its_volume_in_any_split(tmp_path: Path) -> None:
    def part(split: str, volumes: list[str], indices: list[int]) -> Encoded:
        count = len(volumes)
        slices = Slices(np.zeros((count, 8, 8), np.uint8), ["s"] * count, volumes, np.array(indices, np.int32))
        return Encoded(split, slices, torch.zeros(count, *SHAPE), torch.zeros(count, *SHAPE))

    parts = [part("train", ["a", "b", "a", "only"], [10, 4, 40, 7]), part("validation", ["a", "b"], [20, 5])]
    summary = write_latents(tmp_path, parts)
    read = read_latents(tmp_path, summary, "train", whiten=False, positions=True).positions
    assert read is not None
    torch.testing.assert_close(read, torch.tensor([0.0, 0.0, 1.0, torch.nan]), equal_nan=True)
    torch.testing.assert_close(read_positions(tmp_path, summary, "validation"), torch.tensor([1 / 3, 1.0]))
    assert read_latents(tmp_path, summary, "train", whiten=False).positions is None


def test_a_shard_has_the_columns_that_every_version_wrote(tmp_path: Path, parts: list[Encoded]) -> None:
    write_latents(tmp_path, parts)
    shard = pq.read_schema(next(tmp_path.glob("*.parquet")))
    assert shard.names == ["subject", "volume", "slice", "split", "mean", "log_variance"]

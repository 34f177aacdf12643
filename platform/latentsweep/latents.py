"""The latent cache: posterior mean and log-variance of every slice, as Parquet shards.

Never a sampled latent: a stored sample would be a fixed noise floor. Drawing and whitening happen on reading
(:mod:`trainables.latents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from latentsweep.datasets.slices import Slices
from trainables.latents import NO_WHITENING, ChannelStatistics, Latents

ROWS_PER_SHARD = 4096


@dataclass(frozen=True)
class Encoded:
    """The posterior (N, C, h, w), float32, of the slices of one split."""

    split: str
    slices: Slices
    mean: torch.Tensor
    log_variance: torch.Tensor


def write_latents(folder: Path, parts: Sequence[Encoded]) -> dict[str, Any]:
    """Writes the shards into ``folder`` and returns their summary: shape, dtype, rows, channel statistics.

    The statistics are the training split's. Columns: subject, volume, slice, split, mean and log_variance
    (fixed-size lists of C·h·w float16, in C, h, w order).
    """
    shape = tuple(parts[0].mean.shape[1:])
    table = pa.concat_tables([_table(part) for part in parts])
    shards = []
    for number, start in enumerate(range(0, table.num_rows, ROWS_PER_SHARD)):
        shard = table.slice(start, ROWS_PER_SHARD)
        name = f"latents-{number:05d}.parquet"
        pq.write_table(shard, folder / name, compression="zstd")
        shards.append({"file": name, "rows": shard.num_rows})
    training = next(part for part in parts if part.split == "train")
    statistics = ChannelStatistics.of(training.mean, training.log_variance)
    return {
        "shape": list(shape),
        "dtype": "float16",
        "rows": table.num_rows,
        "shards": shards,
        "channel_mean": statistics.mean.tolist(),
        "channel_deviation": statistics.deviation.tolist(),
    }


def read_latents(folder: Path, summary: dict[str, Any], split: str, *, whiten: bool) -> Latents:
    """The latents of one split in memory, as they will be scaled on reading."""
    shape = summary["shape"]
    tables = [
        pq.read_table(folder / shard["file"], columns=["mean", "log_variance"], filters=[("split", "=", split)])
        for shard in summary["shards"]
    ]
    table = pa.concat_tables(tables)
    statistics = channel_statistics(summary) if whiten else NO_WHITENING
    return Latents(_tensor(table["mean"], shape), _tensor(table["log_variance"], shape), statistics)


def channel_statistics(summary: dict[str, Any]) -> ChannelStatistics:
    """The training split's, from what :func:`write_latents` returned."""
    return ChannelStatistics(torch.tensor(summary["channel_mean"]), torch.tensor(summary["channel_deviation"]))


def _table(part: Encoded) -> pa.Table:
    rows = len(part.mean)
    return pa.table(
        {
            "subject": pa.array(part.slices.subjects, pa.string()),
            "volume": pa.array(part.slices.volumes, pa.string()),
            "slice": pa.array(part.slices.indices, pa.int32()),
            "split": pa.array([part.split] * rows, pa.string()),
            "mean": _column(part.mean),
            "log_variance": _column(part.log_variance),
        }
    )


def _column(values: torch.Tensor) -> pa.Array:
    flat = values.to(torch.float16).numpy().reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), int(np.prod(values.shape[1:])))


def _tensor(column: pa.ChunkedArray, shape: Sequence[int]) -> torch.Tensor:
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks if len(chunk)]
    values = np.concatenate(flat) if flat else np.empty(0, np.float16)
    return torch.from_numpy(values.reshape(-1, *shape).copy())

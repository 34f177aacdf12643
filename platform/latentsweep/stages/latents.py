"""The latents: posterior mean and log-variance of every slice, as Parquet shards.

The shards never hold a sampled latent, since its noise would then be the same in every epoch. Latents are drawn and
whitened on reading (:mod:`trainables.denoiser.latents`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from latentsweep.datasets.slices import Slices
from latentsweep.stages.context import WEIGHTS, Context
from latentsweep.stages.pieces import encode_in_pieces
from latentsweep.stages.table import VAE
from latentsweep.stages.vae import load_vae
from latentsweep.storage.bounds import Form, admit
from latentsweep.storage.entries import Entry
from latentsweep.storage.home import read_each
from trainables.denoiser.condition import lesion_border, lesion_sizes
from trainables.denoiser.copies import draw_alterations
from trainables.denoiser.latents import NO_WHITENING, ChannelStatistics, Latents
from trainables.errors import StoreError
from trainables.loop.checkpoint import save_tensors
from trainables.loop.draws import generator
from trainables.recipes import Recipe

ROWS_PER_SHARD = 4096
MAX_PAGE_BYTES = 2**30
VALUES = ("mean", "log_variance")
MIRRORED = "mirrored"
"""The version of the training slices that is mirrored left to right."""
LABELS = "labels.safetensors"
"""The file of the labels (K·N, 7) of the altered copies, one copy after another."""
LESIONS = "lesions.safetensors"
"""The file of the size of the lesion of each slice, (N,) a split, where masks are learned."""
CATEGORIES = "categories.safetensors"
"""The file of the categories (N, K) of each split, with the names of the K labels and of their categories."""


@dataclass(frozen=True)
class Encoded:
    """The posterior (N, C, h, w), float32, of the slices of one split, in one version of them."""

    split: str
    slices: Slices
    mean: torch.Tensor
    log_variance: torch.Tensor
    version: str = ""
    """Nothing for the slices as they are."""

    @property
    def name(self) -> str:
        """What the column "split" of its rows says."""
        return f"{self.split} {self.version}".strip()


def encode(context: Context, folder: Path) -> dict[str, Any]:
    """Encodes every slice once, and those of the training split also in the versions that the denoiser asks for."""
    device, vae = context.execution.prepare(), context.obtain(VAE)
    model = load_vae(vae.file(WEIGHTS), context.recipe)
    parts, shares = [], {}

    def add(split: str, slices: Slices, images: np.ndarray, version: str = "") -> None:
        name = f"{split} {version}".strip()
        parts.append(Encoded(split, slices, *encode_in_pieces(model, images, device, folder, name), version))

    for split in context.dataset.splits(context.recipe.data.rule):
        slices = context.slices(split)
        add(split, slices, slices.learned)
        if slices.masks is not None:
            shares[split] = torch.from_numpy((slices.masks > 0).mean(axis=(1, 2)))
    config, size = context.recipe.diffusion, context.recipe.data.image_size
    if config.flip_probability:
        training = context.slices("train")
        add("train", training, np.ascontiguousarray(training.learned[..., ::-1]), MIRRORED)
    if config.copies:
        stored = context.slices("train", context.dataset.size)
        copies = [
            draw_alterations(len(stored), generator(context.seed, "copy", number)) for number in range(config.copies)
        ]
        for number, copy in enumerate(copies):
            add("train", stored, copy.apply(torch.from_numpy(stored.learned), size).numpy(), copy_name(number))
        save_tensors(folder / LABELS, {"labels": torch.cat([copy.labels for copy in copies])})
    if context.dataset.categories:
        whole = [part for part in parts if not part.version]
        of_split = {
            each.split: torch.from_numpy(context.dataset.categories_of(each.slices.subjects)) for each in whole
        }
        save_tensors(folder / CATEGORIES, of_split, context.dataset.categories)
    summary = write_latents(folder, parts) | {"vae": vae.name, "dataset": context.dataset.fingerprint}
    if shares:
        border = lesion_border(shares["train"])
        save_tensors(folder / LESIONS, {split: lesion_sizes(each, border) for split, each in shares.items()})
        summary["lesion_border"] = border
    return summary


def scaling(recipe: Recipe, latents: Entry) -> ChannelStatistics:
    """How the denoiser's latents are scaled."""
    return channel_statistics(dict(latents.summary)) if recipe.diffusion.whiten else NO_WHITENING


def posteriors(latents: Entry, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and log-variance (N, C, h, w) float32 of a split's slices, in the autoencoder's units."""
    read = read_latents(latents.folder, dict(latents.summary), split, whiten=False)
    return read.mean.float().numpy(), read.log_variance.float().numpy()


def write_latents(folder: Path, parts: Sequence[Encoded]) -> dict[str, Any]:
    """Writes the shards into ``folder`` and returns their summary: shape, dtype, rows, channel statistics.

    ``rows`` counts slices, each once. The statistics are the training split's, with its mirror images where there are
    any. Columns: subject, volume, slice, split, mean and log_variance
    (fixed-size lists of C·h·w float16, in C, h, w order; not compressed, one page a shard).
    """
    shape = tuple(parts[0].mean.shape[1:])
    table = pa.concat_tables([_table(part) for part in parts])
    shards: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, table.num_rows, ROWS_PER_SHARD)):
        shard = table.slice(start, ROWS_PER_SHARD)
        path = folder / f"latents-{number:05d}.parquet"
        pq.write_table(
            shard,
            path,
            compression=dict.fromkeys(("subject", "volume", "slice", "split"), "zstd"),
            use_dictionary=["subject", "volume", "split"],
            data_page_size=MAX_PAGE_BYTES,
        )
        shards.append({"file": path.name, "rows": shard.num_rows, "values_at": _values_at(path, shard)})
    ends = np.cumsum([len(part.mean) for part in parts]).tolist()
    training = [part for part in parts if part.split == "train" and part.version in ("", MIRRORED)]
    statistics = ChannelStatistics.of(
        torch.cat([part.mean for part in training]), torch.cat([part.log_variance for part in training])
    )
    return {
        "shape": list(shape),
        "dtype": "float16",
        "rows": sum(len(part.mean) for part in parts if not part.version),
        "splits": {part.name: [end - len(part.mean), end] for part, end in zip(parts, ends, strict=True)},
        "shards": shards,
        "channel_mean": statistics.mean.tolist(),
        "channel_deviation": statistics.deviation.tolist(),
    }


def read_latents(
    folder: Path, summary: dict[str, Any], split: str, *, whiten: bool, positions: bool = False
) -> Latents:
    """The latents of one split in memory, as they will be scaled on reading, with their positions if asked.

    Raises :class:`~trainables.errors.StoreError` for a shard that is shorter than the summary says.
    """
    statistics = channel_statistics(summary) if whiten else NO_WHITENING
    places = read_positions(folder, summary, split) if positions else None
    if all(shard.get("values_at") for shard in summary["shards"]):
        mean, log_variance = (_read_values(folder, summary, split, column) for column in VALUES)
        return Latents(mean, log_variance, statistics, places)
    shape = summary["shape"]
    tables = [
        pq.read_table(_file(folder, shard), columns=list(VALUES), filters=[("split", "=", split)])
        for shard in summary["shards"]
    ]
    table = pa.concat_tables(tables)
    return Latents(_tensor(table["mean"], shape), _tensor(table["log_variance"], shape), statistics, places)


def copy_name(number: int) -> str:
    """The version of the training slices that is the altered copy of that number, from 0."""
    return f"copy {number + 1}"


def read_positions(folder: Path, summary: dict[str, Any], split: str) -> torch.Tensor:
    """Where each slice of a split lies in its volume, (N,) float32, in the order of its latents.

    (index − lowest)/(highest − lowest) over the slices of the volume that were kept, in whatever split they are: 0
    is the lowest, 1 the highest. NaN for the only slice of a volume.
    """
    columns = ["subject", "volume", "slice", "split"]
    table = pa.concat_tables([pq.read_table(_file(folder, shard), columns=columns) for shard in summary["shards"]])
    names = list(zip(table["subject"].to_pylist(), table["volume"].to_pylist(), strict=True))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    volume = np.array([numbers[name] for name in names], np.int64)
    index = table["slice"].to_numpy().astype(np.float64)
    lowest, highest = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
    np.minimum.at(lowest, volume, index)
    np.maximum.at(highest, volume, index)
    extent = highest - lowest
    extent[extent == 0] = np.nan
    positions = ((index - lowest[volume]) / extent[volume]).astype(np.float32)
    return torch.from_numpy(positions[table["split"].to_numpy() == split])


def read_volumes(folder: Path, summary: dict[str, Any], split: str) -> list[str]:
    """The volume of each slice of a split, in the order of its latents, a name of its own in each subject."""
    columns = ["subject", "volume", "split"]
    table = pa.concat_tables([pq.read_table(_file(folder, shard), columns=columns) for shard in summary["shards"]])
    rows = zip(*(table[column].to_pylist() for column in columns), strict=True)
    return [f"{subject}/{volume}" for subject, volume, of in rows if of == split]


def _read_values(folder: Path, summary: dict[str, Any], split: str, column: str) -> torch.Tensor:
    """The rows of a split, (N, C, h, w) float16, from where their bytes lie in the shards."""
    shape = summary["shape"]
    first, stop = summary["splits"].get(split, (0, 0))
    values = np.empty((stop - first, *shape), np.float16)
    width = 2 * int(np.prod(shape))

    def read(shard_and_start: tuple[dict[str, Any], int]) -> None:
        shard, start = shard_and_start
        begin, end = max(first, start), min(stop, start + shard["rows"])
        if begin >= end:
            return
        wanted = values[begin - first : end - first].reshape(-1).view(np.uint8)
        with (_file(folder, shard)).open("rb", buffering=0) as file:
            file.seek(shard["values_at"][column] + (begin - start) * width)
            if file.readinto(wanted.data) != len(wanted):
                raise StoreError(
                    f"{folder / shard['file']} must hold {shard['rows']} latents and is cut short: run the same "
                    "command again, which makes it anew"
                )

    starts = itertools.accumulate((shard["rows"] for shard in summary["shards"]), initial=0)
    read_each(read, list(zip(summary["shards"], starts, strict=False)))
    return torch.from_numpy(values)


def _file(folder: Path, shard: dict[str, Any]) -> Path:
    return folder / admit(Form.FILE, shard["file"])


def _values_at(path: Path, table: pa.Table) -> dict[str, int] | None:
    """Where the values of each of ``VALUES`` begin in a shard that was just written; None if they lie otherwise.

    A column of one uncompressed, plainly encoded page ends with its values, little-endian, one after another (the
    Parquet format, "Data Pages"). So they can be read without their repetition levels. The function reads the file
    back to see that this holds.
    """
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(i).path_in_schema.partition(".")[0]: group.column(i) for i in range(group.num_columns)}
    places = {}
    with path.open("rb") as file:
        for name in VALUES:
            chunk = columns[name]
            written = b"".join(part.flatten().to_numpy(zero_copy_only=False).tobytes() for part in table[name].chunks)
            places[name] = chunk.data_page_offset + chunk.total_compressed_size - len(written)
            file.seek(max(0, places[name]))
            if file.read(len(written)) != written:
                return None
    return places


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
            "split": pa.array([part.name] * rows, pa.string()),
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

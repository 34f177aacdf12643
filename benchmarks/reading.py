"""Latent shards to tensors against ``numpy.load``, ``data prepare`` against pydicom, and how both grow.

Latents: all splits of a result, from its shards to tensors, against ``numpy.load`` of the same numbers; and the same
with a fresh store that finds the result first, as a process does once, and reads every shard to check it for damage.
Shards of 8×16×16 latents, in the page cache, in turns.
Preparation: a whole ``data prepare`` of the DICOM test data (LATENTSWEEP_TEST_DATA) in two processes, against one
core that calls ``pydicom.dcmread(…).pixel_array`` on the same files. Ends with exit code 1 where a row doesn't hold.

    python benchmarks/reading.py --report
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import torch
from timing import alternate, publish

from latentsweep.datasets.finding import discover
from latentsweep.datasets.manifest import write_manifest
from latentsweep.datasets.png import encode_stored
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.shards import SliceRow, write_shards
from latentsweep.datasets.slices import Slices, open_dataset
from latentsweep.stages.latents import Encoded, read_latents, write_latents
from latentsweep.storage.entries import StageKey
from latentsweep.storage.store import Store

LATENTS_LIMIT, PREPARATION_LIMIT = 1.5, 1.5
SHAPE = (8, 16, 16)
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
GROWTH = (1024, 2048, 4096, 8192, 16384, 32768)
DATA = Path(os.environ.get("LATENTSWEEP_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))

TRIED = """## Tried

Single runs while the readers were written, not repeated by this command:

- Two threads, for the check and for the reading, where a result has several shards: in turns in one process 1.27 and
  1.35 times `numpy.load` (32k, with the check), with one thread 1.52 and 1.64. The ratio moves from run to run, 1.2
  to 1.7, since both sides are bound by memory: by whether its pages are new to the process, and huge.
- The check while reading, each piece hashed as it comes: 1.2 times (8k) and 0.8 times (32k) for both in one pass.
  Not used: damage would be found in the middle of a training, and not where a result is looked for and made anew.
- Checksums over a memory map in place of reads: a third to a half less time for the check, and a signal that ends the
  process where a file is cut short under it or the disk fails; so not.
- SHA-256 as the check on reading takes several times as long as `numpy.load` itself; XXH3 a fraction. Manifests hold
  both.
- Parquet's own decoding of fixed-size lists in zstd pages: 410 to 560 ms of 8k latents (train and validation).
- Pillow's encoder takes 220 (uncompressed) to 520 µs a slice; an uncompressed PNG with the filter "Up" in a zstd
  shard 13 µs, for 3 % more disk, and is decoded in a third of the time.
- Of the 1.7 ms that a DICOM slice takes in one process, reading the file and pydicom's decoding are 0.46, our limits
  and tags 0.24, and the rest is the volume's percentiles, the resize, the hash and the shard; pydicom alone takes
  0.37. So two cores could reach two fifths of its rate at best.
- A second process for 865 slices takes as long to start as it saves; so this one reads alone for its first seconds.
"""


def latent_readers(folder: Path, count: int) -> dict[str, Callable[[], None]]:
    """The same ``count`` latents as a result in a store and as ``.npy`` files, and who reads them."""
    random = torch.Generator().manual_seed(count)
    parts = []
    for split, share in SHARES.items():
        rows = int(count * share)
        slices = Slices(np.empty((rows, 0), np.uint8), ["s"] * rows, ["v"] * rows, np.arange(rows, dtype=np.int32))
        mean, log_variance = (torch.randn(rows, *SHAPE, generator=random) for _ in range(2))
        parts.append(Encoded(split, slices, mean, log_variance - 5))
        np.save(folder / f"{split}-mean.npy", mean.half().numpy())
        np.save(folder / f"{split}-log_variance.npy", (log_variance - 5).half().numpy())
    key = StageKey("latents", 1, {"count": count})
    entry = Store(folder).obtain(key, lambda workspace: write_latents(workspace, parts))

    def ours() -> None:
        read = [read_latents(entry.folder, dict(entry.summary), split, whiten=True) for split in SHARES]
        assert len(read) == len(SHARES)

    def checked() -> None:
        assert Store(folder).find(key) is not None
        ours()

    def theirs() -> None:
        names = [f"{split}-{name}.npy" for split in SHARES for name in ("mean", "log_variance")]
        read = [torch.from_numpy(np.load(folder / name)) for name in names]
        assert len(read) == 2 * len(SHARES)

    return {"latentsweep": ours, "checked": checked, "numpy.load": theirs}


def slice_reader(home: Path, count: int) -> Callable[[], None]:
    """Opens and loads a dataset of ``count`` slices of 128×128 that vary smoothly, as an image does, with noise."""
    random = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(128), np.arange(128)) / 2
    pictures = [encode_stored(np.uint8(ramp + random.normal(64, 4, ramp.shape))) for _ in range(64)]
    folder = home / "datasets" / f"slices-{count}"
    folder.mkdir(parents=True)
    rows = [SliceRow("s", "v", index, "train", "train", pictures[index % 64]) for index in range(count)]
    by_split = {"train": count, "validation": 0, "test": 0}
    counts = {"slices_by_split": by_split, "slices_by_split_by_slice": by_split, "subjects_by_split": by_split}
    numbers = ("slices", "subjects", "volumes", "files", "files_broken", "files_ignored")
    shards = write_shards(folder, rows)
    write_manifest(
        folder,
        {
            **dict.fromkeys(("created", "fingerprint", "source"), ""),
            "version": 1,
            "name": folder.name,
            "bytes": 0,
            "settings": {"size": 128},
            "counts": {**dict.fromkeys(numbers, count), "slices_with_too_little_brain": 0, **counts},
            "rejects": [],
            "notes": [],
            "shards": shards,
        },
    )

    def read() -> None:
        assert len(open_dataset(home / "datasets", folder.name).load("train")) == count

    return read


def preparation(rounds: int) -> tuple[float, float, int] | None:
    """Medians of seconds, ours and pydicom's, and the slices; None without the test data."""
    source = DATA / "rsna_miccai"
    if not source.is_dir():
        return None
    found = discover("kaggle", source, series=None, subject_from=None)
    files = [path for scan in found.scans for path in scan.files]

    def ours() -> None:
        with tempfile.TemporaryDirectory() as home:
            prepare("kaggle", home=Path(home), source=source)

    def theirs() -> None:
        for path in files:
            assert pydicom.dcmread(path).pixel_array.ndim == 2

    seconds = alternate({"ours": ours, "theirs": theirs}, rounds=rounds, warmup=1)
    return statistics.median(seconds["ours"]), statistics.median(seconds["theirs"]), len(files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31, help="timed turns of each reading")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-reading.md")
    arguments = parser.parse_args()

    lines = [
        "| slices | latents, ms | checked and read, ms | numpy.load, ms | ratio | ratio with the check | µs a latent "
        "| dataset's slices, ms | µs a slice |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ratios, with_check = {}, {}
    for count in GROWTH:
        with tempfile.TemporaryDirectory() as folder:
            steps = latent_readers(Path(folder), count)
            medians = {
                name: statistics.median(values)
                for name, values in alternate(steps, rounds=arguments.rounds, warmup=3).items()
            }
            steps = {"slices": slice_reader(Path(folder), count)}
            slices = statistics.median(alternate(steps, rounds=3, warmup=1)["slices"])
        ratios[count] = medians["latentsweep"] / medians["numpy.load"]
        with_check[count] = medians["checked"] / medians["numpy.load"]
        lines.append(
            f"| {count} | {medians['latentsweep'] * 1e3:.1f} | {medians['checked'] * 1e3:.1f} "
            f"| {medians['numpy.load'] * 1e3:.1f} | {ratios[count]:.2f} | {with_check[count]:.2f} "
            f"| {medians['latentsweep'] / count * 1e6:.2f} "
            f"| {slices * 1e3:.0f} | {slices / count * 1e6:.0f} |"
        )
    worst = max(ratios[8192], ratios[32768])
    prepared = preparation(3)
    times = prepared[1] / prepared[0] if prepared else None
    rows: list[dict[str, object]] = [
        {
            "what": "latent shards to a tensor",
            "against": "numpy.load of the same numbers",
            "at_least": f"no more than {LATENTS_LIMIT} times its time",
            "measured": f"{ratios[8192]:.2f} times (8k), {ratios[32768]:.2f} times (32k)",
            "holds": worst <= LATENTS_LIMIT,
        },
        {
            "what": "the same, found in the store and checked for damage before, as once in a process",
            "against": "numpy.load, which checks nothing",
            "at_least": "",
            "measured": f"{with_check[8192]:.2f} times (8k), {with_check[32768]:.2f} times (32k)",
            "holds": None,
        },
        {
            "what": "slices per second in data prepare, DICOM",
            "against": "one core reading with pydicom alone",
            "at_least": f"{PREPARATION_LIMIT} times on two cores",
            "measured": f"{times:.2f} times" if times else "not measured: no test data",
            "holds": times >= PREPARATION_LIMIT if times else None,
        },
    ]
    detail = (
        f"{prepared[2]} slices: {prepared[2] / prepared[0]:.0f} a second in `data prepare` (start of two processes, "
        f"reading, slicing, encoding and writing), {prepared[2] / prepared[1]:.0f} read by pydicom alone."
        if prepared
        else "No DICOM test data here."
    )
    text = [
        "## Rows",
        "",
        *(
            f"- {row['what']}, against {row['against']}: {row['measured']} ({row['at_least'] or 'no bound'})"
            for row in rows
        ),
        f"- {detail}",
        "",
        "## Growth",
        "",
        "All latents of a result, read alone and found in a fresh store before, in turns with `numpy.load`; all "
        "slices of a dataset, opened (SHA-256 of each shard) and decoded. Linear where the time of one is "
        "constant.",
        "",
        *lines,
        "",
        TRIED,
    ]
    return publish(
        "reading",
        "Reading",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("torch", "numpy", "pyarrow", "pydicom"),
    )


if __name__ == "__main__":
    raise SystemExit(main())

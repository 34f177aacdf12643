"""A dataset of BraTS's size, made up: what `data prepare`, `data show`, `lint` and loading cost in time and memory.

Makes 1,251 volumes of 240×240×155 voxels (int16, gzip), hard links to some dozens of different ones. Prepares them,
killed once in the middle, then shows, lints and loads them. Memory is the most that all processes of a command held
at one time, with shared pages counted once. Ends with exit code 1 where a limit does not hold.

    python benchmarks/full_size.py --report
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from timing import publish

from latentsweep.datasets.phantom import phantom
from trainables.loop.machine import cores

ROOT = Path(__file__).parents[1]
SHAPE, TISSUE = (240, 240, 155), 116
"""Voxels of a volume, and its planes that hold brain: BraTS's 1,251 volumes give 145,000 slices."""
VOLUMES, DIFFERENT = 1251, 36
NAME = "brats_flair"
PREPARE_GIB, LOOK_GIB, LOAD_GIB = 2.0, 1.0, 2.0
EVERY = 0.5
"""Seconds between looks at the memory."""
# By slice, since the volumes that are links share their images, so that by subject all would be in one split.
LOAD = (
    "import sys; from pathlib import Path; from latentsweep.datasets.slices import open_dataset; "
    f"print(len(open_dataset(Path(sys.argv[1]) / 'datasets', '{NAME}').load('train', rule='slice')), 'slices')"
)


@dataclass(frozen=True)
class Cost:
    """Seconds and GiB at the peak of a command, and its exit code."""

    seconds: float
    gib: float
    code: int


def make_source(folder: Path, volumes: int, different: int) -> None:
    """Volumes of SHAPE as BraTS 2020 names them, with the tissue of a made-up patient each."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    made: list[Path] = []
    for number in range(volumes):
        path = folder / f"BraTS20_Training_{number:04d}" / f"BraTS20_Training_{number:04d}_flair.nii.gz"
        path.parent.mkdir(parents=True)
        if number < different:
            voxels = phantom(number).voxels
            factors = [side / had for side, had in zip((*SHAPE[:2], TISSUE), voxels.shape, strict=True)]
            grown = ndimage.zoom(voxels, factors, order=1)
            whole = np.zeros(SHAPE, np.int16)
            whole[:, :, 20 : 20 + TISSUE] = np.clip(grown / float(grown.max()) * 900, 0, 900)
            nib.save(nib.Nifti1Image(whole, affine), path)
            made.append(path)
        else:
            os.link(made[number % different], path)


def measured(command: list[str], until: Callable[[], bool] = lambda: False) -> Cost:
    """Runs a command, and kills it with all its processes when ``until`` holds."""
    began, most = time.monotonic(), 0.0
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None:
        most = max(most, sum(map(proportional, members(process.pid))) / 2**20)
        if until():
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(EVERY)
    return Cost(time.monotonic() - began, most, process.returncode)


def members(group: int) -> list[int]:
    """The processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(") ")[2].split()[2]) == group:
                found.append(int(path.parent.name))
    return found


def proportional(number: int) -> int:
    """The memory of a process in KiB, its share of what it shares."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=VOLUMES)
    parser.add_argument("--different", type=int, default=DIFFERENT)
    parser.add_argument(
        "--place", type=Path, help="a folder for the volumes and the home; a temporary one by default"
    )
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-full-size.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.place or Path(temporary)
        source, home = place / "source", place / "home"
        if not source.is_dir():
            make_source(source, arguments.volumes, min(arguments.different, arguments.volumes))
        lines, held = run(source, home)
    return publish("full-size", "A dataset of full size", lines, report=arguments.report) or int(not held)


def run(source: Path, home: Path) -> tuple[list[str], bool]:
    """The lines of the report, and whether every limit held."""
    volumes = len(list(source.iterdir()))
    cli = [sys.executable, str(ROOT / "cli.py")]
    prepare = [*cli, "data", "prepare", NAME, "--source", str(source), "--home", str(home)]
    spool = home / "datasets" / f".{NAME}.partial" / "scans"

    def read() -> int:
        return len(list(spool.glob("*.parquet")))

    killed = measured(prepare, lambda: read() >= volumes // 2)
    kept = read()
    rest = measured(prepare)
    todo = volumes - kept
    rate = 60 * todo / rest.seconds
    rows = [
        ("prepare, until it was killed", killed, PREPARE_GIB, -signal.SIGKILL),
        ("prepare, the rest", rest, PREPARE_GIB, 0),
        ("data show", measured([*cli, "data", "show", NAME, "--home", str(home)]), LOOK_GIB, 0),
        ("lint", measured([*cli, "lint", NAME, "--home", str(home)]), LOOK_GIB, 0),
        ("load the training split", measured([sys.executable, "-c", LOAD, str(home)]), LOAD_GIB, 0),
    ]
    lines = [
        f"{volumes} volumes of {'×'.join(map(str, SHAPE))} voxels, {cores()} cores. Killed with {kept} "
        f"volumes read; the rest, {todo}, took {rest.seconds:.0f} s with the writing of all shards: {rate:.0f} "
        f"volumes a minute, {1000 / rate:.1f} minutes for a thousand.",
        "",
        "| command | seconds | GiB at the peak | limit | holds |",
        "| --- | --- | --- | --- | --- |",
    ]
    held = [cost.gib <= limit and cost.code == code for _, cost, limit, code in rows]
    for (what, cost, limit, _), holds in zip(rows, held, strict=True):
        lines.append(f"| {what} | {cost.seconds:.0f} | {cost.gib:.2f} | {limit:g} | {'yes' if holds else 'no'} |")
    return lines, all(held)


if __name__ == "__main__":
    sys.exit(main())

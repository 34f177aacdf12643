"""What every benchmark needs: turns in one process, the machine in words, and a dated report."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

CPU = torch.device("cpu")
REPORTS = Path(__file__).parent / "reports"
HOLDS = {True: "holds", False: "DOES NOT HOLD", None: "without a bound"}
"""What is said of a row."""

Row = Mapping[str, Any]
"""What ``table.py`` prints: what, against, at_least, measured, holds (None: there is no bound)."""


def alternate(steps: dict[str, Callable[[], None]], *, rounds: int, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds of each round of each step, in turns: A B A B …"""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if index >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if device.type == "cpu" and cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def publish(
    name: str,
    title: str,
    text: Sequence[str],
    *,
    report: bool,
    rows: Sequence[Row] = (),
    libraries: Sequence[str] = (),
    simulated: bool = False,
    device: torch.device = CPU,
) -> int:
    """Prints a report that ends with its command, machine and versions; writes it, too, where ``report`` says so.

    ``simulated`` says that its times don't depend on the machine, ``device`` where they were measured. Returns the
    exit code: 1 where a row doesn't hold.
    """
    versions = [f"{library} {importlib.metadata.version(library)}" for library in libraries]
    lines = [
        f"# {title}, {datetime.date.today().isoformat()}",
        "",
        *text,
        "",
        f"- Command: `python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}`",
        f"- Machine{' (of no matter for the simulated times)' if simulated else ''}: {machine(device)}",
        f"- {', '.join([*versions, f'Python {platform.python_version()}'])}",
        "",
    ]
    sys.stdout.write("\n".join(lines))
    if report:
        write_report(name, "\n".join(lines), rows)
    return int(any(row["holds"] is False for row in rows))


def write_report(name: str, text: str, rows: Sequence[Row]) -> None:
    """Leaves ``text`` as ``reports/<date>-<name>.md`` beside the benchmarks, and ``rows`` for ``table.py``."""
    date = datetime.date.today().isoformat()
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / f"{date}-{name}.md").write_text(text)
    if rows:
        path = REPORTS / "rows" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"date": date, "rows": rows}, indent=1) + "\n")


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A line for each row: whether it holds, and by how much."""
    return [
        f"- {HOLDS[row['holds']]}: {row['what']}, against {row['against']}, {row['at_least']}: {row['measured']}"
        for row in rows
    ]

"""What every benchmark needs: turns in one process, the machine in words, and a dated report."""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


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


def write_report(name: str, text: str) -> None:
    """Leaves ``text`` as ``reports/<date>-<name>.md`` beside the benchmarks."""
    path = Path(__file__).parent / "reports" / f"{datetime.date.today().isoformat()}-{name}.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def write_rows(name: str, rows: list[dict[str, object]]) -> None:
    """Leaves rows of the table that ``make bench`` prints, dated, as ``reports/rows/<name>.json``."""
    path = Path(__file__).parent / "reports" / "rows" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"date": datetime.date.today().isoformat(), "rows": rows}, indent=2) + "\n")

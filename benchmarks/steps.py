"""Training steps, sampling and encoding at the paper's shapes, against diffusers and MONAI.

Every library runs in a process of its own, as its users run it, and they take turns (see ``contest.py``); the jobs
are in ``contenders.py``. Ratios are of medians over all turns. Also: the share of the machine's matrix peak that our
denoiser step reaches, and what trials packed as processes give.

    pip install --target .bench --no-deps -r benchmarks/requirements.txt
    PYTHONPATH=.bench python benchmarks/steps.py --report
"""

from __future__ import annotations

import argparse
import statistics

import torch
from contenders import DEVICE, FP32, JOBS, LIBRARIES, SAMPLES, work
from contest import Contender, in_turn, together, turns
from peak import convolutions, products
from timing import publish

BF16 = "bf16"
ROUNDS = {"diffusion_step": (20, 5), "vae_step": (3, 1), "sampling": (2, 1), "encoding": (3, 2)}
"""Turns of each contender, and how often it does its job in a turn."""

TITLES = {
    "diffusion_step": "diffusion training step, batch 16",
    "vae_step": "VAE training step, batch 32",
    "sampling": "50-step DDIM, batch 64, decoded",
    "encoding": "encoding 64 slices",
}
AT_LEAST = {  # over their fp32, and at equal precision, on the CPU and on a card
    "diffusion_step": {"cpu": (1.6, 1.1), "cuda": (3.0, 2.0)},
    "vae_step": {"cpu": (1.7, 1.05), "cuda": (2.0, 1.3)},
    "sampling": {"cpu": (1.3, None), "cuda": (4.0, None)},
    "encoding": {"cpu": (None, None), "cuda": (None, None)},
}
PAPERS_SECONDS = 5.0
"""Seconds an image that the paper states, on an RTX 3060."""

PACKED_STEPS = 12
TRIED = """
The others' autoencoders are the nearest that their options give, and do more work (last column): for the same work
their times would be about a fifth less. Slices are always encoded in fp32, since all trials learn from these latents:
where both are in bf16, it is our fp32 against their bf16.

Tried, and did not help on this CPU: channels-last (the convolutions gain 4 to 8 %, GroupNorm in bf16 loses more than
that: the denoiser's step 168 ms for 154, the autoencoder's 2.4 s for 1.8); packed weights and channels-last for
sampling in fp32 (0 to 4 %); weight gradients of the 4×4 level as one matrix product (2 % of a step in bf16, half the
speed in fp32); doubling and 3×3 convolution as one transposed 4×4 convolution (two fifths of the work, but summing
its weights costs what it saves, and at 4×4 three times that); 1×1 convolutions as products (the smaller levels gain
0.3 ms each in bf16, the larger lose as much, fp32 takes up to twice as long); the 4×4 level alone with channels last
(10 to 40 % slower); `torch.compile` (0 to 6 % for one to two minutes of compiling); dropout masks by `where` in place
of a product; halves of the batch in two threads of one core each, their gradients added (10 to 16 % slower: weights
are cast and laid out twice); huge pages for the heap (within the noise). In a profile of the bf16 step the
convolutions are 60 %, at 70 % of their own peak forward and 57 % backward; the rest is the update, the norm of the
gradient, casts, and what is done element by element.

What helped: keeping freed memory in the process (`machine.keep_freed_memory`: page faults took up to half of a step
of the autoencoder), AdamW in one pass (34 ms to 8), 16 random bits a value for dropout (11 ms to 3), plain products
for attention in bf16 (11 ms to 3), no product of gradients with a clip's factor of 1 (152 ms to 147, in turns in one
run), scale and shift in the weights of the norm (155 to 152), bf16 where the hardware has it, for sampling too.
"""


def contest(job: str, threads: int) -> dict[str, dict[str, float]]:
    """Median seconds of a job, by library and precision."""
    contenders = {
        f"{name} {precision}": Contender(build, (job, precision, threads), threads)
        for name, build in LIBRARIES.items()
        for precision in (FP32, BF16)
    }
    rounds, times = ROUNDS[job]
    seconds = turns(contenders, rounds=rounds, times=times, warmup=3 if times > 2 else 1)
    return {
        name: {precision: statistics.median(seconds[f"{name} {precision}"]) for precision in (FP32, BF16)}
        for name in LIBRARIES
    }


def row(what: str, against: str, at_least: float | None, measured: float, text: str = "") -> dict[str, object]:
    """A row of the table; without a bound it is there to be known."""
    return {
        "what": what,
        "against": against,
        "at_least": "" if at_least is None else f"{at_least:g} times",
        "measured": text or f"{measured:.2f} times",
        "holds": None if at_least is None else measured >= at_least,
    }


def rows_of(job: str, seconds: dict[str, dict[str, float]]) -> list[dict[str, object]]:
    """Ours in its own precision over their fp32, then each precision over theirs in the same."""
    mixed_bound, equal_bound = AT_LEAST[job][DEVICE.type]
    others = [name for name in LIBRARIES if name != "latentsweep"]
    best = {precision: min(seconds[name][precision] for name in others) for precision in (FP32, BF16)}
    ours, title = seconds["latentsweep"], f"{TITLES[job]} ({DEVICE.type})"
    rows = [row(title, "the faster of diffusers and MONAI, fp32", mixed_bound, best[FP32] / min(ours.values()))]
    for precision in (FP32, BF16):
        measured = best[precision] / ours[precision]
        rows.append(row(title, f"the faster of the two, both in {precision}", equal_bound, measured))
    if job == "sampling":
        each = min(ours.values()) / SAMPLES
        times = PAPERS_SECONDS / each
        text = f"{times:.0f} times less ({each:.3f} s)"
        rows.append(row(f"seconds per image, 50 steps ({DEVICE.type})", "the paper's 5 s", 12, times, text))
    return rows


def share_of_peak(step: dict[str, float], gflop: float) -> tuple[list[dict[str, object]], list[str]]:
    """What of the machine's matrix peak the denoiser's step reaches; a step is three forward passes' work."""
    rows, lines = [], []
    for precision, dtype, bound in ((FP32, torch.float32, 0.75), (BF16, torch.bfloat16, 0.5)):
        reached = 3 * gflop / step[precision]
        square, best = products(dtype) / 1e9, convolutions(dtype) / 1e9
        share = reached / max(square, best)  # oneDNN's convolutions are faster than the square product
        text = f"{share:.2f} of the fastest convolution, {reached / square:.2f} of the fastest matrix product"
        what = f"share of the matrix peak in the diffusion step, {precision}"
        rows.append(row(what, "1.0", bound, share, text))
        lines.append(f"| {precision} | {reached:.0f} | {square:.0f} | {best:.0f} |")
    return rows, lines


def packed(precision: str) -> tuple[float, float]:
    """Aggregate denoiser steps a second: two trials of two threads in turn, and at once with a thread each."""
    trials = {
        threads: [Contender(LIBRARIES["latentsweep"], ("diffusion_step", precision, threads), threads)] * 2
        for threads in (1, 2)
    }
    turn = in_turn(trials[2], count=PACKED_STEPS)
    once = together({str(index): trial for index, trial in enumerate(trials[1])}, count=PACKED_STEPS)
    return 2 * PACKED_STEPS / turn, 2 * PACKED_STEPS / once


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of each")
    parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS)
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-steps.md")
    arguments = parser.parse_args()

    counted = work()
    rows: list[dict[str, object]] = []
    timed = ["| job | library | fp32, ms | bf16, ms | GFLOP of a forward pass |", "| --- | --- | --- | --- | --- |"]
    extra: list[str] = []
    for job in arguments.jobs:
        seconds = contest(job, arguments.threads)
        rows += rows_of(job, seconds)
        for name, by_precision in seconds.items():
            gflop = counted[name].get(job)
            times = " | ".join(f"{by_precision[precision] * 1e3:.1f}" for precision in (FP32, BF16))
            timed.append(f"| {TITLES[job]} | {name} | {times} | {f'{gflop:.1f}' if gflop else ''} |")
        if job == "diffusion_step" and DEVICE.type == "cpu":
            more, lines = share_of_peak(seconds["latentsweep"], counted["latentsweep"][job])
            rows += more
            extra = ["", "| precision | step, GFLOP/s | matrix product | convolution |", "| --- | --- | --- | --- |"]
            extra += lines
            for precision in (FP32, BF16):
                turn, once = packed(precision)
                what = f"2 trials packed as processes, 1 thread each, {precision}"
                text = f"{once / turn:.2f} times ({once:.2f} against {turn:.2f} steps/s)"
                rows.append(row(what, "in turn with 2 threads", None, once / turn, text))
    table = ["| what | against | at least | measured | holds |", "| --- | --- | --- | --- | --- |"]
    words = {True: "yes", False: "NO", None: ""}
    for line in rows:
        cells = (line["what"], line["against"], line["at_least"], line["measured"], words[line["holds"]])  # type: ignore[index]
        table.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    text = [
        *table,
        "",
        *timed,
        *extra,
        TRIED,
    ]
    return publish(
        "steps",
        "Steps",
        text,
        report=arguments.report,
        rows=rows,
        libraries=("torch", "diffusers", "monai"),
        device=DEVICE,
    )


if __name__ == "__main__":
    raise SystemExit(main())

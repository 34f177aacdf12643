"""A training step of the paper's UNet against diffusers' UNet2DModel of the same widths and blocks.

One step is the forward pass, the MSE, the backward pass and AdamW on a batch of 16 latents 8×16×16. The two
take turns in one process, so that a busy machine slows both, and the medians are compared. Ends with exit
code 1 where ours takes longer.

    pip install -r benchmarks/requirements.txt
    python benchmarks/denoiser_step.py --report
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
from collections.abc import Callable

import torch
from timing import alternate, machine, write_report
from torch import Tensor
from torch.nn import functional as F

import trainables.torchvision_operators  # noqa: F401  diffusers imports torchvision
from trainables.recipes import PAPER
from trainables.unet import UNet

BATCH, CHANNELS, SIDE = 16, PAPER.vae.latent_channels, PAPER.latent_size


def ours() -> torch.nn.Module:
    return UNet(CHANNELS, PAPER.diffusion)


def theirs() -> torch.nn.Module:
    """Their nearest: the same levels, blocks, attention, dropout, embedding width, and scale and shift."""
    from diffusers import UNet2DModel

    config = PAPER.diffusion
    plain, attending = ("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")
    down, up = zip(
        *(attending if level in config.attention_levels else plain for level in range(len(config.widths))),
        strict=True,
    )
    return UNet2DModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        down_block_types=down,
        up_block_types=up[::-1],
        add_attention=False,
        attention_head_dim=64,
        dropout=config.dropout,
        time_embedding_dim=config.embedding_channels,
        resnet_time_scale_shift="scale_shift",
    )


def training_step(model: torch.nn.Module, device: torch.device, bf16: bool) -> Callable[[], None]:
    """A function that takes one optimiser step on fixed data."""
    config = PAPER.diffusion
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    generator = torch.Generator().manual_seed(0)
    z_t, noise = torch.randn((2, BATCH, CHANNELS, SIDE, SIDE), generator=generator).to(device)
    t = torch.randint(config.timesteps, (BATCH,), generator=generator).to(device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            output = model(z_t, t)
        prediction: Tensor = output if isinstance(output, Tensor) else output.sample
        F.mse_loss(prediction.float(), noise).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="timed steps of each")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--report", action="store_true", help="write benchmarks/reports/<date>-denoiser-step.md")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)

    import diffusers

    torch.manual_seed(0)
    models = {"latentsweep": ours(), "diffusers": theirs()}
    size = {name: sum(p.numel() for p in model.parameters()) / 1e6 for name, model in models.items()}
    lines = [
        "| precision | latentsweep, ms | diffusers, ms | ratio of medians | faster rounds |",
        "| --- | --- | --- | --- | --- |",
    ]
    ratios = []
    for precision in ("fp32", "bf16"):
        steps = {name: training_step(model, device, precision == "bf16") for name, model in models.items()}
        seconds = alternate(steps, rounds=arguments.rounds)
        medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
        ratios.append(medians["latentsweep"] / medians["diffusers"])
        wins = sum(a < b for a, b in zip(seconds["latentsweep"], seconds["diffusers"], strict=True))
        lines.append(
            f"| {precision} | {medians['latentsweep']:.1f} | {medians['diffusers']:.1f} "
            f"| {ratios[-1]:.3f} | {wins} of {arguments.rounds} |"
        )
    verdict = "latentsweep takes no longer" if max(ratios) <= 1 else "latentsweep takes LONGER"
    text = "\n".join(
        [
            f"# Denoiser step, {datetime.date.today().isoformat()}",
            "",
            "Forward, MSE, backward and AdamW on a batch of 16 latents 8×16×16: the `paper` UNet "
            f"({size['latentsweep']:.1f} M parameters) against diffusers' UNet2DModel "
            f"({size['diffusers']:.1f} M), in turns in one process.",
            "",
            *lines,
            "",
            f"{verdict} in the same run.",
            "",
            f"- Command: `python benchmarks/denoiser_step.py {' '.join(sys.argv[1:])}`",
            f"- Machine: {machine(device)}",
            f"- torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}",
            "",
        ]
    )
    sys.stdout.write(text)
    if arguments.report:
        write_report("denoiser-step", text)
    return int(max(ratios) > 1)


if __name__ == "__main__":
    raise SystemExit(main())

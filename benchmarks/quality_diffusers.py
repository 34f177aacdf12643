"""diffusers' contender: ``examples/unconditional_image_generation/train_unconditional.py``, its README's flags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from quality_cells import Bytes
from quality_data import SIDE
from quality_peers import DRAWN_AT_ONCE, TIMESTEPS, Peer, mixed, take_step, to_bytes, to_range
from torch.nn import functional as F


class Diffusers(Peer):
    """DDPM in pixels: ε, AdamW with a cosine decay, an average of the weights, flips.

    The warm-up of 500 steps is 1 % of the training in its README; here it is 5 %.
    """

    shares: ClassVar[Mapping[str, float]] = {"denoiser": 1.0}

    def run(self, phase: str, steps: int) -> None:
        from diffusers import DDPMScheduler, UNet2DModel
        from diffusers.optimization import get_scheduler
        from diffusers.training_utils import EMAModel

        generator = self.begin(phase)
        levels = 6
        self.model = UNet2DModel(
            sample_size=SIDE,
            in_channels=1,
            out_channels=1,
            layers_per_block=2,
            block_out_channels=[self.width(width) for width in (128, 128, 256, 256, 512, 512)],
            down_block_types=["AttnDownBlock2D" if level == 4 else "DownBlock2D" for level in range(levels)],
            up_block_types=["AttnUpBlock2D" if level == 1 else "UpBlock2D" for level in range(levels)],
        )
        average = EMAModel(self.model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.rate(1e-4), betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        warmup = min(500, math.ceil(0.05 * steps))
        decay = get_scheduler("cosine", optimizer, num_warmup_steps=warmup, num_training_steps=steps)
        noising = DDPMScheduler(num_train_timesteps=TIMESTEPS, beta_schedule="linear")
        self.model.train()
        for chosen in self.batches(generator, steps):
            images = to_range(self.slices[chosen], -1)
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
            noise, t = torch.randn_like(images), torch.randint(TIMESTEPS, (len(images),))
            with mixed():
                prediction = self.model(noising.add_noise(images, noise, t), t).sample
            F.mse_loss(prediction.float(), noise).backward()
            take_step(self.model, optimizer, clip=1.0)
            decay.step()
            average.step(self.model.parameters())
        average.copy_to(self.model.parameters())

    @torch.inference_mode()
    def draw(self, count: int) -> Bytes:
        from diffusers import DDIMScheduler

        self.begin("sampling")
        self.model.eval()
        scheduler = DDIMScheduler(TIMESTEPS, beta_schedule="linear", timestep_spacing="trailing")
        scheduler.set_timesteps(self.settings["sampling_steps"])
        parts = []
        for part in torch.randn(count, 1, SIDE, SIDE).split(DRAWN_AT_ONCE):
            for t in scheduler.timesteps:
                with mixed():
                    noise = self.model(part, t).sample
                part = scheduler.step(noise.float(), t, part).prev_sample
            parts.append(part)
        return to_bytes(torch.cat(parts), -1)

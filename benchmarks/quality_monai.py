"""MONAI's contender: ``generation/2d_ldm/2d_ldm_tutorial.ipynb`` of its tutorials, whose images are 64×64, too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from quality_cells import Bytes
from quality_data import SIDE
from quality_peers import DRAWN_AT_ONCE, TIMESTEPS, Peer, mixed, take_step, to_bytes, to_range
from torch import Tensor
from torch.nn import functional as F

SCALED_BY = 64
"""Slices whose latents give the factor that brings latents to a spread of 1."""


class Monai(Peer):
    """Latent diffusion: an autoencoder with an L1, KL and adversarial loss, then ε in its latents; Adam, no average.

    Time is shared as in its text, 55 minutes to 80. The discriminator begins after 11 of 100 epochs, and slices are
    turned, shifted and scaled a little, in both trainings. The perceptual loss is left out: the weights of its
    network can't be had offline. Its sampler clips estimates of latents, which have a
    spread of 1, at ±1; here it doesn't.
    """

    shares: ClassVar[Mapping[str, float]] = {"autoencoder": 55 / 135, "denoiser": 80 / 135}
    channels = 3
    beta: ClassVar = {"schedule": "linear_beta", "beta_start": 0.0015, "beta_end": 0.0195}

    def run(self, phase: str, steps: int) -> None:
        generator = self.begin(phase)
        if phase == "autoencoder":
            self.train_autoencoder(self.batches(generator, steps), steps)
        else:
            self.train_denoiser(self.batches(generator, steps))

    def train_autoencoder(self, batches: Iterator[Tensor], steps: int) -> None:
        from monai.losses.adversarial_loss import PatchAdversarialLoss
        from monai.networks.nets import AutoencoderKL, PatchDiscriminator

        self.autoencoder = AutoencoderKL(
            spatial_dims=2, in_channels=1, out_channels=1, channels=[self.width(w) for w in (128, 128, 256)],
            latent_channels=self.channels, num_res_blocks=2, attention_levels=(False, False, False),
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        )  # fmt: skip
        discriminator = PatchDiscriminator(
            spatial_dims=2, num_layers_d=3, channels=self.width(64), in_channels=1, out_channels=1
        )
        adversarial = PatchAdversarialLoss(criterion="least_squares")
        mine = torch.optim.Adam(self.autoencoder.parameters(), lr=self.rate(1e-4))
        theirs = torch.optim.Adam(discriminator.parameters(), lr=self.rate(5e-4))
        augment = self.augmentation()
        for step, chosen in enumerate(batches):
            images = augment(to_range(self.slices[chosen], 0))
            opposed = step >= 0.11 * steps
            with mixed():
                decoded, mean, sigma = self.autoencoder(images)
            decoded, mean, sigma = decoded.float(), mean.float(), sigma.float()
            divergence = 0.5 * (mean**2 + sigma**2 - torch.log(sigma**2) - 1).sum(dim=(1, 2, 3)).mean()
            loss = F.l1_loss(decoded, images) + 1e-6 * divergence
            if opposed:
                with mixed():
                    judged = discriminator(decoded)[-1]
                loss = loss + 0.01 * adversarial(judged.float(), target_is_real=True, for_discriminator=False)
            loss.backward()
            take_step(self.autoencoder, mine)
            if opposed:
                discriminator.zero_grad()
                with mixed():
                    fake, real = discriminator(decoded.detach())[-1], discriminator(images)[-1]
                wrong = adversarial(fake.float(), target_is_real=False, for_discriminator=True)
                wrong = wrong + adversarial(real.float(), target_is_real=True, for_discriminator=True)
                (0.01 * wrong / 2).backward()
                take_step(discriminator, theirs)

    def train_denoiser(self, batches: Iterator[Tensor]) -> None:
        from monai.inferers import LatentDiffusionInferer
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDPMScheduler

        self.autoencoder.eval()
        widths = [self.width(width) for width in (128, 256, 512)]
        self.model = DiffusionModelUNet(
            spatial_dims=2, in_channels=self.channels, out_channels=self.channels, num_res_blocks=2, channels=widths,
            attention_levels=(False, True, True), num_head_channels=(0, *widths[1:]),
        )  # fmt: skip
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.rate(1e-4))
        augment = self.augmentation()
        some = torch.randperm(len(self.slices))[:SCALED_BY]
        with torch.no_grad(), mixed():
            z = self.autoencoder.encode_stage_2_inputs(to_range(self.slices[some], 0))
        self.scale = float(1 / z.float().std())
        inferer = LatentDiffusionInferer(DDPMScheduler(TIMESTEPS, **self.beta), scale_factor=self.scale)
        self.model.train()
        for chosen in batches:
            images = augment(to_range(self.slices[chosen], 0))
            noise, t = torch.randn(len(images), *z.shape[1:]), torch.randint(TIMESTEPS, (len(images),))
            with mixed():
                prediction = inferer(
                    inputs=images, autoencoder_model=self.autoencoder, diffusion_model=self.model,
                    noise=noise, timesteps=t,
                )  # fmt: skip
            F.mse_loss(prediction.float(), noise).backward()
            take_step(self.model, optimizer)

    def augmentation(self) -> Any:
        """Slices (B, 1, H, W) in [0, 1], each turned, shifted and scaled with a probability of a half."""
        from monai.transforms import RandAffine

        turn = (-math.pi / 36, math.pi / 36)
        affine = RandAffine(
            prob=0.5, rotate_range=[turn, turn], translate_range=[(-1, 1), (-1, 1)],
            scale_range=[(-0.05, 0.05), (-0.05, 0.05)], spatial_size=[SIDE, SIDE], padding_mode="zeros",
        )  # fmt: skip
        affine.set_random_state(self.seed)
        return lambda images: torch.stack([torch.as_tensor(affine(image)) for image in images])

    @torch.inference_mode()
    def draw(self, count: int) -> Bytes:
        from monai.inferers import LatentDiffusionInferer
        from monai.networks.schedulers import DDIMScheduler

        self.begin("sampling")
        self.model.eval()
        scheduler = DDIMScheduler(TIMESTEPS, clip_sample=False, **self.beta)
        scheduler.set_timesteps(self.settings["sampling_steps"])
        inferer = LatentDiffusionInferer(scheduler, scale_factor=self.scale)
        parts = []
        for part in torch.randn(count, self.channels, SIDE // 4, SIDE // 4).split(DRAWN_AT_ONCE):
            with mixed():
                drawn = inferer.sample(
                    input_noise=part, diffusion_model=self.model, scheduler=scheduler,
                    autoencoder_model=self.autoencoder, verbose=False,
                )  # fmt: skip
            parts.append(drawn.float())
        return to_bytes(torch.cat(parts), 0)

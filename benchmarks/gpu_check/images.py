"""Two hundred images by the recipe's sampler, decoded; then a training that is killed and goes on."""

from __future__ import annotations

import time

import torch

from gpu_check.card import Card
from gpu_check.notes import Notes
from gpu_check.resume import show_resume
from gpu_check.trainings import RECIPE, awake, execution
from trainables.autoencoder.training import decode_to_bytes
from trainables.autoencoder.vae import Autoencoder
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.unet import UNet

IMAGES = 200
STAND_INS, STAND_IN_EVALUATIONS = 16, 5
"""Images where nothing is computed, and the sampler's steps there."""


def show_images(notes: Notes, card: Card) -> None:
    """Part 10: seconds an image, and the records of a training that was killed."""
    device = execution().prepare()
    torch.manual_seed(6)
    denoiser = awake(UNet(RECIPE.vae.latent_channels, RECIPE.diffusion), 6).eval().to(device)
    autoencoder = awake(Autoencoder(RECIPE.vae), 6).eval()
    count = card.count(IMAGES, STAND_INS)
    config = RECIPE.sampling
    shape = (RECIPE.vae.latent_channels, RECIPE.latent_size, RECIPE.latent_size)

    def draw(seeds: range, steps: int) -> tuple[torch.Tensor, torch.Tensor, float, float]:
        """Latents, images, and the seconds that sampling and decoding took."""
        noise = initial_noise(seeds, shape).to(device)
        torch.cuda.synchronize()
        began = time.perf_counter()
        trace = sample(
            denoiser,
            noise,
            seeds=seeds,
            diffusion=RECIPE.diffusion,
            config=config.replace(steps=steps),
            thresholds=(0.0,),
        )
        torch.cuda.synchronize()
        sampled = time.perf_counter()
        images = decode_to_bytes(autoencoder, trace.latents[0], device)
        return trace.latents[0], images, sampled - began, time.perf_counter() - sampled

    draw(range(count), 2)
    evaluations = card.count(config.steps, STAND_IN_EVALUATIONS)
    latents, images, sampling, decoding = draw(range(count), evaluations)
    side = RECIPE.data.image_size
    notes.check(f"{count} images of {side}×{side} come out", images.shape == (count, side, side))
    notes.check("all latents are finite", bool(latents.isfinite().all()), computed=True)
    notes.measure("images.count", count)
    notes.measure("images.evaluations", evaluations)
    notes.measure("images.sampling_seconds_an_image", sampling / count, computed=True)
    notes.measure("images.decoding_seconds_an_image", decoding / count, computed=True)
    notes.measure("images.seconds_an_image", (sampling + decoding) / count, computed=True)
    show_resume(notes, card)

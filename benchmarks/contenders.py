"""The same jobs by three libraries, at the paper's shapes, each as its users run it.

All train with the whole step of the paper's recipe: noise, forward, loss, backward, clipping, AdamW, average of the
weights for the denoiser. Ours is the product's own code, CutMix and frequency loss included, which the others don't
have. Data are random; weights are as each library starts them.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from contest import Job
from torch import Tensor, nn
from torch.nn import functional as F

import trainables.measures.torchvision_operators  # noqa: F401  diffusers and MONAI import torchvision
from trainables.recipes import PAPER

STEP_BATCH, VAE_BATCH, SAMPLES = PAPER.diffusion.batch_size, PAPER.vae.batch_size, 64
CHANNELS, SMALL, SIDE = PAPER.vae.latent_channels, PAPER.latent_size, PAPER.data.image_size
LATENTS = 256
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
JOBS = ("diffusion_step", "vae_step", "sampling", "encoding")
FP32 = "fp32"


def latentsweep(job: str, precision: str, threads: int) -> Job:
    """The product's own loops, stages and settings; ``precision`` as its configurations have it."""
    from latentsweep.stages.denoiser import draw
    from trainables.autoencoder import training as vae_training
    from trainables.autoencoder.batch import VaeDraws
    from trainables.autoencoder.discriminator import Adversary
    from trainables.denoiser import training as diffusion_training
    from trainables.denoiser.averages import update_ema
    from trainables.denoiser.batch import draw_step, noisy_batch
    from trainables.denoiser.latents import ChannelStatistics, Latents
    from trainables.denoiser.schedules import alphas_cumprod
    from trainables.loop.draws import LayerGenerators
    from trainables.loop.execution import computing_dtype, send
    from trainables.loop.optimiser import adamw, update
    from trainables.loop.precision import WorkingCopy
    from trainables.loop.settings import Execution

    device = Execution(threads=threads).prepare()
    dtype = computing_dtype(precision, device)
    recipe = PAPER.replace(**{"sampling.precision": precision, "sampling.early_stop_threshold": 0.0})
    scaler = torch.amp.GradScaler(device.type, enabled=False)
    autoencoder, unet = our_autoencoder().to(device), our_unet().to(device)
    if job == "encoding":
        slices = torch.randint(256, (SAMPLES, SIDE, SIDE), dtype=torch.uint8)
        return lambda: vae_training.encode_slices(autoencoder, slices, device)
    if job == "sampling":
        unet.eval()
        return lambda: vae_training.decode_to_bytes(
            autoencoder, draw(unet, recipe, range(SAMPLES), device).latents[0], device
        )
    if job == "vae_step":
        autoencoder.train()
        optimizer = adamw(autoencoder, 1e-4, 1e-5)
        images, noise, working = random_slices(VAE_BATCH), random_latents(VAE_BATCH), WorkingCopy(autoencoder, dtype)
        draws = VaeDraws(torch.arange(VAE_BATCH), torch.empty(0), noise, torch.tensor(1e-5, device=device))

        def vae_step() -> None:
            optimizer.zero_grad()
            shares = [slice(0, VAE_BATCH)]
            vae_training.accumulate(recipe.vae, working, images, draws, shares, scaler, Adversary(recipe.vae))
            update(autoencoder, optimizer, scaler, recipe.vae.gradient_clip)

        return vae_step
    unet.train()
    average = our_unet().to(device)
    optimizer = adamw(unet, 2e-4, 1e-5)
    mean, log_variance = torch.randn((2, LATENTS, CHANNELS, SMALL, SMALL), device=device).half()
    latents = Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))
    schedule = alphas_cumprod(recipe.diffusion).float().to(device)
    working, dropout, count = WorkingCopy(unet, dtype), LayerGenerators(), 0

    def diffusion_step() -> None:
        nonlocal count
        draws = send(draw_step(recipe.diffusion, latents, count, 0), device)
        batch = noisy_batch(recipe.diffusion, latents, schedule, draws)
        optimizer.zero_grad()
        dropout.reseed(count)
        shares = [slice(0, STEP_BATCH)]
        diffusion_training.accumulate(recipe.diffusion, working, batch, schedule, shares, scaler, dropout)
        update(unet, optimizer, scaler, recipe.diffusion.gradient_clip)
        update_ema(average, unet, count, recipe.diffusion.ema_decay, recipe.diffusion.ema_warmup)
        count += 1

    return diffusion_step


def diffusers(job: str, precision: str, threads: int) -> Job:
    """As in its training examples: DDPMScheduler, clipping, AdamW, EMAModel; DDIMScheduler to sample."""
    from diffusers import DDIMScheduler, DDPMScheduler
    from diffusers.training_utils import EMAModel

    autoencoder, unet = diffusers_autoencoder().to(DEVICE), diffusers_unet().to(DEVICE)
    if job == "encoding":
        return _encoding(lambda images: autoencoder.encode(images).latent_dist.mean, precision)
    if job == "vae_step":
        return _vae_step(autoencoder, lambda images: _diffusers_parts(autoencoder, images), precision)
    if job == "sampling":
        scheduler = DDIMScheduler(num_train_timesteps=PAPER.diffusion.timesteps, timestep_spacing="trailing")

        @torch.no_grad()
        def sampling() -> Tensor:
            scheduler.set_timesteps(PAPER.sampling.steps)
            z = random_latents(SAMPLES)
            with mixed(precision):
                for t in scheduler.timesteps:
                    z = scheduler.step(unet(z, t).sample, t, z).prev_sample
                return to_bytes(autoencoder.decode(z).sample)

        unet.eval(), autoencoder.eval()
        return sampling
    noising = DDPMScheduler(num_train_timesteps=PAPER.diffusion.timesteps)
    average = EMAModel(unet.parameters(), decay=PAPER.diffusion.ema_decay)
    return _diffusion_step(
        unet,
        lambda z, noise, t: unet(noising.add_noise(z, noise, t), t).sample,
        lambda: average.step(unet.parameters()),
        precision,
    )


def monai(job: str, precision: str, threads: int) -> Job:
    """As in its tutorials: its inferer and schedulers; its users' optimiser, with PyTorch's averaged model."""
    from monai.inferers import DiffusionInferer
    from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    autoencoder, unet = monai_autoencoder().to(DEVICE), monai_unet().to(DEVICE)
    if job == "encoding":
        return _encoding(lambda images: autoencoder.encode(images)[0], precision)
    if job == "vae_step":
        return _vae_step(autoencoder, lambda images: _monai_parts(autoencoder, images), precision)
    if job == "sampling":
        scheduler = DDIMScheduler(num_train_timesteps=PAPER.diffusion.timesteps)
        drawing = DiffusionInferer(scheduler)

        @torch.no_grad()
        def sampling() -> Tensor:
            scheduler.set_timesteps(PAPER.sampling.steps)
            with mixed(precision):
                z = drawing.sample(random_latents(SAMPLES), unet, scheduler, verbose=False)
                return to_bytes(autoencoder.decode(z))

        unet.eval(), autoencoder.eval()
        return sampling
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=PAPER.diffusion.timesteps))
    average = AveragedModel(unet, multi_avg_fn=get_ema_multi_avg_fn(PAPER.diffusion.ema_decay))
    return _diffusion_step(
        unet,
        lambda z, noise, t: inferer(inputs=z, diffusion_model=unet, noise=noise, timesteps=t),
        lambda: average.update_parameters(unet),
        precision,
    )


LIBRARIES = {"latentsweep": latentsweep, "diffusers": diffusers, "MONAI": monai}


def our_unet() -> Any:
    from trainables.denoiser.unet import UNet

    return UNet(CHANNELS, PAPER.diffusion)


def our_autoencoder() -> Any:
    from trainables.autoencoder.vae import Autoencoder

    return Autoencoder(PAPER.vae)


def diffusers_unet() -> Any:
    """Its nearest: the same levels, blocks, attention, dropout, embedding width, and scale and shift."""
    from diffusers import UNet2DModel

    config = PAPER.diffusion
    plain, attending = ("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")
    levels = range(len(config.widths))
    down, up = zip(*(attending if level in config.attention_levels else plain for level in levels), strict=True)
    return UNet2DModel(
        sample_size=SMALL,
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


def diffusers_autoencoder() -> Any:
    """Its nearest: at two blocks a stage it would do 1.7 times our work, at one 1.3 times."""
    from diffusers import AutoencoderKL

    stages = len(PAPER.vae.widths)
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        block_out_channels=PAPER.vae.widths,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=32,
        sample_size=SIDE,
    )


def monai_unet() -> Any:
    """Its nearest: the same widths, blocks, attention; it has no dropout, and shifts without scaling."""
    from monai.networks.nets import DiffusionModelUNet

    config = PAPER.diffusion
    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_res_blocks=config.blocks,
        channels=config.widths,
        attention_levels=[level in config.attention_levels for level in range(len(config.widths))],
        norm_num_groups=32,
        num_head_channels=64,
    )


def monai_autoencoder() -> Any:
    """Its nearest: the same widths and blocks, without attention, since with it it has two blocks more."""
    from monai.networks.nets import AutoencoderKL

    return AutoencoderKL(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=PAPER.vae.blocks,
        channels=PAPER.vae.widths,
        attention_levels=(False,) * len(PAPER.vae.widths),
        latent_channels=CHANNELS,
        norm_num_groups=32,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


def work() -> dict[str, dict[str, float]]:
    """GFLOP of a forward pass of each network: denoiser on a batch of steps, autoencoder on a batch of slices."""
    from torch.utils.flop_counter import FlopCounterMode

    networks: dict[str, tuple[Any, Any]] = {
        "latentsweep": (our_unet(), our_autoencoder()),
        "diffusers": (diffusers_unet(), diffusers_autoencoder()),
        "MONAI": (monai_unet(), monai_autoencoder()),
    }
    counted = {}
    t = torch.zeros(STEP_BATCH, dtype=torch.int64)
    for name, (unet, autoencoder) in networks.items():
        with torch.no_grad(), FlopCounterMode(display=False) as denoising:
            unet(torch.randn(STEP_BATCH, CHANNELS, SMALL, SMALL), t)
        with torch.no_grad(), FlopCounterMode(display=False) as coding:
            autoencoder.encode(torch.randn(4, 1, SIDE, SIDE))
            autoencoder.decode(torch.randn(4, CHANNELS, SMALL, SMALL))
        counted[name] = {
            "diffusion_step": denoising.get_total_flops() / 1e9,
            "vae_step": coding.get_total_flops() / 1e9 * VAE_BATCH / 4,
        }
    return counted


def mixed(precision: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision != FP32)


def random_slices(count: int) -> Tensor:
    return torch.rand(count, 1, SIDE, SIDE, device=DEVICE) * 2 - 1


def random_latents(count: int) -> Tensor:
    return torch.randn(count, CHANNELS, SMALL, SMALL, device=DEVICE)


def to_bytes(images: Tensor) -> Tensor:
    return ((images.float() + 1) * 127.5).clamp(0, 255).byte().cpu()


def _encoding(encode: Any, precision: str) -> Job:
    slices = torch.randint(256, (SAMPLES, 1, SIDE, SIDE), dtype=torch.uint8)

    @torch.no_grad()
    def encoding() -> Tensor:
        with mixed(precision):
            mean: Tensor = encode(slices.to(DEVICE).float() / 127.5 - 1)
        return mean.float().cpu()

    return encoding


def _diffusers_parts(autoencoder: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    posterior = autoencoder.encode(images).latent_dist
    return autoencoder.decode(posterior.sample()).sample, posterior.kl().mean()


def _monai_parts(autoencoder: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    reconstruction, mean, sigma = autoencoder(images)
    divergence = 0.5 * (mean.square() + sigma.square() - sigma.square().log() - 1).sum(dim=(1, 2, 3)).mean()
    return reconstruction, divergence


def _vae_step(autoencoder: nn.Module, parts: Any, precision: str) -> Job:
    autoencoder.train()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=1e-4, weight_decay=1e-5)
    images = random_slices(VAE_BATCH)

    def step() -> None:
        optimizer.zero_grad()
        with mixed(precision):
            reconstruction, divergence = parts(images)
        (F.mse_loss(reconstruction.float(), images) + 1e-5 * divergence.float()).backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()

    return step


def _diffusion_step(unet: nn.Module, predict: Any, average: Any, precision: str) -> Job:
    unet.train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-4, weight_decay=1e-5)
    latents = random_latents(LATENTS)

    def step() -> None:
        z = latents[torch.randint(LATENTS, (STEP_BATCH,), device=DEVICE)]
        noise = torch.randn_like(z)
        t = torch.randint(PAPER.diffusion.timesteps, (STEP_BATCH,), device=DEVICE)
        optimizer.zero_grad()
        with mixed(precision):
            prediction = predict(z, noise, t)
        F.mse_loss(prediction.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average()

    return step

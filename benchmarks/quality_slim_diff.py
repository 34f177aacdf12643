"""slim-diff's contender: the package's networks, losses and sampler, with the model that its README recommends.

The settings are those of ``slurm/icip2026/lp_ablation/x0/lp_1.5`` in its repository. Slices have no masks here, so
the mask channel is empty and the class is "no lesion".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from quality_cells import Bytes
from quality_data import SIDE
from quality_peers import DRAWN_AT_ONCE, TIMESTEPS, Peer, mixed, take_step, to_bytes, to_range
from torch import Tensor

from trainables.denoiser.averages import update_ema


class SlimDiff(Peer):
    """x₀ in pixels, of slice and mask, told the slice's place; loss |x₀ − x̂₀|^1.5, self-conditioning, AdamW, cosine.

    Its average of 0.999 would be the initial weights after a short training, so it begins short, as ours does.
    """

    shares: ClassVar[Mapping[str, float]] = {"denoiser": 1.0}
    bins = 30

    def settings_of_package(self) -> Any:
        """The package's own configuration, as far as its networks, losses and sampler read it."""
        from omegaconf import OmegaConf

        even = {"enabled": True, "lesion_weight": 1.0, "background_weight": 1.0}
        widths = [self.width(width) for width in (64, 128, 256, 256)]
        return OmegaConf.create(
            {
                "data": {
                    "slice_sampling": {"z_range": [34, 115]}, "transforms": {"roi_size": [SIDE, SIDE, SIDE]},
                },
                "conditioning": {
                    "z_bins": self.bins, "use_sinusoidal": True, "max_z": 159, "cfg": {"enabled": False},
                },
                "model": {
                    "spatial_dims": 2, "in_channels": 2, "out_channels": 2, "anatomical_conditioning": False,
                    "channels": widths, "attention_levels": [False, False, True, True], "num_res_blocks": 2,
                    "num_head_channels": 32, "norm_num_groups": 32, "dropout": 0.0, "resblock_updown": False,
                    "use_class_embedding": True, "with_conditioning": False,
                },
                "scheduler": {
                    "num_train_timesteps": TIMESTEPS, "schedule": "cosine", "prediction_type": "sample",
                    "clip_sample": True, "clip_sample_range": 1.0, "type": "DDPM",
                },
                "sampler": {
                    "type": "DDIM", "num_inference_steps": self.settings["sampling_steps"], "eta": 0.2,
                    "guidance_scale": 1.0,
                },
                "training": {"self_conditioning": {"enabled": True, "probability": 0.5}},
                "loss": {
                    "mode": "mse_lp_norm", "lp_norm": {"p": 1.5}, "uncertainty_weighting": {"enabled": False},
                    "lesion_weighted_image": even, "lesion_weighted_mask": even,
                },
            }
        )  # fmt: skip

    def run(self, phase: str, steps: int) -> None:
        from src.diffusion.losses.diffusion_losses import DiffusionLoss
        from src.diffusion.model.factory import build_model, build_scheduler

        generator = self.begin(phase)
        settings = self.settings_of_package()
        (model, _), (self.model, _) = build_model(settings), build_model(settings)
        self.model.load_state_dict(model.state_dict())
        noising, criterion = build_scheduler(settings), DiffusionLoss(settings)
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.rate(1e-4), weight_decay=1e-4)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-6)
        model.train()
        for step, chosen in enumerate(self.batches(generator, steps)):
            images = to_range(self.slices[chosen], -1)
            mask = torch.full_like(images, -1)
            x0 = torch.cat([images, mask], dim=1)
            noise, t = torch.randn_like(x0), torch.randint(TIMESTEPS, (len(x0),))
            noisy, told = noising.add_noise(x0, noise, t), self.tokens(chosen)
            before = torch.zeros_like(x0)
            if torch.rand(()) < settings.training.self_conditioning.probability:
                with torch.no_grad(), mixed():
                    guess = model(torch.cat([noisy, before], dim=1), timesteps=t, class_labels=told)
                before = guess.float().clamp(-1, 1)
            with mixed():
                guess = model(torch.cat([noisy, before], dim=1), timesteps=t, class_labels=told)
            criterion(guess.float(), x0, mask)[0].backward()
            take_step(model, optimizer, clip=1.0)
            decay.step()
            update_ema(self.model, model, step, 0.999, True)

    def tokens(self, chosen: Tensor) -> Tensor:
        """What the network is told of slices: where in the volume they lie, and that they have no lesion."""
        return (self.positions[chosen] * self.bins).long().clamp(max=self.bins - 1)

    @torch.inference_mode()
    def draw(self, count: int) -> Bytes:
        from src.diffusion.model.factory import DiffusionSampler, build_inferer

        generator = self.begin("sampling")
        settings = self.settings_of_package()
        sampler = DiffusionSampler(self.model.eval(), build_inferer(settings), settings, device="cpu")
        parts = []
        for part in torch.randint(len(self.positions), (count,), generator=generator).split(DRAWN_AT_ONCE):
            with mixed():
                parts.append(sampler.sample(self.tokens(part), generator=generator)[:, :1].float())
        return to_bytes(torch.cat(parts), -1)

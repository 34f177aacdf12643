"""Recipes: complete configurations by name, all that a result depends on except the data and the seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from trainables.autoencoder.settings import VaeConfig
from trainables.config import Config, setting
from trainables.data.settings import DataConfig
from trainables.denoiser.diffusion import DiffusionConfig
from trainables.denoiser.profiles import FURTHEST, reconstruct
from trainables.denoiser.sampling_settings import SamplingConfig
from trainables.errors import ConfigError
from trainables.measures.downstream.settings import DownstreamConfig
from trainables.measures.evaluation import EvaluationConfig


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """A configuration of the whole job, with a section for each stage."""

    data: DataConfig = setting(DataConfig(), "which slices, at what size")
    vae: VaeConfig = setting(VaeConfig(), "the autoencoder and its training")
    diffusion: DiffusionConfig = setting(DiffusionConfig(), "the denoiser and its training")
    sampling: SamplingConfig = setting(SamplingConfig(), "how images are drawn")
    evaluation: EvaluationConfig = setting(EvaluationConfig(), "how they are measured")
    downstream: DownstreamConfig = setting(
        DownstreamConfig(), "what they are good for: segmentation networks that are trained on them", later=True
    )

    def idle(self) -> dict[str, Any]:
        return {} if self.downstream.measured else {"downstream": DownstreamConfig()}

    def check(self) -> None:
        side = self.data.image_size
        deepest = self.vae.compression * self.diffusion.patch_size * 2 ** (len(self.diffusion.widths) - 1)
        if side % deepest:
            raise ConfigError(
                f"data.image_size must be a multiple of {deepest} (the autoencoder's {self.vae.compression} "
                f"times the UNet's {deepest // self.vae.compression}, patches included), got {side}"
            )

        if self.vae.equivariance_weight and self.latent_size % 2:
            raise ConfigError(
                "vae.equivariance_weight above 0 needs latents of even sides, which it halves, got "
                f"{self.latent_size}; take another data.image_size, fewer vae.widths or a smaller vae.patch_size, or "
                "set it to 0"
            )
        if 0 < self.vae.warp_size < side:
            raise ConfigError(
                f"vae.warp_size must be 0 or at least data.image_size ({side}), got {self.vae.warp_size}: slices are "
                "reduced after they are warped and never enlarged"
            )
        if self.sampling.steps > self.diffusion.timesteps:
            raise ConfigError(
                f"sampling.steps must be at most diffusion.timesteps ({self.diffusion.timesteps}), "
                f"got {self.sampling.steps}"
            )
        if self.sampling.after_steps > self.diffusion.steps:
            raise ConfigError(
                f"sampling.after_steps must be at most diffusion.steps ({self.diffusion.steps}), got "
                f"{self.sampling.after_steps}; set it to 0 to draw by the weights of the end"
            )
        if self.diffusion.lesion_condition and not self.data.mask:
            raise ConfigError(
                "diffusion.lesion_condition needs data.mask, which says what is lesion; set data.mask=true, or leave "
                "lesion_condition at false"
            )
        if self.downstream.measured and not self.data.mask:
            raise ConfigError(
                "downstream.measured, which dice as an objective and evaluate --downstream need, needs data.mask, "
                "since segmentation is learned of lesion masks; set data.mask=true"
            )
        if self.sampling.guidance != 1 and not (self.diffusion.conditional and self.diffusion.condition_dropout):
            raise ConfigError(
                "sampling.guidance other than 1 needs diffusion.position_condition, lesion_condition or "
                "label_condition, and a condition_dropout above 0, "
                f"which teach the denoiser both sides of it; got guidance {self.sampling.guidance:g}: set both, or "
                "leave it at 1"
            )

        if self.sampling.autoguidance != 1 and not self.diffusion.guide_share:
            raise ConfigError(
                "sampling.autoguidance other than 1 needs a guide, which diffusion.guide_share above 0 keeps; got "
                f"autoguidance {self.sampling.autoguidance:g}: set diffusion.guide_share, or leave it at 1"
            )

        kept, length = self.diffusion.ema_lengths, self.sampling.ema_length
        if length not in (0.0, *kept) and (error := reconstruct(kept, length)[1]) > FURTHEST:
            reason = f", which they make with an error of {error:.0%}, above {FURTHEST:.0%}" if kept else ""
            raise ConfigError(
                "sampling.ema_length must be 0, or a length that those of diffusion.ema_lengths "
                f"({', '.join(f'{each:g}' for each in kept) or 'none'}) have or make, got {length:g}{reason}; "
                "add it to diffusion.ema_lengths"
            )

    @property
    def latent_size(self) -> int:
        """Side of the latent."""
        return self.data.image_size // self.vae.compression


PAPER = Recipe(
    data=DataConfig(split="slice"), diffusion=DiffusionConfig(frequency_norm="backward", gradient_clip=0.0)
)
"""The paper, exactly: 128×128, slice split, ε-prediction, DDIM 50, FFT loss, EMA 0.9999.

Where its text can be read in two ways, this recipe takes one:

- The FFT is scaled as PyTorch does by default (``frequency_norm``). So squared_l2 is h·w = 256 times the MSE, and the
  total 1 + 0.1·256 = 26.6 times: 53 for random predictions of unit variance, whose MSE is 2. The paper's losses begin
  near 60; with the orthonormal FFT they would at 2.2.
- Gradients are clipped at norm 1 in the training of the autoencoder alone, for which the text names it. Those of the
  denoiser's MSE have a norm of 0.5 to 0.7 in the first steps. 26.6 times that would be cut at every step, so that the
  frequency loss would act, by no frequency but as a normalisation of the gradient.
- ‖ε̂‖ < 0.05 is of the root mean square ‖ε̂‖/√d: it means the same for 4 and 8 channels. The plain norm is √2048 = 45
  times as large. Neither stops a sample: for latents of unit spread the best denoiser has 0.067 or more.
"""

IMPROVED = Recipe(
    vae=VaeConfig(
        epochs=60, kl_weight=1e-6, reconstruction_loss="l1", rotation_degrees=0.0, translation=0.0, scaling=0.0
    ),
    diffusion=DiffusionConfig(
        prediction="v",
        loss_weighting="min_snr",
        frequency_loss="complex_l1",
        frequency_weight=0.0,
        frequency_weighting="loss",
        cutmix_form="z0",
        cutmix_labelled=True,
        whiten=True,
        ema_warmup=True,
        flip_probability=0.5,
        steps=20_000,
    ),
    sampling=SamplingConfig(early_stop_rule="x0_change", early_stop_threshold=0.0),
)
"""The default of a sweep: the paper with its known faults corrected, and with what was found to help by more than
chance (docs/studies/equal-compute.md)."""

SMOKE = IMPROVED.replace(
    **{
        "data.image_size": 64,
        "vae.widths": (16, 32, 64),
        "vae.blocks": 1,
        "vae.attention": False,
        "vae.kl_anneal_epochs": 2,
        "vae.batch_size": 8,
        "vae.learning_rate": 3e-3,
        "vae.max_steps": 1100,
        "vae.validations": 4,
        "diffusion.widths": (32, 64, 128),
        "diffusion.blocks": 1,
        "diffusion.embedding_channels": 128,
        "diffusion.dropout": 0.0,
        "diffusion.learning_rate": 1e-3,
        "diffusion.warmup_steps": 50,
        "diffusion.steps": 600,
        "diffusion.validations": 4,
        "sampling.steps": 25,
        "evaluation.samples": 64,
        "evaluation.rungs": 1,
        "evaluation.rung_samples": 32,
        "downstream.fractions": (0.25, 1.0),
        "downstream.seeds": 2,
        "downstream.widths": (8, 16, 32),
        "downstream.steps": 60,
    }
)
"""The least that shows the whole job: a trial in a minute on two CPU cores, blurred but recognisable brains."""

SMALL = SMOKE.replace(
    **{
        "vae.latent_channels": 4,
        "vae.widths": (32, 64),
        "vae.patch_size": 2,
        "vae.batch_size": 4,
        "vae.max_steps": 1500,
        "vae.ms_ssim_weight": 0.1,
        "vae.gradient_weight": 0.3,
        "vae.adversarial_weight": 0.01,
        "vae.adversarial_width": 16,
        "vae.adversarial_start": 0.3,
        "vae.latent_noise": 0.5,
        "diffusion.prediction": "x0",
        "diffusion.loss_weighting": "none",
        "diffusion.timestep_sampling": "logit_normal",
        "diffusion.cutmix_probability": 0.0,
        "diffusion.batch_size": 8,
        "diffusion.learning_rate": 2e-3,
        "diffusion.steps": 1400,
        "diffusion.guide_share": 0.25,
        "sampling.sampler": "dpmpp_2m",
        "sampling.autoguidance": 1.7,
    }
)
"""For two CPU cores: what draws the sharpest 64×64 slices in minutes (benchmarks/quality.py), at batches and networks
that a core computes fastest."""


def plugin_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe that can name plug-ins, by ``section.field``, each with what it names."""
    return {
        f"{section.name}.{field.name}": getattr(getattr(recipe, section.name), field.name)
        for section in dataclasses.fields(recipe)
        for field in dataclasses.fields(getattr(recipe, section.name))
        if field.metadata.get("plugins")
    }


def known_plugins() -> dict[str, list[str]]:
    """Package and version of every plug-in that a field of a recipe takes here, by ``section.field name``."""
    found: dict[str, list[str]] = {}
    for path in plugin_fields(PAPER):
        section, field = path.split(".")
        added = getattr(PAPER, section).__dataclass_fields__[field].metadata["added"]
        found |= {f"{path} {name}": plugin.identity for name, plugin in added.items()}
    return found


def packages_of(recipe: Recipe) -> dict[str, str]:
    """The packages whose plug-ins a recipe names, each with its version."""
    known = known_plugins()
    named = [
        f"{path} {name}"
        for path, value in plugin_fields(recipe).items()
        for name in (value if isinstance(value, list | tuple) else (value,))
    ]
    return dict(known[each] for each in named if each in known)


RECIPES: dict[str, Recipe] = {"paper": PAPER, "improved": IMPROVED, "small": SMALL, "smoke": SMOKE}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; raises :class:`ConfigError` where there is none."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}; known recipes: {', '.join(RECIPES)}")
    return RECIPES[name]

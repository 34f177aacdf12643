"""The components that can be taken out or put in: named differences between two configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainables.errors import ConfigError
from trainables.recipes import Recipe
from trainables.space import THRESHOLD, Value

Setting = tuple[Value | None, Value | None]
"""A field's value with the component and without it; None leaves the recipe's own."""


@dataclass(frozen=True)
class Component:
    """One idea, and the fields that it sets."""

    name: str
    meaning: str
    fields: Mapping[str, Setting]

    @property
    def on(self) -> dict[str, Value]:
        """What the fields are with it."""
        return {field: there for field, (there, _) in self.fields.items() if there is not None}

    @property
    def off(self) -> dict[str, Value]:
        """What the fields are without it."""
        return {field: without for field, (_, without) in self.fields.items() if without is not None}


def _frequency(form: str) -> Component:
    fields: dict[str, Setting] = {
        "diffusion.frequency_loss": (form, None),
        "diffusion.frequency_weight": (0.1, 0.0),
    }
    name = f"frequency-{form.replace('_', '-')}"
    return Component(name, f"the frequency loss {form} with weight 0.1, against none", fields)


def _reconstruction(name: str, meaning: str) -> Component:
    meaning = f"the autoencoder's pixel loss as {meaning}, against the MSE"
    return Component(name, meaning, {"vae.reconstruction_loss": (name, "mse")})


def _beside_pixels(name: str, meaning: str, field: str, weight: float) -> Component:
    """A term that at this weight pulls about as hard as the MSE."""
    meaning = f"{meaning} with weight {weight:g} beside the pixel loss, against none"
    return Component(name, meaning, {field: (weight, 0.0)})


def _timesteps(name: str, meaning: str) -> Component:
    fields: dict[str, Setting] = {"diffusion.timestep_sampling": (name.replace("-", "_"), "uniform")}
    return Component(name, f"{meaning}, against timesteps drawn uniformly", fields)


def _warped(name: str, meaning: str, **fields: Setting) -> Component:
    """A choice of how slices are warped; both sides warp them as the paper does."""
    chosen = {f"vae.{field}": setting for field, setting in fields.items()}
    return Component(name, meaning, {**{field: (value, value) for field, value in _WARPS.items()}, **chosen})


_WARPS = {"vae.rotation_degrees": 10.0, "vae.translation": 0.05, "vae.scaling": 0.05}
_AUGMENTED = {"vae.flip_probability": 0.5, **_WARPS}

COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component("channels", "8 latent channels, against 4", {"vae.latent_channels": (8, 4)}),
        Component(
            "small-kl",
            "weight 1e-6 of the KL, as MONAI has it beside the L1, against the paper's 1e-5",
            {"vae.kl_weight": (1e-6, 1e-5)},
        ),
        *(_frequency(form) for form in ("complex_l1", "log_amplitude", "focal", "high_pass", "squared_l2")),
        Component(
            "cutmix",
            "CutMix of clean latents with probability 0.25, against none",
            {"diffusion.cutmix_probability": (0.25, 0.0), "diffusion.cutmix_form": ("z0", None)},
        ),
        Component(
            "cutmix-label",
            "CutMix of which the denoiser is told, so that its images are no collages, against one that leaks",
            {
                "diffusion.cutmix_labelled": (True, False),
                "diffusion.cutmix_probability": (0.25, 0.25),
                "diffusion.cutmix_form": ("z0", "z0"),
            },
        ),
        Component(
            "early-stop",
            "stopping where x̂₀ changes by less than 2 % per unit of log SNR, against all steps",
            {"sampling.early_stop_rule": ("x0_change", None), THRESHOLD: (0.02, 0.0)},
        ),
        Component(
            "whitening",
            "latents whitened per channel, against as they are",
            {"diffusion.whiten": (True, False)},
        ),
        Component(
            "min-snr",
            "min-SNR-γ weighting of the timesteps (Hang et al. 2023), against none",
            {"diffusion.loss_weighting": ("min_snr", "none")},
        ),
        Component(
            "weighted-frequency",
            "min-SNR weights for the frequency loss as for the MSE, against for the MSE alone; both with weight 0.1",
            {
                "diffusion.frequency_weighting": ("loss", "none"),
                "diffusion.frequency_weight": (0.1, 0.1),
                "diffusion.loss_weighting": ("min_snr", "min_snr"),
            },
        ),
        Component(
            "lp-loss",
            "the mean of |error|^1.5 (SLIM-Diff, arXiv 2602.03372), against the MSE",
            {"diffusion.loss_power": (1.5, 2.0)},
        ),
        Component(
            "v-prediction",
            "prediction of v (Salimans & Ho 2022), against ε",
            {"diffusion.prediction": ("v", "epsilon")},
        ),
        Component(
            "ema",
            "an exponential moving average of the weights with warm-up, against the last weights",
            {"diffusion.ema_decay": (0.9999, 0.0), "diffusion.ema_warmup": (True, None)},
        ),
        Component(
            "ema-warmup",
            "the average's warm-up, against an average that begins with the initial weights",
            {"diffusion.ema_decay": (0.9999, None), "diffusion.ema_warmup": (True, False)},
        ),
        Component(
            "vae-attention", "self-attention in the autoencoder, against none", {"vae.attention": (True, False)}
        ),
        Component(
            "augmentation",
            "the autoencoder's flips, turns, shifts and scaling, against none",
            {field: (value, 0.0) for field, value in _AUGMENTED.items()},
        ),
        Component(
            "warps",
            "turns, shifts and scaling of the autoencoder's slices, which blur them, against flips alone",
            {"vae.flip_probability": (0.5, 0.5), **{field: (value, 0.0) for field, value in _WARPS.items()}},
        ),
        _warped(
            "spared-slices",
            "half of the autoencoder's slices at most flipped and half warped, against all warped",
            warp_share=(0.5, 1.0),
        ),
        _warped(
            "warp-size",
            "slices warped at 128 pixels a side before they are reduced, against at their final size",
            warp_size=(128, 0),
        ),
        Component(
            "subject-split",
            "held-out patients, against held-out slices of patients that the training saw",
            {"data.split": ("subject", "slice")},
        ),
        _reconstruction("l1", "the L1"),
        _reconstruction("charbonnier", "Charbonnier's √(d² + ε²)"),
        _beside_pixels("ms-ssim", "1 − MS-SSIM (Zhao et al. 2017)", "vae.ms_ssim_weight", 0.05),
        _beside_pixels("gradient", "the L1 of finite differences (Mathieu et al. 2016)", "vae.gradient_weight", 0.3),
        _beside_pixels(
            "discriminator", "a patch discriminator (Isola et al. 2017)", "vae.adversarial_weight", 0.0005
        ),
        Component(
            "narrow-discriminator",
            "a discriminator of half the width, against the usual one; both with weight 0.01",
            {"vae.adversarial_width": (16, 32), "vae.adversarial_weight": (0.01, 0.01)},
        ),
        Component(
            "coarse-latents",
            "squares of 2 by 2 pixels as channels of the autoencoder, whose latents then have half the side, against "
            "pixels as they are",
            {"vae.patch_size": (2, 1)},
        ),
        Component(
            "latent-noise",
            "noise of up to 0.4 of the latents' spread while the decoder learns (Zheng et al. 2025), against none",
            {"vae.latent_noise": (0.4, 0.0)},
        ),
        _beside_pixels(
            "equivariance", "equivariance to halving and turns (EQ-VAE, 2025)", "vae.equivariance_weight", 0.25
        ),
        Component(
            "zero-snr",
            "zero terminal SNR (Lin et al. 2024), against the schedule as it is; both with prediction of v",
            {"diffusion.zero_terminal_snr": (True, False), "diffusion.prediction": ("v", "v")},
        ),
        _timesteps("stratified", "one timestep from each of as many parts of the schedule as the batch has latents"),
        _timesteps("logit-normal", "timesteps mostly from the schedule's middle (Esser et al. 2024)"),
        Component(
            "log-normal",
            "timesteps by a log-normal σ (EDM, Karras et al. 2022; its mean moved by ln 2, from images of spread 0.5 "
            "to latents of spread 1), against uniform ones; both with the MSE of v, which is EDM's weighted loss",
            {
                "diffusion.timestep_sampling": ("log_normal", "uniform"),
                "diffusion.log_sigma_mean": (-0.5, -0.5),
                "diffusion.log_sigma_spread": (1.2, 1.2),
                "diffusion.prediction": ("v", "v"),
                "diffusion.loss_weighting": ("none", "none"),
            },
        ),
        Component(
            "noise-label",
            "the noise level as (ln σ)/4 (EDM, Karras et al. 2022), against as the timestep's number",
            {"diffusion.noise_label": ("log_sigma", "timestep")},
        ),
        Component(
            "position",
            "the slice's position in its volume as a condition, against none; both without guidance",
            {"diffusion.position_condition": (True, False), "sampling.guidance": (1.0, 1.0)},
        ),
        Component(
            "guidance",
            "classifier-free guidance of 1.5 on the position (Ho & Salimans 2022), against the condition alone",
            {
                "diffusion.position_condition": (True, True),
                "diffusion.condition_dropout": (0.1, 0.1),
                "sampling.guidance": (1.5, 1.0),
            },
        ),
        Component(
            "latent-patches",
            "squares of 2 by 2 of the latent as channels of the denoiser (Peebles & Xie 2023), against the latent as "
            "it is",
            {"diffusion.patch_size": (2, 1)},
        ),
        Component(
            "self-conditioning",
            "the denoiser's own estimate of x₀ as further input, in training for half of a batch (Chen et al. 2022), "
            "against none",
            {"diffusion.self_conditioning": (0.5, 0.0)},
        ),
        Component(
            "guidance-interval",
            "guidance of 1.5 at noise levels σ of 0.4 to 3.2 alone (Kynkäänniemi et al. 2024), against at all levels",
            {
                "diffusion.position_condition": (True, True),
                "diffusion.condition_dropout": (0.1, 0.1),
                "sampling.guidance": (1.5, 1.5),
                "sampling.guidance_low": (0.4, 0.0),
                "sampling.guidance_high": (3.2, 0.0),
            },
        ),
        Component(
            "autoguidance",
            "guidance of 1.5 by the denoiser of a quarter of the training (Karras et al. 2024), against none; both "
            "from one training",
            {"diffusion.guide_share": (0.25, 0.25), "sampling.autoguidance": (1.5, 1.0)},
        ),
        Component(
            "latent-augmentation",
            "flips and shifts of latents with probability 0.12 that the denoiser is told of (Karras et al. 2022), "
            "against none",
            {"diffusion.augmentation_probability": (0.12, 0.0)},
        ),
        Component(
            "altered-copies",
            "a quarter of the denoiser's samples from 4 altered copies of every slice, of which it is told, against "
            "none",
            {"diffusion.augmented_copies": (4, 0), "diffusion.augmentation_probability": (0.25, 0.0)},
        ),
        Component(
            "mirror-images",
            "half of the denoiser's samples mirror images of slices, each encoded as such, against none",
            {"diffusion.flip_probability": (0.5, 0.0)},
        ),
        Component(
            "novelty",
            "slices drawn in proportion to their distance from the nearest of their volume, against equally often",
            {"diffusion.novelty_weighting": (1.0, 0.0)},
        ),
        Component(
            "power-ema",
            "an average of the weights by a power function of length 0.1 (Karras et al. 2024), against the "
            "training's own; both from one training",
            {"diffusion.ema_lengths": ("[0.1]", "[0.1]"), "sampling.ema_length": (0.1, 0.0)},
        ),
    )
}
"""Every component by its name."""

DEFAULT = ("channels", "frequency-complex-l1", "cutmix", "early-stop", "whitening", "min-snr", "v-prediction", "ema")
"""What is compared where nothing else is said."""


def chosen(names: Sequence[str]) -> list[Component]:
    """The components of these names; raises :class:`ConfigError` for an unknown, repeated or contradicting one."""
    unknown = [name for name in names if name not in COMPONENTS]
    if unknown:
        raise ConfigError(f"there is no component {unknown[0]!r}; known: {', '.join(COMPONENTS)}")
    if len(names) < 1 or len(set(names)) < len(names):
        raise ConfigError(f"--components takes one or more different names, got {', '.join(names) or 'none'}")
    found = [COMPONENTS[name] for name in names]
    owners: dict[str, str] = {}
    for component in found:
        for field in component.off:
            other = owners.setdefault(field, component.name)
            if other != component.name:
                raise ConfigError(f"{other} and {component.name} both set {field}; take them in two studies")
    return found


def with_components(recipe: Recipe, components: Sequence[Component], present: Sequence[Component]) -> Recipe:
    """The recipe with the ``present`` ones of ``components`` on and the others off."""
    for component in components:
        recipe = recipe.replace(**(component.on if component in present else component.off))
    return recipe

"""The settings of the latent diffusion model: denoiser, noise schedule, loss and training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainables.config import Config, setting
from trainables.errors import ConfigError, DataError
from trainables.loop.settings import AUTO
from trainables.plugins import with_plugins

MOST_CATEGORIES = 12
"""The most categories of a label."""


@dataclass(frozen=True, kw_only=True)
@with_plugins
class DiffusionConfig(Config):
    """Denoiser, noise schedule, loss and training; the defaults are the paper's but for what the recipe sets."""

    denoiser: str = setting(
        "unet", "the network: 'unet', or one of a plug-in", choices=("unet",), plugins="denoisers", later=True
    )
    widths: tuple[int, ...] = setting((64, 128, 256), "channels of the UNet's levels, each half the side", low=4)
    blocks: int = setting(2, "residual blocks in each level", low=1, high=8)
    attention_levels: tuple[int, ...] = setting(
        (1,),
        "levels (0 is the full latent) that have self-attention; 1 is 8×8 for a 16×16 latent without patches",
        low=0,
    )
    embedding_channels: int = setting(512, "channels of the time embedding", low=8)
    dropout: float = setting(0.1, "dropout in the residual blocks", low=0, high=0.9)
    prediction: str = setting(
        "epsilon", "what the UNet predicts: the noise, v (Salimans & Ho) or x₀", choices=("epsilon", "v", "x0")
    )
    schedule: str = setting(
        "paper",
        "β_t: 'paper' rises by 1 - cos, 'cosine' is Nichol & Dhariwal's ᾱ_t, 'linear' is DDPM's",
        choices=("paper", "cosine", "linear"),
    )
    timesteps: int = setting(1000, "length T of the noise schedule", low=2)
    beta_min: float = setting(1e-4, "β at t = 0 of the 'paper' and 'linear' schedules", low=0, high=1)
    beta_max: float = setting(0.02, "β at t = T of the 'paper' and 'linear' schedules", low=0, high=1)
    loss_weighting: str = setting(
        "none", "weight of each timestep's loss: none, or min-SNR (Hang et al. 2023)", choices=("none", "min_snr")
    )
    min_snr_gamma: float = setting(5.0, "γ of the min-SNR weighting", low=0)
    frequency_loss: str = setting(
        "squared_l2",
        "the frequency loss: squared_l2 (the paper's, a multiple of the MSE by Parseval), complex_l1, "
        "log_amplitude, focal (Jiang et al. 2021) or high_pass",
        choices=("squared_l2", "complex_l1", "log_amplitude", "focal", "high_pass"),
        plugins="losses",
    )
    frequency_weight: float = setting(0.1, "weight λ_freq of the frequency loss; 0 leaves it out", low=0)
    frequency_norm: str = setting(
        "ortho",
        "how the frequency loss scales its FFT: 'ortho', or 'backward', PyTorch's default, under which a spectrum is "
        "√(h·w) times as large, and squared_l2 h·w times: with weight 0.1 on 16×16 latents the total is then 26.6 "
        "times the MSE, as the paper's losses are. AdamW forgets that factor, gradient_clip doesn't: gradients far "
        "below it are then cut at every step",
        choices=("ortho", "backward"),
        later=True,
    )
    frequency_weighting: str = setting(
        "none",
        "weight of each timestep's frequency loss beside frequency_weight: none, or 'loss', the one that "
        "loss_weighting gives the MSE. With 'none' under min-SNR a frequency loss has far more than its share at "
        "high noise",
        choices=("none", "loss"),
        later=True,
    )
    loss_power: float = setting(
        2.0,
        "p of the loss, the mean of |prediction − target|^p (SLIM-Diff, arXiv 2602.03372: 1.5 with x₀-prediction); "
        "2 is the MSE, whose minimiser is the posterior mean that sampling takes it for. Any other p moves it: 1 to "
        "the median, which lacks what less than half of the data have, above 2 toward the middle of the range. The "
        "weights of loss_weighting apply",
        low=1,
        high=3,
        later=True,
    )
    cutmix_probability: float = setting(0.25, "probability that a latent gets another's rectangle", low=0, high=1)
    cutmix_form: str = setting(
        "zt",
        "'z0' mixes clean latents before noise is added; 'zt' mixes noisy ones of different t and leaves "
        "the target alone, as the paper's text can be read",
        choices=("z0", "zt"),
    )
    cutmix_labelled: bool = setting(
        False,
        "tell the denoiser which share of a latent CutMix replaced; sampling tells it that nothing was, so that "
        "samples are no collages; otherwise CutMix leaks into them",
        later=True,
    )
    whiten: bool = setting(False, "scale latents to zero mean and unit spread per channel on reading")
    posterior: str = setting(
        "sample", "latents drawn from the posterior at every step, or its mean", choices=("sample", "mean")
    )
    learning_rate: float = setting(2e-4, "AdamW learning rate after the warm-up", low=0)
    weight_decay: float = setting(0.01, "AdamW weight decay (PyTorch's default; the paper gives none)", low=0)
    warmup_steps: int = setting(1000, "steps of linear warm-up before the cosine decay", low=0)
    gradient_clip: float = setting(
        1.0,
        "largest norm of the gradient; 0 leaves it alone, as the paper does, which names a clip for the autoencoder "
        "only",
        low=0,
    )
    batch_size: int = setting(16, "latents in an optimiser step, over all workers", low=1)
    steps: int = setting(100_000, "optimiser steps", low=1)
    ema_decay: float = setting(0.9999, "decay of the exponential moving average of the weights", low=0, high=1)
    ema_warmup: bool = setting(False, "let the EMA start short: min(decay, (1 + n)/(10 + n))")
    precision: str = setting("auto", AUTO, choices=("auto", "bf16", "fp16", "fp32"))
    validations: int = setting(20, "how many times a training validates and writes a checkpoint", low=1)
    position_condition: bool = setting(
        False,
        "tell the denoiser each slice's position in its volume: (index − lowest)/(highest − lowest) of the volume's "
        "kept slices, feet to head; a volume of one slice has none",
        later=True,
    )
    lesion_condition: bool = setting(
        False,
        "tell the denoiser how much of each slice is lesion: none, small or large, with the border at the median of "
        "the training slices that have lesion; needs data.mask",
        later=True,
    )
    label_condition: tuple[str, ...] = setting(
        (),
        "tell the denoiser the labels of each slice's patient: the columns of the table that `data prepare --labels` "
        "was given, such as [grade]",
        later=True,
    )
    condition_dropout: float = setting(
        0.1,
        "share of samples whose position, lesion and labels are replaced by a learned null embedding, so that "
        "sampling.guidance can be used (Ho & Salimans 2022); acts with position_condition, lesion_condition or "
        "label_condition alone",
        later=True,
        low=0,
        high=0.9,
    )
    augmentation_probability: float = setting(
        0.0,
        "probability that a latent may be flipped left to right (by a coin), and that it is shifted by up to an "
        "eighth of its side; with augmented_copies instead that a sample is one of these. The denoiser is told, and "
        "samples are of latents as they are (Karras et al. 2022, F.2); 0 leaves it out",
        later=True,
        low=0,
        high=1,
    )
    augmented_copies: int = setting(
        0,
        "altered copies of every training slice that are encoded beside it: flipped by a coin, turned by ±10°, "
        "scaled by ±10 %, shifted by ±5 %, with another gamma and contrast; augmentation_probability says how often "
        "a sample is one of them; 0: latents are moved instead",
        later=True,
        low=0,
        high=64,
    )
    flip_probability: float = setting(
        0.0,
        "probability that a sample is its slice's mirror image, left to right, which is encoded beside it, since the "
        "autoencoder isn't equivariant; the denoiser isn't told, and draws mirror images, too",
        later=True,
        low=0,
        high=1,
    )
    novelty_weighting: float = setting(
        0.0,
        "power by which the slices of a volume that resemble a neighbour are drawn less often: each in proportion to "
        "its latent's distance from the nearest of its volume, to this power; 0: all equally often",
        later=True,
        low=0,
        high=1,
    )
    zero_terminal_snr: bool = setting(
        False,
        "shift √ᾱ_t so that ᾱ_T is 0 and the last timestep is pure noise, as sampling begins (Lin et al. 2024, "
        "algorithm 1); not with ε-prediction, which says nothing of x₀ there; min-SNR gives that timestep's MSE no "
        "weight",
        later=True,
    )
    timestep_sampling: str = setting(
        "uniform",
        "how a batch's timesteps are drawn: 'uniform', 'stratified' is one from each of as many equal parts of the "
        "schedule as the batch has latents (Kingma et al. 2021), 'logit_normal' is t/T = sigmoid(n), n standard "
        "normal, which favours the middle and so weighs the loss (Esser et al. 2024), 'log_normal' is the timestep "
        "nearest to a normal ln σ, σ = √((1 − ᾱ_t)/ᾱ_t) (EDM, Karras et al. 2022). With v-prediction, whitened "
        "latents and no loss_weighting it is EDM's training: at a spread of 1 the output of EDM's network is −v, and "
        "its weighted loss the MSE of v",
        choices=("uniform", "stratified", "logit_normal", "log_normal"),
        later=True,
    )
    log_sigma_mean: float = setting(
        -1.2,
        "mean of ln σ with timestep_sampling log_normal, P_mean of EDM, whose images have a spread of 0.5. At the "
        "spread of whitened latents, 1, the same signal-to-noise ratios are at −1.2 + ln 2 = −0.5",
        later=True,
    )
    log_sigma_spread: float = setting(
        1.2, "standard deviation of ln σ with timestep_sampling log_normal, P_std of EDM", low=0, later=True
    )
    noise_label: str = setting(
        "timestep",
        "the number by which the denoiser is told the noise level: 'timestep', or 'log_sigma', (ln σ)/4, c_noise of "
        "EDM (Karras et al. 2022, table 1), under which levels lie as far apart as their signal-to-noise ratios",
        choices=("timestep", "log_sigma"),
        later=True,
    )
    self_conditioning: float = setting(
        0.0,
        "share of each batch (at least one sample) for which the denoiser first estimates x₀, without gradient or "
        "dropout, and is then given that estimate as further input; it gets 0 for the others. In sampling it gets "
        "the estimate of the evaluation before (Chen et al. 2022, who take 0.5). A step takes up to a third of that "
        "share longer. val/mse is of the denoiser without an estimate; 0 leaves it out",
        low=0,
        high=1,
        later=True,
    )
    ema_lengths: tuple[float, ...] = setting(
        (),
        "more averages of the weights, such as 0.05 and 0.1, for sampling.ema_length to choose from: each the spread "
        "of a power function's profile as a share of the training (σ_rel of Karras et al. 2024)",
        low=0.001,
        high=0.28,
        later=True,
    )

    guide_share: float = setting(
        0.0,
        "share of the training after which a copy of the average (ema_decay) is kept as the guide of "
        "sampling.autoguidance, one that has learned far less (Karras et al. 2024, 2406.02507, take a sixteenth); 0 "
        "keeps none",
        later=True,
        low=0,
        high=0.99,
    )

    patch_size: int = setting(
        1,
        "side of the squares of the latent that are channels to the UNet (Peebles & Xie 2023): its first level has "
        "1/patch_size of the latent's side. On a CPU, a step of a 16×16 latent takes half the time at 2; 1 leaves "
        "the latent as it is",
        choices=(1, 2, 4, 8),
        later=True,
    )

    @property
    def guide_steps(self) -> int:
        """The optimiser steps after which the guide is kept, at least 1; 0 where none is."""
        return max(1, round(self.guide_share * self.steps)) if self.guide_share else 0

    def check(self) -> None:
        if not self.widths:
            raise ConfigError("DiffusionConfig.widths must name at least one level, got none")
        if self.beta_min >= self.beta_max:
            raise ConfigError(
                f"DiffusionConfig.beta_min must be below beta_max, got {self.beta_min:g} and {self.beta_max:g}"
            )
        for level in self.attention_levels:
            if level >= len(self.widths):
                raise ConfigError(
                    f"DiffusionConfig.attention_levels must be below the {len(self.widths)} levels, got {level}"
                )
        if len(set(self.ema_lengths)) < len(self.ema_lengths):
            raise ConfigError(
                "DiffusionConfig.ema_lengths must name each length once, got "
                f"{', '.join(f'{length:g}' for length in self.ema_lengths)}; leave out the repeated one"
            )
        if len(set(self.label_condition)) < len(self.label_condition):
            raise ConfigError(
                f"DiffusionConfig.label_condition must name each column once, got {', '.join(self.label_condition)}; "
                "leave out the repeated one"
            )
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ConfigError(
                "DiffusionConfig.zero_terminal_snr must go with a prediction that holds at pure noise, got "
                "prediction 'epsilon'; take prediction v or x0"
            )

    def idle(self) -> dict[str, Any]:
        """What has no loss, no draw or no copy to act on; of fields that keys have always had, none."""
        weighted = self.frequency_weight and self.loss_weighting != "none"
        log_normal = self.timestep_sampling == "log_normal"
        defaults = type(self)
        return {
            **({} if weighted else {"frequency_weighting": defaults.frequency_weighting}),
            **({} if self.tells_cutmix else {"cutmix_labelled": defaults.cutmix_labelled}),
            **({} if self.copies else {"augmented_copies": defaults.augmented_copies}),
            **(
                {}
                if log_normal
                else {"log_sigma_mean": defaults.log_sigma_mean, "log_sigma_spread": defaults.log_sigma_spread}
            ),
        }

    @property
    def conditional(self) -> bool:
        """Whether the denoiser is told anything of a slice that guidance can act on."""
        return self.position_condition or self.lesion_condition or bool(self.label_condition)

    @property
    def tells_cutmix(self) -> bool:
        """Whether the denoiser is told what CutMix did."""
        return self.cutmix_labelled and self.cutmix_probability > 0

    @property
    def copies(self) -> int:
        """How many altered copies of each training slice are drawn from."""
        return self.augmented_copies if self.augmentation_probability else 0

    @property
    def versions(self) -> int:
        """How often each training slice is encoded: as it is, mirrored where flips are asked for, and its copies."""
        return 1 + (self.flip_probability > 0) + self.copies


def no_positions() -> DataError:
    """The error for data whose slices have no place in a volume."""
    return DataError(
        "diffusion.position_condition needs volumes of two slices or more, and every volume of this data is a single "
        "picture; leave diffusion.position_condition at false"
    )

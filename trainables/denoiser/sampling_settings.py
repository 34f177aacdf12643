"""The settings of sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainables.config import Config, setting
from trainables.denoiser.samplers import SAMPLERS, WITHOUT_ETA
from trainables.errors import ConfigError
from trainables.loop.settings import AUTO
from trainables.plugins import with_plugins


@dataclass(frozen=True, kw_only=True)
@with_plugins
class SamplingConfig(Config):
    """How a trained denoiser is sampled; the defaults are the paper's."""

    sampler: str = setting("ddim", "the sampler", choices=tuple(SAMPLERS), plugins="samplers")
    steps: int = setting(50, "denoiser evaluations (NFE) when nothing stops early", low=1, high=1000)
    eta: float = setting(
        0.0,
        f"η of DDIM: 0 is deterministic, 1 is ancestral; without effect on {', '.join(WITHOUT_ETA)}",
        low=0,
        high=1,
    )
    early_stop_rule: str = setting(
        "noise_norm",
        "what must fall below the threshold: 'noise_norm' is ‖ε̂‖/√d, the root mean square over the d = C·h·w values "
        "of a latent (the paper's ‖ε̂‖ so read; the plain norm is √d times as large, 45 for 8×16×16), 'x0_change' is "
        "the relative change of x̂₀ per unit of log SNR, log(ᾱ/(1 − ᾱ)): the same at any number of steps, and about "
        "the share by which x̂₀ is still short of its end",
        choices=("noise_norm", "x0_change"),
    )
    early_stop_threshold: float = setting(
        0.05,
        "a sample stops below it and returns x̂₀, once its signal-to-noise ratio ᾱ/(1 − ᾱ) is above 1; 0 never stops",
        low=0,
    )
    threshold_grid: tuple[float, ...] = setting(
        (), "further thresholds whose results the same sampling pass gives; a sweep fills in what it searches", low=0
    )
    precision: str = setting(
        "auto",
        f"of the denoiser's evaluations; {AUTO}; the sampler's own arithmetic and the decoding stay in fp32 "
        "(see execution.tf32)",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    guidance: float = setting(
        1.0,
        "weight w of classifier-free guidance on position, lesion and labels: null + w·(cond − null) (Ho & Salimans "
        "2022, whose w is one less); 1 is the conditional denoiser alone; any other calls the network twice in each "
        "evaluation, which takes twice the time and counts as one of sampling.steps",
        later=True,
        low=0,
    )
    guidance_low: float = setting(
        0.0,
        "guidance of both kinds acts above this noise level σ = √((1 − ᾱ)/ᾱ); at other levels an evaluation is one "
        "call of the network (Kynkäänniemi et al. 2024, whose interval for ImageNet is 0.4 to 3.2 at unit spread)",
        later=True,
        low=0,
    )
    guidance_high: float = setting(
        0.0, "guidance of both kinds acts up to this noise level σ; 0 sets no bound", later=True, low=0
    )
    autoguidance: float = setting(
        1.0,
        "weight w of guidance by an early state of the denoiser, that of diffusion.guide_share: "
        "guide + w·(D − guide) (Karras et al. 2024, 2406.02507); it needs no condition; 1 leaves it out; any other "
        "calls the guide, too, in each evaluation; with sampling.guidance, what each adds to D is added",
        later=True,
        low=0,
    )
    ema_length: float = setting(
        0.0,
        "which average of the weights samples: one of diffusion.ema_lengths, another length that these reconstruct "
        "(Karras et al. 2024, section 3.2), or 0, the training's own (ema_decay)",
        low=0,
        high=0.28,
        later=True,
    )
    after_steps: int = setting(
        0,
        "draws by the weights after so many steps of the training, where it kept them: those of the last rung before "
        "one that copied training slices; 0 draws by those of its end",
        low=0,
        later=True,
    )

    def check(self) -> None:
        if self.guidance_high and self.guidance_high <= self.guidance_low:
            raise ConfigError(
                f"SamplingConfig.guidance_high must be above guidance_low ({self.guidance_low:g}) or 0, got "
                f"{self.guidance_high:g}; raise it, or set 0 for no bound"
            )

    def idle(self) -> dict[str, Any]:
        """η where the sampler has none, and the interval of a guidance that adds nothing."""
        unguided = self.guidance == 1 and self.autoguidance == 1
        return {
            **({"eta": 0.0} if self.sampler in WITHOUT_ETA else {}),
            **({"guidance_low": 0.0, "guidance_high": 0.0} if unguided else {}),
        }

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Every threshold that a pass measures, ascending: the grid and the configuration's own."""
        return tuple(sorted({*self.threshold_grid, self.early_stop_threshold}))

"""Sampling: from noise to latents, with one curve over early-stop thresholds from one pass."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import Config, setting


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a trained denoiser is sampled; the defaults are the paper's."""

    sampler: str = setting("ddim", "the sampler", choices=("ddim", "dpmpp_2m"))
    steps: int = setting(50, "denoiser evaluations (NFE) when nothing stops early", low=1, high=1000)
    eta: float = setting(0.0, "η of DDIM: 0 is deterministic, 1 is ancestral", low=0, high=1)
    early_stop_rule: str = setting(
        "noise_norm",
        "what must fall below the threshold: 'noise_norm' is ‖ε̂‖/√d (the paper's), 'x0_change' is the "
        "relative change of x̂₀ between steps",
        choices=("noise_norm", "x0_change"),
    )
    early_stop_threshold: float = setting(0.05, "a sample stops below it and returns x̂₀; 0 never stops", low=0)

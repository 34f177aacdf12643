"""What a trained run is worth, in image space: named numbers from images."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.config import Config, setting


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Config):
    """How many images are compared, and how often on the way."""

    samples: int = setting(200, "generated slices, and real ones where the split holds as many", low=2)
    rungs: int = setting(
        3, "how many times a trial is scored on the way, at equal distances, so that it can be pruned", low=0
    )
    rung_samples: int = setting(64, "generated slices at each rung", low=2)
    bootstrap: int = setting(200, "bootstrap resamples behind a standard error", low=10)

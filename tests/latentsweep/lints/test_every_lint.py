"""Every lint of the table fires on a planted fault and is silent without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latentsweep.lints import (
    LINTS,
    Finding,
    Measurement,
    comparison_lints,
    configuration_lints,
    dataset_lints,
    result_lints,
)
from trainables.denoiser.latents import ChannelStatistics, Latents
from trainables.denoiser.process import add_noise
from trainables.denoiser.sampling import initial_noise, sample
from trainables.denoiser.schedules import alphas_cumprod
from trainables.denoiser.training import train_denoiser
from trainables.loop.records import Record
from trainables.loop.settings import Execution
from trainables.measures.evaluation import UNFINISHED
from trainables.measures.latent_statistics import active_channels, kl_by_channel
from trainables.measures.memorisation import memorisation
from trainables.recipes import IMPROVED, PAPER, SMOKE, Recipe

CLEAN_SCORES = {
    "gen/fid": 60.0,
    "gen/fid_floor": 45.0,
    "gen/kid": 20.0,
    "gen/kid_floor": 2.0,
    "gen/samples": 200.0,
    "gen/samples_floor": 200.0,
    "gen/reference_samples": 130.0,
    "gen/near_copies": 0.01,
    "gen/memorisation": 0.97,
    "gen/stopped": 0.4,
    "gen/steps_mean": 40.0,
    "gen/unfinished": 0.01,
    "recon/kid": 5.0,
    "recon/kid_se": 1.5,
}
TINY = SMOKE.replace(
    **{
        "data.image_size": 16,
        "vae.widths": (8, 8),
        "diffusion.widths": (32, 32),
        "diffusion.attention_levels": (),
        "diffusion.embedding_channels": 32,
        "diffusion.steps": 120,
        "diffusion.batch_size": 16,
        "diffusion.learning_rate": 3e-3,
        "diffusion.posterior": "mean",
        "diffusion.cutmix_probability": 0.0,
        "diffusion.precision": "fp32",
        "diffusion.validations": 8,
    }
)


def trained(folder: Path, count: int) -> list[Record]:
    """The records of a real training on ``count`` latents of noise, which nothing but memory can predict."""

    def latents(number: int, seed: int) -> Latents:
        mean = torch.randn(number, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        log_variance = torch.full_like(mean, -6)
        return Latents(mean, log_variance, ChannelStatistics.of(mean, log_variance))

    _, records = train_denoiser(
        TINY.diffusion, latents(count, 1), latents(32, 2), seed=0, folder=folder, execution=Execution()
    )
    return records


def summary(scale: float = 1.0, shift: float = 0.0, dead: int = 0) -> dict[str, Any]:
    """The summary of latents whose channels have this spread and mean, ``dead`` of which are the prior's."""
    random = torch.Generator().manual_seed(0)
    mean = torch.randn(100, 6, 4, 4, generator=random) * scale + shift
    log_variance = torch.full_like(mean, -5)
    mean[:, :dead], log_variance[:, :dead] = 0, 0
    statistics = ChannelStatistics.of(mean, log_variance)
    return {
        "shape": [6, 4, 4],
        "channel_mean": statistics.mean.tolist(),
        "channel_deviation": statistics.deviation.tolist(),
        "channel_kl": kl_by_channel(mean.numpy(), log_variance.numpy()).tolist(),
        "channel_active": active_channels(mean.numpy()).tolist(),
    }


def results(recipe: Recipe = IMPROVED, **given: Any) -> list[Finding]:
    defaults: dict[str, Any] = {
        "latents": summary(),
        "vae_records": [],
        "denoiser_records": [],
        "metrics": CLEAN_SCORES,
    }
    return result_lints(recipe, **{**defaults, **given})


def scored(recipe: Recipe = IMPROVED, **changed: float) -> list[Finding]:
    return results(recipe, metrics={**CLEAN_SCORES, **{name.replace("__", "/"): v for name, v in changed.items()}})


def stopped(threshold: float) -> list[Finding]:
    """The lints of a real sampling pass, of a denoiser that knows its latents to be white noise of unit spread."""
    changes = {"sampling.early_stop_threshold": threshold, "sampling.early_stop_rule": "x0_change"}
    recipe = IMPROVED.replace(**changes, **{"diffusion.prediction": "x0"})
    schedule = alphas_cumprod(recipe.diffusion).float()
    seeds = list(range(8))
    trace = sample(
        lambda z_t, t: schedule[t].sqrt()[:, None, None, None] * z_t,
        initial_noise(seeds, (8, 8, 8)),
        seeds=seeds,
        diffusion=recipe.diffusion,
        config=recipe.sampling,
        thresholds=(threshold, 0.0),
    )
    used = trace.steps_used[0].double()
    early = (used < recipe.sampling.steps).double()
    unfinished = (trace.remaining()[0] > UNFINISHED).double()
    return scored(
        recipe,
        gen__stopped=float(early.mean()),
        gen__steps_mean=float(used.mean()),
        gen__unfinished=float(unfinished.mean()),
    )


def copies(share: float) -> list[Finding]:
    """The lints of 200 images, ``share`` of which lie on a training slice, the others as far as held-out slices."""
    random = np.random.default_rng(0)
    null, distances = random.normal(1, 0.05, 130), random.normal(1, 0.05, 200)
    distances[: round(share * 200)] = 0.01
    measured = memorisation(distances, null)
    return results(metrics={**CLEAN_SCORES, **{f"gen/{name}": value for name, value in measured.items()}})


class Plants:
    """The fixtures that cases are made of."""

    def __init__(self, planted: Callable[..., Any], rows: Callable[..., Any], folder: Path) -> None:
        self.planted, self.rows, self.folder = planted, rows, folder

    def subjects(self, *, across: bool) -> list[Finding]:
        rows = self.rows(range(10))
        if across:
            rows += [(subject, split, "test", image[::-1]) for subject, split, _, image in rows[:3]]
        return dataset_lints(self.planted("mine", rows), "slice")

    def identical(self, *, across: bool) -> list[Finding]:
        rows = self.rows(range(10))
        rows.append(("p10", "train", "test" if across else "train", rows[0][3]))
        return dataset_lints(self.planted("mine", rows), "slice")

    def nearly_identical(self, *, across: bool) -> list[Finding]:
        rows = self.rows(range(10))
        _, split, by_slice, image = rows[0]
        assert split == "train"
        rows.append(("p10", "test" if across else "train", by_slice, np.clip(image * 1.1, 0, 255).astype(np.uint8)))
        return dataset_lints(self.planted("mine", rows), "subject")

    def shared(self, patients: range) -> list[Finding]:
        def half(image: np.ndarray) -> np.ndarray:
            return np.clip(image.reshape(32, 2, 32, 2).mean((1, 3)) * 1.3 - 15, 0, 255).astype(np.uint8)

        theirs = self.rows(patients, half)
        return dataset_lints(self.planted("mine", self.rows(range(10))), "subject", [self.planted("theirs", theirs)])

    def first(self, count: int) -> list[Finding]:
        """The lints of the first so many patients, of whom the third of the test split is the tenth."""
        return dataset_lints(self.planted("mine", self.rows(range(count))), "subject")

    def window(self, gain: float) -> list[Finding]:
        def changed(image: np.ndarray) -> np.ndarray:
            return np.clip(image * gain, 0, 255).astype(np.uint8)

        return dataset_lints(self.planted("mine", self.rows(range(10), changed)), "subject")

    def overfit(self, count: int) -> list[Finding]:
        return results(TINY, denoiser_records=trained(self.folder, count))


def frequency(form: str) -> Recipe:
    """A recipe with a tenth of this frequency loss."""
    return IMPROVED.replace(**{"diffusion.frequency_loss": form, "diffusion.frequency_weight": 0.1})


def measurements(samples: int) -> list[Measurement]:
    return [Measurement("a", 200, 130, "inception", "r1"), Measurement("b", samples, 130, "inception", "r1")]


Case = Callable[[Plants], list[Finding]]
FIRES: dict[str, Case] = {
    "frequency-inert": lambda plants: configuration_lints(PAPER),
    "frequency-biased": lambda plants: configuration_lints(frequency("complex_l1")),
    "subjects-across-splits": lambda plants: plants.subjects(across=True),
    "identical-across-splits": lambda plants: plants.identical(across=True),
    "near-identical-across-splits": lambda plants: plants.nearly_identical(across=True),
    "shared-patients": lambda plants: plants.shared(range(5, 15)),
    "few-subjects": lambda plants: plants.first(9),
    "saturated-range": lambda plants: plants.window(1.6),
    "latent-scale": lambda plants: results(PAPER, latents=summary(scale=2.5, shift=1.0)),
    "collapsed-channels": lambda plants: results(latents=summary(dead=2)),
    "cutmix-target": lambda plants: configuration_lints(PAPER),
    "cutmix-leaks": lambda plants: configuration_lints(IMPROVED.replace(**{"diffusion.cutmix_labelled": False})),
    "threshold-never": lambda plants: configuration_lints(PAPER),
    "threshold-early": lambda plants: stopped(10.0),
    "few-samples": lambda plants: configuration_lints(SMOKE),
    "fid-incomparable": lambda plants: comparison_lints(measurements(64)),
    "ema-length": lambda plants: configuration_lints(SMOKE.replace(**{"diffusion.ema_warmup": False})),
    "overfit": lambda plants: plants.overfit(4),
    "near-copies": lambda plants: copies(0.08),
    "vae-limits": lambda plants: scored(recon__kid=12.0),
}
SILENT: dict[str, Case] = {
    "frequency-inert": lambda plants: configuration_lints(frequency("high_pass")),
    "frequency-biased": lambda plants: configuration_lints(frequency("high_pass")),
    "subjects-across-splits": lambda plants: plants.subjects(across=False),
    "identical-across-splits": lambda plants: plants.identical(across=False),
    "near-identical-across-splits": lambda plants: plants.nearly_identical(across=False),
    "shared-patients": lambda plants: plants.shared(range(10, 20)),
    "few-subjects": lambda plants: plants.first(10),
    "saturated-range": lambda plants: plants.window(1.0),
    "latent-scale": lambda plants: results(PAPER),
    "collapsed-channels": lambda plants: results(),
    "cutmix-target": lambda plants: configuration_lints(IMPROVED),
    "cutmix-leaks": lambda plants: configuration_lints(IMPROVED),
    "threshold-never": lambda plants: stopped(0.1),
    "threshold-early": lambda plants: stopped(0.1),
    "few-samples": lambda plants: configuration_lints(IMPROVED),
    "fid-incomparable": lambda plants: comparison_lints(measurements(200)),
    "ema-length": lambda plants: configuration_lints(SMOKE),
    "overfit": lambda plants: plants.overfit(400),
    "near-copies": lambda plants: copies(0.0),
    "vae-limits": lambda plants: scored(),
}


@pytest.fixture
def plants(planted: Callable[..., Any], rows: Callable[..., Any], tmp_path: Path) -> Plants:
    folder = tmp_path / "run"
    folder.mkdir()
    return Plants(planted, rows, folder)


def test_every_lint_of_the_table_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert list(FIRES) == list(SILENT) == list(LINTS)


@pytest.mark.slow
@pytest.mark.parametrize("code", FIRES)
def test_it_fires_on_its_fault(code: str, plants: Plants) -> None:
    (found,) = [found for found in FIRES[code](plants) if found.code == code]
    assert any(letter.isdigit() for letter in found.evidence), found.evidence
    assert (found.line, found.advice) == (LINTS[code].line, LINTS[code].advice)


@pytest.mark.slow
@pytest.mark.parametrize("code", SILENT)
def test_it_is_silent_without_its_fault(code: str, plants: Plants) -> None:
    assert code not in {found.code for found in SILENT[code](plants)}


@pytest.mark.parametrize(
    "code", [code for code in FIRES if code not in {"frequency-inert", "cutmix-target", "overfit"}]
)
def test_a_fault_raises_no_other_lint(code: str, plants: Plants) -> None:
    expected = {"threshold-never": ["frequency-inert", "cutmix-target", "threshold-never"]}
    expected["ema-length"] = ["ema-length", "few-samples"]
    assert [found.code for found in FIRES[code](plants)] == expected.get(code, [code])


def test_the_clean_cases_of_a_run_and_a_dataset_raise_nothing(plants: Plants) -> None:
    assert results() == []
    assert plants.window(1.0) == []


def test_findings_are_values() -> None:
    first, second = configuration_lints(PAPER), configuration_lints(PAPER)
    assert first == second
    assert [field.name for field in dataclasses.fields(first[0])] == [
        "code",
        "severity",
        "line",
        "evidence",
        "advice",
    ]


def test_the_denoiser_of_white_noise_keeps_to_the_bound_of_its_noise_norm() -> None:
    from latentsweep.lints.configuration import smallest_noise_norm

    bound, evaluation = smallest_noise_norm(PAPER)
    schedule = alphas_cumprod(PAPER.diffusion)
    random = torch.Generator().manual_seed(0)
    z0, noise = (torch.randn(64, 8, 16, 16, generator=random, dtype=torch.float64) for _ in range(2))
    norms = []
    for t in range(1000 - 1, 0, -20):
        z_t = add_noise(z0, noise, schedule[[t] * 64])
        norms.append(float(((1 - schedule[t]).sqrt() * z_t).square().mean().sqrt()))
    assert min(norms[:-1]) == pytest.approx(bound, rel=0.01)
    assert norms[:-1].index(min(norms[:-1])) + 1 == evaluation == 49

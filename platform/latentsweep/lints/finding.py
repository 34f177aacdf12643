"""The table of lints, and a finding as text and as tags.

A new lint is a row of :data:`LINTS` and a function that measures, in the module of what it looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class Lint:
    """One row of the table: ``line`` says what is wrong, ``advice`` what to do about it."""

    line: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """A lint that fired. ``evidence`` holds the measured numbers; a note is of less weight than a warning."""

    code: str
    severity: Severity
    line: str
    evidence: str
    advice: str


LINTS: dict[str, Lint] = {
    "frequency-inert": Lint(
        "the frequency loss only repeats the MSE",
        "take high_pass as diffusion.frequency_loss, which weighs frequencies and keeps the minimiser, or leave it "
        "out with diffusion.frequency_weight=0",
    ),
    "frequency-biased": Lint(
        "the frequency loss moves the denoiser away from the posterior mean, and sampling needs that mean: what few "
        "slices have, such as lesions, is erased or exaggerated at high noise",
        "leave it out with diffusion.frequency_weight=0, or take high_pass, which is quadratic in the error; with "
        "diffusion.frequency_weighting=loss the shift is smaller",
    ),
    "subjects-across-splits": Lint(
        "the same patients are in several splits",
        "set data.split=subject; scores of a split by slice tell nothing about new patients",
    ),
    "identical-across-splits": Lint(
        "slices with equal pixels are in several splits",
        "set data.split=subject, which keeps equal slices together, and look for scans that were copied",
    ),
    "near-identical-across-splits": Lint(
        "slices of different subjects in different splits are nearly equal, so the source holds scans twice",
        "take the copies out of the source, or join them by --subject-from, and prepare again",
    ),
    "shared-patients": Lint(
        "another prepared dataset holds near-identical slices, so probably the same patients",
        "train and test within one of the two; do not test a model of one on the other, nor merge them",
    ),
    "few-subjects": Lint(
        "a split that scores are measured on has so few patients that its scores depend on who they are",
        "prepare more patients; a study by folds (ablate --folds) tests on each patient once",
    ),
    "saturated-range": Lint(
        "the slices' intensities don't fit the range of 0 to 255",
        "check the window that the source was exported with, and prepare the data again from the raw scans",
    ),
    "latent-scale": Lint(
        "the denoiser sees latents that are not of zero mean and unit spread, as its noise schedule expects",
        "set diffusion.whiten=true",
    ),
    "collapsed-channels": Lint(
        "latent channels carry nothing of the image",
        "lower vae.kl_weight, or search fewer vae.latent_channels",
    ),
    "cutmix-target": Lint(
        "CutMix of noisy latents asks the denoiser for the wrong noise",
        "set diffusion.cutmix_form=z0, which mixes clean latents and needs no other target",
    ),
    "cutmix-leaks": Lint(
        "the denoiser learns collages of slices as if they were slices, and KID hardly sees them in its images",
        "set diffusion.cutmix_labelled=true, so that sampling leaves them out, or diffusion.cutmix_probability=0",
    ),
    "threshold-never": Lint(
        "the early stop never stops a sample",
        "raise sampling.early_stop_threshold, take sampling.early_stop_rule=x0_change, or switch it off with "
        "threshold 0: the images are the same",
    ),
    "threshold-early": Lint(
        "the early stop ends samples too early, when x̂₀ is still far from what it would become",
        "lower sampling.early_stop_threshold and compare the images with those of threshold 0",
    ),
    "few-samples": Lint(
        "too few images for a FID: its bias falls like 1/N and is part of the score",
        "rank by KID, which is unbiased; compare FIDs at one number of images alone, or raise evaluation.samples "
        "or prepare more subjects",
    ),
    "fid-incomparable": Lint(
        "FIDs of different numbers of images, references or extractors stand side by side",
        "measure the models again with one setting (`evaluate`), or compare each FID with its own floor",
    ),
    "ema-length": Lint(
        "the averaging of the weights (EMA) doesn't fit the length of the training",
        "set diffusion.ema_warmup=true, or choose diffusion.ema_decay so that 1/(1 − decay) is a tenth to a "
        "hundredth of diffusion.steps",
    ),
    "overfit": Lint(
        "validation and training loss have parted",
        "train for fewer steps, on more subjects or a smaller model, or with more dropout or augmentation",
    ),
    "near-copies": Lint(
        "more generated images than by chance are near copies of a training slice",
        "look at the nearest neighbours: copies of patients, or blurred images near the mean? Train for fewer steps "
        "or on more subjects, and don't share the samples or the model before",
    ),
    "vae-limits": Lint(
        "most of the distance to real slices is the autoencoder's, not the denoiser's",
        "improve the autoencoder first: train it longer or larger, or with a lower vae.kl_weight",
    ),
}
"""Every lint by its code. The tests ask for two tests of each lint: one in which it fires and one in which not."""


def finding(code: str, evidence: str, severity: Severity = "warning") -> Finding:
    """The finding of the lint ``code``; raises :class:`KeyError` where the table has no such row."""
    lint = LINTS[code]
    return Finding(code, severity, lint.line, evidence, lint.advice)


def as_tags(findings: Sequence[Finding]) -> dict[str, str]:
    """``latentsweep.lints``, the codes, and ``latentsweep.lint.<code>``, each one's evidence; empty for none."""
    if not findings:
        return {}
    evidence: dict[str, list[str]] = {}
    for found in findings:
        evidence.setdefault(found.code, []).append(found.evidence)
    tags = {"latentsweep.lints": ", ".join(evidence)}
    return tags | {f"latentsweep.lint.{code}": "; ".join(dict.fromkeys(lines)) for code, lines in evidence.items()}


def as_text(findings: Sequence[Finding]) -> str:
    """Three lines a finding for the terminal, warnings first; empty for none."""
    ordered = sorted(dict.fromkeys(findings), key=lambda found: found.severity != "warning")
    return "\n".join(
        f"{found.severity} [{found.code}] {found.line}\n  measured: {found.evidence}\n  do: {found.advice}"
        for found in ordered
    )


def catalogue() -> str:
    """The table of all lints, as Markdown."""
    rows = [f"| `{code}` | {lint.line} | {lint.advice} |" for code, lint in LINTS.items()]
    return "\n".join(["| code | what it means | what to do |", "| --- | --- | --- |", *rows]) + "\n"

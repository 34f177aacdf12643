"""The table of metrics. A row says all of a measure; code that records, shows or judges a measure reads its row.

CONTRIBUTING.md says how a metric is added, and docs/metrics.md defines each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher"]

GENERATED, RECONSTRUCTED, RUNG, FINAL = "gen/", "recon/", "rung/", "final/"
"""What names begin with: of generated slices, of reconstructions, of a few slices on the way, and of end results."""

FLOOR, LOW, HIGH, ERROR, SPREAD, REAL, BOUND = "_floor", "_low", "_high", "_se", "_sd", "_real", "_bound"
"""What is put behind a metric's name for its partners (docs/metrics.md)."""

BOUNDED = (LOW, HIGH)
"""The ends of a 95 % interval."""

NORMAL_95 = 1.96
"""Standard errors to either side that a 95 % normal interval takes."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measure."""

    name: str
    """As in the store and in MLflow."""
    label: str
    """What it is called wherever people read of it."""
    better: Better | None = None
    """Its better direction; None where a difference is neither help nor harm."""
    style: str = ".3g"
    """How a value is written, as a format specification."""
    unit: str = ""
    """What stands behind the number where a sentence states a difference."""
    partners: tuple[str, ...] = ()
    """The suffixes under which its floor, interval, error, spread, real value or bound are recorded with it."""
    objective: str | None = None
    """The name by which ``--objective`` takes it, to be minimised, so lower is better; None where it can't be one."""
    rung: bool = False
    """Whether it is measured on the way, too, so that trials can be pruned by it."""
    gap: bool = False
    """Whether it is split into what the autoencoder and what the denoiser loses."""
    cost: bool = False
    """Whether it is a cost of an image, which quality is drawn against."""
    leaderboard: int | None = None
    """Its place among the columns of a sweep's leaderboard, from 1; None leaves it out."""
    report: int | None = None
    """Its place among the columns of a sweep's report."""
    study: int | None = None
    """Its place among the metrics that a study judges its arms by. Verdicts rest on the first."""
    card: int | None = None
    """Its place among the rows of a model's score card."""
    short: str = ""
    """What its row of a score card is called, if that is not the label: a column says of what the number is."""
    final: bool = False
    """Whether MLflow has it under ``final/`` for the table of runs, with its error and floor."""

    def format(self, value: float | None) -> str:
        """A value as it is written, never as −0; a dash for None."""
        return "–" if value is None else format(value, f"z{self.style}")

    def interval(self, metrics: Mapping[str, float]) -> tuple[float, float] | None:
        """Its 95 % interval among a run's ``metrics``; None where no uncertainty was recorded."""
        return interval(metrics, self.name)

    @property
    def stem(self) -> str:
        """The name without what it begins with."""
        return self.name.partition("/")[2]

    @property
    def floor(self) -> str:
        """The name of what real slices score in place of the generated ones."""
        return self.name + FLOOR

    @property
    def error(self) -> str:
        """The name of its standard error."""
        return self.name + ERROR

    @property
    def bound(self) -> str:
        """The name of what it may be at most or at least for a configuration to win; its guard says which."""
        return self.name + BOUND

    @property
    def reconstructed(self) -> str:
        """The name of what the autoencoder's reconstructions score."""
        return RECONSTRUCTED + self.stem

    @property
    def at_rungs(self) -> str:
        """The name of what a few slices score on the way."""
        return RUNG + self.stem

    @property
    def at_end(self) -> str:
        """The name under which MLflow has the end result; that of reconstructions says so."""
        return FINAL + (self.stem if self.name.startswith(GENERATED) else self.name.replace("/", "_"))


def _of_reconstructions(metric: Metric) -> Metric:
    """The same measure of the autoencoder's reconstructions, which is shown in no table of its own."""
    return Metric(
        name=metric.reconstructed,
        label=f"{metric.label} of reconstructions",
        better=metric.better,
        style=metric.style,
        unit=metric.unit,
        partners=tuple(suffix for suffix in metric.partners if suffix != FLOOR),
    )


KID = Metric(
    name="gen/kid",
    label="KID ×1000",
    better="lower",
    style=".1f",
    partners=(FLOOR, *BOUNDED, ERROR),
    objective="kid",
    rung=True,
    gap=True,
    leaderboard=1,
    report=1,
    study=1,
    card=1,
    final=True,
)
FID = Metric(
    name="gen/fid",
    label="FID",
    better="lower",
    style=".1f",
    partners=(FLOOR, *BOUNDED),
    objective="fid",
    rung=True,
    gap=True,
    leaderboard=2,
    report=2,
    study=2,
    card=2,
    final=True,
)
SLICED_WASSERSTEIN = Metric(
    name="gen/swd", label="sliced Wasserstein distance", better="lower", partners=(FLOOR,), study=3
)
SPECTRUM_DISTANCE = Metric(
    name="gen/spectrum_distance", label="spectrum distance", better="lower", unit="dB", partners=(FLOOR,)
)
PRECISION = Metric(
    name="gen/precision", label="precision", better="higher", partners=(FLOOR,), report=5, study=4, card=5
)
RECALL = Metric(name="gen/recall", label="recall", better="higher", partners=(FLOOR,), report=6, study=5, card=6)

COMPARED = (KID, FID, SLICED_WASSERSTEIN, SPECTRUM_DISTANCE, PRECISION, RECALL)
"""What generated slices and reconstructions are both measured by (:func:`trainables.measures.reference.compare`)."""

NEAR_COPIES = Metric(
    name="gen/near_copies",
    label="near copies",
    better="lower",
    style=".1%",
    partners=(BOUND,),
    objective="memorisation",
    rung=True,
    leaderboard=4,
    report=4,
    study=6,
    card=7,
    final=True,
)
ALIKE = Metric(name="gen/alike", label="largest group alike", better="lower", style=".1%", partners=(BOUND,))
DIVERSITY = Metric(name="gen/diversity", label="diversity", partners=(REAL, BOUND))
MEMORISATION = Metric(name="gen/memorisation", label="memorisation ratio", study=7)
STEPS = Metric(
    name="gen/steps_mean",
    label="mean steps",
    better="lower",
    style=".1f",
    unit="steps",
    objective="steps",
    cost=True,
    leaderboard=3,
    report=3,
    final=True,
)
SECONDS_PER_IMAGE = Metric(
    name="gen/seconds_per_image",
    label="seconds per image",
    better="lower",
    unit="s",
    partners=(BOUND,),
    cost=True,
)
STOPPED = Metric(name="gen/stopped", label="share stopped early", style=".1%")
UNFINISHED = Metric(name="gen/unfinished", label="share stopped too early", style=".1%")
SAMPLES = Metric(name="gen/samples", label="generated", style=".0f", partners=(FLOOR,))
PAPER_SSIM = Metric(name="gen/paper_ssim", label="SSIM", partners=(SPREAD,))
PAPER_PSNR = Metric(name="gen/paper_psnr", label="PSNR (dB)", partners=(SPREAD,))
REFERENCE_SAMPLES = Metric(name="gen/reference_samples", label="real slices", style=".0f")
DICE_LOSS = Metric(
    name="gen/downstream_dice_loss",
    label="downstream 1−Dice",
    better="lower",
    partners=(ERROR,),
    objective="dice",
    final=True,
)
"""What a search minimises for the best Dice: searches, confirmations and reports take the lowest."""

DICE = Metric(name="gen/downstream_dice", label="downstream Dice", better="higher", partners=(REAL,), final=True)
DOWNSTREAM = (
    DICE,
    DICE_LOSS,
    Metric(
        name="gen/downstream_hd95",
        label="downstream HD95 (pixels)",
        better="lower",
        style=".1f",
        unit="pixels",
        partners=(REAL,),
    ),
    Metric(name="gen/downstream_ratio", label="downstream Dice over that of real slices", better="higher"),
    Metric(name="gen/downstream_gain", label="gain of Dice beside some real patients", better="higher"),
    Metric(name="gen/downstream_copies", label="near copies left out downstream", better="lower", style=".1%"),
)
"""What :func:`trainables.measures.downstream.scores.measure_arms` measures, where ``downstream.measured`` is true."""

SSIM = Metric(
    name="recon/ssim",
    label="SSIM of reconstructions",
    better="higher",
    partners=(SPREAD,),
    card=3,
    short="SSIM",
    final=True,
)
PSNR = Metric(
    name="recon/psnr",
    label="PSNR of reconstructions (dB)",
    better="higher",
    unit="dB",
    partners=(SPREAD,),
    study=8,
    card=4,
    short="PSNR (dB)",
    final=True,
)

AUTOENCODER_SECONDS, DENOISER_SECONDS, EVALUATION_SECONDS = (
    Metric(name=f"cost/{stage}_seconds", label=f"seconds of the {stage}", better="lower", unit="s")
    for stage in ("autoencoder", "denoiser", "evaluation")
)
"""What a run's stages took."""

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        SAMPLES,
        *COMPARED,
        NEAR_COPIES,
        MEMORISATION,
        STEPS,
        SECONDS_PER_IMAGE,
        STOPPED,
        UNFINISHED,
        REFERENCE_SAMPLES,
        ALIKE,
        DIVERSITY,
        Metric(name="gen/ms_ssim", label="MS-SSIM among samples", partners=(REAL,)),
        Metric(name="gen/high_frequency_share", label="high-frequency share", partners=(REAL,)),
        PAPER_SSIM,
        PAPER_PSNR,
        *DOWNSTREAM,
        *(_of_reconstructions(metric) for metric in COMPARED),
        PSNR,
        SSIM,
        Metric(name="recon/mask_dice", label="Dice of reconstructed masks", better="higher"),
        Metric(
            name="recon/mask_invented",
            label="reconstructed masks without lesion in the slice",
            better="lower",
            style=".1%",
        ),
        Metric(name="recon/mse", label="MSE of reconstructions", better="lower"),
        AUTOENCODER_SECONDS,
        DENOISER_SECONDS,
        EVALUATION_SECONDS,
    )
}
"""Every measure of a run's end, by its name; docs/metrics.md defines them."""


def metric_of(name: str) -> Metric:
    """The row of a metric; any other number is called by its own name, shown nowhere, and better neither way."""
    return METRICS.get(name) or Metric(name=name, label=name)


def _placed(place: Literal["leaderboard", "report", "study", "card"]) -> tuple[Metric, ...]:
    """The metrics that are shown in a place, in order."""
    shown = {metric: getattr(metric, place) for metric in METRICS.values() if getattr(metric, place) is not None}
    return tuple(sorted(shown, key=lambda metric: shown[metric]))


LEADERBOARD, REPORT, STUDY, CARD = _placed("leaderboard"), _placed("report"), _placed("study"), _placed("card")
"""What a sweep's leaderboard and report show, what a study judges its arms by, and the rows of a score card."""

OBJECTIVES: Mapping[str, Metric] = {
    metric.objective: metric for metric in METRICS.values() if metric.objective is not None
}
"""What a search can minimise, by its name on the command line."""


def objective_of(name: str) -> Metric:
    """What a search minimises by that name: a row of :data:`OBJECTIVES`, or a plug-in's metric; lower is better."""
    return OBJECTIVES.get(name) or Metric(name=GENERATED + name, label=name, better="lower", objective=name)


FINALS: Mapping[str, str] = {
    metric.name + suffix: metric.at_end + suffix
    for metric in METRICS.values()
    if metric.final
    for suffix in ("", *(partner for partner in (ERROR, FLOOR) if partner in metric.partners))
}
"""The end results by which the runs' table compares, and their names there."""


def interval(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """The recorded 95 % interval of a metric, or 1.96 standard errors around it; None without either."""
    low, high = metrics.get(name + LOW), metrics.get(name + HIGH)
    if low is not None and high is not None:
        return low, high
    value, error = metrics.get(name), metrics.get(name + ERROR)
    if value is None or error is None:
        return None
    return value - NORMAL_95 * error, value + NORMAL_95 * error

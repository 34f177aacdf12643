"""All that the page of an ablation study says, before it is put into words and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from latentsweep.ablation.page.wording import decimals
from latentsweep.ablation.statistics.effect import MARGIN, Effect, Run, Stability, Summary
from latentsweep.ablation.statistics.gaps import ArmGap
from latentsweep.ablation.statistics.ratio import Ratio
from latentsweep.lints import Finding
from latentsweep.pages.numbers import now
from latentsweep.pages.tables import Table
from latentsweep.stages.guards import refusal


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a page of one study says.

    ``summaries`` and ``effects`` are by metric, the one that the study is judged by first. ``reference`` is the arm
    that others are compared with, None in a factorial. ``seeds`` are those that every arm was to run with. ``arms``
    are (name, what differs from the reference, what the store shares with other arms), ``components`` (name,
    meaning), none where arms are whole configurations. ``failures`` are the reasons of failed runs by their keys;
    ``margin`` is the change that counts as no difference, as a share of the reference's score. ``ratios`` are of
    arms to the reference, ``gaps`` of arms in KID and FID. ``walltime`` and ``unequal`` are what equal minutes
    became, and how far from equal they were, where a study sets them. ``address`` leads to its run in MLflow.
    """

    name: str
    dataset: str
    facts: Sequence[tuple[str, str]]
    design: str
    reference: str | None
    seeds: Sequence[int]
    arms: Sequence[tuple[str, str, str]]
    components: Sequence[tuple[str, str]]
    runs: Sequence[Run]
    summaries: Mapping[str, Sequence[Summary]]
    effects: Mapping[str, Sequence[Effect]]
    command: str
    notes: Sequence[str] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    margin: float = MARGIN
    ratios: Sequence[Ratio] = ()
    gaps: Sequence[ArmGap] = ()
    walltime: Table | None = None
    unequal: str = ""
    address: str = ""
    written: str = field(default_factory=now)

    @property
    def metrics(self) -> list[str]:
        """Every metric, the one that the study is judged by first."""
        return list(self.summaries)

    @property
    def primary(self) -> str:
        """The metric that the study is judged by."""
        return self.metrics[0]

    @property
    def planned(self) -> int:
        """Runs that the study was to have."""
        return len(self.arms) * len(self.seeds)

    @property
    def measured(self) -> int:
        """Runs that have the primary metric."""
        return sum(self.primary in run.metrics for run in self.runs)

    @property
    def whole(self) -> bool:
        """Whether arms are whole configurations, of which no component can be said to help."""
        return not self.components

    @property
    def stability(self) -> dict[str, Stability]:
        """How often each arm failed, by its name."""
        return {each.arm: each for effect in self.effects.get(self.primary, ()) for each in effect.stability}

    @property
    def refused(self) -> dict[str, dict[str, str]]:
        """Why the guards refuse runs of an arm, in words, by the arm's name and the key of the run."""
        found: dict[str, dict[str, str]] = {}
        for run in self.runs:
            if said := refusal(run.metrics):
                found.setdefault(run.arm, {})[run.key] = said
        return found

    def ratios_of(self, metric: str) -> list[Ratio]:
        """The ratios of one metric."""
        return [ratio for ratio in self.ratios if ratio.metric == metric]

    def gaps_by_metric(self) -> dict[str, list[ArmGap]]:
        """The arms' gaps by metric."""
        metrics = dict.fromkeys(gap.metric for gap in self.gaps)
        return {metric: [gap for gap in self.gaps if gap.metric == metric] for metric in metrics}

    def places(self, metric: str) -> int:
        """The decimals of all numbers of a metric."""
        return decimals(self.summaries.get(metric, ()), self.effects.get(metric, ()))

    def comparisons(self, metric: str) -> list[Effect]:
        """The arms, or the main effects of a factorial: an effect for each component."""
        return [effect for effect in self.effects.get(metric, ()) if effect.contrast.kind != "interaction"]

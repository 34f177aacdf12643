"""The data sheet of a release: where its slices come from, what they are worth, and what they are not for."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from latentsweep import __version__
from latentsweep.ablation.page.downstream import CAVEAT
from latentsweep.configuration import Configuration
from latentsweep.datasets.ledger import earlier_words
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.jobs.clean_samples import CleanSamples
from latentsweep.jobs.model_card import guard_rows, interval_words, recipe_rows, score_rows, split_rows
from latentsweep.metrics import DICE_LOSS, DOWNSTREAM, REAL, SAMPLES
from latentsweep.pages.numbers import UNKNOWN, capitalised, number
from latentsweep.pages.tables import Table
from latentsweep.pages.templates import environment


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of the model whose slices are released."""

    name: str
    configuration: Configuration
    dataset: PreparedDataset
    metrics: Mapping[str, dict[str, float]]
    """The measurements by held-out split."""
    refused: str = ""
    """Why the guards refuse it, in words; empty where they don't."""
    earlier: int | None = None
    """How many other decisions had read the test split; None where it wasn't measured on that."""
    source: str = ""
    """Where the real slices come from, and under which licence; empty where that isn't stated."""
    licence: str = ""
    date: str = ""
    """The day of the release, as 2026-01-31."""


def data_sheet(facts: Facts, samples: CleanSamples) -> str:
    """The text of the data sheet, in Markdown."""
    dataset, recipe = facts.dataset, facts.configuration.recipe
    rule, earlier = recipe.data.rule, facts.earlier
    drawn, median = len(samples.distances), float(np.median(samples.null))
    template = environment("latentsweep.pages").get_template("data_sheet.md.j2")
    return template.render(
        facts=facts,
        version=__version__,
        fingerprint=dataset.fingerprint_of(masks=recipe.data.mask),
        shown=number(len(samples.seeds), "slice"),
        side=recipe.data.image_size,
        masks=samples.drawn.masks is not None,
        splits=Table.of(("split", "slices", "patients"), split_rows(dataset, rule)),
        apart=rule != "slice",
        earlier="" if earlier is None else capitalised(earlier_words(dataset.name, earlier)) + ".",
        recipe=Table.of(("field", "default of a sweep", "this model"), recipe_rows(recipe), code=True),
        scores={
            split: Table.of(
                ("measure", "better", "generated", "95 % interval", "floor (real slices)", "reconstructions"),
                score_rows(metrics),
            )
            for split, metrics in facts.metrics.items()
        },
        measured=number(int(next(iter(facts.metrics.values()))[SAMPLES.name]), "slice"),
        training=dataset.counts(rule)["train"],
        limit=f"{samples.limit:.3f}",
        audit=Table.of(("slices", "number", "1 % quantile", "median", "near copies"), audit_rows(samples)),
        left_out=samples.left_out,
        drawn=drawn,
        explained=samples.explained,
        ratio=f"{np.median(samples.distances) / median:.2f}" if median else UNKNOWN,
        guards=Table.of(("guard", "split", "measured", "bound", ""), guard_rows(facts.metrics)),
        caveat=CAVEAT,
        downstream=Table.of(("measure", "split", "value", "95 % interval"), downstream_rows(facts.metrics)),
    )


def audit_rows(samples: CleanSamples) -> Iterator[tuple[str, ...]]:
    """How near held-out real slices, all drawn ones and the released ones are to the training slices."""
    for what, distances in (
        ("held-out real slices: the null", samples.null),
        ("drawn", samples.distances),
        ("released", samples.kept),
    ):
        low, middle = np.quantile(distances, [0.01, 0.5])
        copies = int(np.sum(distances <= samples.limit))
        yield what, str(len(distances)), f"{low:.3f}", f"{middle:.3f}", str(copies)


def downstream_rows(by_split: Mapping[str, dict[str, float]]) -> Iterator[tuple[str, ...]]:
    """What the slices are worth for a task, where that was measured."""
    for split, metrics in by_split.items():
        for metric in DOWNSTREAM:
            if metric is not DICE_LOSS and metric.name in metrics:
                value = metric.format(metrics[metric.name])
                real = metrics.get(f"{metric.name}{REAL}")
                value += "" if real is None else f" (from real slices: {metric.format(real)})"
                yield metric.label, split, value, interval_words(metric, metrics)


def today() -> str:
    """The present day, as 2026-01-31."""
    return datetime.date.today().isoformat()

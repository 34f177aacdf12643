"""Every number of a study, unrounded, as rows of a CSV with the keys of the runs behind each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latentsweep.ablation.statistics.effect import Effect, Summary
from latentsweep.ablation.statistics.gaps import PARTS, ArmGap
from latentsweep.ablation.statistics.ratio import Ratio
from latentsweep.pages.tables import as_csv as write_csv

COLUMNS = (
    *("metric", "kind", "name", "weights", "n", "seeds", "values", "mean", "sd", "se_seeds", "se_subjects", "df"),
    *("low", "high", "scale", "change", "change_low", "change_high", "d_z", "p", "p_holm", "p_equal", "p_equal_holm"),
    *("p_sign_flip", "detectable", "detectable_change", "failed", "verdict", "words", "runs", "missing"),
)
"""The CSV's columns; ``kind`` is "mean" for an arm's own values, "ratio" for a ratio, the part's name for a part of a
gap, else that of the contrast."""


def as_csv(
    summaries: Mapping[str, Sequence[Summary]],
    effects: Mapping[str, Sequence[Effect]],
    ratios: Sequence[Ratio] = (),
    gaps: Sequence[ArmGap] = (),
) -> str:
    """A line for each arm and each contrast of each metric, each ratio, and each part of a gap.

    ``values`` are those of ``seeds``, in order: of an arm its own, of a contrast the differences within each seed.
    Of a ratio ``mean`` is that of the means. ``change`` is a share, and p is of the ``scale``. Lists are separated
    by semicolons.
    """
    rows = []
    for metric, found in summaries.items():
        rows += [_row(each, kind="mean", name=each.arm, n=len(each.seeds)) for each in found]
        for effect in effects.get(metric, ()):
            contrast = effect.contrast
            given = {"kind": contrast.kind, "name": contrast.name, "n": len(effect.seeds), "d_z": effect.size}
            weights = tuple(f"{arm}: {weight!r}" for arm, weight in contrast.weights.items())
            rows.append(_row(effect, weights=weights, **given, **_changed(effect)))
    rows += [_row(ratio, kind="ratio", n=len(ratio.seeds), mean=ratio.value) for ratio in ratios]
    for gap in gaps:
        shared = {"metric": gap.metric, "name": gap.arm, "n": len(gap.seeds), "seeds": gap.seeds, "runs": gap.runs}
        rows += [_row(getattr(gap, part), kind=part, **shared) for part in PARTS[:-1]]
    return write_csv(COLUMNS, rows)


def _changed(effect: Effect) -> dict[str, Any]:
    """The change with its interval, where the verdict rests on it, and how many seeds of each arm failed."""
    each = effect.relative
    change = {"change": each.change, "change_low": each.low, "change_high": each.high} if each else {}
    return {**change, "failed": tuple(f"{s.arm}: {s.failed} of {s.tried}" for s in effect.stability)}


def _row(found: object, **given: Any) -> dict[str, str]:
    """The columns that ``found`` has as attributes, and those that are given."""
    own = {column: getattr(found, column) for column in COLUMNS if hasattr(found, column)}
    return {column: _exact(value) for column, value in {**own, **given}.items()}


def _exact(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(map(_exact, value))
    return "" if value is None else repr(float(value)) if isinstance(value, float) else str(value)

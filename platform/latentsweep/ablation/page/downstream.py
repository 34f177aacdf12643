"""How good generated slices are as training data: a table, and what it says in a sentence."""

from __future__ import annotations

from latentsweep.ablation.statistics.downstream import Estimate, Usefulness
from latentsweep.pages.numbers import fixed, interval, number
from latentsweep.pages.tables import Table
from trainables.measures.downstream.scores import BOTH, REAL, SYNTHETIC

NAMES = {REAL: "real slices", SYNTHETIC: "generated slices", BOTH: "real and generated slices"}
HEADER = ("trained on", "real patients", "slices", "Dice [95 %]", "HD95 in pixels [95 %]")
CAVEAT = (
    "The generator learned from all training patients. What it adds to a share of them holds what it knows of the "
    "others."
)


def table(found: Usefulness) -> Table:
    """A row for each arm and share of the patients."""
    rows = [
        (
            NAMES[arm.arm],
            f"{arm.fraction:.0%}" if arm.fraction else "none",
            f"{arm.slices:.0f}",
            _text(arm.dice, 3),
            _text(arm.hausdorff, 1),
        )
        for arm in found.arms
    ]
    caption = (
        f"Segmentation networks of {number(found.seeds, 'seed')}, tested on {number(found.patients, 'patient')} that "
        "no training saw."
    )
    return Table.of(HEADER, rows, caption)


def sentence(found: Usefulness) -> str:
    """What the comparison says: the ratio, the gain, and how many near copies were left out."""
    gain = found.gains[found.gain_at]
    adding = f"adding them to {found.gain_at:.0%} of the patients"
    reached = "real ones have a Dice of 0, so there is no share of it to reach"
    if found.ratio:
        reached = f"generated slices alone reach {_text(found.ratio, 2)} of the Dice of real ones"
    if gain.low is not None and gain.high is not None and not gain.low <= 0 <= gain.high:
        gained = f"{adding} {'gains' if gain.value > 0 else 'loses'} {_text(_size(gain), 3)}"
    else:
        gained = f"{adding} changes it by {_text(gain, 3)}, can't tell"
    copied = f"{found.copies} of {number(found.drawn, 'generated slice')} were near copies and were left out"
    text = "; ".join([reached, gained, copied])
    return f"{text[0].upper()}{text[1:]}."


def _size(gain: Estimate) -> Estimate:
    """A gain or loss without its sign."""
    if gain.value >= 0 or gain.low is None or gain.high is None:
        return gain
    return Estimate(-gain.value, -gain.high, -gain.low)


def _text(estimate: Estimate, places: int) -> str:
    return fixed(estimate.value, places) + interval(estimate.low, estimate.high, places)

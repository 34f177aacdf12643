"""The same range for the same quantity in every run, wider only where data lie outside."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from trainables.figures import style
from trainables.figures.style import AxisRange

LOSS = AxisRange(0.02, 2, "log")
KID = AxisRange(-10, 1000, "symlog", 10)
DISTANCE = AxisRange(0, 1, step=0.5)


@pytest.mark.parametrize(
    ("fixed", "values", "expected"),
    [
        (LOSS, [], (0.02, 2)),
        (LOSS, [0.02, 2], (0.02, 2)),
        (LOSS, [0.019, 2.1], (0.002, 20)),
        (LOSS, [0.3, 2000], (0.02, 2000)),
        (LOSS, [0, -1, math.nan, math.inf, 0.5], (0.02, 2)),
        (KID, [-10, 1000], (-10, 1000)),
        (KID, [-11, 1001], (-100, 10000)),
        (KID, [-3], (-10, 1000)),
        (DISTANCE, [0.2, 1.0], (0, 1)),
        (DISTANCE, [1.01], (0, 1.5)),
        (DISTANCE, [-0.6], (-1, 1)),
        (AxisRange(0, 1000, "symlog", 1), [0, 0.5, 999], (0, 1000)),
    ],
)
def test_a_range_grows_by_whole_steps_and_decades_only(
    fixed: AxisRange, values: list[float], expected: tuple[float, float]
) -> None:
    assert fixed.grow(values) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0001, "0.0001"), (0.02, "0.02"), (-10, "−10"), (100000, "100,000"), (1e-5, "$10^{-5}$")],
)
def test_ticks_are_written_as_short_as_they_go(value: float, text: str) -> None:
    assert style.plain(value) == text


def test_two_powers_of_ten_with_a_factor_are_told_apart() -> None:
    assert style.plain(2e-6) == "$2·10^{-6}$"
    assert style.plain(-3e7) == "−$3·10^{7}$"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0089591, "0.00896"), (-0.44, "−0.44"), (1521.4, "1,521"), (48.2, "48.2")]
)
def test_measurements_have_three_digits(value: float, text: str) -> None:
    assert style.short(value) == text


def test_a_symlog_axis_is_labelled_from_end_to_end() -> None:
    axes = style.new_figure(3).subplots()
    style.fix_range(axes, "y", KID, [5])
    assert [tick for tick in axes.get_yticks() if -10 <= tick <= 1000] == [-10, 0, 10, 100, 1000]
    assert axes.get_ylim() == (-10, 1000)


def test_unnamed_sets_get_looks_that_differ() -> None:
    looks = [style.look_of(name) for name in style.SETS] + [style.look_of("another", number) for number in range(3)]
    assert len(set(looks)) == len(looks)


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys, trainables.figures as f\n"
        "f.training_curves([], stage='vae')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0

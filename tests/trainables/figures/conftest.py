"""What the tests of figures look at: pixels, words, and whether the words can be read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

SMALLEST = 8.0


def rendered(figure: Figure) -> np.ndarray:
    """The pixels (H, W, 3) at 100 dots an inch."""
    file = io.BytesIO()
    figure.savefig(file, dpi=100)
    return np.asarray(Image.open(file).convert("RGB"))


def written(figure: Figure) -> list[Text]:
    """Every text that is seen; of tick labels those within the axis."""
    return [*figure.texts, *(text for axes in figure.axes for text in _texts(axes))]


def _texts(axes: Axes) -> Iterator[Text]:
    if axes.axison:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            if not axis.get_visible():
                continue
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            yield from (text for place, text in ticks if low <= place <= high and text.get_visible())
            yield axis.label
    yield axes.title
    yield from axes.texts
    legend = axes.get_legend()
    if legend:
        yield from legend.get_texts()


@pytest.fixture
def picture() -> Callable[[Figure], np.ndarray]:
    return rendered


@pytest.fixture
def words() -> Callable[[Figure], str]:
    """Everything that is written, joined by bars."""
    return lambda figure: " | ".join(text.get_text() for text in written(figure))


@pytest.fixture
def illegible() -> Callable[[Figure], list[str]]:
    """What cannot be read in a figure 900 pixels wide: texts that are small, cut off, or run into each other."""

    def found(figure: Figure) -> list[str]:
        assert rendered(figure).shape[1] == 900
        texts = [text for text in written(figure) if text.get_text().strip()]
        boxes = [text.get_window_extent() for text in texts]
        wrong = [f"small: {text.get_text()}" for text in texts if text.get_fontsize() < SMALLEST]
        for text, box in zip(texts, boxes, strict=True):
            if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1:
                wrong.append(f"cut off: {text.get_text()}")
        level = [(t, b) for t, b in zip(texts, boxes, strict=True) if t.get_rotation() in (0, 90)]
        for number, (text, box) in enumerate(level):
            for other, its_box in level[number + 1 :]:
                across = min(box.x1, its_box.x1) - max(box.x0, its_box.x0)
                up = min(box.y1, its_box.y1) - max(box.y0, its_box.y0)
                if across > 2 and up > 2:
                    wrong.append(f"overlapping: {text.get_text()} and {other.get_text()}")
        return wrong

    return found


@pytest.fixture
def slices() -> Callable[..., np.ndarray]:
    """Noise (N, side, side), the same every time."""
    return lambda count, side=16: np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)

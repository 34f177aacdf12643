"""Pictures of slices show the right ones, on one grey scale and one error scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from trainables import figures

Slices = Callable[..., np.ndarray]
Words = Callable[[Figure], str]
Illegible = Callable[[Figure], list[str]]


def shown(figure: Figure, colours: str) -> list[AxesImage]:
    """The pictures in these colours, row by row."""
    found = [image for axes in figure.axes for image in axes.get_images() if image.get_cmap().name == colours]
    return sorted(found, key=lambda image: (-round(image.get_window_extent().y1), image.get_window_extent().x0))


def heads(figure: Figure) -> list[Text]:
    """What stands above columns and panels."""
    above = (text for axes in figure.axes for text in axes.texts if text.get_gid() == "head")
    return [*above, *(axes.title for axes in figure.axes if axes.get_title())]


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in heads(figure)]


def test_an_image_grid_holds_the_images_unchanged(slices: Slices) -> None:
    images = slices(5)
    grid = np.asarray(figures.image_grid(images, 3))
    assert grid.shape == (2 * 18 - 2, 3 * 18 - 2)
    np.testing.assert_array_equal(grid[18:34, 18:34], images[4])
    assert (grid[18:34, 36:52] == 255).all()


def test_generated_beside_real_are_two_blocks_of_the_same_shape(slices: Slices) -> None:
    figure = figures.generated_beside_real(slices(3), slices(9), title="kaggle")
    left, right = shown(figure, "gray")
    assert left.get_array().shape == right.get_array().shape
    assert left.get_clim() == right.get_clim() == (0, 255)
    assert titles(figure) == ["Generated (3)", "Real (9)"]


def test_a_block_is_never_of_thumbnails_and_says_so(slices: Slices) -> None:
    figure = figures.generated_beside_real(slices(200), slices(40))
    assert titles(figure) == ["Generated (first 36 of 200)", "Real (first 36 of 40)"]
    np.testing.assert_array_equal(
        shown(figure, "gray")[0].get_array(), np.asarray(figures.image_grid(slices(200)[:36], 6))
    )


@pytest.mark.parametrize("counts", [(0, 4), (0, 0), (1, 1), (2, 3), (16, 16), (100, 7)])
@pytest.mark.parametrize("title", ["", "kaggle, threshold 0.05"])
def test_blocks_are_legible(counts: tuple[int, int], title: str, slices: Slices, illegible: Illegible) -> None:
    figure = figures.generated_beside_real(slices(counts[0]), slices(counts[1]), title=title)
    assert illegible(figure) == []


def test_reconstruction_errors_share_one_scale_in_signed_units(slices: Slices, words: Words) -> None:
    originals = slices(3)
    made = originals / 127.5 - 1
    made[1] = -made[1]
    figure = figures.reconstructions(originals, made, count=2)
    heats = shown(figure, "inferno")
    assert len(heats) == 2
    assert {heat.get_clim() for heat in heats} == {(0, figures.ERROR_RANGE)}
    np.testing.assert_allclose(heats[0].get_array(), 0, atol=1e-12)
    np.testing.assert_allclose(heats[1].get_array(), 2 * np.abs(originals[1] / 127.5 - 1))
    assert titles(figure)[0] == "RMS 0.000"
    assert "units of [-1, 1]" in words(figure)


def test_reconstructions_may_be_bytes_or_floats(slices: Slices) -> None:
    originals = slices(2)
    pictures = [figures.reconstructions(originals, made) for made in (originals, originals / 127.5 - 1)]
    for first, second in zip(*(shown(figure, "gray") for figure in pictures), strict=True):
        np.testing.assert_allclose(first.get_array(), second.get_array())


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 3, 8, 30])
def test_rows_of_images_are_legible(count: int, slices: Slices, illegible: Illegible) -> None:
    assert illegible(figures.reconstructions(slices(count), slices(count))) == []
    for threshold in (0.0, 2.0):
        distances = np.linspace(0.1, 1, count)
        assert illegible(figures.nearest_neighbours(slices(count), slices(count), distances, threshold)) == []


def test_neighbours_come_nearest_first_and_near_copies_are_named(slices: Slices, words: Words) -> None:
    generated, neighbours = slices(6), slices(6)[::-1]
    distances = np.array([0.5, 0.1, 0.4, 0.2, 0.3, 0.6])
    figure = figures.nearest_neighbours(generated, neighbours, distances, 0.2, count=4)
    assert titles(figure) == ["0.100\nnear copy", "0.200\nnear copy", "0.300\n ", "0.400\n "]
    assert "2 of 6 generated slices are near copies" in words(figure)
    rows = [image.get_array() for image in shown(figure, "gray")]
    for column, index in enumerate((1, 3, 4, 2)):
        np.testing.assert_array_equal(rows[column], generated[index])
        np.testing.assert_array_equal(rows[4 + column], neighbours[index])
        difference = np.abs(generated[index].astype(float) - neighbours[index]) / 127.5
        np.testing.assert_allclose(shown(figure, "inferno")[column].get_array(), difference)
    assert {heat.get_clim() for heat in shown(figure, "inferno")} == {(0, figures.ERROR_RANGE)}
    framed = [frame.get_bbox().bounds for frame in figure.axes[0].patches if isinstance(frame, Rectangle)]
    inches = figure.dpi_scale_trans.inverted()
    near = [image.get_window_extent().transformed(inches).bounds for image in shown(figure, "gray")]
    np.testing.assert_allclose(sorted(framed), sorted([*near[:2], *near[4:6]]))


@pytest.mark.parametrize("count", [0, 1, 8])
def test_a_trajectory_shows_latent_above_image_at_each_timestep_on_one_scale(
    count: int, slices: Slices, illegible: Illegible
) -> None:
    generator = np.random.default_rng(0)
    trajectory = [(1000 - 100 * t, generator.normal(size=(6, 4, 4)), slices(9)[t]) for t in range(count)]
    figure = figures.denoising_trajectory(trajectory)
    assert titles(figure) == [f"t = {1000 - 100 * t}" for t in range(count)]
    latents, images = shown(figure, "PuOr"), shown(figure, "gray")
    assert len(latents) == 4 * count
    assert {heat.get_clim() for heat in latents} == ({(-3, 3)} if count else set())
    for column, (_, latent, image) in enumerate(trajectory):
        np.testing.assert_array_equal(latents[column].get_array(), latent[0])
        np.testing.assert_array_equal(images[column].get_array(), image)
    assert illegible(figure) == []


@pytest.mark.slow
def test_a_long_trajectory_is_thinned_between_its_ends(slices: Slices, illegible: Illegible) -> None:
    figure = figures.denoising_trajectory([(t, np.zeros((2, 4, 4)), slices(1)[0]) for t in range(50, -1, -1)])
    assert len(titles(figure)) == 8
    assert titles(figure)[0] == "t = 50"
    assert titles(figure)[-1] == "t = 0"
    assert illegible(figure) == []


@pytest.mark.parametrize(("scale", "end"), [(0.0, 3), (4.0, 12)])
def test_the_latent_scale_is_three_or_whole_threes(scale: float, end: float, slices: Slices) -> None:
    latent = scale * np.random.default_rng(0).normal(size=(4, 16, 16))
    figure = figures.denoising_trajectory([(0, latent, slices(1)[0])])
    assert {heat.get_clim() for heat in shown(figure, "PuOr")} == {(-end, end)}


def test_lesions_are_outlined_in_the_pictures_of_slices_with_masks(slices: Slices) -> None:
    images = slices(4)
    masks = np.zeros_like(images)
    masks[:, 4:9, 4:9] = 255
    shown_slices = figures.outlined(images, masks)
    assert figures.outlined(images, None) is images
    red = (shown_slices == (255, 64, 64)).all(axis=-1)
    assert red.sum() == 4 * 16, "the border of 5×5 pixels"
    assert np.array_equal(shown_slices[~red], np.repeat(images[..., None], 3, axis=-1)[~red])
    assert np.asarray(figures.image_grid(shown_slices)).shape[2] == 3
    for figure in (
        figures.generated_beside_real(shown_slices, shown_slices),
        figures.reconstructions(images, images, masks=(masks, masks)),
    ):
        pictures = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]
        assert sum(picture.ndim == 3 and bool((picture[..., 0] > picture[..., 1]).any()) for picture in pictures) >= 2

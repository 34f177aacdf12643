"""Distances between two sets of features, Fréchet (FID) and kernel (KID), and how sure they are.

Legend: n, m images; d features (2048 for Inception); G groups (subjects). Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from trainables.errors import DataError

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]

NORMAL_QUANTILE = 1.959964
"""How many standard deviations on both sides of its mean hold 95 % of a normal distribution."""


class WithinKernel(NamedTuple):
    """The kernels of one set's images with each other, by pairs of ``groups``; :func:`kernel_within_groups`.

    ``sizes`` are the groups' numbers of images, ``sums`` (G, G) over the pairs of different images, and ``pairs``
    (G, G) how many pairs there are.
    """

    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    sums: Floats
    pairs: Floats

    def resampled(self, draws: Floats) -> Floats:
        """Mean over the pairs of different images of each resample, (R,), of groups drawn so often, (R, G).

        Pairs of two groups count as often as both were drawn together, pairs inside a group as often as it was drawn.
        """
        totals = []
        for matrix in (self.sums, self.pairs):
            inside = np.diag(matrix)
            apart = matrix - np.diag(inside)
            totals.append(np.einsum("rg,gh,rh->r", draws, apart, draws, optimize=True) + draws @ inside)
        return np.asarray(totals[0] / totals[1])


def frechet_distance(x: Features, y: Features) -> float:
    """Fréchet distance between Gaussians fitted to ``x`` (n, d) and ``y`` (m, d); 0 or more.

    Heusel et al. 2017: ‖μ₁ - μ₂‖² + tr Σ₁ + tr Σ₂ - 2 tr √(Σ₁Σ₂). With centred features X and Y, Σ₁ = XᵀX/(n-1)
    and Σ₂ = YᵀY/(m-1), the last trace is the nuclear norm of XYᵀ over √((n-1)(m-1)): exact for any number of
    images, also where there are fewer than features, and quick, because XYᵀ is only n×m. A set of more images than
    features is replaced by the triangle R of its QR decomposition, which leaves the singular values as they are.

    Raises :class:`DataError` for fewer than 2 images on a side, other than finite features or different d.
    """
    first, second = checked_features(x, y, "the Fréchet distance")
    offset = first.mean(axis=0) - second.mean(axis=0)
    first = first - first.mean(axis=0)
    second = second - second.mean(axis=0)
    n, m = len(first) - 1, len(second) - 1
    shared = np.linalg.svd(_reduced(first) @ _reduced(second).T, compute_uv=False).sum() / np.sqrt(n * m)
    distance = offset @ offset + np.sum(first**2) / n + np.sum(second**2) / m - 2 * shared
    return max(0.0, float(distance))


def kernel_distance(x: Features, y: Features) -> float:
    """Kernel distance between ``x`` (n, d) and ``y`` (m, d): the KID, not yet multiplied by 1000.

    Bińkowski et al. 2018: the unbiased squared maximum mean discrepancy under the kernel (x·y/d + 1)³, over all
    images and not over random subsets; below zero by chance where the sets are alike.

    Raises :class:`DataError` as :func:`frechet_distance` does.
    """
    first, second = checked_features(x, y, "the kernel distance")
    n, m = len(first), len(second)
    within_x, within_y = _kernel(first, first), _kernel(second, second)
    alike = (within_x.sum() - np.trace(within_x)) / (n * (n - 1)) + (within_y.sum() - np.trace(within_y)) / (
        m * (m - 1)
    )
    return float(alike - 2 * _kernel(first, second).mean())


def kernel_by_group(x: Features, y: Features, groups: Sequence[str]) -> dict[str, tuple[float, int]]:
    """For each group of ``y`` (m, d): the sum over its images of their mean kernel with ``x``, and their number.

    Twice the sum over the number is what is subtracted in :func:`kernel_distance`; kept by subject, it says how the
    difference of two generators' distances would change with other subjects.
    """
    first, second = checked_features(x, y, "the kernel by group")
    means = _kernel(first, second).mean(axis=0)
    codes = np.asarray(groups)
    return {name: (float(means[codes == name].sum()), int((codes == name).sum())) for name in dict.fromkeys(groups)}


def kernel_within_groups(y: Features, groups: Sequence[str]) -> WithinKernel:
    """The kernels of the images of ``y`` (m, d) with each other, by pairs of groups in order of appearance.

    The mean over all pairs is what :func:`kernel_distance` has of ``y`` alone; by subject, it says how the distance
    itself would change with other subjects. Raises :class:`DataError` as :func:`kernel_by_group` does.
    """
    features, _ = checked_features(y, y, "the kernel within groups")
    names = tuple(dict.fromkeys(groups))
    codes = np.asarray([names.index(name) for name in groups])
    sizes = tuple(int(count) for count in np.bincount(codes))
    return WithinKernel(names, sizes, *_within(_kernel(features, features), codes))


def bootstrap_error(
    x: Features,
    y: Features,
    *,
    resamples: int,
    seed: int,
    groups_x: Sequence[str] | None = None,
    groups_y: Sequence[str] | None = None,
) -> float:
    """Bootstrap standard error of :func:`kernel_distance`, in its units: the spread of :func:`bootstrap_distances`.

    Where both sets follow one distribution the discrepancy is degenerate and the error comes out about 1.7 times too
    large, on Gaussians and on real slices, which errs on the side of calling two scores equal; where they differ
    clearly it is right. With fewer than about five groups on a side it is too small.

    Measured on 865 real FLAIR slices of 70 subjects, 200 against 200, on 200 random splits, KID ×1000. Split by slice
    the distance is 0.0 ± 0.4, the error 0.7 on average, and the 95 % :func:`interval` holds 0 always. Split by
    subject it is 3.4 ± 1.6, since the slices of a subject are alike and pair within a set alone; the error by subject
    is 2.8, and the interval holds 0 in 97 % of the splits. The error by image, 1.2, would hold it in a tenth.
    """
    distances = bootstrap_distances(x, y, resamples=resamples, seed=seed, groups_x=groups_x, groups_y=groups_y)
    return float(np.std(distances, ddof=1))


def bootstrap_distances(
    x: Features,
    y: Features,
    *,
    resamples: int,
    seed: int,
    groups_x: Sequence[str] | None = None,
    groups_y: Sequence[str] | None = None,
) -> Floats:
    """:func:`kernel_distance` of each of ``resamples`` resamples of both sets, (resamples,).

    Groups are resampled whole: give the subjects of real slices, since slices of one subject are not independent;
    without groups, or with a single one, each image is its own group. A pair made of two copies of the same
    group is left out of the means, because a kernel of an image with itself would bias the discrepancy, and a
    resample that holds one group alone, and so no pair, is drawn again.

    Raises :class:`DataError` as :func:`frechet_distance` does, and for groups of another length than the features.
    """
    first, second = checked_features(x, y, "the bootstrap of the kernel distance")
    generator = np.random.default_rng(seed)
    codes_x, codes_y = _group_codes(groups_x, len(first)), _group_codes(groups_y, len(second))
    draws_x, draws_y = (_draws(codes, resamples, generator) for codes in (codes_x, codes_y))

    mean_x = _resampled_within(_kernel(first, first), codes_x, draws_x)
    mean_y = _resampled_within(_kernel(second, second), codes_y, draws_y)
    cross = _sums_by_group(_kernel(first, second), codes_x, codes_y)
    images = (draws_x @ np.bincount(codes_x)) * (draws_y @ np.bincount(codes_y))
    mean_cross = np.einsum("rg,gh,rh->r", draws_x, cross, draws_y, optimize=True) / images
    return np.asarray(mean_x + mean_y - 2 * mean_cross)


def bootstrap_frechet(
    x: Features,
    y: Features,
    *,
    resamples: int,
    seed: int,
    groups_x: Sequence[str] | None = None,
    groups_y: Sequence[str] | None = None,
) -> Floats:
    """:func:`frechet_distance` of each of ``resamples`` resamples of both sets, (resamples,).

    Groups are resampled whole, as :func:`bootstrap_distances` has it. Only the spread is of use: repeated images
    lower the rank of a covariance, and the Fréchet distance of a resample is larger than that of the sets. The
    features are multiplied once; a resample then costs one decomposition of the images that were drawn.

    Raises :class:`DataError` as :func:`bootstrap_distances` does.
    """
    first, second = checked_features(x, y, "the bootstrap of the Fréchet distance")
    generator = np.random.default_rng(seed)
    codes_x, codes_y = _group_codes(groups_x, len(first)), _group_codes(groups_y, len(second))
    draws_x, draws_y = (_draws(codes, resamples, generator) for codes in (codes_x, codes_y))
    centre = first.mean(axis=0)
    first, second = first - centre, second - centre
    within_x, within_y, cross = first @ first.T, second @ second.T, first @ second.T
    with threadpool_limits(1, user_api="blas"):  # on a busy machine threads make small decompositions much slower
        distances = [
            _weighted_frechet(within_x, within_y, cross, counts_x[codes_x], counts_y[codes_y])
            for counts_x, counts_y in zip(draws_x, draws_y, strict=True)
        ]
    return np.asarray(distances)


def interval(estimate: float, draws: Floats) -> tuple[float, float]:
    """The 95 % normal interval around ``estimate``: 1.96 standard deviations of its bootstrap ``draws`` to each side.

    Not the percentiles of the draws: a resample repeats images, which shifts the Fréchet distance up by more than its
    spread, and not the estimate with it, so that percentiles would leave the estimate outside. The interval tells of
    the images that happened to be drawn, not of the bias that a Fréchet distance of few images has.
    """
    reach = NORMAL_QUANTILE * float(np.std(draws, ddof=1))
    return estimate - reach, estimate + reach


def checked_features(x: Features, y: Features, what: str) -> tuple[Floats, Floats]:
    """Both sets in float64; raises :class:`DataError` as :func:`frechet_distance` does, in the name of ``what``."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(f"{what} needs features (n, d) and (m, d), got {x.shape} and {y.shape}: use one extractor")
    if min(len(x), len(y)) < 2:
        raise DataError(f"{what} needs at least 2 images on each side, got {len(x)} and {len(y)}: give more images")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"{what} needs finite features, got NaN or infinity: look for broken images")
    return x.astype(np.float64), y.astype(np.float64)


def _reduced(rows: Floats) -> Floats:
    """At most d rows with the inner products of the columns of ``rows`` (n, d)."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))


def _kernel(x: Floats, y: Floats) -> Floats:
    """The polynomial kernel (x·y/d + 1)³, (n, m)."""
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _group_codes(groups: Sequence[str] | None, count: int) -> npt.NDArray[np.intp]:
    """A number from 0 for the group of each of ``count`` images."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise DataError(f"groups name one group for each of {count} images, got {len(groups)}")
    codes = {name: code for code, name in enumerate(dict.fromkeys(groups))}  # pseudonyms differ, their order doesn't
    return np.asarray([codes[name] for name in groups]) if len(codes) > 1 else np.arange(count)


def _draws(codes: npt.NDArray[np.intp], resamples: int, generator: np.random.Generator) -> Floats:
    """How often each group is in each resample (R, G): as many groups as there are, and never one alone."""
    count = int(codes.max()) + 1
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    while len(alone := np.flatnonzero((drawn > 0).sum(axis=1) < 2)):
        drawn[alone] = generator.multinomial(count, np.full(count, 1 / count), size=len(alone))
    return drawn.astype(np.float64)


def _sums_by_group(kernel: Floats, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Floats:
    """Sums of ``kernel`` (n, m) over each pair of groups, (G, H)."""
    by_row = np.zeros((int(rows.max()) + 1, kernel.shape[1]))
    np.add.at(by_row, rows, kernel)
    sums = np.zeros((int(columns.max()) + 1, len(by_row)))
    np.add.at(sums, columns, by_row.T)
    return sums.T


def _resampled_within(kernel: Floats, codes: npt.NDArray[np.intp], draws: Floats) -> Floats:
    """Mean of ``kernel`` (n, n) over the pairs of different images of each resample, (R,).

    Which pairs count is said at :meth:`WithinKernel.resampled`.
    """
    return WithinKernel((), (), *_within(kernel, codes)).resampled(draws)


def _within(kernel: Floats, codes: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Sums of ``kernel`` (n, n) over the pairs of different images by pair of groups, and their numbers, (G, G)."""
    apart = 1 - np.eye(len(kernel))
    return _sums_by_group(kernel * apart, codes, codes), _sums_by_group(apart, codes, codes)


def _weighted_frechet(within_x: Floats, within_y: Floats, cross: Floats, w: Floats, v: Floats) -> float:
    """The Fréchet distance of features repeated ``w`` (n,) and ``v`` (m,) times, from their inner products.

    X Xᵀ (n, n), Y Yᵀ (m, m) and X Yᵀ (n, m); a row that is repeated w times counts once, times √w.
    """
    drawn_x, drawn_y = w > 0, v > 0
    w, v = w[drawn_x], v[drawn_y]
    within_x, within_y = within_x[np.ix_(drawn_x, drawn_x)], within_y[np.ix_(drawn_y, drawn_y)]
    cross = cross[np.ix_(drawn_x, drawn_y)]
    n, m = w.sum(), v.sum()
    norm_x, norm_y, inner = w @ within_x @ w / n**2, v @ within_y @ v / m**2, w @ cross @ v / (n * m)
    centred = cross - (w @ cross / n)[None, :] - (cross @ v / m)[:, None] + inner
    shared = np.linalg.svd(np.sqrt(w)[:, None] * centred * np.sqrt(v), compute_uv=False).sum()
    trace_x = (w @ np.diag(within_x) - n * norm_x) / (n - 1)
    trace_y = (v @ np.diag(within_y) - m * norm_y) / (m - 1)
    distance = norm_x + norm_y - 2 * inner + trace_x + trace_y - 2 * shared / np.sqrt((n - 1) * (m - 1))
    return max(0.0, float(distance))

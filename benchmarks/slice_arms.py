"""Arms made of real slices: sets like those that a denoiser would draw, whose true KID is known.

An arm is a pool of slices of some subjects, a share of them blurred. A seed of it favours some of these subjects and
moves all features along principal directions of the real ones; its images are drawn from what comes of that. Real
slices are of other subjects, drawn whole and with replacement, so that the subjects of a study are a sample of a
population that is known. None of this is a model that our estimators assume.

Legend: n slices, P of them in the pool, H held out, of G subjects; k directions; R seeds of an arm; N images of a
seed. A kernel is (x·y/d + 1)³; a seed's shift a (k,) adds a·s to each feature, s the directions times their standard
deviations. KID is ×1000. An image has a position in (0 … 2P − 1): P and above are the pool's slices when blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from trainables.errors import ConfigError
from trainables.measures.distances import WithinKernel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]

DIRECTIONS = 8
FAVOURED = 0.3
"""The chance of a subject to be favoured by a seed."""
FAVOUR = 2.0
"""How much more a favoured subject's slices weigh at spread 1."""
SHIFT = 0.3
"""Standard deviation of a shift at spread 1, in standard deviations of the real features along each direction."""
FEW = 6
"""Slices that a seed which collapsed draws from."""
BLOCK = 1000
"""Seeds whose kernels are summed at once."""


class Seeds(NamedTuple):
    """What R trainings of an arm came to."""

    slices: Floats
    """(R, P), the probability of each slice of the pool."""
    shares: Floats
    """(R,), how many of the images are blurred."""
    shifts: Floats
    """(R, k)."""
    collapsed: npt.NDArray[np.bool_]
    """(R,)."""


@dataclass(frozen=True)
class Arm:
    """``share`` of its images are blurred; ``spread`` scales what its seeds differ by.

    A seed collapses with the chance ``collapses``: it draws from :data:`FEW` slices alone, or all are blurred.
    """

    share: float
    spread: float
    collapses: float = 0.0


class Parts(NamedTuple):
    """What the true KID of R seeds is made of, for any share of blurred images."""

    alike: Floats
    """(3, R), mean kernels of two plain images, of a plain and a blurred one, of two blurred ones."""
    sums: Floats
    """(2, R, G), of a plain, a blurred image: sums of its kernel with the slices of each held-out subject."""


@dataclass(frozen=True)
class World:
    """Slices of a pool and of held-out subjects by their features' inner products over d."""

    pool: Floats
    """(2P, 2P)."""
    cross: Floats
    """(2P, H)."""
    held: Floats
    """(H, H)."""
    pool_along: Floats
    """(2P, k), with the directions."""
    held_along: Floats
    """(H, k)."""
    lengths: Floats
    """(k,), of the directions with themselves."""
    pool_subjects: Positions
    """(P,), a number from 0 for each slice's subject."""
    held_subjects: Positions
    """(H,)."""

    @cached_property
    def sizes(self) -> Floats:
        """(G,), how many slices each held-out subject has."""
        return np.bincount(self.held_subjects).astype(np.float64)

    @cached_property
    def real(self) -> Floats:
        """(G, G), sums of the kernel over the slices of two held-out subjects, the diagonal of each included."""
        return self._by_subject(self._by_subject((self.held + 1) ** 3).T)

    @cached_property
    def _powers(self) -> tuple[list[Singles], list[Singles]]:
        bases = (self.pool + 1).astype(np.float32), (self.cross + 1).astype(np.float32)
        first, second = ([base, base * base, base * base * base] for base in bases)
        return first, second

    def seeds(self, arm: Arm, count: int, generator: np.random.Generator) -> Seeds:
        """``count`` seeds of an arm; the same generator gives arms of other shares and spreads the same ones."""
        subjects = int(self.pool_subjects.max()) + 1
        favoured = generator.random((count, subjects)) < FAVOURED
        shifts = SHIFT * arm.spread * generator.standard_normal((count, len(self.lengths)))
        collapsed = generator.random(count) < arm.collapses
        of_few = collapsed & (generator.random(count) < 0.5)
        few = np.argsort(generator.random((count, len(self.pool_subjects))), axis=1)[:, :FEW]
        slices = (1 + FAVOUR * arm.spread * favoured)[:, self.pool_subjects]
        chosen = np.zeros_like(slices)
        np.put_along_axis(chosen, few, 1.0, axis=1)
        slices = np.where(of_few[:, None], chosen, slices)
        shares = np.where(collapsed & ~of_few, 1.0, arm.share)
        return Seeds(slices / slices.sum(axis=1, keepdims=True), shares, shifts, collapsed)

    def images(self, seeds: Seeds, noise: Floats) -> Positions:
        """Positions of N images of each seed, (R, N), by uniform ``noise`` (R, N, 2): of the same noise, alike."""
        ends = np.cumsum(seeds.slices, axis=1)
        last = ends.shape[1] - 1
        found = np.stack([np.searchsorted(row, draw) for row, draw in zip(ends, noise[..., 0], strict=True)])
        return np.minimum(found, last) + ends.shape[1] * (noise[..., 1] < seeds.shares[:, None])

    def measure(self, seeds: Seeds, positions: Positions) -> tuple[Floats, Floats]:
        """Of each seed's images: the mean kernel over pairs of them, (R,), and S_g by held-out subject, (R, G).

        S_g is the sum over the subject's slices of their mean kernel with the images.
        """
        rows, count = positions.shape
        weights = np.zeros((rows, len(self.pool)))
        np.add.at(weights, (np.arange(rows)[:, None], positions), 1.0)
        alike, cross = self._sums(weights, seeds.shifts)
        moved = self._moved(seeds.shifts)
        own = (np.diag(self.pool) + 2 * moved[0] + moved[1][:, None] + 1) ** 3
        alike = (alike - (weights * own).sum(axis=1)) / (count * (count - 1))
        return alike, self._by_subject(cross.T).T / count

    def kid(self, alike: Floats, sums: Floats, drawn: Positions) -> Floats:
        """KID ×1000 of what :meth:`measure` found, against the held-out subjects ``drawn`` (…, g), each a subject.

        ``alike`` (…), ``sums`` (…, G). Pairs of real slices of one drawn subject are left out.
        """
        sizes = self.sizes[drawn]
        totals = sizes.sum(axis=-1)
        blocks = self.real[drawn[..., :, None], drawn[..., None, :]]
        apart = blocks.sum(axis=(-1, -2)) - np.trace(blocks, axis1=-2, axis2=-1)
        real = apart / (totals**2 - (sizes**2).sum(axis=-1))
        return 1000 * (alike + real - 2 * np.take_along_axis(sums, drawn, axis=-1).sum(axis=-1) / totals)

    def truth(self, seeds: Seeds) -> Floats:
        """The KID ×1000 of each seed, (R,), of endlessly many images against endlessly many held-out subjects."""
        share = seeds.shares[:, None]
        alike, cross = self._sums(np.hstack([(1 - share) * seeds.slices, share * seeds.slices]), seeds.shifts)
        return 1000 * (alike + self.real.sum() / self.sizes.sum() ** 2 - 2 * cross.mean(axis=1))

    def tune(self, levels: Sequence[float], deviation: float, *, seeds: int = 200) -> list[Arm]:
        """An arm for each of ``levels``, the geometric mean of its seeds' true KID ×1000; all of one spread.

        ``deviation`` is that of log KID between the seeds of the first. Raises :class:`ConfigError` for a level that
        these slices don't reach.
        """
        spread, parts = 5 * deviation, None
        for _ in range(4):
            parts = self.parts(self.seeds(Arm(0.0, spread), seeds, np.random.default_rng(0)))
            found = np.std(np.log(self.mixed(parts, self._share(parts, levels[0]))), ddof=1)
            if abs(found / deviation - 1) < 0.01:
                break
            spread *= deviation / float(found)
        assert parts is not None
        return [Arm(self._share(parts, level), spread) for level in levels]

    def fit(self, seeds: Seeds, level: float) -> Seeds:
        """The same seeds, all with the share of blurred images at which their KID's geometric mean is ``level``."""
        return seeds._replace(shares=np.full_like(seeds.shares, self._share(self.parts(seeds), level)))

    def within(self, drawn: Positions) -> WithinKernel:
        """The kernels of the real slices of the subjects ``drawn`` (g,), in the order and with the names of a run."""
        names = tuple(map(str, range(len(drawn))))
        sizes = tuple(int(size) for size in self.sizes[drawn])
        pairs = np.outer(sizes, sizes).astype(np.float64)
        sums = self.real[np.ix_(drawn, drawn)].copy()
        np.fill_diagonal(sums, 0.0)
        np.fill_diagonal(pairs, 0.0)
        return WithinKernel(names, sizes, sums, pairs)

    def kernels(self, positions: Positions, shift: Floats) -> tuple[Floats, Floats]:
        """The kernels of one seed's images (N,) with each other, (N, N), and with all held-out slices, (N, H)."""
        along = self.pool_along[positions] @ shift
        with_itself = self.pool[np.ix_(positions, positions)] + along[:, None] + along + shift**2 @ self.lengths
        return (with_itself + 1) ** 3, (self.cross[positions] + self.held_along @ shift + 1) ** 3

    def parts(self, seeds: Seeds) -> Parts:
        """Of the seeds' plain images and of their blurred ones."""
        none = np.zeros_like(seeds.slices)
        weights = np.hstack([seeds.slices, none]), np.hstack([none, seeds.slices])
        plain, blurred, both = (self._sums(each, seeds.shifts) for each in (*weights, weights[0] + weights[1]))
        alike = np.stack([plain[0], (both[0] - plain[0] - blurred[0]) / 2, blurred[0]])
        return Parts(alike, np.stack([self._by_subject(each[1].T).T for each in (plain, blurred)]))

    def mixed(self, parts: Parts, share: float) -> Floats:
        """The true KID ×1000 of seeds of whose images this share is blurred, (R,)."""
        alike, sums = mix(parts, share)
        total = self.sizes.sum()
        return np.asarray(1000 * (alike + self.real.sum() / total**2 - 2 * sums.sum(axis=-1) / total))

    def _share(self, parts: Parts, level: float) -> float:
        """The share at which the geometric mean of the seeds' KID is ``level``."""

        def excess(share: float) -> float:
            return float(np.log(np.maximum(self.mixed(parts, share), 1e-3)).mean() - np.log(level))

        low, high = excess(0.0), excess(1.0)
        if not low < 0 < high:
            reached = f"{level * np.exp(low):.0f} to {level * np.exp(high):.0f}"
            raise ConfigError(
                f"arms of these slices have a KID of {reached}, got {level:.0f}: ask for one in between"
            )
        return float(brentq(excess, 0.0, 1.0, xtol=1e-6))

    def _moved(self, shifts: Floats) -> tuple[Floats, Floats]:
        """What a shift adds to the inner products: of an image with any other, (R, 2P), and once a pair, (R,)."""
        return shifts @ self.pool_along.T, shifts**2 @ self.lengths

    def _sums(self, weights: Floats, shifts: Floats) -> tuple[Floats, Floats]:
        """Σ w_i w_j k(x_i, x_j), (R,), and Σ w_i k(x_i, y), (R, H), of shifted images weighing ``weights`` (R, 2P).

        With an image's inner products c + s_i + s_j + t, the cube is expanded in powers of c, so that all sums are
        products with matrices that don't depend on the seed. They are taken in single precision, which a KID ×1000
        feels in its third decimal.
        """
        blocks = [self._block(weights[i : i + BLOCK], shifts[i : i + BLOCK]) for i in range(0, len(weights), BLOCK)]
        return np.concatenate([each[0] for each in blocks]), np.concatenate([each[1] for each in blocks])

    def _block(self, weights: Floats, shifts: Floats) -> tuple[Floats, Floats]:
        (c1, c2, c3), (d1, d2, d3) = self._powers
        s, t = self._moved(shifts)
        total, moved, moved2 = weights.sum(axis=1), weights * s, weights * s**2
        w, ws = weights.astype(np.float32), moved.astype(np.float32)

        def paired(first: Singles, second: Floats) -> Floats:
            return np.asarray(np.einsum("ri,ri->r", first, second))

        wc1, wc2 = w @ c1, w @ c2
        square = 2 * paired(wc1, moved2) + 2 * paired(ws @ c1, moved)
        square += 4 * t * paired(wc1, moved) + t**2 * paired(wc1, weights)
        first, second, third = moved.sum(axis=1), moved2.sum(axis=1), (weights * s**3).sum(axis=1)
        cube = 2 * third * total + 6 * second * first + 3 * t * (2 * second * total + 2 * first**2)
        cube += 6 * t**2 * first * total + t**3 * total**2
        linear = 2 * paired(wc2, moved) + t * paired(wc2, weights)
        r = shifts @ self.held_along.T
        cross = w @ d3 + 3 * (w @ d2) * r + 3 * (w @ d1) * r**2 + total[:, None] * r**3
        return paired(w @ c3, weights) + 3 * linear + 3 * square + cube, cross

    def _by_subject(self, rows: Floats) -> Floats:
        """Sums over the slices of each held-out subject of the rows (H, …), (G, …)."""
        sums = np.zeros((len(self.sizes), *rows.shape[1:]))
        np.add.at(sums, self.held_subjects, rows)
        return sums


@dataclass(frozen=True)
class Bank:
    """Features (n, d) of n real slices, of the same slices blurred, and a number from 0 for each subject (n,)."""

    real: Floats
    blurred: Floats
    subjects: Positions

    @cached_property
    def directions(self) -> Floats:
        """The first principal directions of the real features, each as long as their standard deviation, (k, d)."""
        centred = self.real - self.real.mean(axis=0)
        _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
        return np.asarray(axes[:DIRECTIONS] * (lengths[:DIRECTIONS, None] / np.sqrt(len(centred))))

    def world(self, seed: int, *, skewed: bool = False) -> World:
        """Half of the subjects, by ``seed``, as the pool of arms, the others held out.

        ``skewed``: of the held-out ones four in five keep 4 slices alone, so that few subjects have most slices.
        """
        generator = np.random.default_rng(seed)
        names = generator.permutation(int(self.subjects.max()) + 1)
        first, second = names[: len(names) // 2], names[len(names) // 2 :]
        pool = np.flatnonzero(np.isin(self.subjects, first))
        held = np.flatnonzero(np.isin(self.subjects, second))
        if skewed:
            keep = {name: None if i % 5 == 0 else 4 for i, name in enumerate(second)}
            held = np.concatenate([np.flatnonzero(self.subjects == name)[: keep[name]] for name in second])
        d, directions = self.real.shape[1], self.directions
        images, real = np.concatenate([self.real[pool], self.blurred[pool]]), self.real[held]
        return World(
            images @ images.T / d,
            images @ real.T / d,
            real @ real.T / d,
            images @ directions.T / d,
            real @ directions.T / d,
            (directions**2).sum(axis=1) / d,
            np.unique(self.subjects[pool], return_inverse=True)[1],
            np.unique(self.subjects[held], return_inverse=True)[1],
        )


def mix(parts: Parts, share: float) -> tuple[Floats, Floats]:
    """Mean kernels of two images, (R,), and sums with each subject's slices, (R, G), where a share is blurred."""
    plain, blurred = 1 - share, share
    alike = plain**2 * parts.alike[0] + 2 * plain * blurred * parts.alike[1] + blurred**2 * parts.alike[2]
    return alike, plain * parts.sums[0] + blurred * parts.sums[1]

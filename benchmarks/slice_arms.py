"""Arms made of real slices: sets like those that a denoiser would draw, whose true KID is known.

An arm is a pool of slices of some subjects, whose features are moved some way in the direction in which a blur moves
them. A seed of it favours some of these subjects and moves all features along principal directions of the real ones;
its images are drawn from what comes of that. Real slices are of other subjects, drawn whole and with replacement, so
that the subjects of a study are a sample of a population that is known. Our estimators assume none of this.

Legend: n slices, P of them in the pool, H held out, of G subjects; k directions; R seeds of an arm; N images of a
seed. A kernel is (x·y/d + 1)³; a seed's shift a (k,) adds a·s to each feature, s the directions times their standard
deviations. KID is ×1000. An image has the position of its slice in the pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
FARTHEST = 4.0
"""How many times as far as the blur an arm's features are moved at most."""
BLOCK = 1000
"""Seeds whose kernels are summed at once."""


class Seeds(NamedTuple):
    """What R trainings of an arm came to."""

    slices: Floats
    """(R, P), the probability of each slice of the pool."""
    strengths: Floats
    """(R,), how far the features are moved, 1 as far as the blur does."""
    shifts: Floats
    """(R, k)."""
    collapsed: npt.NDArray[np.bool_]
    """(R,)."""


@dataclass(frozen=True)
class Arm:
    """Its features are moved by ``strength`` times the blur; ``spread`` scales what its seeds differ by.

    A seed collapses with the chance ``collapses``: it draws from :data:`FEW` slices alone, or is moved twice as far.
    """

    strength: float
    spread: float
    collapses: float = 0.0


class Moved(NamedTuple):
    """Inner products over d of the pool's slices that were moved by one strength, and powers of one more."""

    pool: Floats
    """(P, P)."""
    cross: Floats
    """(P, H)."""
    along: Floats
    """(P, k), with the directions."""
    within: list[Singles]
    between: list[Singles]
    """The first three powers."""


@dataclass(frozen=True, eq=False)
class World:
    """Slices of a pool and of held-out subjects by their features' inner products over d.

    The pool's features are x + c·δ, δ the way of the blur: their inner products are polynomials in c, from c⁰ on.
    """

    pool: Floats
    """(3, P, P)."""
    cross: Floats
    """(2, P, H)."""
    held: Floats
    """(H, H)."""
    pool_along: Floats
    """(2, P, k), with the directions."""
    held_along: Floats
    """(H, k)."""
    lengths: Floats
    """(k,), of the directions with themselves."""
    pool_subjects: Positions
    """(P,), a number from 0 for each slice's subject."""
    held_subjects: Positions
    """(H,)."""
    _kept: dict[float, Moved] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> Floats:
        """(G,), how many slices each held-out subject has."""
        return np.bincount(self.held_subjects).astype(np.float64)

    @cached_property
    def real(self) -> Floats:
        """(G, G), sums of the kernel over the slices of two held-out subjects, the diagonal of each included."""
        return self._by_subject(self._by_subject((self.held + 1) ** 3).T)

    def moved(self, strength: float) -> Moved:
        """The pool moved so far."""
        if strength not in self._kept:
            powers = strength ** np.arange(3.0)
            pool, cross = np.tensordot(powers, self.pool, 1), np.tensordot(powers[:2], self.cross, 1)
            bases = ((each + 1).astype(np.float32) for each in (pool, cross))
            within, between = ([base, base * base, base * base * base] for base in bases)
            along = np.tensordot(powers[:2], self.pool_along, 1)
            if len(self._kept) > 100:
                self._kept.clear()
            self._kept[strength] = Moved(pool, cross, along, within, between)
        return self._kept[strength]

    def seeds(self, arm: Arm, count: int, generator: np.random.Generator) -> Seeds:
        """``count`` seeds of an arm; the same generator gives arms of other strengths and spreads the same ones."""
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
        strengths = np.where(collapsed & ~of_few, 2 * arm.strength, arm.strength)
        return Seeds(slices / slices.sum(axis=1, keepdims=True), strengths, shifts, collapsed)

    def images(self, seeds: Seeds, noise: Floats) -> Positions:
        """Positions of N images of each seed, (R, N), by uniform ``noise`` (R, N): of the same noise, alike."""
        ends = np.cumsum(seeds.slices, axis=1)
        found = np.stack([np.searchsorted(row, draw) for row, draw in zip(ends, noise, strict=True)])
        return np.minimum(found, ends.shape[1] - 1)

    def measure(self, seeds: Seeds, positions: Positions) -> tuple[Floats, Floats]:
        """Of each seed's images: the mean kernel over pairs of them, (R,), and S_g by held-out subject, (R, G).

        S_g is the sum over the subject's slices of their mean kernel with the images.
        """
        rows, count = positions.shape
        weights = np.zeros_like(seeds.slices)
        np.add.at(weights, (np.arange(rows)[:, None], positions), 1.0)
        alike, own, sums = self._sums(weights, seeds)
        return (alike - own) / (count * (count - 1)), sums / count

    def expected(self, seeds: Seeds) -> tuple[Floats, Floats]:
        """What :meth:`measure` finds of endlessly many images."""
        alike, _, sums = self._sums(seeds.slices, seeds)
        return alike, sums

    def kid(self, alike: Floats, sums: Floats, drawn: Positions) -> Floats:
        """KID ×1000 of what :meth:`measure` found, against the held-out subjects ``drawn`` (g,), each a subject.

        ``alike`` (…), ``sums`` (…, G). Pairs of real slices of one drawn subject are left out.
        """
        sizes, blocks = self.sizes[drawn], self.real[np.ix_(drawn, drawn)]
        real = (blocks.sum() - np.trace(blocks)) / (sizes.sum() ** 2 - (sizes**2).sum())
        return np.asarray(1000 * (alike + real - 2 * sums[..., drawn].sum(axis=-1) / sizes.sum()))

    def kid_of_all(self, alike: Floats, sums: Floats) -> Floats:
        """The same against endlessly many subjects."""
        total = self.sizes.sum()
        return np.asarray(1000 * (alike + self.real.sum() / total**2 - 2 * sums.sum(axis=-1) / total))

    def truth(self, seeds: Seeds) -> Floats:
        """The KID ×1000 of each seed, (R,), of endlessly many images against endlessly many held-out subjects."""
        return self.kid_of_all(*self.expected(seeds))

    def tune(self, levels: Sequence[float], deviation: float, *, seeds: int = 200) -> list[Arm]:
        """An arm for each of ``levels``, the geometric mean of its seeds' true KID ×1000; all of one spread.

        ``deviation`` is that of log KID between the seeds of the first. Raises :class:`ConfigError` for a level that
        these slices don't reach.
        """
        spread = 5 * deviation
        for _ in range(4):
            drawn = self.seeds(Arm(0.0, spread), seeds, np.random.default_rng(0))
            found = float(np.std(np.log(self.truth(self.fit(drawn, levels[0]))), ddof=1))
            if abs(found / deviation - 1) < 0.02:
                break
            spread *= deviation / found
        return [Arm(float(self.fit(drawn, level).strengths[0]), spread) for level in levels]

    def fit(self, seeds: Seeds, level: float) -> Seeds:
        """The same seeds, all moved as far as makes the geometric mean of their true KIDs ``level``."""

        def moved(strength: float) -> Seeds:
            return seeds._replace(strengths=np.full_like(seeds.strengths, strength))

        def excess(strength: float) -> float:
            return float(np.log(np.maximum(self.truth(moved(strength)), 1e-3)).mean() - np.log(level))

        low, high = excess(0.0), excess(FARTHEST)
        if not low < 0 < high:
            reached = f"{level * np.exp(low):.0f} to {level * np.exp(high):.0f}"
            raise ConfigError(
                f"arms of these slices have a KID of {reached}, got {level:.0f}: ask for one in between"
            )
        return moved(float(brentq(excess, 0.0, FARTHEST, xtol=1e-4)))

    def within(self, drawn: Positions) -> WithinKernel:
        """The kernels of the real slices of the subjects ``drawn`` (g,), in the order and with the names of a run."""
        names = tuple(map(str, range(len(drawn))))
        sizes = tuple(int(size) for size in self.sizes[drawn])
        pairs = np.outer(sizes, sizes).astype(np.float64)
        sums = self.real[np.ix_(drawn, drawn)].copy()
        np.fill_diagonal(sums, 0.0)
        np.fill_diagonal(pairs, 0.0)
        return WithinKernel(names, sizes, sums, pairs)

    def kernels(self, seeds: Seeds) -> tuple[Floats, Floats]:
        """The first seed's kernels of the pool's slices with each other, (P, P), and with held-out ones, (P, H)."""
        moved, shift = self.moved(float(seeds.strengths[0])), seeds.shifts[0]
        along = moved.along @ shift
        pool = moved.pool + along[:, None] + along + shift**2 @ self.lengths
        return (pool + 1) ** 3, (moved.cross + self.held_along @ shift + 1) ** 3

    def _sums(self, weights: Floats, seeds: Seeds) -> tuple[Floats, Floats, Floats]:
        """Σ w_i w_j k(x_i, x_j), (R,), Σ w_i k(x_i, x_i), (R,), and Σ w_i k(x_i, y) over subjects' y, (R, G).

        The images are moved and shifted and weigh ``weights`` (R, P). With an image's inner products c + s_i + s_j +
        t, the cube is expanded in powers of c, so that all sums are products with matrices that don't depend on the
        seed. They are taken in single precision, which a KID ×1000 feels in its third decimal.
        """
        alike, own, sums = np.empty(len(weights)), np.empty(len(weights)), np.empty((len(weights), len(self.sizes)))
        for strength in np.unique(seeds.strengths):
            rows = np.flatnonzero(seeds.strengths == strength)
            for first in range(0, len(rows), BLOCK):
                part = rows[first : first + BLOCK]
                found = self._block(weights[part], seeds.shifts[part], self.moved(float(strength)))
                alike[part], own[part], sums[part] = found
        return alike, own, sums

    def _block(self, weights: Floats, shifts: Floats, pool: Moved) -> tuple[Floats, Floats, Floats]:
        (c1, c2, c3), (d1, d2, d3) = pool.within, pool.between
        s, t = shifts @ pool.along.T, shifts**2 @ self.lengths
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
        own = (weights * (np.diag(pool.pool) + 2 * s + t[:, None] + 1) ** 3).sum(axis=1)
        r = shifts @ self.held_along.T
        cross = w @ d3 + 3 * (w @ d2) * r + 3 * (w @ d1) * r**2 + total[:, None] * r**3
        return paired(w @ c3, weights) + 3 * linear + 3 * square + cube, own, self._by_subject(cross.T).T

    def _by_subject(self, rows: Floats) -> Floats:
        """Sums over the slices of each held-out subject of the rows (H, …), (G, …)."""
        member = self.held_subjects == np.arange(len(self.sizes))[:, None]
        return np.asarray(member.astype(np.float64) @ rows)


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
        x, way, y = self.real[pool], self.blurred[pool] - self.real[pool], self.real[held]
        mixed = x @ way.T
        return World(
            np.stack([x @ x.T, mixed + mixed.T, way @ way.T]) / d,
            np.stack([x @ y.T, way @ y.T]) / d,
            y @ y.T / d,
            np.stack([x @ directions.T, way @ directions.T]) / d,
            y @ directions.T / d,
            (directions**2).sum(axis=1) / d,
            np.unique(self.subjects[pool], return_inverse=True)[1],
            np.unique(self.subjects[held], return_inverse=True)[1],
        )

"""What the trials of a search tell of configurations that it hasn't tried: a Gaussian process over its dimensions.

A configuration is a row of D numbers: the index of a chosen value, or where a number lies in its range, from 0 to 1.
Its score f is a sum of one effect a dimension, of one that belongs to the dimensions of the autoencoder together, and
of a small one that belongs to all (additive kernels: Duvenaud et al. 2011). A score at a rung, after a share s of the
training, is f·s^-γ plus an offset that all scores at that rung share, with more noise than a finished trial's.

The few numbers of this model are not fitted: :data:`DRAWS` sets of them are drawn from their prior once, the same for
every search, and each counts by its marginal likelihood (Rasmussen & Williams 2006, eq. 5.8), with the scale of the
scores integrated out. So the same trials always give the same answers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DRAWS, KEPT = 32, 12
"""Sets of numbers that are drawn, and those of them, by weight, that answer."""

OFFSET = 100.0
"""Variance of a rung's offset, in that of the scores: the offset can be anything."""

LEAST_SHARE = 1e-5
"""Smaller shares count as this one: s^-γ would leave the range of numbers."""

SCALE = 2.0
"""Shape and scale of the inverse gamma prior of the scores' variance, in that of the scores that were seen."""


@functools.cache
def _prior() -> dict[str, Array]:
    """Draws (:data:`DRAWS`,) of each number of the model, variances in that of the scores: log-normal, γ uniform."""
    from scipy.special import ndtri  # SciPy takes a second, and who only reads a study needs none
    from scipy.stats.qmc import Sobol

    drawn = Sobol(8, seed=0).random(DRAWS)
    normal = ndtri(np.clip(drawn, 1e-6, 1 - 1e-6)).T
    return {
        "choice": np.exp(1.4 * normal[0]),
        "number": np.exp(1.4 * normal[1]),
        "length": 0.7 * np.exp(0.5 * normal[2]),
        "power": drawn[:, 3],
        "rung": 4 * np.exp(normal[4]),
        "noise": 0.12 * np.exp(1.4 * normal[5]),
        "every": 0.09 * np.exp(1.4 * normal[6]),
        "together": 0.16 * np.exp(1.4 * normal[7]),
    }


class Surrogate:
    """The model of ``scores`` (n,) at the rows ``x`` (n, D), after shares (n,) of their trainings, 1 where finished.

    ``pending`` (m, D) are rows that run without a score yet: they make the model surer there, and change no mean.
    ``chosen`` (D,) tells the dimensions that have a list of values, ``together`` (D,) those of the autoencoder.
    """

    def __init__(
        self,
        chosen: NDArray[np.bool_],
        together: NDArray[np.bool_],
        x: Array,
        shares: Array,
        scores: Array,
        pending: Array,
    ) -> None:
        self.chosen, self.together, self.prior = chosen, together, _prior()
        count, waiting = len(scores), len(pending)
        shares = np.maximum(shares, LEAST_SHARE)
        apart = scores - [np.mean(scores[shares == share]) for share in shares]
        unit = float(np.sqrt(np.mean(apart**2))) if np.any(apart) else 1.0
        centred = apart / unit
        factor = shares ** -self.prior["power"][:, None]
        noise = self.prior["noise"][:, None] * np.where(shares < 1, self.prior["rung"][:, None], 1.0)
        own = factor[:, :, None] * factor[:, None] * self._kernel(x, x) + noise[:, :, None] * np.eye(count)
        own += OFFSET * (shares[:, None] == shares)
        roots = np.linalg.cholesky(own)
        spread = (np.linalg.solve(roots, _columns(centred, DRAWS))[..., 0] ** 2).sum(1)
        evidence = -np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
        evidence -= (SCALE + count / 2) * np.log(SCALE + spread / 2)
        kept = np.argsort(-evidence, kind="stable")[:KEPT]
        weights = np.exp(evidence[kept] - evidence.max())
        self.weights = weights / weights.sum()
        self.prior = {name: values[kept] for name, values in self.prior.items()}
        self._scale = np.sqrt((SCALE + spread[kept] / 2) / (SCALE + count / 2))
        own, factor = own[kept], factor[kept]
        found = np.linalg.solve(own, _columns(centred, KEPT))[..., 0]
        across = self._kernel(pending, x) * factor[:, None]
        theirs = self._kernel(pending, pending) + self.prior["noise"][:, None, None] * np.eye(waiting)
        both = np.concatenate(
            [np.concatenate([own, across.transpose(0, 2, 1)], 2), np.concatenate([across, theirs], 2)], 1
        )
        self._x = np.concatenate([x, pending])
        self._factor = np.concatenate([factor, np.ones((KEPT, waiting))], 1)
        self._found = np.concatenate([found, np.zeros((KEPT, waiting))], 1)[..., None]
        self._inverse = np.linalg.inv(both)

    def least(self, x: Array) -> Array:
        """The row (D,) of ``x`` (m, D) whose expected score is the lowest."""
        return np.asarray(
            x[np.argmin(self.weights @ ((self._kernel(x, self._x) * self._factor[:, None]) @ self._found)[..., 0])]
        )

    def improvement(self, x: Array, best: Array) -> Array:
        """How much lower a score at each row of ``x`` is expected to be than at ``best`` (D,), where it is; (m,).

        Jones et al. 1998, eq. 15, of the difference of the two, since what raises both is no improvement.
        """
        mean, deviation = self._difference(x, best)
        z = mean / deviation
        return np.asarray(
            self.weights @ (deviation * (z * _normal_below(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)))
        )

    def chance(self, x: Array, best: Array) -> Array:
        """The probability that the score at each row of ``x`` is lower than that at ``best``; (m,)."""
        mean, deviation = self._difference(x, best)
        return np.asarray(self.weights @ _normal_below(mean / deviation))

    def _difference(self, x: Array, best: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the score at ``best`` minus that at each row of ``x``, by draw; (k, m)."""
        known = (self._kernel(best[None], self._x) - self._kernel(x, self._x)) * self._factor[:, None]
        at_best = self._kernel(best[None], best[None])[:, 0]
        variance = 2 * (at_best - self._kernel(x, best[None])[..., 0]) - ((known @ self._inverse) * known).sum(2)
        return (known @ self._found)[..., 0], np.sqrt(np.maximum(variance, 1e-9)) * self._scale[:, None]

    def _kernel(self, a: Array, b: Array) -> Array:
        """Covariance of f between the rows of ``a`` (n, D) and ``b`` (m, D), by draw; (k, n, m)."""
        numbers = {name: values[:, None, None] for name, values in self.prior.items()}
        total: Any = 0.0
        together: Any = 1.0
        every: Any = 1.0
        for place, chosen in enumerate(self.chosen):
            apart = a[:, None, place] - b[None, :, place]
            alike = (apart == 0) if chosen else np.exp(-0.5 * (apart / numbers["length"]) ** 2)
            total = total + numbers["choice" if chosen else "number"] * alike
            every = every * alike
            together = together * alike if self.together[place] else together
        return np.asarray(total + numbers["together"] * together + numbers["every"] * every)


def _normal_below(z: Array) -> Array:
    """The probability that a standard normal number is below ``z``, element by element."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def _columns(values: Array, times: int) -> Array:
    """The same column (n, 1) so many times."""
    return np.broadcast_to(values[None, :, None], (times, len(values), 1))

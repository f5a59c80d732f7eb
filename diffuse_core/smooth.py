"""Gaussian smoothers of one to three coordinates, as DIALS defines them.

The value at x is the mean of the nearest parameters with the weights

    exp(-((z - z_i) / sigma)^2),   z = (x - low) / spacing,   normalised to 1,

without a factor 1/2; z_i are the positions of the parameters: -0.5, 0.5, ... with three
intervals or more, otherwise 0, 1, ... Three parameters of each axis count, fewer at its
ends, and sigma = 0.65 + 0.05 (n - 2) with n = 3, or n = 2 where an axis has only two
(dials.algorithms.refinement.gaussian_smoother, after Aimless).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import sparse

AVERAGED = 3


@dataclass(frozen=True)
class Axis:
    """A coordinate from `low` to `high`, cut in equal intervals.

    Values outside the range count as its ends.
    """

    low: float
    high: float
    intervals: int

    @classmethod
    def with_spacing(cls, low: float, high: float, spacing: float) -> Axis:
        """The axis whose intervals are nearest to `spacing`; one at least."""
        if not high > low:
            high = low + spacing
        return cls(low, high, max(1, round((high - low) / spacing)))

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.intervals + (2 if self.intervals >= 3 else 1)

    @property
    def positions(self) -> np.ndarray:
        """(size,) float64: where the parameters are, in the unit of the coordinate."""
        first = -0.5 if self.size >= 4 else 0.0
        spacing = (self.high - self.low) / self.intervals
        return self.low + spacing * (first + np.arange(self.size))

    def weights(self, x: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
        """Parameters that count at x (n,), and their weights.

        Returns:
            (n, k) int32 indices and (n, k) float64 weights that add up to 1; where
            fewer than k parameters count, the others have weight 0.
        """
        spacing = (self.high - self.low) / self.intervals
        z = (np.asarray(x, float) - self.low) / spacing
        return _weights(np.clip(z, 0.0, self.intervals), self.size, sigma)


def smoother(axes: Sequence[Axis], columns: Sequence[np.ndarray]):
    """(n, product of sizes) float64 CSR: weights of the parameters at n points.

    Parameters are ordered with the last axis fastest.

    Args:
        axes: One to three axes.
        columns: The coordinate (n,) along each.
    """
    sigma = 0.65 + 0.05 * (min(AVERAGED, *(axis.size for axis in axes)) - 2)
    n = len(columns[0])
    index, weight = np.zeros((n, 1), np.int32), np.ones((n, 1))
    for axis, column in zip(axes, columns, strict=True):
        i, w = axis.weights(column, sigma)
        index = (index[:, :, None] * axis.size + i[:, None, :]).reshape(n, -1)
        weight = (weight[:, :, None] * w[:, None, :]).reshape(n, -1)
    size = math.prod(axis.size for axis in axes)
    k = weight.shape[1]
    start = np.arange(n + 1, dtype=np.int64 if n * k >= 2**31 else np.int32) * k
    return sparse.csr_matrix((weight.ravel(), index.ravel(), start), shape=(n, size))


def roughness(sizes: Sequence[int]):
    """Sparse CSR (m, product of sizes): second differences along every axis.

    Their squares are 0 for parameters that are linear along each axis.
    """
    parts = []
    for i, size in enumerate(sizes):
        if size < 3:
            continue
        before, after = math.prod(sizes[:i]), math.prod(sizes[i + 1 :])
        one = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(size - 2, size))
        parts.append(
            sparse.kron(
                sparse.identity(before), sparse.kron(one, sparse.identity(after))
            )
        )
    if not parts:
        return sparse.csr_matrix((0, math.prod(sizes)))
    return sparse.csr_matrix(sparse.vstack(parts))


@njit(cache=True)
def _weights(z, size, sigma):
    k = min(AVERAGED, size)
    index = np.zeros((len(z), k), np.int32)
    weight = np.zeros((len(z), k))
    first = -0.5 if size >= 4 else 0.0
    for n in range(len(z)):
        low, high = 0, size
        if size > 3:
            t = z[n] - 0.5 * k
            low = int(math.floor(t + 0.5) if t >= 0 else math.ceil(t - 0.5)) + 1
            high = low + k
            if low < 0:
                low, high = 0, max(2, high)
            if high > size:
                low, high = min(low, size - 2), size
        total = 0.0
        for i in range(low, high):
            d = (z[n] - first - i) / sigma
            w = math.exp(-d * d)
            index[n, i - low] = i
            weight[n, i - low] = w
            total += w
        for i in range(high - low):
            weight[n, i] /= total
    return index, weight

"""Unique voxels: one key for each set of voxels that operators turn into one another.

A key is linear in the voxel indices (`diffuse_core.grid`), so an operator acts on it by
one scalar product: key(index @ R) = key(0) + index . (R w), w = (2^42, 2^21, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from diffuse_core.errors import ConfigError
from diffuse_core.grid import BITS, OFFSET, indices_of, keys_of

_WEIGHTS = np.array([1 << (2 * BITS), 1 << BITS, 1], np.int64)
_ORIGIN = int(keys_of(np.zeros((1, 3)))[0])


def _identity() -> np.ndarray:
    return np.eye(3, dtype=np.int64)[None]


@dataclass(frozen=True, eq=False)
class UniqueVoxels:
    """Maps voxels to their representatives: of all equivalents the one of largest key.

    The largest key has the largest i, then j, then k: for the Laue classes mmm and
    4/mmm the asymmetric unit is that of cctbx.

    Attributes:
        operators: (m, 3, 3) int64, a group of matrices R with equivalents index @ R;
            the identity alone keeps every voxel.
    """

    operators: np.ndarray = field(default_factory=_identity)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """(n, 3) int64: the representatives of (n, 3) voxel indices."""
        return indices_of(self.keys(keys_of(index))[0])

    def keys(
        self, key: np.ndarray, reindex: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys of the representatives, and where Friedel's law was needed.

        Args:
            key: (n,) int64 keys of voxels.
            reindex: (3, 3) int64 applied first, index' = reindex @ index; None = no.

        Returns:
            (n,) int64 keys; (n,) bool, True where only operators with inversion
            (determinant -1) give the representative.

        Raises:
            ConfigError: An index becomes larger than a key can hold.
        """
        operators = np.asarray(self.operators, np.int64)
        inverts = np.linalg.det(operators) < 0
        order = np.argsort(inverts, kind="stable")
        if reindex is not None:
            operators = np.asarray(reindex, np.int64).T @ operators
        products = np.ascontiguousarray((operators @ _WEIGHTS)[order])
        out = np.empty(len(key), np.int64)
        friedel = np.empty(len(key), np.bool_)
        proper = int((~inverts).sum())
        largest = _largest(np.ascontiguousarray(key), products, proper, out, friedel)
        if largest * np.abs(operators).sum(axis=1).max() >= OFFSET:
            raise ConfigError(
                f"Symmetry turns voxel indices of {largest} into ones beyond {OFFSET}: "
                "choose larger voxels or a larger d_min."
            )
        return out, friedel


@njit(cache=True, nogil=True)
def _largest(key, products, n_proper, out, friedel):  # pragma: no cover
    mask = (1 << BITS) - 1
    extent = 0
    for row in range(len(key)):
        i = (key[row] >> (2 * BITS)) - OFFSET
        j = ((key[row] >> BITS) & mask) - OFFSET
        k = (key[row] & mask) - OFFSET
        extent = max(extent, abs(i), abs(j), abs(k))
        best = i * products[0, 0] + j * products[0, 1] + k * products[0, 2]
        at = 0
        for m in range(1, len(products)):
            value = i * products[m, 0] + j * products[m, 1] + k * products[m, 2]
            if value > best:
                best, at = value, m
        out[row] = best + _ORIGIN
        friedel[row] = at >= n_proper
    return extent

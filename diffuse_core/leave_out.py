"""What CC1/2 would be without one sweep, or one block: exactly, in one pass.

CC1/2 needs six sums over the voxels. Leaving out the rows of a group changes the halves
of the voxels that the group saw and no others, so the sums without each group follow
from the sums with it by what those voxels add and take away: the cost is that of
reading the rows once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.agreement import Estimate
from diffuse_core.rows import Rows

PARTS = 12
"""Parts of the voxels whose differences tell the error of a figure (jackknife)."""


@dataclass(frozen=True)
class GroupEffect:
    """What a group of rows does for the data.

    Attributes:
        group: Index of the group.
        rows: Its rows, and voxels: the voxels that it saw.
        delta: CC1/2 with the group minus CC1/2 without it; a bad group's is negative.
    """

    group: int
    rows: int
    voxels: int
    delta: Estimate


class LeaveOut:
    """Adds the rows of whole voxels; gives CC1/2 with and without each group.

    CC1/2 is the mean over resolution shells, each weighted with its voxels, of the
    correlation of the halves, minus `isotropic`, which does not change when a group is
    left out.

    Args:
        n_groups: Groups are numbered 0 to n_groups - 1.
        n_shells: Resolution shells.
    """

    def __init__(self, n_groups: int, n_shells: int) -> None:
        self._with = np.zeros((PARTS, n_shells, 6))
        self._change = np.zeros((n_groups, PARTS, n_shells, 6))
        self._rows = np.zeros(n_groups, np.int64)
        self._voxels = np.zeros(n_groups, np.int64)

    def add(
        self,
        rows: Rows,
        half: np.ndarray,
        group: np.ndarray,
        weight: np.ndarray,
        weighted: np.ndarray,
        shell: np.ndarray,
        isotropic: np.ndarray,
    ) -> None:
        """Takes in whole voxels.

        Args:
            rows: n rows of m voxels.
            half: (n,) 0 or 1.
            group: (n,) int.
            weight: (n,) w > 0.
            weighted: (n,) w x, x the intensity of the row.
            shell: (m,) int: shell of each voxel, -1 = leave it out.
            isotropic: (m,) intensity to subtract, for example the spherical average.
        """
        keep = np.repeat(shell >= 0, np.diff(rows.starts))
        voxel, half, group = rows.voxel[keep], half[keep], group[keep]
        columns = np.stack([np.ones(len(voxel)), weight[keep], weighted[keep]])
        m = len(rows.starts) - 1
        sums = _sums(2 * voxel + half, columns, 2 * m).reshape(3, m, 2)
        part = _hash(rows.key[rows.starts[:-1]]) % PARTS
        place = part * self._with.shape[1] + np.maximum(shell, 0)
        before = _products(sums, isotropic)
        n_places = PARTS * self._with.shape[1]
        self._with += _sums(place, before, n_places).T.reshape(self._with.shape)
        n_groups = len(self._change)
        pairs, inverse = np.unique(voxel * n_groups + group, return_inverse=True)
        of_pair, g = np.divmod(pairs, n_groups)
        without = sums[:, of_pair] - _sums(
            2 * inverse + half, columns, 2 * len(pairs)
        ).reshape(3, -1, 2)
        change = _products(without, isotropic[of_pair]) - before[:, of_pair]
        self._change += _sums(
            g * n_places + place[of_pair], change, n_groups * n_places
        ).T.reshape(self._change.shape)
        self._rows += np.bincount(group, minlength=n_groups)
        self._voxels += np.bincount(g, minlength=n_groups)

    def cc_half(self) -> float:
        """CC1/2 of everything."""
        return float(_mean_cc(self._with.sum(axis=0)))

    def effects(self) -> list[GroupEffect]:
        """One for each group that has rows; bounds by the delete-one jackknife.

        B. Efron & R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11,
        over `PARTS` parts of the voxels.
        """
        total = self._with.sum(axis=0)
        less = total - self._with
        found = []
        for group in np.flatnonzero(self._rows):
            change = self._change[group]
            all_change = change.sum(axis=0)
            value = _mean_cc(total) - _mean_cc(total + all_change)
            parts = _mean_cc(less) - _mean_cc(less + all_change - change)
            error = np.sqrt((PARTS - 1) * np.mean((parts - parts.mean()) ** 2))
            found.append(
                GroupEffect(
                    int(group),
                    int(self._rows[group]),
                    int(self._voxels[group]),
                    Estimate(float(value), float(value - error), float(value + error)),
                )
            )
        return found


def _sums(place: np.ndarray, columns: np.ndarray, n: int) -> np.ndarray:
    """(k, n): sums of (k, m) columns by place (m,)."""
    return np.stack([np.bincount(place, c, n) for c in columns])


def _products(sums: np.ndarray, isotropic: np.ndarray) -> np.ndarray:
    """(6, m): 1, x, y, xx, yy, xy of voxels with both halves, else zeros.

    Args:
        sums: (3, m, 2): rows, weights and weighted intensities of the halves.
        isotropic: (m,).
    """
    both = (sums[0] > 0.5).all(axis=1)
    weights = np.where(both[:, None], sums[1], 1.0)
    x, y = ((sums[2] / weights).T - isotropic) * both
    return np.stack([both.astype(float), x, y, x * x, y * y, x * y])


def _mean_cc(sums: np.ndarray) -> np.ndarray:
    """(...): correlations of (..., n_shells, 6) sums, averaged over the shells."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cc = (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))
        used = np.where((n > 2.5) & np.isfinite(cc), n, 0.0)
        return (used * np.nan_to_num(cc)).sum(axis=-1) / used.sum(axis=-1)


def _hash(key: np.ndarray) -> np.ndarray:
    """(m,) int64 >= 0: keys (m,) int64 without their order (multiplicative hashing)."""
    return (
        (key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    ).astype(np.int64)

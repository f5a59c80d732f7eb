"""The truth of a simulation, averaged over the voxels of a map."""

from __future__ import annotations

from itertools import product

import numpy as np

from diffuse_core import regrid
from diffuse_core.simulate.truth import Truth
from diffuse_core.voxel_list import Voxels


class TruthVoxels:
    """A truth in the setting of a map.

    Args:
        truth: The truth.
        matrix: (3, 3) operator on its indices: hkl of the map = matrix @ hkl.
    """

    def __init__(self, truth: Truth, matrix: np.ndarray) -> None:
        self.truth = truth
        self.to_truth = np.linalg.inv(matrix)

    def like(self, other: Voxels, to_hkl: np.ndarray | None) -> Voxels:
        """Mean intensities over the voxels of a map, exact.

        Args:
            other: The map.
            to_hkl: (3, 3), A: hkl = to_hkl @ coordinates, of a Cartesian map.
        """
        if other.frame == "hkl":
            values = self._over_hkl(other)
        else:
            to_hkl = self.to_truth @ to_hkl
            values = cartesian_average(self.truth, other.centres, other.steps, to_hkl)
        return Voxels(
            "the truth",
            other.frame,
            other.steps,
            other.index,
            values,
            np.zeros(len(values)),
            exact=True,
        )

    def _over_hkl(self, other: Voxels) -> np.ndarray:
        moved = regrid.reindexed(other, self.to_truth)
        shapes = box_shapes(self.truth.laue, moved.steps)
        if not other.asymmetric:
            shapes = [np.eye(3, dtype=np.int64)]
        total = sum(
            self.truth.voxel_average(moved.centres @ r, moved.steps) for r in shapes
        )
        return total / len(shapes)


def box_shapes(laue: np.ndarray, steps: np.ndarray) -> list[np.ndarray]:
    """One of the operators R for each shape that they give a voxel of these steps.

    A voxel of a merged map is the mean over boxes around equivalent points; with
    hexagonal axes those differ in shape, else there is one shape.
    """
    found: dict[tuple, np.ndarray] = {}
    for r in laue:
        edges = np.round(np.diag(steps) @ np.linalg.inv(r), 9) + 0.0
        shape = tuple(sorted(max(tuple(e), tuple(-e + 0.0)) for e in edges))
        found.setdefault(shape, r)
    return list(found.values())


def cartesian_average(
    truth: Truth, centres: np.ndarray, steps: np.ndarray, to_hkl: np.ndarray
) -> np.ndarray:
    """(n,) mean of a truth over boxes along Cartesian axes, Gauss-Legendre.

    Args:
        truth: The truth.
        centres: (n, 3), 1/A.
        steps: (3,) edges of the boxes, 1/A.
        to_hkl: (3, 3), A: hkl = to_hkl @ q.
    """
    order = int(truth.quadrature_order(np.abs(to_hkl) @ steps).max())
    nodes, weights = np.polynomial.legendre.leggauss(order)
    total = np.zeros(len(centres))
    for i, j, k in product(range(order), repeat=3):
        q = centres + 0.5 * steps * nodes[[i, j, k]]
        share = weights[i] * weights[j] * weights[k] / 8.0
        total += share * truth.intensity(q @ to_hkl.T)
    return total

"""The normal matrix of a scaling problem from a part of the voxels, and its inverse.

With J the derivative of the expected counts by all parameters and the intensities
eliminated (`diffuse_core.scaling_problem`), the normal matrix is

    H = sum_v [ sum_j w_j J_j J_j^T - u_v u_v^T / S_v ],   u_v = sum_j w_j a_j J_j

Some voxels tell it well enough to precondition the equations of all rows: a few
conjugate gradients do the rest, for any size of the penalties, which are added exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit
from scipy import linalg, sparse
from scipy.sparse.linalg import splu

from diffuse_core.scaling_problem import Problem

LARGEST = 2500
"""Parameters up to which H is made; with more, only its blocks of single terms."""

SOME = 30_000
"""Rows that are enough for a preconditioner."""


class Curvature:
    """H at one state of a problem, without penalties.

    Args:
        problem: Rows and terms.
        w: (n,) weights.
        a: (n,) e G B.
        slopes: Per term (n,): derivative of the expected counts by its value.
        some: About as many rows are used, those of whole voxels.
    """

    def __init__(
        self,
        problem: Problem,
        w: np.ndarray,
        a: np.ndarray,
        slopes: Sequence[np.ndarray],
        some: int = SOME,
    ) -> None:
        self.problem = problem
        self._first = np.cumsum([0, *(len(t.initial) for t in problem.terms)])
        self._solvers: dict[tuple[float, ...], Callable] = {}
        step = max(1, len(problem.rows) // some)
        if self._first[-1] <= LARGEST:
            self._whole, self._blocks = self._matrix(w, a, slopes, step), []
        else:
            self._whole = None
            rows = np.arange(0, len(problem.rows), step)
            scaled = np.sqrt(w[rows] * step)
            parts = [
                term.weights.part(rows, scaled * slope[rows])
                for term, slope in zip(problem.terms, slopes, strict=True)
            ]
            self._blocks = [part.T @ part for part in parts]

    def solver(self, sizes: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
        """Multiplies (n_parameters,) with the inverse of H and the penalties."""
        key = tuple(sizes)
        if key not in self._solvers:
            made = self._dense(key) if self._whole is not None else self._sparse(key)
            self._solvers = {key: made}
        return self._solvers[key]

    def _dense(self, sizes) -> Callable[[np.ndarray], np.ndarray]:
        restraints = self.problem.restraints(sizes)
        matrix = self._whole + sparse.block_diag(restraints).toarray()
        for level in self.problem.level_restraints():
            matrix += np.outer(level, level)
        factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True)
        return lambda vector: linalg.cho_solve(factor, vector)

    def _sparse(self, sizes) -> Callable[[np.ndarray], np.ndarray]:
        blocks = [
            splu(sparse.csc_matrix(block + matrix))
            for block, matrix in zip(
                self._blocks, self.problem.restraints(sizes), strict=True
            )
        ]

        def solve(vector):
            pieces = np.split(vector, self._first[1:-1])
            return np.concatenate(
                [b.solve(v) for b, v in zip(blocks, pieces, strict=True)]
            )

        return solve

    def _matrix(self, w, a, slopes, step: int) -> np.ndarray:
        """(n_parameters, n_parameters) float64 from every step-th voxel, scaled up."""
        starts = self.problem.rows.starts
        voxels = np.arange(0, len(starts) - 1, step)
        length = np.diff(starts)[voxels]
        first = np.concatenate([[0], np.cumsum(length)])
        rows = np.repeat(starts[voxels] - first[:-1], length) + np.arange(first[-1])
        j = sparse.hstack(
            [
                term.weights.part(rows, slope[rows])
                for term, slope in zip(self.problem.terms, slopes, strict=True)
            ],
            format="csr",
        )
        j.sort_indices()
        total = np.zeros((j.shape[1],) * 2)
        _add_voxels(total, first, j.indptr, j.indices, j.data, w[rows], a[rows])
        lower = np.tril_indices(len(total), -1)
        total[lower] = total.T[lower]
        return total * (len(starts) - 1) / len(voxels)


@njit(cache=True, nogil=True)
def _add_voxels(total, first, start, index, value, w, a):  # pragma: no cover
    """Adds every voxel's part of H to the upper triangle of `total`."""
    u = np.zeros(len(total))
    used = np.zeros(len(total), np.bool_)
    touched = np.zeros(len(total), np.int64)
    for v in range(len(first) - 1):
        s, n = 0.0, 0
        for row in range(first[v], first[v + 1]):
            weight = w[row]
            if weight <= 0.0:
                continue
            s += weight * a[row] * a[row]
            for k in range(start[row], start[row + 1]):
                i, x = index[k], weight * value[k]
                for m in range(k, start[row + 1]):
                    total[i, index[m]] += x * value[m]
                u[i] += a[row] * x
                if not used[i]:
                    used[i] = True
                    touched[n] = i
                    n += 1
        order = np.sort(touched[:n])
        for p in range(n):
            i = order[p]
            x = u[i] / s
            for q in range(p, n):
                total[i, order[q]] -= x * u[order[q]]
        for p in range(n):
            u[order[p]] = 0.0
            used[order[p]] = False

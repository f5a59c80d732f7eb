"""How many unique voxels a shell of reciprocal space has, counted exactly.

The orbits of a group G on the voxels of a shell number (1/|G|) sum over its operators R
of the voxels that R leaves where they are (Burnside's lemma). Those voxels form a
lattice of rank 0 to 3, and along the last direction of a lattice the whole numbers of a
shell are an interval, so no voxel is looked at: counting a billion takes a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from diffuse_core.grid import Grid
from diffuse_core.statistics import shell_edges

CHUNK = 2_000_000
TIE = 1e-9
"""Relative width in which two |s| are the same but for rounding."""


def shells_of(s: np.ndarray, n: int) -> np.ndarray:
    """(n + 1,) edges in 1/A of n shells of equal volume that hold all s.

    They lie a hair outside the s that they come from, so that no rounding divides
    equivalent voxels.
    """
    edges = shell_edges(s.min(), s.max(), n) * (1.0 + TIE)
    edges[0] = s.min() * (1.0 - TIE) - 1e-12
    return edges


def unique_voxels(
    grid: Grid,
    unit_cell,
    edges: np.ndarray,
    operators: Sequence[np.ndarray] | None,
    lattice_points: bool = False,
) -> np.ndarray:
    """(n_shells,) int64: unique voxels with edges[i] < |s| <= edges[i + 1].

    Args:
        grid: The voxels; not those of frame "s".
        unit_cell: a, b, c, alpha, beta, gamma (A, deg); needed for frame "hkl". The
            operators must leave it as it is.
        edges: (n_shells + 1,) 1/A, ascending; the first may be negative, and then the
            origin is counted.
        operators: (3, 3) integer matrices, a group that acts as index @ R; None is the
            identity alone.
        lattice_points: Count only voxels whose three coordinates are whole numbers.
    """
    basis = grid.cartesian(np.eye(3, dtype=int), unit_cell)
    whole = np.diag([_denominator(step) for step in grid.steps])
    group = [np.eye(3, dtype=int)] if operators is None else list(operators)
    total = np.zeros(len(edges) - 1)
    for operator in group:
        vectors = _fixed(np.rint(operator).astype(int), whole if lattice_points else 1)
        total += np.diff(_within(vectors @ basis, edges))
    return np.rint(total / len(group)).astype(np.int64)


def _denominator(step: float) -> int:
    """Voxels from one whole coordinate to the next."""
    return Fraction(step).limit_denominator(10_000).denominator


def _fixed(operator: np.ndarray, scale) -> np.ndarray:
    """(r, 3) int: basis of the whole n with (n @ scale) @ operator = n @ scale, scaled.

    By Hermite reduction of the columns of (R - 1), kept in step with the identity.
    """
    scale = np.eye(3, dtype=int) * scale
    left = (scale @ (operator - np.eye(3, dtype=int))).astype(object)
    right = scale.astype(object)
    done = 0
    for column in range(3):
        while True:
            rows = [i for i in range(done, 3) if left[i, column]]
            if not rows:
                break
            pivot = min(rows, key=lambda i: abs(left[i, column]))
            for part in (left, right):
                part[[done, pivot]] = part[[pivot, done]]
            if len(rows) == 1:
                done += 1
                break
            for i in range(done + 1, 3):
                times = left[i, column] // left[done, column]
                left[i] -= times * left[done]
                right[i] -= times * right[done]
    return right[done:].astype(int)


def _within(vectors: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) float64: points of the lattice of (r, 3) vectors with |s| <= each edge."""
    radius = np.asarray(edges, float)
    if len(vectors) == 0:
        return (radius >= 0).astype(float)
    vectors = _reduced(vectors)
    inverse = np.linalg.pinv(vectors)
    reach = np.floor(radius.max() * np.linalg.norm(inverse, axis=0) + 1e-6).astype(int)
    heads = [np.arange(-n, n + 1) for n in reach[:-1]]
    last = vectors[-1]
    square = last @ last
    count = np.zeros(len(radius))
    outer = heads[0] if heads else np.zeros(1, int)
    inner = heads[1] if len(heads) > 1 else np.zeros(1, int)
    step = max(1, CHUNK // len(inner))
    for first in range(0, len(outer), step):
        i, j = np.meshgrid(outer[first : first + step], inner, indexing="ij")
        points = np.zeros((i.size, 3))
        for numbers, vector in zip((i, j), vectors[:-1], strict=False):
            points += numbers.reshape(-1, 1) * vector
        middle = -(points @ last) / square
        distance = np.einsum("ij,ij->i", points, points) - square * middle**2
        for number, r in enumerate(radius):
            if r < 0:
                continue
            half = np.maximum(r**2 - distance[distance <= r**2], 0.0) / square
            half, centre = np.sqrt(half), middle[distance <= r**2]
            count[number] += (
                np.floor(centre + half) - np.ceil(centre - half) + 1.0
            ).sum()
    return count


def _reduced(vectors: np.ndarray) -> np.ndarray:
    """A basis (r, 3) of the same lattice whose vectors are short and nearly upright."""
    vectors = vectors[np.argsort(-np.linalg.norm(vectors, axis=1))].copy()
    changed = True
    while changed:
        changed = False
        for i in range(len(vectors)):
            for j in range(len(vectors)):
                if i == j:
                    continue
                times = np.rint(vectors[i] @ vectors[j] / (vectors[j] @ vectors[j]))
                shorter = vectors[i] - times * vectors[j]
                if times and shorter @ shorter < vectors[i] @ vectors[i] * (1 - 1e-9):
                    vectors[i], changed = shorter, True
    return vectors

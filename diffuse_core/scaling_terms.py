"""Scaling components bound to rows: sparse weights, values and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from scipy import sparse

from diffuse_core.errors import PluginError
from diffuse_core.models import Basis, Domain, ScalingComponent
from diffuse_core.numba_threads import njit_parallel
from diffuse_core.rows import Rows, Source

_CHUNK = 200_000
_PARTS = 8
_LARGE = 3_000_000


@dataclass(frozen=True, eq=False)
class Weights:
    """A sparse matrix (n rows, size), float32, that multiplies float64 vectors.

    Sums have the same bits for any number of threads.

    Attributes:
        start, index, weight: (n + 1,) int64, uint32 and float32 of a CSR matrix.
        size: Number of columns.
    """

    start: np.ndarray
    index: np.ndarray
    weight: np.ndarray
    size: int

    def __matmul__(self, parameters: np.ndarray) -> np.ndarray:
        """(n,) float64."""
        gather = _gather_parallel if len(self.index) > _LARGE else _gather
        return gather(self.start, self.index, self.weight, parameters)

    def transposed(self, values: np.ndarray) -> np.ndarray:
        """(size,) float64: this matrix' transpose times values (n,)."""
        scatter = _scatter_parallel if len(self.index) > _LARGE else _scatter
        return scatter(self.start, self.index, self.weight, values, self.size)

    def part(self, rows: np.ndarray, factors: np.ndarray) -> sparse.csr_matrix:
        """(k, size) float64: the given rows (k,), each times its factor (k,)."""
        length = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(length)])
        where = np.repeat(self.start[rows] - start[:-1], length)
        where += np.arange(start[-1])
        data = self.weight[where] * np.repeat(factors, length)
        return sparse.csr_matrix(
            (data, self.index[where].astype(np.int32), start),
            shape=(len(rows), self.size),
        )


@dataclass(frozen=True, eq=False)
class Term:
    """A component bound to rows.

    Attributes:
        name: Name of the model.
        component: The model.
        used: Sources that it applies to.
        basis: Its basis.
        weights: Weights of its parameters in every row; none where it does not apply.
        neutral: (n,) bool: where it does not apply; empty if it does everywhere.
        penalty, gauge: Sparse matrices of `Basis`.
    """

    name: str
    component: ScalingComponent
    used: tuple[int, ...]
    basis: Basis
    weights: Weights
    neutral: np.ndarray
    penalty: sparse.csr_matrix
    gauge: sparse.csr_matrix

    @property
    def role(self) -> str:
        return self.component.role

    @property
    def initial(self) -> np.ndarray:
        return self.basis.initial

    def value(self, parameters: np.ndarray) -> np.ndarray:
        """(n,) float64: the factor, or the intensity of an offset."""
        value = self.weights @ parameters
        if self.component.exponential:
            return np.exp(value)
        if len(self.neutral) and self.role != "offset":
            value[self.neutral] = 1.0
        return value


def domain_of(
    rows: Rows, sources: Sequence[Source], component: ScalingComponent
) -> Domain:
    """Ranges of the columns of every source that has rows and that applies."""
    limits, blocks = [], []
    for number, source in enumerate(sources):
        use = rows.source == number if component.applies(source) else np.array([])
        if not use.any():
            limits.append({})
            blocks.append(())
            continue
        columns = {c: getattr(rows, c)[use] for c in ("panel", "x", "y", "phi", "s")}
        limits.append({c: (float(v.min()), float(v.max())) for c, v in columns.items()})
        if not source.still:
            limits[-1]["phi"] = source.phi
        blocks.append(tuple(np.unique(rows.block[use]).tolist()))
    return Domain(tuple(sources), tuple(limits), tuple(blocks))


def bind(
    name: str, component: ScalingComponent, rows: Rows, sources: Sequence[Source]
) -> Term | None:
    """The component bound to rows; None if it applies to none of them.

    Raises:
        PluginError: The component breaks its contract.
    """
    domain = domain_of(rows, sources, component)
    used = domain.used()
    if not used:
        return None
    basis = component.bind(domain)
    size = len(basis.initial)
    applies = np.isin(np.arange(len(sources)), used)[rows.source]
    lengths, indices, weights = [], [], []
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        here = applies[part]
        points = [getattr(rows, column)[part][here] for column in component.columns]
        matrix = basis.basis(np.column_stack(points).astype(float))
        if matrix.shape != (here.sum(), size):
            raise PluginError(
                f"The scaling component {name!r} gives a basis of shape "
                f"{matrix.shape} for {here.sum()} points and {size} parameters."
            )
        length = np.zeros(len(here), np.int64)
        length[here] = np.diff(matrix.indptr)
        lengths.append(length)
        indices.append(matrix.indices.astype(np.uint32))
        weights.append(matrix.data.astype(np.float32))
    start = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Term(
        name=name,
        component=component,
        used=tuple(used),
        basis=basis,
        weights=Weights(start, np.concatenate(indices), np.concatenate(weights), size),
        neutral=np.empty(0, bool) if applies.all() else ~applies,
        penalty=sparse.csr_matrix(basis.penalty()),
        gauge=sparse.csr_matrix(basis.gauge()),
    )


def _gathered(start, index, weight, parameters):
    n = len(start) - 1
    result = np.empty(n)
    for i in prange(n):
        total = 0.0
        for k in range(np.uint64(start[i]), np.uint64(start[i + 1])):
            total += weight[k] * parameters[index[k]]
        result[i] = total
    return result


def _scattered(start, index, weight, values, size):
    n = len(start) - 1
    parts = np.zeros((_PARTS, size))
    for p in prange(_PARTS):
        for i in range(p * n // _PARTS, (p + 1) * n // _PARTS):
            v = values[i]
            for k in range(np.uint64(start[i]), np.uint64(start[i + 1])):
                parts[p, index[k]] += weight[k] * v
    result = np.zeros(size)
    for p in range(_PARTS):
        result += parts[p]
    return result


_ANY_ORDER = {"reassoc", "nsz"}
_gather = njit(cache=True, fastmath=_ANY_ORDER)(_gathered)
_gather_parallel = njit_parallel(cache=True, fastmath=_ANY_ORDER)(_gathered)
_scatter = njit(cache=True)(_scattered)
_scatter_parallel = njit_parallel(cache=True)(_scattered)

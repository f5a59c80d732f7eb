"""Parameters of B, G and C by penalised least squares, the intensities eliminated.

For fixed weights w (the inverse of predicted variances, never of observed counts) and

    a_j = e_j G_j B_j,   y_j = n_j - b_j - e_j G_j C_j,   N = sum w a y,   S = sum w a^2

(sums over the rows of a voxel) the best intensity is I = N / S, and

    F = 1/2 sum w (y - a I)^2  +  1/2 sum_v sum_j w_j^2 a_j^2 (n_j + var b_j) / S_v

is minimised. The first part alone is biased at low counts and low multiplicity: I
holds the noise of the very counts that it is compared with. The second part takes that
out. n_j estimates its own variance without bias, so E[F] = 1/2 sum w (E[y] - a I)^2 + a
constant: smallest at the truth for any weights, counts and multiplicity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from diffuse_core.rows import Rows
from diffuse_core.scale_model import Curve
from diffuse_core.scaling_terms import Term

N_EXPECTED = 40
"""Nodes of the smooth intensity I0(s)."""

LOOSE = 10.0
"""Prior size of parameters minus their start, so that those without data stay there."""

GAUGE = 1e-3
"""How well gauge conditions are kept."""

TINY = 1e-300

Parameters = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class State:
    """The model at some parameters, per row (n,) and per voxel (m,)."""

    values: tuple[np.ndarray, ...]
    crystal: np.ndarray
    path: np.ndarray
    offset: np.ndarray
    a: np.ndarray
    y: np.ndarray

    def positive(self) -> bool:
        return bool((self.crystal > 0).all() and (self.path > 0).all())


class Problem:
    """Rows, terms and which rows count.

    Args:
        rows: Observations of whole voxels.
        terms: The components, bound to the rows.
        keep: (n,) bool: rows that count; None: all.
    """

    def __init__(
        self, rows: Rows, terms: Sequence[Term], keep: np.ndarray | None = None
    ) -> None:
        self.rows = rows
        self.terms = tuple(terms)
        self.keep = np.ones(len(rows)) if keep is None else keep.astype(float)
        self._first = rows.starts[:-1]
        self._length = np.diff(rows.starts)
        self._counts = rows.counts - rows.background
        self.noise = rows.counts + rows.background_variance
        edges = np.quantile(rows.s, np.linspace(0, 1, N_EXPECTED + 1)[1:-1])
        self._bin = np.searchsorted(edges, rows.s)
        self._s = self._mean_by_bin(rows.s.astype(float), np.ones(len(rows)))
        self.unit = self._unit()
        self._levels = [self._level(term) for term in self.terms]
        self.groups = self._grouped()
        self._restraints: tuple | None = None
        self._latest: tuple[Parameters, State] | None = None

    def _unit(self) -> float:
        """Mean intensity: the unit of offsets."""
        k = self.keep
        return max(dot(k, self._counts) / dot(k, self.rows.exposure), TINY)

    def _mean_by_bin(self, values, weights) -> np.ndarray:
        total = np.bincount(self._bin, weights, N_EXPECTED)
        filled = np.bincount(self._bin, weights * values, N_EXPECTED)
        return filled / np.maximum(total, TINY)

    def per_voxel(self, values: np.ndarray) -> np.ndarray:
        """(m,) sums of values (n,) over the rows of each voxel."""
        return np.add.reduceat(values, self._first)

    def per_row(self, values: np.ndarray) -> np.ndarray:
        """(n,) values (m,) of each row's voxel."""
        return np.repeat(values, self._length)

    def start(self) -> Parameters:
        """The start values of all terms."""
        return tuple(np.array(term.initial, float) for term in self.terms)

    def state(self, parameters: Parameters) -> State:
        """The model at these parameters; that of the latest ones is kept."""
        if self._latest is None or self._latest[0] is not parameters:
            self._latest = (parameters, self._state(parameters))
        return self._latest[1]

    def _state(self, parameters: Parameters) -> State:
        n = len(self.rows)
        b, g, c = np.ones(n), np.ones(n), np.zeros(n)
        values = []
        for term, p in zip(self.terms, parameters, strict=True):
            value = term.value(p)
            values.append(value)
            if term.role == "offset":
                c += value
            elif term.role == "path":
                g *= value
            else:
                b *= value
        e = self.rows.exposure * g
        return State(tuple(values), b, g, c, e * b, self._counts - e * c)

    def expected(self, state: State) -> Curve:
        """Smooth intensity I0(s) > 0: the ratio of sums in shells."""
        y = np.bincount(self._bin, self.keep * state.y, N_EXPECTED)
        a = np.bincount(self._bin, self.keep * state.a, N_EXPECTED)
        values = y / np.maximum(a, TINY)
        floor = 0.02 * max(np.mean(np.abs(values)), TINY)
        order = np.argsort(self._s, kind="stable")
        use = order[a[order] > 0]
        return Curve(self._s[use], np.maximum(values[use], floor))

    def prior(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Expected I (m,) of each voxel, and the weight of that expectation (m,)."""
        mean = self.expected(state)(self.rows.s[self._first])
        return mean, 1.0 / mean**2

    def weights(self, state: State) -> np.ndarray:
        """(n,) inverse predicted variances; 0 for rows that don't count."""
        return self.keep / self.variances(state)

    def variances(self, state: State) -> np.ndarray:
        """(n,) predicted variance of the counts of every row, > 0.

        The intensity that predicts is that of the voxel from the rows that count,
        drawn to I0(s) where they have few counts, and never below a tenth of it.
        """
        i0, strength = self.prior(state)
        w = self.keep / self._variance(state, self.per_row(i0))
        s = self.per_voxel(w * state.a**2)
        mean = (self.per_voxel(w * state.a * state.y) + strength * i0) / (s + strength)
        mean = np.maximum(mean, 0.1 * i0)
        return self._variance(state, self.per_row(mean))

    def _variance(self, state: State, intensity: np.ndarray) -> np.ndarray:
        rows = self.rows
        signal = state.a * intensity
        both = signal + rows.exposure * state.path * state.offset + rows.background
        return np.maximum(both, 0.1 * signal) + rows.background_variance

    def sums(self, state: State, w: np.ndarray):
        """N, S and the noise sum w^2 a^2 n of every voxel (m,)."""
        wa = w * state.a
        return (
            self.per_voxel(wa * state.y),
            self.per_voxel(wa * state.a),
            self.per_voxel(wa**2 * self.noise),
        )

    def objective(self, parameters: Parameters, w: np.ndarray, sizes) -> float:
        """F with penalties; infinite where a factor isn't above 0."""
        state = self.state(parameters)
        if not state.positive():
            return np.inf
        n, s, v = self.sums(state, w)
        full = s > 0
        value = dot(w, state.y**2) + np.sum((v[full] - n[full] ** 2) / s[full])
        differences = self.differences(parameters)
        for d, slope in zip(differences, self.penalty(differences, sizes), strict=True):
            value += dot(d, slope)
        return 0.5 * float(value)

    def differences(self, parameters: Parameters) -> Parameters:
        """Parameters minus their start values."""
        return tuple(
            p - term.initial for p, term in zip(parameters, self.terms, strict=True)
        )

    def penalty(self, differences: Parameters, sizes) -> Parameters:
        """Gradient of the penalty, which is half the product of this with its argument.

        Args:
            differences: Parameters minus start values.
            sizes: Expected size of the penalised combinations, per term.
        """
        result = [
            matrix @ d
            for matrix, d in zip(self.restraints(sizes), differences, strict=True)
        ]
        for group in self.groups:
            total = sum(dot(self._levels[i], differences[i]) for i in group)
            for i in group:
                result[i] = result[i] + self._levels[i] * total / GAUGE**2
        return tuple(result)

    def level_restraints(self) -> list[np.ndarray]:
        """Vectors (parameters of all terms,) l that add l l^T to the penalty."""
        result = []
        for group in self.groups:
            parts = [np.zeros(len(term.initial)) for term in self.terms]
            for i in group:
                parts[i] = self._levels[i] / GAUGE
            result.append(np.concatenate(parts))
        return result

    def restraints(self, sizes: Sequence[float]) -> list:
        """Per term, the sparse matrix of its penalty, without levels of factors."""
        if self._restraints is None or self._restraints[0] != tuple(sizes):
            made = [
                self._restraint(term, size)
                for term, size in zip(self.terms, sizes, strict=True)
            ]
            self._restraints = (tuple(sizes), made)
        return self._restraints[1]

    def _restraint(self, term: Term, size: float):
        unit = self.unit if term.role == "offset" else 1.0
        matrix = sparse.identity(len(term.initial), format="csr") / (LOOSE * unit) ** 2
        matrix = matrix + term.penalty.T @ term.penalty / (size * unit) ** 2
        matrix = matrix + term.gauge.T @ term.gauge / (GAUGE * unit) ** 2
        return matrix.tocsr()

    def _level(self, term: Term) -> np.ndarray:
        """(n_parameters,): times the parameters, the sum of a factor over the rows that
        it applies to, divided by all rows."""
        return term.weights.transposed(self.keep) / max(self.keep.sum(), 1.0)

    def _grouped(self) -> list[list[int]]:
        """Terms whose common level no data tell: each factor that applies everywhere,
        and those factors of a role that do so together."""
        groups = []
        for role in ("crystal", "path"):
            linear = [
                i
                for i, term in enumerate(self.terms)
                if term.role == role and not term.component.exponential
            ]
            groups += [[i] for i in linear if not len(self.terms[i].neutral)]
            partial = [i for i in linear if len(self.terms[i].neutral)]
            if partial:
                nowhere = np.all([self.terms[i].neutral for i in partial], axis=0)
                groups += [] if nowhere.any() else [partial]
        return groups

    def normalised(self, parameters: Parameters) -> Parameters:
        """The same model with a mean of 1 over the rows for every factor.

        Intensities take up the mean of B; they and the offsets take up that of G.
        """
        result = list(parameters)
        path = 1.0
        for group in self.groups:
            mean = sum(dot(self._levels[i], parameters[i]) for i in group)
            mean /= sum(dot(self._levels[i], self.terms[i].initial) for i in group)
            for i in group:
                result[i] = parameters[i] / mean
            if self.terms[group[0]].role == "path":
                path *= mean
        return tuple(
            p * path if term.role == "offset" else p
            for term, p in zip(self.terms, result, strict=True)
        )


def dot(a: np.ndarray, b: np.ndarray) -> float:
    """The scalar product, with the same bits for any number of threads."""
    return float(np.sum(a * b))

"""Which of several possible indexings each crystal has, from its diffuse scattering.

Each crystal or still becomes a list of relative anisotropic intensities
t = I / I0(s) - 1 with predicted variances; I0 is its own, so scales need not be known.
The reference T is the mean of t over symmetry mates of the others, each in its own
setting, drawn towards 0 where it is poorly known. An operator scores

    g = sum u (t T - T^2 / 2) ,   u = 1 / (var t + var T)

the logarithm of how much likelier t is with that setting than with no relation at all.
The reference grows from a well-measured crystal, then every crystal is compared with
all others again until nothing changes. An operator is trusted if its g leads by much,
and by many standard errors of the terms of g themselves, which holds where variances
are larger than predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from diffuse_core.symmetry import UniqueVoxels

DECIDED = 3.0
"""Standard errors by which the best operator must lead."""

GAIN = 8.0
"""What it must be ahead in g: exp(8) = 3000 times as likely as the next best."""

NEXT = 0.95
"""The next best CC must be lower than this times the best: errors that aren't random
can make smaller differences."""

_STARTS = 4
_PASSES = 20
_SHELLS = 30
_PER_SHELL = 50
_CLIP = 5.0


@dataclass(frozen=True, eq=False)
class Maps:
    """Relative anisotropic intensities of some crystals.

    Attributes:
        starts: (n_crystals + 1,) int64: t[starts[i]:starts[i + 1]] is crystal i.
        t, variance: (n,) float64.
        place: (n_operators, n) int32: number of the unique voxel of each, by operator.
        prior: Variance of the true t.
    """

    starts: np.ndarray
    t: np.ndarray
    variance: np.ndarray
    place: np.ndarray
    prior: float

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def voxels(self) -> int:
        """How many unique voxels there are."""
        return int(self.place.max(initial=-1)) + 1


@dataclass(frozen=True)
class Choice:
    """The indexing of one crystal.

    Attributes:
        operator: Number of its operator; 0 (as it is) where it can't be decided.
        best, next: Numbers of the operators that agree best and next best.
        cc, next_cc: Their weighted correlation of t with T; NaN without overlap.
        gain: Difference of their scores g.
        lead: The same in standard errors.
        compared: Intensities that had a reference.
    """

    operator: int
    best: int
    next: int
    cc: float
    next_cc: float
    gain: float
    lead: float
    compared: int

    @property
    def decided(self) -> bool:
        ahead = self.gain > GAIN and self.lead > DECIDED
        return ahead and self.cc > 0 and self.next_cc < NEXT * self.cc


def make_maps(
    crystal: np.ndarray,
    key: np.ndarray,
    columns: dict[str, np.ndarray],
    unique: UniqueVoxels,
    operators: Sequence[np.ndarray],
) -> Maps:
    """Maps of crystals from their observations.

    Args:
        crystal: (n,) int, 0, 1, 2 ...: whose observation it is.
        key: (n,) int64 keys of voxels as they were indexed, no symmetry applied.
        columns: counts, background, background_variance, exposure, s, (n,) each.
        unique: The Laue group.
        operators: (3, 3) int64 each, hkl' = operator @ hkl.
    """
    order = np.lexsort([key, crystal])
    crystal, key = crystal[order], key[order]
    new = np.ones(len(key), bool)
    new[1:] = (key[1:] != key[:-1]) | (crystal[1:] != crystal[:-1])
    first = np.flatnonzero(new)
    crystal, key = crystal[first], key[first]
    n, b, vb, e, s = (
        np.add.reduceat(columns[name][order].astype(float), first)
        for name in ("counts", "background", "background_variance", "exposure", "s")
    )
    s /= np.diff(np.append(first, len(order)))
    starts = np.searchsorted(crystal, np.arange(crystal.max(initial=-1) + 2))
    expected = np.empty(len(key))
    for low, high in zip(starts[:-1], starts[1:], strict=True):
        part = slice(low, high)
        expected[part] = _isotropic(s[part], (n - b)[part], e[part])
    t = (n - b) / (e * expected) - 1.0
    variance = (e * expected + np.maximum(b, 0.0) + vb) / (e * expected) ** 2
    t, prior = _clipped(t, variance)
    found = [unique.keys(key, matrix)[0] for matrix in operators]
    voxels = np.unique(np.concatenate([np.unique(keys) for keys in found]))
    place = np.array([np.searchsorted(voxels, keys) for keys in found], np.int32)
    return Maps(starts.astype(np.int64), t, variance, place, prior)


def _isotropic(s: np.ndarray, signal: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """(n,) smooth I0(s) > 0: the ratio of sums in shells, straight between them."""
    if not len(s):
        return s
    shells = int(np.clip(len(s) // _PER_SHELL, 1, _SHELLS))
    edges = np.quantile(s, np.linspace(0, 1, shells + 1)[1:-1])
    shell = np.searchsorted(edges, s)
    total, weight, place = (
        np.bincount(shell, values, shells)
        for values in (signal, exposure, exposure * s)
    )
    use = weight > 0
    values = total[use] / weight[use]
    floor = max(0.02 * np.abs(values).mean(), 1e-300)
    return np.interp(s, place[use] / weight[use], np.maximum(values, floor))


def _clipped(t: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, float]:
    """t without wild values, and the variance of its true part."""
    prior = 0.25
    clipped = t
    for _ in range(3):
        limit = _CLIP * np.sqrt(variance + prior)
        clipped = np.clip(t, -limit, limit)
        w = 1.0 / (variance + prior) ** 2
        excess = float(np.sum(w * (clipped**2 - variance)) / max(np.sum(w), 1e-300))
        prior = max(excess, 1e-4)
    return clipped, prior


def choose(maps: Maps) -> list[Choice]:
    """The indexing of every crystal relative to the others.

    The crystals from which the reference may start keep theirs, unless the others
    agree that it differs.
    """
    information = np.add.reduceat(
        np.append(1.0 / (maps.variance + maps.prior), 0.0), maps.starts[:-1]
    ) * (np.diff(maps.starts) > 0)
    seeds = np.argsort(-information, kind="stable")[:_STARTS]
    best: list[Choice] = []
    highest = -np.inf
    for seed in seeds.tolist():
        reference = Reference(maps)
        reference.grow(seed)
        reference.refine()
        total, found = reference.choices()
        if not best or total > 1.01 * highest:
            best, highest = found, total
        if all(choice.decided for choice in best):
            break
    return best


class Reference:
    """The mean of some crystals, each in the setting that it was found to have."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.operator = np.zeros(len(maps), np.int64)
        self.member = np.zeros(len(maps), bool)
        self._sum = np.zeros(maps.voxels)
        self._weight = np.zeros(maps.voxels)

    def put(self, crystal: int, operator: int, sign: float = 1.0) -> None:
        """Adds a crystal, or takes it out with sign -1."""
        part = self._part(crystal)
        self.operator[crystal] = operator
        self.member[crystal] = sign > 0
        place = self.maps.place[operator, part]
        _add(place, self.maps.t[part], self.maps.variance[part], sign, *self._state)

    def compare(self, crystal: int) -> tuple[float, Choice]:
        """Highest score of a crystal with all others, and its operators."""
        member = bool(self.member[crystal])
        operator = int(self.operator[crystal])
        if member:
            self.put(crystal, operator, -1.0)
        result = self._compare(crystal)
        if member:
            self.put(crystal, operator)
        return result

    def grow(self, seed: int) -> None:
        """Adds all crystals, the surest first."""
        self.put(seed, 0)
        at_least = max(1, len(self.maps) // 20)
        while not self.member.all():
            rest = np.flatnonzero(~self.member).tolist()
            found = [(self.compare(i)[1], i) for i in rest]
            found.sort(key=lambda pair: (-pair[0].lead, pair[1]))
            for number, (choice, i) in enumerate(found):
                if choice.decided or number < at_least:
                    self.put(i, choice.best)

    def refine(self) -> None:
        """Compares every crystal with all others until none changes; then again with
        those alone that could be decided."""
        self._settle(range(len(self.maps)))
        for _ in range(3):
            doubtful = [
                i
                for i in np.flatnonzero(self.member).tolist()
                if not self.compare(i)[1].decided
            ]
            if not doubtful or len(doubtful) >= self.member.sum() - 1:
                break
            for i in doubtful:
                self.put(i, int(self.operator[i]), -1.0)
            self._settle(np.flatnonzero(self.member).tolist())

    def choices(self) -> tuple[float, list[Choice]]:
        """Sum of the scores of all crystals, and their operators."""
        found = [self.compare(i) for i in range(len(self.maps))]
        return sum(score for score, _ in found), [choice for _, choice in found]

    def _settle(self, crystals: Sequence[int]) -> None:
        for _ in range(_PASSES):
            changed = False
            for i in crystals:
                best = self.compare(i)[1].best
                if best != self.operator[i]:
                    self.put(i, int(self.operator[i]), -1.0)
                    self.put(i, best)
                    changed = True
            if not changed:
                break

    @property
    def _state(self) -> tuple[np.ndarray, np.ndarray]:
        return self._sum, self._weight

    def _part(self, crystal: int) -> slice:
        return slice(*self.maps.starts[crystal : crystal + 2].tolist())

    def _compare(self, crystal: int) -> tuple[float, Choice]:
        part = self._part(crystal)
        t, variance = self.maps.t[part], self.maps.variance[part]
        places = np.ascontiguousarray(self.maps.place[:, part])
        data = (t, variance, self.maps.prior, *self._state)
        sums = _scores(places, *data)
        order = np.argsort(-sums[:, 0], kind="stable")
        best, following = order[:2].tolist()
        gain, scatter = _difference(places[best], places[following], *data)
        lead = gain / np.sqrt(scatter) if scatter > 0 else 0.0
        cc, next_cc = _correlation(sums[best]), _correlation(sums[following])
        compared = int(sums[best, 1])
        choice = Choice(best, best, following, cc, next_cc, gain, lead, compared)
        if not choice.decided:
            choice = replace(choice, operator=0)
        return float(sums[best, 0]), choice


def _correlation(sums: np.ndarray) -> float:
    """Weighted Pearson coefficient from a row of `_scores`; NaN without overlap."""
    u, x, y, xy, xx, yy = sums[2:]
    if not u > 0:
        return float("nan")
    norm = (xx - x * x / u) * (yy - y * y / u)
    return float((xy - x * y / u) / np.sqrt(norm)) if norm > 0 else float("nan")


@njit(cache=True, nogil=True)
def _add(place, t, variance, sign, total, weight):  # pragma: no cover
    for j in range(len(t)):
        w = sign / variance[j]
        total[place[j]] += w * t[j]
        weight[place[j]] += w


@njit(cache=True, nogil=True)
def _terms(v, t, variance, prior, total, weight):  # pragma: no cover
    """g, u, T of one intensity; 0 where there is no reference."""
    if weight[v] * prior < 1e-9:
        return 0.0, 0.0, 0.0
    known = weight[v] + 1.0 / prior
    mean = total[v] / known
    u = 1.0 / (variance + 1.0 / known)
    return u * (t * mean - 0.5 * mean * mean), u, mean


@njit(cache=True, nogil=True)
def _scores(places, t, variance, prior, total, weight):  # pragma: no cover
    """Per operator: g, how many terms, sums of u times 1, t, T, tT, t^2, T^2."""
    out = np.zeros((len(places), 8))
    for k in range(len(places)):
        for j in range(len(t)):
            v = places[k, j]
            g, u, mean = _terms(v, t[j], variance[j], prior, total, weight)
            if u > 0.0:
                out[k, 0] += g
                out[k, 1] += 1.0
                out[k, 2] += u
                out[k, 3] += u * t[j]
                out[k, 4] += u * mean
                out[k, 5] += u * t[j] * mean
                out[k, 6] += u * t[j] * t[j]
                out[k, 7] += u * mean * mean
    return out


@njit(cache=True, nogil=True)
def _difference(one, other, t, variance, prior, total, weight):  # pragma: no cover
    """Sum of the differences of two scores' terms, and the variance of that sum."""
    n, total_d, square = 0, 0.0, 0.0
    for j in range(len(t)):
        a, u, _ = _terms(one[j], t[j], variance[j], prior, total, weight)
        b, v, _ = _terms(other[j], t[j], variance[j], prior, total, weight)
        if u > 0.0 or v > 0.0:
            n += 1
            total_d += a - b
            square += (a - b) ** 2
    return total_d, max(square - total_d * total_d / max(n, 1), 0.0)

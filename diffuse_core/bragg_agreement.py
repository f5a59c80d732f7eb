"""How well the Bragg intensities of each crystal agree with those of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from diffuse_core.ambiguity import Choice
from diffuse_core.symmetry import UniqueVoxels

_PER_SHELL = 50
_CLIP = (-1.0, 5.0)


def confirmed(
    crystal: np.ndarray,
    key: np.ndarray,
    s: np.ndarray,
    intensity: np.ndarray,
    unique: UniqueVoxels,
    matrices: Sequence[np.ndarray],
    chosen: Sequence[int | None],
) -> list[Choice]:
    """What the intensities say to an operator that was found for each crystal.

    Intensities are divided by their mean in shells of resolution. Those of a crystal
    are correlated with the mean of the others, each in its own setting, over the n
    unique reflections that they share: cc. As if they were normal deviates,

        gain = n / 2 ln((1 - next_cc^2) / (1 - cc^2))
        lead = (atanh cc - atanh next_cc) sqrt((n - 3) / 2)

    (Fisher's z; a negative next_cc counts as 0 in `gain`). An operator that isn't
    decided by that is not used.

    Args:
        crystal: (n,) int, 0, 1, 2 ...
        key: (n,) int64 keys (`diffuse_core.grid`) of the indices, no symmetry applied.
        s: (n,) 1/d (1/A).
        intensity: (n,) float64.
        unique: The Laue group.
        matrices: (3, 3) int64 each, hkl' = matrix @ hkl; two or more.
        chosen: Number of the operator of each crystal; None where none was found.
    """
    t = np.zeros(len(key))
    parts = [np.flatnonzero(crystal == i) for i in range(len(chosen))]
    for part in parts:
        t[part] = _relative(s[part], intensity[part])
    found = [unique.keys(key, matrix)[0] for matrix in matrices]
    voxels = np.unique(np.concatenate(found))
    place = np.array([np.searchsorted(voxels, keys) for keys in found])
    total, count = np.zeros(len(voxels)), np.zeros(len(voxels))
    for part, operator in zip(parts, chosen, strict=True):
        if operator is not None:
            np.add.at(total, place[operator, part], t[part])
            np.add.at(count, place[operator, part], 1.0)
    result = []
    for part, operator in zip(parts, chosen, strict=True):
        if operator is None:
            nothing = float("nan")
            result.append(Choice(0, 0, 1, nothing, nothing, 0.0, 0.0, 0))
            continue
        own = place[operator, part]
        others = total.copy(), count.copy()
        np.subtract.at(others[0], own, t[part])
        np.subtract.at(others[1], own, 1.0)
        agreements = list(_agreements(place[:, part], t[part], *others))
        result.append(_choice(agreements, operator))
    return result


def _relative(s: np.ndarray, intensity: np.ndarray) -> np.ndarray:
    """(n,) intensity over its mean in the shell, without wild values."""
    if not len(s):
        return intensity
    shells = max(1, len(s) // _PER_SHELL)
    shell = np.argsort(np.argsort(s, kind="stable"), kind="stable") * shells // len(s)
    mean = np.bincount(shell, intensity) / np.bincount(shell)
    floor = max(0.01 * np.abs(intensity).mean(), 1e-300)
    return np.clip(intensity / np.maximum(mean, floor)[shell], *_CLIP)


def _agreements(
    places: np.ndarray, t: np.ndarray, total: np.ndarray, count: np.ndarray
) -> Iterator[tuple[float, int]]:
    """By operator: correlation (NaN if too few), and over how many reflections."""
    for place in places:
        where, number = np.unique(place, return_inverse=True)
        own = np.bincount(number, t) / np.bincount(number)
        use = count[where] > 0.5
        one, other = own[use], total[where[use]] / count[where[use]]
        n = int(use.sum())
        varies = n > 3 and np.ptp(one) > 0 and np.ptp(other) > 0
        yield (float(np.corrcoef(one, other)[0, 1]) if varies else float("nan")), n


def _choice(agreements: list[tuple[float, int]], operator: int) -> Choice:
    rest = [i for i in range(len(agreements)) if i != operator]
    following = max(rest, key=lambda i: np.nan_to_num(agreements[i][0], nan=-2.0))
    (cc, n), (next_cc, m) = agreements[operator], agreements[following]
    gain = lead = 0.0
    if np.isfinite(cc) and np.isfinite(next_cc):
        n = min(n, m)
        a, b = np.clip([cc, next_cc], -1 + 1e-9, 1 - 1e-9)
        gain = float(0.5 * n * np.log((1 - max(b, 0.0) ** 2) / (1 - a * a)))
        lead = float((np.arctanh(a) - np.arctanh(b)) * np.sqrt(0.5 * (n - 3)))
    choice = Choice(operator, operator, following, cc, next_cc, gain, lead, n)
    if choice.decided:
        return choice
    return Choice(0, operator, following, cc, next_cc, gain, lead, n)

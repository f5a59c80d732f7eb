"""Voxels of one map brought onto those of another: indices, symmetry, widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from diffuse_core.errors import ConfigError
from diffuse_core.grid import keys_of
from diffuse_core.voxel_list import Voxels

Representative = Callable[[np.ndarray], np.ndarray]
CHUNK = 200_000


def reindexed(voxels: Voxels, matrix: np.ndarray) -> Voxels:
    """The same voxels under other indices: hkl' = matrix @ hkl, matrix (3, 3).

    Raises:
        ConfigError: The operator is not whole-numbered, or mixes axes with different
            voxel widths.
    """
    whole = np.rint(matrix).astype(np.int64)
    if np.abs(matrix - whole).max() > 1e-6:
        raise ConfigError(
            "The operator of reindex gives fractional indices, so voxels do not map "
            "onto voxels: choose another one."
        )
    steps = np.empty(3)
    for i, row in enumerate(whole):
        mixed = voxels.steps[row != 0]
        if np.ptp(mixed) > 1e-6 * mixed[0]:
            raise ConfigError(
                f"The operator of reindex mixes axes on which the voxels of "
                f"{voxels.name} have different widths."
            )
        steps[i] = mixed[0]
    return replace(voxels, index=voxels.index @ whole.T, steps=steps)


def folded(voxels: Voxels, representative: Representative) -> Voxels:
    """The mean over equivalent voxels, at the index of their representative.

    Weights are the exposures, else the numbers of observations, else equal; never the
    sigmas, which follow the counts. Where equivalents are copies of one measurement
    (`filled_by_symmetry`) the sigma stays, else it shrinks as for independent ones.

    Args:
        voxels: The map.
        representative: (n, 3) indices -> (n, 3) indices of the representatives.
    """
    index, first, group, size = _equivalents(voxels, representative)
    unique = replace(voxels.rows(first), index=index[first], asymmetric=True)
    if len(first) == len(voxels) or _copied(voxels, first, group, size):
        return unique
    n = len(first)

    def total(values):
        return np.bincount(group, values, n)

    weight = np.ones(len(voxels))
    if voxels.exposure is not None:
        weight = voxels.exposure
    elif voxels.observations is not None:
        weight = voxels.observations
    sums = total(weight)
    changes = {"intensity": total(weight * voxels.intensity) / sums}
    if voxels.sigma is not None:
        changes["sigma"] = np.sqrt(total((weight * voxels.sigma) ** 2)) / sums
    if voxels.exposure is not None:
        changes["exposure"] = sums
    if voxels.observations is not None:
        changes["observations"] = total(voxels.observations)
    return replace(unique, **changes)


def filled_by_symmetry(voxels: Voxels, representative: Representative) -> bool:
    """Whether 99 % of the voxels that have equivalents have their very value."""
    return _copied(voxels, *_equivalents(voxels, representative)[1:])


def _equivalents(voxels: Voxels, representative: Representative):
    """Representatives; first row, row -> group, and size of the groups."""
    index = representative(voxels.index)
    _, first, group, size = np.unique(
        keys_of(index), return_index=True, return_inverse=True, return_counts=True
    )
    return index, first, group.reshape(-1), size


def _copied(voxels: Voxels, first, group, size) -> bool:
    company = size[group] > 1
    same = voxels.intensity == voxels.intensity[first][group]
    return bool(company.any() and same[company].mean() > 0.99)


def ratios(steps: np.ndarray, target: np.ndarray, name: str) -> np.ndarray:
    """(3,) int: how many voxels of one width make one of another, per axis.

    Raises:
        ConfigError: Not a whole number.
    """
    ratio = np.asarray(target) / steps
    whole = np.maximum(np.rint(ratio), 1).astype(np.int64)
    if np.abs(ratio - whole).max() > 1e-3:
        raise ConfigError(
            "The voxels of one map are "
            f"{', '.join(f'{x:.4g}' for x in ratio)} times as wide as those of {name}: "
            "maps can be compared when the widths are equal or whole multiples."
        )
    return whole


def resampled(
    voxels: Voxels,
    target: np.ndarray,
    representative: Representative | None = None,
    min_coverage: float = 0.9,
) -> Voxels:
    """The map in coarser voxels: each the mean over its volume.

    A finer voxel that lies across a border counts with the part that is inside.

    Args:
        voxels: The finer map; with `representative`, folded with it.
        target: (3,) width of the coarser voxels, whole multiples of the finer.
        representative: As for `folded`; None where the map has no symmetry.
        min_coverage: Coarser voxels of which a smaller part is measured are left out.
    """
    ratio = ratios(voxels.steps, target, voxels.name)
    if (ratio == 1).all():
        return voxels
    coarse = np.floor_divide(2 * voxels.index + ratio, 2 * ratio)
    if representative is not None:
        coarse = representative(coarse)
    _, first = np.unique(keys_of(coarse), return_index=True)
    coarse = coarse[first]
    offsets, parts = _parts_of(ratio)
    keys = keys_of(voxels.index)
    order = np.argsort(keys)
    keys = keys[order]
    pieces = []
    for start in range(0, len(coarse), CHUNK):
        chunk = coarse[start : start + CHUNK]
        fine = (chunk[:, None, :] * ratio + offsets).reshape(-1, 3)
        if representative is not None:
            fine = representative(fine)
        wanted = keys_of(fine)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = keys[at] == wanted
        row = np.repeat(np.arange(len(chunk)), len(offsets))[found]
        weight = np.tile(parts, len(chunk))[found]
        shape = (len(chunk), len(keys))
        mean = sparse.csr_matrix((weight, (row, order[at[found]])), shape=shape)
        covered = np.asarray(mean.sum(axis=1)).ravel()
        good = covered >= (min_coverage - 1e-9) * parts.sum()
        mean, covered = mean[good], covered[good]
        piece = {"index": chunk[good], "intensity": mean @ voxels.intensity / covered}
        squared = mean.multiply(mean).tocsr()
        if voxels.sigma is not None:
            piece["sigma"] = np.sqrt(squared @ voxels.sigma**2) / covered
        if voxels.exposure is not None:
            piece["exposure"] = covered**2 / (squared @ (1.0 / voxels.exposure))
        pieces.append(piece)
    columns = {c: np.concatenate([p[c] for p in pieces]) for c in pieces[0]}
    return replace(
        voxels, steps=np.asarray(target, float), observations=None, **columns
    )


def _parts_of(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (m, 3) of the finer voxels in a coarser one, and their parts (m,)."""
    offsets, parts = [], []
    for r in ratio:
        half = r // 2
        offset = np.arange(-half, half + 1)
        part = np.ones(len(offset))
        if r % 2 == 0:
            part[[0, -1]] = 0.5
        offsets.append(offset)
        parts.append(part)
    grid = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    weight = parts[0][:, None, None] * parts[1][:, None] * parts[2]
    return grid, weight.ravel()


def binned(voxels: Voxels, matrix: np.ndarray, steps: np.ndarray) -> Voxels:
    """A Cartesian map in voxels of hkl: the mean of the voxels with their centre there.

    Args:
        voxels: A map in the frame "q" or "lab".
        matrix: (3, 3), A: hkl = matrix @ q.
        steps: (3,) width of the voxels in hkl.

    Raises:
        ConfigError: The Cartesian voxels are wider than those of hkl.
    """
    reach = np.abs(matrix) @ voxels.steps
    if (reach > 1.5 * np.asarray(steps)).any():
        raise ConfigError(
            f"The Cartesian voxels of {voxels.name} reach over "
            f"{', '.join(f'{x:.3g}' for x in reach)} in h, k, l, wider than the voxels "
            "of the other map: make them with a finer grid."
        )
    hkl = voxels.centres @ np.asarray(matrix).T
    index = np.rint(hkl / steps).astype(np.int64)
    _, first, group, size = np.unique(
        keys_of(index), return_index=True, return_inverse=True, return_counts=True
    )
    group = group.reshape(-1)
    mean = np.bincount(group, voxels.intensity) / size
    sigma = None
    if voxels.sigma is not None:
        sigma = np.sqrt(np.bincount(group, voxels.sigma**2)) / size
    return Voxels(
        voxels.name,
        "hkl",
        np.asarray(steps, float),
        index[first],
        mean,
        sigma,
        unit_cell=voxels.unit_cell,
        space_group=voxels.space_group,
    )

"""Made-up observations merged with any scales, against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from diffuse_core.estimator import voxel_sums, weighted_mean
from diffuse_core.rows import Rows
from diffuse_core.scale_model import Curve, Scales
from diffuse_core.statistics import spherical_average


@dataclass(frozen=True, eq=False)
class MergedVoxels:
    """(m,) float64 each: |s|, intensity and sigma of the voxels, their truth, and
    weights that do not depend on their own counts."""

    s: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    true: np.ndarray
    weight: np.ndarray


def merge_rows(
    rows: Rows,
    scales: Scales,
    expected: Curve,
    true: np.ndarray,
    keep: np.ndarray | None = None,
) -> MergedVoxels:
    """The voxels, by the estimator that dials.diffuse_merge uses.

    Args:
        rows: Observations.
        scales: Their B, G and C.
        expected: I0(s), from which variances are predicted.
        true: (n,) intensity of each row's voxel.
        keep: (n,) bool: rows to use; None: all.
    """
    use = np.ones(len(rows), bool) if keep is None else keep
    first = rows.starts[:-1]
    sums = voxel_sums(
        rows.starts,
        (
            rows.counts,
            np.where(use, rows.exposure, 0.0),
            rows.background,
            rows.background_variance,
            rows.pixels,
        ),
        (scales.crystal, scales.path, scales.offset, expected(rows.s)),
    )
    seen = sums["weight"] > 0
    sums = {name: values[seen] for name, values in sums.items()}
    return MergedVoxels(
        rows.s[first][seen].astype(float),
        *weighted_mean(sums),
        true[first][seen],
        sums["weight"],
    )


def joined(parts: Sequence[MergedVoxels]) -> MergedVoxels:
    """Voxels of several parts, one after the other."""
    return MergedVoxels(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(MergedVoxels)
        )
    )


def anisotropic(s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(m,) values (m,) without their spherical average."""
    return values - spherical_average(s, values)(s)


def mean_error(voxels: MergedVoxels, use: np.ndarray) -> tuple[float, float]:
    """Weighted mean of some voxels against the truth, relative, and its error.

    Args:
        voxels: The voxels.
        use: (m,) bool.
    """
    w = voxels.weight[use]
    total = np.sum(w * voxels.true[use])
    value = np.sum(w * (voxels.intensity[use] - voxels.true[use])) / total
    return float(value), float(np.sqrt(np.sum((w * voxels.sigma[use]) ** 2)) / total)

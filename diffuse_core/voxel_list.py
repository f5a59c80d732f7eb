"""Measured voxels of any program, as a list: what the comparison of maps works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.grid import keys_of, reciprocal_basis


@dataclass(frozen=True, eq=False)
class Voxels:
    """The voxels of a map that were measured; centres are index * steps.

    Attributes:
        name: The file, for messages.
        frame: "hkl" (Miller indices), "q" (1/A, the crystal's Cartesian frame) or
            "lab" (1/A, laboratory with the goniometer at zero).
        steps: (3,) float64: width of a voxel, in the units of the frame.
        index: (n, 3) int64, no row twice.
        intensity: (n,) float64, finite.
        sigma: (n,) float64, or None where the file has none.
        exposure: (n,) float64, or None: counts per intensity; the part of the variance
            that grows with the intensity is intensity / exposure.
        observations: (n,) float64, or None: relative weights where the exposure is not
            known.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg), or None.
        space_group: Hall symbol, or None.
        asymmetric: Only one of the voxels that the Laue group makes equivalent.
        exact: The values have no noise (a known truth); sigma is then 0.
    """

    name: str
    frame: str
    steps: np.ndarray
    index: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray | None = None
    exposure: np.ndarray | None = None
    observations: np.ndarray | None = None
    unit_cell: tuple[float, ...] | None = None
    space_group: str | None = None
    asymmetric: bool = False
    exact: bool = False

    def __len__(self) -> int:
        return len(self.index)

    @property
    def centres(self) -> np.ndarray:
        """(n, 3) float64: coordinates of the centres."""
        return self.index * self.steps

    def rows(self, which: np.ndarray) -> Voxels:
        """The voxels of a selection (bool or int array)."""
        columns = ("index", "intensity", "sigma", "exposure", "observations")
        chosen = {c: getattr(self, c) for c in columns}
        return replace(
            self, **{c: None if v is None else v[which] for c, v in chosen.items()}
        )


def s_norm(unit_cell: tuple[float, ...], hkl: np.ndarray) -> np.ndarray:
    """(n,) |s| = 1/d in 1/A of hkl (n, 3) for a cell in A and deg."""
    return np.linalg.norm(hkl @ reciprocal_basis(unit_cell).T, axis=1)


def from_points(
    name: str,
    points: np.ndarray,
    intensity: np.ndarray,
    steps: np.ndarray | None = None,
    frame: str = "hkl",
    **columns,
) -> Voxels:
    """The voxels of a table; rows without a finite intensity are left out.

    Args:
        name: The file, for messages.
        points: (n, 3) coordinates of the centres.
        intensity: (n,).
        steps: Width of a voxel; None finds it from the smallest distances.
        frame: See `Voxels`.
        **columns: Other attributes of `Voxels`; arrays are (n,).

    Raises:
        InputError: No voxel, a voxel twice, or centres that are not multiples of the
            width.
    """
    points = np.asarray(points, float)
    intensity = np.asarray(intensity, float)
    good = np.isfinite(intensity) & np.isfinite(points).all(axis=1)
    arrays = ("sigma", "exposure", "observations")
    for column in arrays:
        if columns.get(column) is not None:
            columns[column] = np.asarray(columns[column], float)
    if columns.get("sigma") is not None:
        good &= columns["sigma"] > 0
    if not good.any():
        raise InputError(f"The file {name} holds no measured voxel.")
    points, intensity = points[good], intensity[good]
    for column in arrays:
        if columns.get(column) is not None:
            columns[column] = columns[column][good]
    if steps is None:
        steps = [_step(name, axis, frame) for axis in points.T]
    steps = np.asarray(steps, float)
    position = points / steps
    index = np.rint(position).astype(np.int64)
    if np.abs(position - index).max() > 0.1:
        raise InputError(
            f"The centres of the voxels in {name} are not multiples of the voxel width "
            f"({', '.join(f'{x:.6g}' for x in steps)}): put a voxel on the origin."
        )
    voxels = Voxels(name, frame, steps, index, intensity, **columns)
    repeated = len(index) - len(np.unique(keys_of(index)))
    if repeated:
        raise InputError(
            f"The file {name} holds {repeated} voxels more than once: merge the "
            "observations first."
        )
    return voxels


def from_axes(
    name: str, axes: list[np.ndarray], intensity: np.ndarray, **about
) -> Voxels:
    """The voxels of an array (n0, n1, n2) with the centres along its three axes.

    Raises:
        InputError: Shapes do not fit, an axis is not regular, or see `from_points`.
    """
    lengths = tuple(len(axis) for axis in axes)
    if np.shape(intensity) != lengths:
        raise InputError(
            f"The array in {name} has the shape {np.shape(intensity)}, its axes have "
            f"the lengths {lengths}."
        )
    steps = [_step(name, np.asarray(a, float), about.get("frame", "hkl")) for a in axes]
    good = np.isfinite(intensity)
    points = np.stack(
        [np.asarray(a, float)[i] for a, i in zip(axes, np.nonzero(good), strict=True)]
    )
    for column in ("sigma", "observations"):
        if about.get(column) is not None:
            about[column] = np.asarray(about[column])[good]
    return from_points(name, points.T, np.asarray(intensity)[good], steps, **about)


def _step(name: str, values: np.ndarray, frame: str) -> float:
    """The distance of neighbours on an axis; 1/n exactly where it is close to that."""
    different = np.unique(values)
    gaps = np.diff(different)
    gaps = gaps[gaps > 1e-6 * max(np.ptp(different), 1e-30)]
    if not len(gaps):
        raise InputError(
            f"The file {name} has a single layer of voxels along one axis, so their "
            "width is not known."
        )
    step = gaps.min()
    n = np.rint(np.ptp(different) / step)
    even = np.ptp(different) / n
    if abs(even - step) < 0.02 * step:
        step = even
    parts = np.rint(1.0 / step)
    if frame == "hkl" and parts >= 1 and abs(parts * step - 1.0) < 0.02:
        step = 1.0 / parts
    return float(step)

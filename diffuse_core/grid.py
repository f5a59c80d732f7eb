"""Voxels: three axes of equal steps, with whole numbers as voxel indices.

A key packs the three indices of a voxel into one int64, 21 bits each, so keys do not
depend on the extent of a grid: observations of different sweeps and runs combine
whenever their steps are equal, and sorted keys are sorted (i, j, k).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from diffuse_core.errors import ConfigError

BITS = 21
OFFSET = 1 << (BITS - 1)
_MASK = (1 << BITS) - 1


@dataclass(frozen=True)
class Grid:
    """A lattice of voxels.

    Attributes:
        frame: "hkl" (Miller indices: Laue operators act on it), or the name of another
            coordinate system ("q", "goniometer", "lab": Cartesian; "s": |s| is the
            axis of this name, the others count something).
        steps: Voxel width along the three axes, in the units of the frame (1 or 1/A).
        axes: Names of the axes.
        units: Unit of the axes.
    """

    frame: str
    steps: tuple[float, float, float]
    axes: tuple[str, str, str] = ("h", "k", "l")
    units: str = ""

    def centres(self, index: np.ndarray) -> np.ndarray:
        """(n, 3) float64: coordinates of the voxels' centres."""
        return np.asarray(index, float) * np.asarray(self.steps)

    def s_norm(self, index: np.ndarray, unit_cell) -> np.ndarray:
        """(n,) float64: |s| = 1/d (1/A) at the centres of voxels.

        Args:
            index: (n, 3) voxel indices.
            unit_cell: a, b, c, alpha, beta, gamma (A, deg); needed for frame "hkl".
        """
        return np.linalg.norm(self.cartesian(index, unit_cell), axis=-1)

    def cartesian(self, index: np.ndarray, unit_cell) -> np.ndarray:
        """(n, 3) float64, 1/A: centres of voxels in a Cartesian frame."""
        centres = self.centres(index)
        if self.frame == "hkl":
            return centres @ reciprocal_basis(unit_cell).T
        if self.frame == "s":
            return centres * (np.array(self.axes) == "s")
        return centres

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Grid:
        return cls(
            values["frame"],
            tuple(values["steps"]),
            tuple(values["axes"]),
            values["units"],
        )


def reciprocal_basis(unit_cell) -> np.ndarray:
    """(3, 3) float64, 1/A: B with Cartesian = B @ hkl.

    a lies along x and b in the xy plane (cctbx' convention; Busing & Levy's B differs
    by a rotation).

    Args:
        unit_cell: a, b, c, alpha, beta, gamma (A, deg).
    """
    a, b, c = unit_cell[:3]
    alpha, beta, gamma = np.radians(unit_cell[3:])
    along = np.cos(beta)
    across = (np.cos(alpha) - along * np.cos(gamma)) / np.sin(gamma)
    direct = np.array(
        [
            [a, b * np.cos(gamma), c * along],
            [0.0, b * np.sin(gamma), c * across],
            [0.0, 0.0, c * np.sqrt(1.0 - along**2 - across**2)],
        ]
    )
    return np.linalg.inv(direct).T


def keys_of(index: np.ndarray) -> np.ndarray:
    """(n,) int64 keys of (n, 3) integer voxel indices.

    Raises:
        ConfigError: An index is beyond +-2^20, more than a key can hold.
    """
    index = np.asarray(index, np.int64)
    if index.size and np.abs(index).max() >= OFFSET:
        raise ConfigError(
            f"The grid needs voxel indices beyond {OFFSET}: choose larger voxels or a "
            "larger d_min."
        )
    i, j, k = (index + OFFSET).T
    return (i << (2 * BITS)) | (j << BITS) | k


def indices_of(keys: np.ndarray) -> np.ndarray:
    """(n, 3) int64 voxel indices of (n,) keys."""
    keys = np.asarray(keys, np.int64)
    return (
        np.stack([keys >> (2 * BITS), (keys >> BITS) & _MASK, keys & _MASK], axis=-1)
        - OFFSET
    )

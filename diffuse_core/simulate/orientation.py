"""Where a crystal's reciprocal lattice is at any moment of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from dxtbx.model import Crystal, Goniometer, Scan


@dataclass(frozen=True)
class Orientation:
    """s = matrices(z) @ hkl; z counts images from the start of the scan.

    setting, fixed: rotations (3, 3). axis: unit vector of the datum axis. start, width:
    deg. a: A = U B (n, 3, 3), at the n_images + 1 scan points or once. Between scan
    points A is interpolated linearly; before the first and after the last it stays.
    """

    setting: np.ndarray
    fixed: np.ndarray
    axis: np.ndarray
    start: float
    width: float
    a: np.ndarray

    @classmethod
    def of_models(
        cls, crystal: Crystal, goniometer: Goniometer | None, scan: Scan
    ) -> Orientation:
        """The orientation of a scan, or of a still if goniometer is None."""
        n = crystal.num_scan_points
        a = [crystal.get_A_at_scan_point(i) for i in range(n)] or [crystal.get_A()]
        matrices = np.array(a).reshape(-1, 3, 3)
        if goniometer is None:
            return cls(np.eye(3), np.eye(3), np.array((1.0, 0, 0)), 0.0, 0.0, matrices)
        start, width = scan.get_oscillation()
        axis = np.array(goniometer.get_rotation_axis_datum())
        return cls(
            setting=np.array(goniometer.get_setting_rotation()).reshape(3, 3),
            fixed=np.array(goniometer.get_fixed_rotation()).reshape(3, 3),
            axis=axis / np.linalg.norm(axis),
            start=start,
            width=width,
            a=matrices,
        )

    def matrices(self, z: np.ndarray) -> np.ndarray:
        """Matrices (n, 3, 3) at z (n,): setting . rotation . fixed . A."""
        z = np.atleast_1d(np.asarray(z, dtype=float))
        if z.size == 0:
            return np.zeros((0, 3, 3))
        phi = np.radians(self.start + z * self.width)
        turn = Rotation.from_rotvec(phi[:, None] * self.axis).as_matrix()
        if len(self.a) == 1:
            a = self.a
        else:
            i = np.clip(np.floor(z).astype(int), 0, len(self.a) - 2)
            x = np.clip(z - i, 0.0, 1.0)[:, None, None]
            a = (1 - x) * self.a[i] + x * self.a[i + 1]
        return self.setting @ turn @ self.fixed @ a

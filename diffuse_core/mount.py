"""How the sample is turned at an image, and all that is mounted with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Mount:
    """The goniometer of one experiment: from all angles 0 to the laboratory.

    Attributes:
        setting: (3, 3) float64 S.
        fixed: (3, 3) float64 F.
        axis: (3,) float64: unit vector of the datum axis.
        angle: Of a still (deg); None for a scan, whose images have their own.
    """

    setting: np.ndarray
    fixed: np.ndarray
    axis: np.ndarray
    angle: float | None

    def rotation(self, phi: float) -> np.ndarray:
        """(3, 3) float64: S R(axis, phi) F.

        Args:
            phi: `Image.phi` (deg); not used for a still.
        """
        angle = np.radians(phi if self.angle is None else self.angle)
        x, y, z = self.axis
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        turned = (
            np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
        )
        return self.setting @ turned @ self.fixed


def mount_of(experiment) -> Mount | None:
    """The mount of a dxtbx Experiment; None without a goniometer."""
    from diffuse_core.boundary import is_still

    goniometer, scan = experiment.goniometer, experiment.scan
    if goniometer is None:
        return None
    angle = None
    if is_still(experiment):
        with_angle = scan is not None and (
            not hasattr(scan, "has_property") or scan.has_property("oscillation")
        )
        angle = scan.get_oscillation()[0] if with_angle else 0.0
    axis = np.array(goniometer.get_rotation_axis_datum(), float)
    return Mount(
        np.array(goniometer.get_setting_rotation(), float).reshape(3, 3),
        np.array(goniometer.get_fixed_rotation(), float).reshape(3, 3),
        axis / np.linalg.norm(axis),
        angle,
    )

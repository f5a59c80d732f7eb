"""How the sample is turned at an image, and all that is mounted with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.scan_points import along_scan


@dataclass(frozen=True, eq=False)
class Mount:
    """The goniometer of one experiment: from all angles 0 to the laboratory.

    Attributes:
        settings: (n, 3, 3) float64 S at the scan points; n = 1 where it doesn't vary.
        fixed: (3, 3) float64 F.
        axis: (3,) float64: unit vector of the datum axis.
        angle: Of a still (deg); None for a scan, whose images have their own.
        start: Angle at the first scan point (deg).
        width: From scan point to scan point (deg).
    """

    settings: np.ndarray
    fixed: np.ndarray
    axis: np.ndarray
    angle: float | None
    start: float = 0.0
    width: float = 0.0

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
        settings = self.settings
        n = len(settings) if self.width else 1
        z = (phi - self.start) / self.width if n > 1 else 0.0
        setting = along_scan(n, z, settings.__getitem__, lambda: settings[0], (3, 3))
        return setting @ turned @ self.fixed


def mount_of(experiment) -> Mount | None:
    """The mount of a dxtbx Experiment; None without a goniometer."""
    from diffuse_core.boundary import is_still

    goniometer, scan = experiment.goniometer, experiment.scan
    if goniometer is None:
        return None
    angle, start, width = None, 0.0, 0.0
    n_points = goniometer.num_scan_points
    if is_still(experiment):
        with_angle = scan is not None and (
            not hasattr(scan, "has_property") or scan.has_property("oscillation")
        )
        angle = scan.get_oscillation()[0] if with_angle else 0.0
    else:
        start, width = scan.get_oscillation()
    settings = [goniometer.get_setting_rotation()]
    if n_points > 1 and angle is None:
        settings = [
            goniometer.get_setting_rotation_at_scan_point(i) for i in range(n_points)
        ]
    axis = np.array(goniometer.get_rotation_axis_datum(), float)
    return Mount(
        np.array(settings, float).reshape(-1, 3, 3),
        np.array(goniometer.get_fixed_rotation(), float).reshape(3, 3),
        axis / np.linalg.norm(axis),
        angle,
        start,
        width,
    )

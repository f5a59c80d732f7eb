"""G(x, y, phi): absorption along the path to each part of the detector."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffuse_core.models import Domain, RunInputs, ScalingComponent
from diffuse_core.smooth_basis import SmoothBasis


class Absorption(ScalingComponent):
    """A Gaussian smoother of direction and angle for each scan.

    Directions are the two components of the scattering angle 2 theta (deg) across the
    beam, so that several panels, tilted or not, have one smooth function. At every phi
    the mean over the detector is 1: what all directions share is B(phi).

    Args:
        frames: Per detector: s0 (3,) and, per panel, origin, fast axis, slow axis (mm,
            unit vectors), pixel size (mm) and number of pixels along fast and slow.
        detectors: The detector of each source.
        intervals: Across the detector.
        spacing: Distance of the parameters along phi (deg).
        smoothness: Expected size of second differences; None: to be chosen.
    """

    role = "path"
    columns = ("source", "phi", "panel", "x", "y")

    def __init__(
        self,
        frames: list[dict],
        detectors: list[int],
        intervals: tuple[int, int] = (5, 5),
        spacing: float = 20.0,
        smoothness: float | None = None,
    ) -> None:
        self.frames = frames
        self.detectors = detectors
        self.intervals = intervals
        self.spacing = spacing
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Absorption:
        experiments = [run.first_of_setup(i) for i in sorted(set(run.setups))]
        fixed = isinstance(params.smoothness, float)
        return cls(
            [_frame(experiment) for experiment in experiments],
            list(run.setups),
            tuple(params.intervals),
            params.spacing,
            params.smoothness if fixed else None,
        )

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def bind(self, domain: Domain) -> Directions:
        """One smoother for each scan."""
        from diffuse_core.smooth import Axis

        used = domain.used()
        across = [_limits(frame) for frame in self.frames]
        axes = []
        for i in used:
            phi = Axis.with_spacing(*domain.limits[i]["phi"], self.spacing)
            u, v = across[self.detectors[i]]
            axes.append(
                [
                    [phi.low, phi.high, phi.intervals],
                    [*u, self.intervals[0]],
                    [*v, self.intervals[1]],
                ]
            )
        return Directions(
            {str(source): group for group, source in enumerate(used)},
            axes,
            held=[1, 2],
            frames=self.frames,
            detectors=list(self.detectors),
        )


@dataclass
class Directions(SmoothBasis):
    """A smoother of phi and of the two components of 2 theta."""

    frames: list[dict] = field(default_factory=list)
    detectors: list[int] = field(default_factory=list)

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 5): source, phi (deg), panel, x, y (pixels).
        """
        source, _, panel, x, y = coordinates.T
        angles = np.zeros((len(coordinates), 2))
        detector = np.array(self.detectors)[source.astype(np.int64)]
        for i, frame in enumerate(self.frames):
            for j in range(len(frame["panels"])):
                here = (detector == i) & (panel == j)
                if here.any():
                    angles[here] = _angles(frame, j, x[here], y[here])
        return super().basis(np.column_stack([coordinates[:, :2], angles]))


def _frame(experiment) -> dict:
    return {
        "s0": list(experiment.beam.get_s0()),
        "panels": [
            {
                "origin": list(panel.get_origin()),
                "fast": list(panel.get_fast_axis()),
                "slow": list(panel.get_slow_axis()),
                "pixel": list(panel.get_pixel_size()),
                "size": list(panel.get_image_size()),
            }
            for panel in experiment.detector
        ],
    }


def _angles(frame: dict, panel: int, x, y) -> np.ndarray:
    """(n, 2) deg: components of 2 theta along fast and across it; parallax left out."""
    p = frame["panels"][panel]
    beam = np.array(frame["s0"]) / np.linalg.norm(frame["s0"])
    first = np.array(frame["panels"][0]["fast"])
    u = first - beam * (first @ beam)
    u /= np.linalg.norm(u)
    v = np.cross(beam, u)
    place = np.array(p["origin"]) + np.outer(x * p["pixel"][0], p["fast"])
    place = place + np.outer(y * p["pixel"][1], p["slow"])
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    across = np.column_stack([place @ u, place @ v])
    sine = np.linalg.norm(across, axis=1, keepdims=True)
    two_theta = np.degrees(np.arctan2(sine[:, 0], place @ beam))
    return across / np.maximum(sine, 1e-12) * two_theta[:, None]


def _limits(frame: dict) -> list[tuple[float, float]]:
    """Lowest and highest of both angles on the edges of the panels."""
    angles = []
    for i, panel in enumerate(frame["panels"]):
        t = np.linspace(0.0, 1.0, 21)
        x, y = np.meshgrid(t * panel["size"][0], t * panel["size"][1])
        angles.append(_angles(frame, i, x.ravel(), y.ravel()))
    angles = np.concatenate(angles)
    return [(float(a.min()), float(a.max())) for a in angles.T]

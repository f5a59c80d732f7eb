"""Directions to pixels, and Gaussian smoothers of them.

A *frame* says where the pixels of a detector are, as plain numbers that a file of
scales can hold: s0 (3,) and, per panel, origin (mm), fast and slow axis (unit vectors),
pixel size (mm) and number of pixels along fast and slow. Parallax is left out: scales
don't change over a fraction of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffuse_core.models import RunInputs
from diffuse_core.smooth_basis import SmoothBasis


def frames_of(run: RunInputs) -> list[dict]:
    """The frame of each setup of a run; `RunInputs.setups` says whose it is."""
    return [frame_of(run.first_of_setup(setup)) for setup in range(max(run.setups) + 1)]


def frame_of(experiment: Any) -> dict:
    """The frame of a dxtbx experiment's detector."""
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


def rays(
    frames: Sequence[dict],
    detector: np.ndarray,
    panel: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """(n, 3) float64 unit vectors from the crystal to places on detectors.

    Args:
        frames: Frame of each detector.
        detector, panel: (n,) which.
        x, y: (n,) pixels along fast and slow.
    """
    result = np.zeros((len(x), 3))
    for i, frame in enumerate(frames):
        for j, p in enumerate(frame["panels"]):
            here = (detector == i) & (panel == j)
            if here.any():
                place = np.outer(x[here] * p["pixel"][0], p["fast"])
                place += np.outer(y[here] * p["pixel"][1], p["slow"])
                result[here] = place + p["origin"]
    return result / np.linalg.norm(result, axis=1, keepdims=True)


def angles(
    frames: Sequence[dict],
    detector: np.ndarray,
    panel: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> np.ndarray:
    """(n, 2) deg: components of 2 theta along the first panel's fast axis and across.

    Both are across the beam, so that several panels, tilted or not, have one smooth
    function. Arguments as for `rays`.
    """
    ray = rays(frames, detector, panel, x, y)
    result = np.zeros((len(ray), 2))
    for i, frame in enumerate(frames):
        here = detector == i
        beam = np.array(frame["s0"]) / np.linalg.norm(frame["s0"])
        first = np.array(frame["panels"][0]["fast"])
        u = first - beam * (first @ beam)
        u /= np.linalg.norm(u)
        across = ray[here] @ np.column_stack([u, np.cross(beam, u)])
        sine = np.linalg.norm(across, axis=1, keepdims=True)
        two_theta = np.degrees(np.arctan2(sine[:, 0], ray[here] @ beam))
        result[here] = across / np.maximum(sine, 1e-12) * two_theta[:, None]
    return result


def limits(frame: dict) -> list[tuple[float, float]]:
    """Lowest and highest of both angles on the panels of a frame."""
    found = []
    t = np.linspace(0.0, 1.0, 21)
    for number, panel in enumerate(frame["panels"]):
        x, y = np.meshgrid(t * panel["size"][0], t * panel["size"][1])
        place = np.full(x.size, number)
        found.append(angles([frame], 0 * place, place, x.ravel(), y.ravel()))
    return [(float(a.min()), float(a.max())) for a in np.concatenate(found).T]


@dataclass
class DirectionBasis(SmoothBasis):
    """A smoother of the two components of 2 theta, after other coordinates.

    Args:
        frames: Frame of each detector.
        detectors: The detector of each source.
    """

    frames: list[dict] = field(default_factory=list)
    detectors: list[int] = field(default_factory=list)

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, ...): source, other coordinates, panel, x, y (pixels).
        """
        panel, x, y = coordinates[:, -3:].T
        detector = np.array(self.detectors)[coordinates[:, 0].astype(np.int64)]
        across = angles(self.frames, detector, panel, x, y)
        return super().basis(np.column_stack([coordinates[:, :-3], across]))

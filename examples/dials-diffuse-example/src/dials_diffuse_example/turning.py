"""A window that turns with the crystal, its optical depth fitted to symmetry mates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from dials_diffuse_example.directions import given_direction
from diffuse_core.directions import frames_of, rays
from diffuse_core.harmonics import mount_of, turned_back
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent

SMALLEST_COSINE = 0.1
"""Rays nearer to the plane of the window count as these."""


class TurningWindow(ScalingComponent):
    """G = exp(-T (1 / |cos a| - 1)), a the angle between the ray and the normal.

    T, the optical depth along the normal, is the one parameter of each scan.

    Args:
        frames: Frame (`diffuse_core.directions`) of each detector.
        detectors: The detector of each source.
        mounts: Goniometer (`diffuse_core.harmonics.mount_of`) of each source.
        normal: (3,) unit vector in the laboratory at angle 0; None = along the beam.
        smoothness: Expected size of T.
    """

    role = "path"
    columns = ("source", "phi", "panel", "x", "y")
    exponential = True

    def __init__(self, frames, detectors, mounts, normal=None, smoothness=1.0) -> None:
        self.frames = frames
        self.detectors = detectors
        self.mounts = mounts
        self.normal = normal
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> TurningWindow:
        normal = given_direction(params.normal, "scaling.turning_window.normal")
        mounts = [mount_of(experiment) for experiment in run.experiments]
        detectors = list(run.setups)
        return cls(frames_of(run), detectors, mounts, normal, params.smoothness)

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def bind(self, domain: Domain) -> Depths:
        """One optical depth for each scan."""
        normals = [
            frame["s0"] if self.normal is None else list(self.normal)
            for frame in (self.frames[i] for i in self.detectors)
        ]
        number = {str(source): i for i, source in enumerate(domain.used())}
        return Depths(number, self.frames, self.detectors, self.mounts, normals)


@dataclass
class Depths(Basis):
    """Minus the path within a window of unit thickness, more than along the normal.

    Args:
        number: Source (as text) -> number of its parameter.
        frames, detectors, mounts: As in `TurningWindow`.
        normals: Normal of each source at angle 0.
    """

    number: dict[str, int]
    frames: list[dict]
    detectors: list[int]
    mounts: list[dict | None]
    normals: list[list[float]]

    def __post_init__(self) -> None:
        self.initial = np.zeros(len(self.number))

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 5): source, phi (deg), panel, x, y (pixels).
        """
        source, phi, panel, x, y = coordinates.T
        source = source.astype(int)
        detector = np.array(self.detectors)[source]
        ray = rays(self.frames, detector, panel, x, y)
        path, column = np.zeros(len(x)), np.zeros(len(x), int)
        for name, i in self.number.items():
            here, mount = source == int(name), self.mounts[int(name)]
            normal = turned_back(
                mount, np.zeros(1), np.array([self.normals[int(name)]])
            )
            normal = normal[0] / np.linalg.norm(normal)
            cosine = np.abs(turned_back(mount, phi[here], ray[here]) @ normal)
            path[here] = 1.0 / np.maximum(cosine, SMALLEST_COSINE) - 1.0
            column[here] = i
        start = np.arange(len(x) + 1)
        return sparse.csr_matrix((-path, column, start), (len(x), len(self.initial)))

    def penalty(self):
        """The depths."""
        return sparse.identity(len(self.initial), format="csr")

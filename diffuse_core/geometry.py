"""The geometry that models see: a panel, seen from the sample, with one beam."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class BeamGeometry:
    """The beam.

    Attributes:
        wavelength: A.
        s0: Direction of the beam, length 1/wavelength (1/A).
        polarization_normal: Unit normal of the plane of polarization.
        polarization_fraction: 0.5 = unpolarised, 1 = all in the plane (XDS).
    """

    wavelength: float
    s0: tuple[float, float, float]
    polarization_normal: tuple[float, float, float]
    polarization_fraction: float


@dataclass(frozen=True, eq=False)
class PanelGeometry:
    """One panel with one beam; the arrays are read-only.

    Positions are those at which the ray to a pixel's centre enters the panel: pixel
    (i, j) has its centre at (i + 0.5, j + 0.5), parallax included.

    Attributes:
        setup: Index of the pair of detector and beam.
        index: Index of the panel in the detector.
        shape: (n_slow, n_fast).
        pixel_size: Fast, slow (mm).
        beam: The beam.
        sensor_mu: Absorption of the sensor (1/mm); 0 = unknown.
        sensor_thickness: mm; 0 = unknown.
        s: (n_slow, n_fast, 3) float32, 1/A: s1 - s0.
        cos_incidence: (n_slow, n_fast) float32: |cos| of the angle between the ray
            and the panel's normal.
        distance: (n_slow, n_fast) float32: sample to pixel (mm).
    """

    setup: int
    index: int
    shape: tuple[int, int]
    pixel_size: tuple[float, float]
    beam: BeamGeometry
    sensor_mu: float
    sensor_thickness: float
    s: np.ndarray
    cos_incidence: np.ndarray
    distance: np.ndarray

    def __post_init__(self) -> None:
        self._freeze()

    def _freeze(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._freeze()

    @cached_property
    def s_norm(self) -> np.ndarray:
        """(n_slow, n_fast) float32: |s| = 1/d (1/A)."""
        return _read_only(np.linalg.norm(self.s, axis=2))

    @cached_property
    def direction(self) -> np.ndarray:
        """(n_slow, n_fast, 3) float32: unit vector from the sample to the pixel."""
        s1 = self.s + np.asarray(self.beam.s0, np.float32)
        return _read_only(s1 / np.linalg.norm(s1, axis=2, keepdims=True))

    @cached_property
    def two_theta(self) -> np.ndarray:
        """(n_slow, n_fast) float32: angle between s1 and s0 (deg)."""
        half = np.clip(0.5 * self.beam.wavelength * self.s_norm, 0.0, 1.0)
        return _read_only(2.0 * np.degrees(np.arcsin(half)))


def _read_only(values: np.ndarray) -> np.ndarray:
    values.setflags(write=False)
    return values

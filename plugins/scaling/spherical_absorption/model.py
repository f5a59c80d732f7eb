"""G in spherical harmonics: absorption by what turns with the crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from diffuse_core.directions import frames_of
from diffuse_core.harmonics import mount_of, path_harmonics
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent
from diffuse_core.scan_component import given_size, groups_of


class SphericalAbsorption(ScalingComponent):
    """exp(sum c_lm (Y_lm(way in) + Y_lm(way out)) / 2), both turned with the crystal.

    The surface of dials.scale (after SADABS: Blessing, Acta Cryst. A51, 33, 1995) is
    1 + the same sum; the exponential is that to first order, and above 0 everywhere.
    There is no Y_00: a constant is a part of B.

    Args:
        frames: Frame (`diffuse_core.directions`) of each detector.
        detectors: The detector of each source.
        mounts: Goniometer (`diffuse_core.harmonics.mount_of`) of each source.
        lmax: Highest order.
        odd: Odd orders, too.
        common: One surface for all scans.
        smoothness: Expected size of the coefficients; None: to be chosen.
    """

    role = "path"
    columns = ("source", "phi", "panel", "x", "y")
    exponential = True

    def __init__(
        self,
        frames: list[dict],
        detectors: list[int],
        mounts: list[dict | None],
        lmax: int = 4,
        odd: bool = True,
        common: bool = False,
        smoothness: float | None = None,
    ) -> None:
        self.frames = frames
        self.detectors = detectors
        self.mounts = mounts
        self.lmax = lmax
        self.odd = odd
        self.common = common
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> SphericalAbsorption:
        return cls(
            frames_of(run),
            list(run.setups),
            [mount_of(experiment) for experiment in run.experiments],
            params.lmax,
            params.odd,
            params.common,
            given_size(params.smoothness),
        )

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def bind(self, domain: Domain) -> Surface:
        """One surface for each scan, or for all."""
        groups = groups_of(domain.used())
        if self.common:
            groups = dict.fromkeys(groups, 0)
        return Surface(
            groups, self.frames, self.detectors, self.mounts, self.lmax, self.odd
        )


@dataclass
class Surface(Basis):
    """Harmonics of the ways in and out, for each group of sources.

    Args:
        groups: Source (as text) -> its group, 0, 1, ...
        frames, detectors, mounts, lmax, odd: As in `SphericalAbsorption`.
    """

    groups: dict[str, int]
    frames: list[dict]
    detectors: list[int]
    mounts: list[dict | None]
    lmax: int
    odd: bool

    def __post_init__(self) -> None:
        self._kept = [
            i
            for order in range(1, self.lmax + 1)
            for i in range(order**2 - 1, (order + 1) ** 2 - 1)
            if self.odd or order % 2 == 0
        ]
        self.initial = np.zeros(len(self._kept) * (max(self.groups.values()) + 1))

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 5): source, phi (deg), panel, x, y (pixels).
        """
        values = path_harmonics(
            self.frames, self.detectors, self.mounts, self.lmax, coordinates
        )[:, self._kept]
        n, k = values.shape
        group = np.zeros(len(self.mounts), np.int64)
        for source, number in self.groups.items():
            group[int(source)] = number
        index = group[coordinates[:, 0].astype(np.int64), None] * k + np.arange(k)
        return sparse.csr_matrix(
            (values.ravel(), index.ravel(), np.arange(n + 1) * k),
            (n, len(self.initial)),
        )

    def penalty(self):
        """The coefficients."""
        return sparse.identity(len(self.initial), format="csr")

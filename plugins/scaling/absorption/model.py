"""G(x, y, phi): absorption along the path to each part of the detector."""

from __future__ import annotations

from diffuse_core.directions import DirectionBasis, frames_of, limits
from diffuse_core.models import Domain, RunInputs
from diffuse_core.scan_component import ScanComponent, given_size, groups_of


class Absorption(ScanComponent):
    """A Gaussian smoother of direction and angle for each scan.

    Directions are the components of 2 theta of `diffuse_core.directions`. At every phi
    the mean over the detector is 1: what all directions share is B(phi).

    Args:
        frames: Frame (`diffuse_core.directions`) of each detector.
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
        super().__init__(spacing, smoothness)
        self.frames = frames
        self.detectors = detectors
        self.intervals = intervals

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Absorption:
        return cls(
            frames_of(run),
            list(run.setups),
            tuple(params.intervals),
            params.spacing,
            given_size(params.smoothness),
        )

    def bind(self, domain: Domain) -> DirectionBasis:
        """One smoother for each scan."""
        used = domain.used()
        across = [limits(frame) for frame in self.frames]
        axes = []
        for i in used:
            u, v = across[self.detectors[i]]
            phi = self.phi_axis(domain.limits[i]["phi"])
            axes.append([phi, [*u, self.intervals[0]], [*v, self.intervals[1]]])
        return DirectionBasis(
            groups_of(used),
            axes,
            held=[1, 2],
            frames=self.frames,
            detectors=list(self.detectors),
        )

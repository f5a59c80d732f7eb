"""B(phi): the scale of the crystal, smooth along each scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent

PHIL = """
spacing = 2.0
  .type = float(value_min=0.01, allow_none=False)
  .help = "Distance of the parameters along a scan, deg."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the second difference of neighbouring parameters (the"
          "mean scale is 1). Auto: chosen by held-out observations."
"""


class SmoothScale(ScalingComponent):
    """A Gaussian smoother of phi for each scan, whose level says how scans compare.

    Args:
        spacing: Distance of the parameters (deg).
        smoothness: Expected size of second differences; None: to be chosen.
    """

    role = "crystal"
    columns = ("source", "phi")

    def __init__(self, spacing: float = 2.0, smoothness: float | None = None) -> None:
        self.spacing = spacing
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> SmoothScale:
        fixed = isinstance(params.smoothness, float)
        return cls(params.spacing, params.smoothness if fixed else None)

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def bind(self, domain: Domain) -> PhiCurves:
        """One curve for each scan."""
        from diffuse_core.smooth import Axis

        axes = {}
        for number in domain.used():
            axis = Axis.with_spacing(*domain.limits[number]["phi"], self.spacing)
            axes[str(number)] = [axis.low, axis.high, axis.intervals]
        return PhiCurves(axes)


@dataclass
class PhiCurves(Basis):
    """Gaussian smoothers of phi.

    Args:
        axes: Source -> [lowest phi, highest phi (deg), number of intervals].
    """

    axes: dict[str, list[float]]

    def __post_init__(self) -> None:
        from diffuse_core.smooth import Axis

        self._axes = {
            int(source): Axis(low, high, int(n))
            for source, (low, high, n) in self.axes.items()
        }
        sizes = [axis.size for axis in self._axes.values()]
        self._first = dict(zip(self._axes, np.cumsum([0, *sizes]), strict=False))
        self.initial = np.ones(sum(sizes))

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 2): source, phi (deg).
        """
        from scipy import sparse

        from diffuse_core.smooth import smoother

        source, phi = coordinates.T
        index = np.zeros((len(phi), 3), np.int32)
        weight = np.zeros((len(phi), 3))
        for number, axis in self._axes.items():
            here = source == number
            part = smoother([axis], [phi[here]])
            k = part.indptr[1] if len(part.indptr) > 1 else 0
            index[here, :k] = part.indices.reshape(-1, k) + self._first[number]
            weight[here, :k] = part.data.reshape(-1, k)
        start = np.arange(len(phi) + 1) * 3
        return sparse.csr_matrix(
            (weight.ravel(), index.ravel(), start), (len(phi), len(self.initial))
        )

    def penalty(self):
        """Second differences of each curve."""
        from scipy import sparse

        from diffuse_core.smooth import roughness

        return sparse.block_diag([roughness([a.size]) for a in self._axes.values()])


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="smooth_scale",
        factory="diffuse_core.plugins.scaling.smooth_scale:SmoothScale",
        summary="B(phi): volume, flux, decay of the crystal, smooth along each scan.",
        phil=PHIL,
        default=True,
    )

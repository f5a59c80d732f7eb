"""B(phi): the scale of the crystal, smooth along each scan."""

from __future__ import annotations

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

    def bind(self, domain: Domain) -> Basis:
        """One curve for each scan."""
        from diffuse_core.smooth import Axis
        from diffuse_core.smooth_basis import SmoothBasis

        used = domain.used()
        axes = [Axis.with_spacing(*domain.limits[i]["phi"], self.spacing) for i in used]
        return SmoothBasis(
            {str(source): group for group, source in enumerate(used)},
            [[[axis.low, axis.high, axis.intervals]] for axis in axes],
        )


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="smooth_scale",
        factory="diffuse_core.plugins.scaling.smooth_scale:SmoothScale",
        summary="B(phi): volume, flux, decay of the crystal, smooth along each scan.",
        phil=PHIL,
        default=True,
    )

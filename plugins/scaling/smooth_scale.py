"""B(phi): the scale of the crystal, smooth along each scan."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Basis, Domain
from diffuse_core.scan_component import ScanComponent

PHIL = """
spacing = 2.0
  .type = float(value_min=0.01, allow_none=False)
  .help = "Distance of the parameters along a scan, deg."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the second difference of neighbouring parameters (the"
          "mean scale is 1). Auto: chosen by held-out observations."
"""


class SmoothScale(ScanComponent):
    """A Gaussian smoother of phi for each scan, whose level says how scans compare."""

    role = "crystal"
    columns = ("source", "phi")

    def bind(self, domain: Domain) -> Basis:
        """One curve for each scan."""
        from diffuse_core.smooth_basis import SmoothBasis

        return self.curves(domain, SmoothBasis)


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="smooth_scale",
        factory="diffuse_core.plugins.scaling.smooth_scale:SmoothScale",
        summary="B(phi): volume, flux, decay of the crystal, smooth along each scan.",
        phil=PHIL,
        default=True,
    )

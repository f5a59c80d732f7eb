"""C(s, phi): what is added that has no lattice, smooth in resolution and angle."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Basis, Domain, RunInputs
from diffuse_core.scan_component import ScanComponent, given_size, groups_of

PHIL = """
intervals = 12
  .type = int(value_min=1, allow_none=False)
  .help = "Number of intervals of the parameters over the range of s."
spacing = 5.0
  .type = float(value_min=0.01, allow_none=False)
  .help = "Distance of the parameters along a scan, deg."
common = False
  .type = bool
  .help = "One C for all scans, as a function of their angles, instead of one each."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the second difference of neighbouring parameters, in units"
          "of the mean intensity. Auto: chosen by held-out observations."
"""


class Offset(ScanComponent):
    """A Gaussian smoother of s and phi for each scan.

    Between symmetry mates only differences between angles are seen: C + B f(s) with any
    f gives the same counts if all intensities are lowered by f(s). In the fit the mean
    over angles is 0 at every s; the scaling model then shifts the lowest value to 0.

    Args:
        intervals: Number of intervals along s.
        spacing: Distance of the parameters along phi (deg).
        common: One function for all scans.
        smoothness: Expected size of second differences in units of the mean intensity;
            None: to be chosen.
    """

    role = "offset"
    columns = ("source", "s", "phi")

    def __init__(
        self,
        intervals: int = 12,
        spacing: float = 5.0,
        common: bool = False,
        smoothness: float | None = None,
    ) -> None:
        super().__init__(spacing, smoothness)
        self.intervals = intervals
        self.common = common

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Offset:
        smoothness = given_size(params.smoothness)
        return cls(params.intervals, params.spacing, params.common, smoothness)

    def bind(self, domain: Domain) -> Basis:
        """One surface for each scan, or for all; all share the parameters along s."""
        from diffuse_core.smooth_basis import SmoothBasis

        used = domain.used()
        limits = [domain.limits[i] for i in used]
        s = [min(r["s"][0] for r in limits), max(r["s"][1] for r in limits)]
        ranges = [r["phi"] for r in limits]
        groups = groups_of(used)
        if self.common:
            ranges = [(min(r[0] for r in ranges), max(r[1] for r in ranges))]
            groups = dict.fromkeys(groups, 0)
        axes = [[[*s, self.intervals], self.phi_axis(phi)] for phi in ranges]
        return SmoothBasis(groups, axes, level=0.0, held=[1], across=True)


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="offset",
        factory="diffuse_core.plugins.scaling.offset:Offset",
        summary="C(s, phi): scattering without lattice that changes during a scan.",
        phil=PHIL,
    )

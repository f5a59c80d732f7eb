"""exp(-b(phi) s^2 / 2): decay that grows with resolution."""

from __future__ import annotations

from dataclasses import dataclass

from diffuse_core.models import Domain, RunInputs, ScalingComponent
from diffuse_core.smooth_basis import SmoothBasis


class RelativeB(ScalingComponent):
    """The exponential of a Gaussian smoother of phi times -s^2 / 2.

    b is a B factor (A^2): with s = 1/d it is that of exp(-2 B sin^2(theta)/lambda^2).
    Its mean is 0: a B factor that all observations share is a part of the intensities.

    Args:
        spacing: Distance of the parameters (deg).
        smoothness: Expected size of second differences (A^2); None: to be chosen.
    """

    role = "crystal"
    columns = ("source", "phi", "s")
    exponential = True

    def __init__(self, spacing: float = 10.0, smoothness: float | None = None) -> None:
        self.spacing = spacing
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> RelativeB:
        fixed = isinstance(params.smoothness, float)
        return cls(params.spacing, params.smoothness if fixed else None)

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def bind(self, domain: Domain) -> FallOff:
        """One curve b(phi) for each scan."""
        from diffuse_core.smooth import Axis

        used = domain.used()
        axes = [Axis.with_spacing(*domain.limits[i]["phi"], self.spacing) for i in used]
        return FallOff(
            {str(source): group for group, source in enumerate(used)},
            [[[axis.low, axis.high, axis.intervals]] for axis in axes],
            level=0.0,
            held=[0],
            across=True,
        )


@dataclass
class FallOff(SmoothBasis):
    """A smoother of phi, times -s^2 / 2."""

    def basis(self, coordinates):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 3): source, phi (deg), s (1/A).
        """
        from scipy import sparse

        matrix = super().basis(coordinates[:, :2])
        return sparse.csr_matrix(sparse.diags(-0.5 * coordinates[:, 2] ** 2) @ matrix)

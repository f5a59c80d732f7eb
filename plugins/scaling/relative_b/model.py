"""exp(-b(phi) s^2 / 2): decay that grows with resolution."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from diffuse_core.models import Domain
from diffuse_core.scan_component import ScanComponent
from diffuse_core.smooth_basis import SmoothBasis


class RelativeB(ScanComponent):
    """The exponential of a Gaussian smoother of phi times -s^2 / 2.

    b is a B factor (A^2): with s = 1/d it is that of exp(-2 B sin^2(theta)/lambda^2).
    Its mean is 0: a B factor that all observations share is a part of the intensities.
    Second differences are in A^2.
    """

    role = "crystal"
    columns = ("source", "phi", "s")
    exponential = True

    def bind(self, domain: Domain) -> FallOff:
        """One curve b(phi) for each scan."""
        return self.curves(domain, FallOff, level=0.0, held=[0], across=True)


@dataclass
class FallOff(SmoothBasis):
    """A smoother of phi, times -s^2 / 2."""

    def basis(self, coordinates):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 3): source, phi (deg), s (1/A).
        """
        matrix = super().basis(coordinates[:, :2])
        return sparse.csr_matrix(sparse.diags(-0.5 * coordinates[:, 2] ** 2) @ matrix)

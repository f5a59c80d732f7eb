"""What components that are smooth along scans have in common."""

from __future__ import annotations

from typing import Any

from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent


def given_size(smoothness: Any) -> float | None:
    """The parameter `smoothness` as a component takes it: None for Auto."""
    return smoothness if isinstance(smoothness, float) else None


class ScanComponent(ScalingComponent):
    """A component of scans with parameters at a spacing in phi.

    Args:
        spacing: Distance of the parameters along phi (deg).
        smoothness: Expected size of second differences; None: to be chosen.
    """

    def __init__(self, spacing: float = 2.0, smoothness: float | None = None) -> None:
        self.spacing = spacing
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> ScanComponent:
        return cls(params.spacing, given_size(params.smoothness))

    def applies(self, source) -> bool:
        """Scans only."""
        return not source.still

    def phi_axis(self, phi: tuple[float, float]) -> list[float]:
        """Lowest and highest angle and number of intervals, for `SmoothBasis`."""
        from diffuse_core.smooth import Axis

        axis = Axis.with_spacing(*phi, self.spacing)
        return [axis.low, axis.high, axis.intervals]

    def curves(self, domain: Domain, of: type[Basis], **options) -> Basis:
        """A basis with one curve of phi for each scan.

        Args:
            domain: The observations.
            of: `SmoothBasis` or a subclass.
            options: Its further fields.
        """
        used = domain.used()
        axes = [[self.phi_axis(domain.limits[i]["phi"])] for i in used]
        return of(groups_of(used), axes, **options)


def groups_of(used: list[int]) -> dict[str, int]:
    """Source (as text) -> a group of its own, 0, 1, ..."""
    return {str(source): group for group, source in enumerate(used)}

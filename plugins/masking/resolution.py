"""Masks resolution: limits, intervals, rings of ice."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import MaskModel, RunInputs

PHIL = """
d_min = None
  .type = float(value_min=0)
  .help = "Highest resolution to keep (A)."
d_max = None
  .type = float(value_min=0)
  .help = "Lowest resolution to keep (A)."
range = None
  .type = floats(size=2, value_min=0)
  .multiple = True
  .help = "Interval of d to leave out (A), in either order. May be given several times."
include scope dials.util.masking.phil_scope ice_rings
"""


class Resolution(MaskModel):
    """Keeps d_min < d < d_max, but for the given intervals; d = 1/|s| (A).

    The limits themselves are left out, as by dials.generate_mask.

    Args:
        d_min, d_max: Limits (A).
        ranges: Intervals (d, d) to leave out (A).
    """

    def __init__(
        self,
        d_min: float | None = None,
        d_max: float | None = None,
        ranges: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.d_min = d_min
        self.d_max = d_max
        self.ranges = [(min(r), max(r)) for r in ranges]

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Resolution:
        """Raises ConfigError for limits in the wrong order and impossible rings."""
        d_min, d_max = params.d_min, params.d_max
        if d_min is not None and d_max is not None and d_min >= d_max:
            raise ConfigError(
                f"mask.resolution.d_min = {d_min:g} A must be below "
                f"mask.resolution.d_max = {d_max:g} A."
            )
        ranges = [tuple(r) for r in params.range if r is not None]
        if params.ice_rings.filter:
            ranges += ice_rings(params.ice_rings, d_min, run)
        return cls(d_min, d_max, ranges)

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None where nothing is left out."""
        if not (self.d_min or self.d_max or self.ranges):
            return None
        s = geometry.s_norm
        keep = np.ones(geometry.shape, bool)
        if self.d_min:
            keep &= s < 1.0 / self.d_min
        if self.d_max:
            keep &= s > 1.0 / self.d_max
        for low, high in self.ranges:
            below = s < 1.0 / high
            if low > 0:
                below |= s > 1.0 / low
            keep &= below
        return keep


def ice_rings(params, d_min: float | None, run: RunInputs) -> list[tuple[float, float]]:
    """Intervals (A) around the powder rings of a lattice, as DIALS makes them.

    Args:
        params: `ice_rings` of dials.util.masking: unit_cell, space_group, width
            (1/A^2, of 1/d^2), d_min.
        d_min: Resolution beyond which no ring matters (A); None = the detectors'.
        run: For the resolution of the detectors.

    Raises:
        ConfigError: A ring is so wide that it reaches 1/d^2 = 0.
    """
    from dials.util.masking import generate_ice_ring_resolution_ranges

    d_min = params.d_min or d_min
    if not d_min:
        first = [run.first_of_setup(setup) for setup in set(run.setups)]
        d_min = min(e.detector.get_max_resolution(e.beam.get_s0()) for e in first)
    lattice = SimpleNamespace(
        filter=True,
        unit_cell=params.unit_cell,
        space_group=params.space_group,
        width=params.width,
        d_min=d_min,
    )
    try:
        return list(generate_ice_ring_resolution_ranges(None, None, lattice))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(
            f"mask.resolution.ice_rings.width = {params.width:g} is too wide: give the "
            "width in 1/d^2, for example 0.002."
        ) from None


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="resolution",
        factory="diffuse_core.plugins.masking.resolution:Resolution",
        summary="Limits of resolution, intervals of it, rings of ice.",
        phil=PHIL,
        default=True,
    )

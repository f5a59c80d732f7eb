"""The opening of a diamond-anvil cell."""

from __future__ import annotations

import numpy as np

from dials_diffuse_example.directions import cosine, given_direction
from diffuse_core.geometry import PanelGeometry
from diffuse_core.models import MaskModel, RunInputs


class CellOpening(MaskModel):
    """Keeps the pixels within a cone around the axis of the cell.

    Args:
        half_angle: deg.
        axis: (3,) unit vector in the laboratory frame; None = along the beam.
    """

    def __init__(self, half_angle: float, axis: np.ndarray | None = None) -> None:
        self.half_angle = half_angle
        self.axis = axis

    @classmethod
    def from_params(cls, params, run: RunInputs) -> CellOpening:
        axis = given_direction(params.axis, "mask.cell_opening.axis")
        return cls(params.half_angle, axis)

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) bool, True = inside the cone."""
        return cosine(geometry, self.axis) >= np.cos(np.radians(self.half_angle))

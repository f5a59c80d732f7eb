"""The opening of an anvil cell: pixels that its body hides are left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, MaskModel, RunInputs
from diffuse_core.mount import Mount, mount_of

PHIL = """
half_opening = 38
  .type = float(value_min=0, value_max=90, allow_none=False)
  .help = "Half of the opening angle of the cell, deg."
normal = 0 1 0
  .type = floats(size=3)
  .help = "Axis of the cell where all angles of the goniometer are 0, as in"
          "dials.anvil_correction and correction.absorber."
"""


class Anvil(MaskModel):
    """Keeps pixels whose ray leaves a cell, and the beam enters it, by its openings.

    A ray along v passes if |n . v| >= cos(half_opening), n the axis of the cell.

    Args:
        normal: (3,) unit vector where all angles of the goniometer are 0.
        half_opening: deg.
        mounts: Experiment -> how the cell turns; None where it doesn't.
    """

    def __init__(
        self,
        normal: np.ndarray,
        half_opening: float,
        mounts: Mapping[int, Mount | None],
    ) -> None:
        self.normal = normal
        self.lowest = np.cos(np.radians(half_opening))
        self.mounts = dict(mounts)

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Anvil:
        """Raises ConfigError if the normal has no direction."""
        length = np.linalg.norm(params.normal)
        if not length > 0:
            raise ConfigError(f"mask.anvil.normal = {params.normal} has no direction.")
        mounts = {i: mount_of(e) for i, e in enumerate(run.experiments)}
        return cls(np.array(params.normal) / length, params.half_opening, mounts)

    def image_mask(self, image: Image, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) bool, True = keep."""
        mount = self.mounts.get(image.experiment)
        normal = (
            self.normal if mount is None else mount.rotation(image.phi) @ self.normal
        )
        beam = np.array(geometry.beam.s0) * geometry.beam.wavelength
        if abs(beam @ normal) < self.lowest:
            return np.zeros(geometry.shape, bool)
        return abs(geometry.direction @ normal) >= self.lowest


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="anvil",
        factory="diffuse_core.plugins.masking.anvil:Anvil",
        summary="Pixels hidden by the body of a diamond-anvil cell.",
        phil=PHIL,
    )

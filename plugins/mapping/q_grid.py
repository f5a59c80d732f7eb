"""Map in Cartesian coordinates fixed to the crystal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.grid import Grid
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, Mapper, RunInputs

PHIL = """
step = 0.01
  .type = float(value_min=0)
  .help = "Width of a voxel, 1/A (1/d, no 2 pi)."
oversample = 1 1 1
  .type = ints(size=3, value_min=1)
  .help = "Sub-divisions of a pixel (fast, slow) and of the rotation of an image, each"
          "with an equal share of the counts."
"""


class QGrid(Mapper):
    """Voxel index = A_0 hkl / step, rounded: q (1/A) in the frame at goniometer zero.

    hkl is that of the image's own orientation and cell, A_0 = U_0 B the setting matrix
    without scan variation: q = (S R(phi) F)^-1 s for a crystal that doesn't vary, the
    frame of dials.rs_mapper. U_0 is that of the first experiment for all, so that
    crystals in different orientations fall upon each other.

    Args:
        step: 1/A.
        settings: (n_experiments, 3, 3) float64: A_0 of each experiment, 1/A.
        oversample: Sub-divisions along fast, slow and rotation.
    """

    def __init__(
        self,
        step: float,
        settings: np.ndarray,
        oversample: Sequence[int] = (1, 1, 1),
    ) -> None:
        self.scaled = np.asarray(settings, float) / step
        self.oversample = tuple(oversample)
        self.grid = Grid("q", (step, step, step), ("x", "y", "z"), "1/A")

    @classmethod
    def from_params(cls, params, run: RunInputs) -> QGrid:
        """Raises ConfigError if the step isn't above 0."""
        if not params.step:
            raise ConfigError("mapping.q_grid.step must be above 0 (1/A).")
        u = np.array(run.experiments[0].crystal.get_U()).reshape(3, 3)
        settings = [
            u @ np.array(e.crystal.get_B()).reshape(3, 3) for e in run.experiments
        ]
        return cls(params.step, np.array(settings), params.oversample)

    def affine(self, image: Image) -> np.ndarray:
        """(3, 4) float64: s (1/A) to q / step."""
        return self.scaled[image.experiment] @ image.affine()


@hookimpl
def diffuse_mapping_models():
    yield ModelPlugin(
        name="q_grid",
        factory="diffuse_core.plugins.mapping.q_grid:QGrid",
        summary="A Cartesian grid (1/A) fixed to the crystal, as dials.rs_mapper's.",
        phil=PHIL,
    )

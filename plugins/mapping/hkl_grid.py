"""Map in Miller indices: a grid with n voxels per index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.grid import Grid
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, Mapper, RunInputs

PHIL = """
divisions = 3 3 3
  .type = ints(size=3, value_min=1)
  .help = "Voxels per index along h, k, l. Whole indices are centres of voxels, so 1"
          "gives one voxel per Bragg point. Symmetry needs equal numbers on axes that"
          "it mixes."
oversample = 1 1 1
  .type = ints(size=3, value_min=1)
  .help = "Sub-divisions of a pixel (fast, slow) and of the rotation of an image, each"
          "with an equal share of the counts. More than 1 where a pixel is wider than a"
          "voxel."
"""


class HklGrid(Mapper):
    """Voxel index = n hkl, rounded; hkl = (S R(phi) F A)^-1 s, A of the very image.

    Args:
        divisions: n along h, k, l.
        oversample: Sub-divisions along fast, slow and rotation.
    """

    def __init__(
        self,
        divisions: Sequence[int] = (3, 3, 3),
        oversample: Sequence[int] = (1, 1, 1),
    ) -> None:
        self.divisions = np.array(divisions, float)
        self.oversample = tuple(oversample)
        self.grid = Grid("hkl", tuple(1.0 / n for n in divisions), ("h", "k", "l"), "")

    @classmethod
    def from_params(cls, params, run: RunInputs) -> HklGrid:
        return cls(params.divisions, params.oversample)

    def affine(self, image: Image) -> np.ndarray:
        """(3, 4) float64: s (1/A) to n hkl."""
        return self.divisions[:, None] * image.affine()


@hookimpl
def diffuse_mapping_models():
    yield ModelPlugin(
        name="hkl_grid",
        factory="diffuse_core.plugins.mapping.hkl_grid:HklGrid",
        summary="A grid in Miller indices.",
        phil=PHIL,
        default=True,
    )

"""Map in the laboratory: Cartesian, with the goniometer at zero or as it stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.grid import Grid
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, Mapper, RunInputs
from diffuse_core.mount import Mount, mount_of

PHIL = """
frame = *goniometer laboratory
  .type = choice
  .help = "goniometer: the frame that turns with the sample, the laboratory's when all"
          "axes of the goniometer are at 0; laboratory: the frame of the detector,"
          "where images of all angles add up."
step = 0.01
  .type = float(value_min=0)
  .help = "Width of a voxel, 1/A (1/d, no 2 pi)."
oversample = 1 1 1
  .type = ints(size=3, value_min=1)
  .help = "Sub-divisions of a pixel (fast, slow) and of the rotation of an image, each"
          "with an equal share of the counts."
"""


class LabGrid(Mapper):
    """Voxel index = q / step, rounded; q = s, or (S R(phi) F)^-1 s.

    S, R and F are setting, rotation and fixed rotation of the goniometer at the image
    (one without stays in the laboratory frame). Crystals and their cells do not matter:
    each sample stays as it was mounted.

    Args:
        step: 1/A.
        mounts: Goniometer of each experiment, None for one without; None for all = the
            laboratory frame.
        oversample: Sub-divisions along fast, slow and rotation.
    """

    def __init__(
        self,
        step: float,
        mounts: Sequence[Mount | None] | None = None,
        oversample: Sequence[int] = (1, 1, 1),
    ) -> None:
        self.step = step
        self.mounts = mounts
        self.oversample = tuple(oversample)
        frame = "lab" if mounts is None else "goniometer"
        self.grid = Grid(frame, (step, step, step), ("x", "y", "z"), "1/A")

    @classmethod
    def from_params(cls, params, run: RunInputs) -> LabGrid:
        """Raises ConfigError if the step isn't above 0."""
        if not params.step:
            raise ConfigError("mapping.lab_grid.step must be above 0 (1/A).")
        mounts = None
        if params.frame == "goniometer":
            mounts = [mount_of(experiment) for experiment in run.experiments]
        return cls(params.step, mounts, params.oversample)

    def affine(self, image: Image) -> np.ndarray:
        """(3, 4) float64: s (1/A) to q / step."""
        mount = self.mounts[image.experiment] if self.mounts else None
        turn = np.eye(3) if mount is None else mount.rotation(image.phi).T
        return np.column_stack([turn, turn @ image.s_shift]) / self.step


@hookimpl
def diffuse_mapping_models():
    yield ModelPlugin(
        name="lab_grid",
        factory="diffuse_core.plugins.mapping.lab_grid:LabGrid",
        summary="A Cartesian grid (1/A) fixed to the goniometer or the laboratory.",
        phil=PHIL,
    )

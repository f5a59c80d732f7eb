"""Intensity against |s|, image by image: the quick look at a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.grid import Grid, keys_of
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, Mapper, RunInputs

PHIL = """
step = 0.005
  .type = float(value_min=0)
  .help = "Width of a bin of |s|, 1/A (1/d, no 2 pi)."
per = *image experiment run
  .type = choice
  .help = "What has a profile of its own."
"""


class Radial(Mapper):
    """Voxel index = (number, |s| / step rounded, 0): radial profiles side by side.

    The number counts all images of the run from 0 in the order of the experiments, or
    the experiments, or is 0. |s| is that of the image's own beam.

    Args:
        step: 1/A.
        first: Per experiment, the number of its first image.
        by_image: Whether the numbers count images.
    """

    def __init__(self, step: float, first: Sequence[int], by_image: bool) -> None:
        self.step, self.first, self.by_image = step, tuple(first), by_image
        self.grid = Grid("s", (1.0, step, 1.0), ("number", "s", "zero"), "1/A")

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Radial:
        """Raises ConfigError if the step isn't above 0."""
        if not params.step:
            raise ConfigError("mapping.radial.step must be above 0 (1/A).")
        if params.per == "image":
            sizes = [len(e.imageset) if e.imageset else 1 for e in run.experiments]
            first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).tolist()
        elif params.per == "experiment":
            first = list(range(len(run.experiments)))
        else:
            first = [0] * len(run.experiments)
        return cls(params.step, first, params.per == "image")

    def voxels(self, image: Image, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) int64 voxel keys."""
        s = geometry.s_norm
        if image.s_shift.any():
            s = np.linalg.norm(geometry.s + image.s_shift, axis=2)
        index = np.zeros((s.size, 3), np.int64)
        index[:, 0] = self.first[image.experiment]
        if self.by_image:
            index[:, 0] += image.index
        index[:, 1] = np.rint(s.ravel() / self.step)
        return keys_of(index).reshape(geometry.shape)


@hookimpl
def diffuse_mapping_models():
    yield ModelPlugin(
        name="radial",
        factory="diffuse_core.plugins.mapping.radial:Radial",
        summary="Radial profiles, intensity against |s|, of each image.",
        phil=PHIL,
    )

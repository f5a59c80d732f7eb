"""Gain of single pixels, from a file or from the gain map of the image set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
file = None
  .type = path
  .help = "Gain of each pixel (raw units per photon), one array for each panel: .npy,"
          ".npz, HDF5, .pickle of flex arrays, or an image. Default: the gain map that"
          "the .expt file names (lookup.gain_map of dials.import)."
"""


class Gain(CorrectionModel):
    """Response g(pixel) / g(panel): what is left of the gain after the panel's own.

    Counts are (raw - pedestal) / g(panel) before any model sees them, so only the ratio
    is left to correct: without a map the response is 1, and nothing is counted twice.
    The variance of the counts is that of Poisson statistics with g(panel): where the
    map differs from it much, set the gain of the panels to the mean of the map.

    Args:
        ratio: Setup -> per panel (n_slow, n_fast) float64, > 0.
    """

    def __init__(self, ratio: Mapping[int, Sequence[np.ndarray]]) -> None:
        self.ratio = dict(ratio)

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Gain:
        """Raises InputError or ConfigError if a map can't be used."""

        from diffuse_core.io.panel_arrays import read_panel_arrays

        ratio = {}
        for setup in sorted(set(run.setups)):
            experiment = run.first_of_setup(setup)
            source = params.file or f"the gain map of detector {setup}"
            if params.file is not None:
                maps = read_panel_arrays(
                    params.file, experiment.detector, "correction.gain.file"
                )
            else:
                maps = _lookup_map(experiment)
            if not maps:
                continue
            if not all(np.isfinite(m).all() and (m > 0).all() for m in maps):
                raise ConfigError(
                    f"The gains in {source} of correction.gain must all be above 0."
                )
            panels = zip(maps, experiment.detector, strict=True)
            ratio[setup] = [one / panel.get_gain() for one, panel in panels]
        if not ratio:
            logger.warning(
                "correction.gain does nothing: there is no correction.gain.file, and "
                "the .expt file names no gain map."
            )
        return cls(ratio)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float64, or 1 where there is no map."""
        if geometry.setup not in self.ratio:
            return 1.0
        return self.ratio[geometry.setup][geometry.index]


def _lookup_map(experiment) -> list[np.ndarray]:
    """The gain map of the image set, per panel; empty if there is none."""
    images = experiment.imageset
    if images is None or images.external_lookup.gain.data.empty():
        return []
    return [panel.as_numpy_array() for panel in images.get_gain(0)]


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="gain",
        factory="diffuse_core.plugins.correction.gain:Gain",
        summary="Gain of single pixels, from a file or the image set's gain map.",
        phil=PHIL,
    )

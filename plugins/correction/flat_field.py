"""Relative sensitivity of the pixels, from a flat-field file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
file = None
  .type = path
  .help = "Relative sensitivity of each pixel, 1 = nominal: .npy, .npz, HDF5 (a data"
          "set is named as in flat.h5:/entry/flat), .pickle of flex arrays, or an image"
          "that dxtbx reads; one array for each panel."
invert = False
  .type = bool
  .help = "True: the file holds the factors that counts are to be multiplied with."
"""


class FlatField(CorrectionModel):
    """Response f of each pixel: counts / f is what a nominal pixel would have counted.

    Args:
        sensitivity: Setup -> per panel (n_slow, n_fast) float64. Values that aren't
            finite and above 0 (gaps, dead pixels) count as 1: they belong in a mask.
    """

    def __init__(self, sensitivity: Mapping[int, Sequence[np.ndarray]]) -> None:
        self.sensitivity = {
            setup: [
                np.where(np.isfinite(panel) & (panel > 0), panel, 1.0)
                for panel in panels
            ]
            for setup, panels in sensitivity.items()
        }

    @classmethod
    def from_params(cls, params, run: RunInputs) -> FlatField:
        """Raises InputError if the file can't be read or doesn't fit a detector."""

        from diffuse_core.io.panel_arrays import read_panel_arrays

        if params.file is None:
            logger.warning(
                "correction.flat_field does nothing without correction.flat_field.file."
            )
            return cls({})
        sensitivity = {}
        for setup in sorted(set(run.setups)):
            arrays = read_panel_arrays(
                params.file,
                run.first_of_setup(setup).detector,
                "correction.flat_field.file",
            )
            n_bad = sum(
                int((~(np.isfinite(array) & (array > 0))).sum()) for array in arrays
            )
            if n_bad:
                logger.warning(
                    "%d pixels of %s are not above 0 and count as 1: if they are not "
                    "masked already, mask them.",
                    n_bad,
                    params.file,
                )
            if params.invert:
                with np.errstate(divide="ignore"):
                    arrays = [1.0 / array for array in arrays]
            sensitivity[setup] = arrays
        return cls(sensitivity)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float64, or 1 without a file."""
        if not self.sensitivity:
            return 1.0
        return self.sensitivity[geometry.setup][geometry.index]


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="flat_field",
        factory="diffuse_core.plugins.correction.flat_field:FlatField",
        summary="Relative sensitivity of the pixels, from a flat-field file.",
        phil=PHIL,
    )

"""Masks from files, as dials.generate_mask writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import InputError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import MaskModel, RunInputs

PHIL = """
path = None
  .type = path
  .multiple = True
  .help = "Mask file of DIALS: one array for each panel, True = keep. May be given"
          "several times: a pixel must be kept by all."
"""


class MaskFile(MaskModel):
    """Keeps the pixels that all mask files keep.

    Args:
        masks: Per file, per panel: (n_slow, n_fast) bool, True = keep.
    """

    def __init__(self, masks: Sequence[Sequence[np.ndarray]]) -> None:
        self.masks = masks

    @classmethod
    def from_params(cls, params, run: RunInputs) -> MaskFile:
        """Raises InputError if a file isn't a mask of every detector of the run."""
        from diffuse_core.io.masks import read_mask

        masks = []
        for path in params.path:
            if path is None:
                continue
            mask = read_mask(path)
            for setup in sorted(set(run.setups)):
                _check(mask, path, run.first_of_setup(setup).detector)
            masks.append(mask)
        return cls(masks)

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None without files."""
        if not self.masks:
            return None
        return np.logical_and.reduce([mask[geometry.index] for mask in self.masks])


def _check(mask: list[np.ndarray], path: str, detector) -> None:
    if len(mask) != len(detector):
        raise InputError(
            f"The mask file {path} has {len(mask)} panels, but the detector has "
            f"{len(detector)}: give a mask that was made for these experiments."
        )
    for index, (array, panel) in enumerate(zip(mask, detector, strict=True)):
        shape = tuple(reversed(panel.get_image_size()))
        if array.shape != shape:
            raise InputError(
                f"Panel {index} of the mask file {path} has the shape {array.shape}, "
                f"but that of the detector has {shape} (slow, fast): give a mask that "
                "was made for these experiments."
            )


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="file",
        factory="diffuse_core.plugins.masking.mask_file:MaskFile",
        summary="Mask files of DIALS.",
        phil=PHIL,
        default=True,
    )

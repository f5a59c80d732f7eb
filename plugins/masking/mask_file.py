"""Masks from files, as dials.generate_mask writes them."""

from __future__ import annotations

import pickle
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


def read_mask(path: str) -> list[np.ndarray]:
    """The mask of a pickle file of DIALS, per panel (n_slow, n_fast) bool.

    Only flex arrays are unpickled: a pickle can otherwise run any program.

    Raises:
        InputError: The file can't be read or holds something else.
    """
    from dials.array_family import flex

    try:
        with open(path, "rb") as file:
            mask = _MaskUnpickler(file, encoding="bytes").load()
    except OSError as error:
        raise InputError(
            f"The mask file {path} can't be read ({error.strerror}): correct "
            "mask.file.path."
        ) from error
    except Exception as error:
        raise InputError(
            f"The file {path} isn't a mask file of DIALS ({error}): make one with "
            "dials.generate_mask."
        ) from error
    panels = [mask] if isinstance(mask, flex.bool) else mask
    if not isinstance(panels, (tuple, list)) or not all(
        isinstance(panel, flex.bool) and len(panel.all()) == 2 for panel in panels
    ):
        raise InputError(
            f"The file {path} doesn't hold one Boolean array for each panel: make a "
            "mask with dials.generate_mask."
        )
    return [panel.as_numpy_array() for panel in panels]


class _MaskUnpickler(pickle.Unpickler):
    ALLOWED = {
        ("scitbx_array_family_flex_ext", "bool"),
        ("scitbx_array_family_flex_ext", "grid"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


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

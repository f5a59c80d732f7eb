"""Mask files of DIALS: one Boolean array for each panel, True = keep."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffuse_core.errors import InputError


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


def write_mask(path: str | os.PathLike, masks: Sequence[np.ndarray]) -> None:
    """Writes a mask file as dials.generate_mask does, whole or not at all.

    Args:
        path: The file; its folder is made if it does not exist.
        masks: Per panel (n_slow, n_fast) bool.
    """
    from dials.array_family import flex

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    panels = tuple(flex.bool(np.ascontiguousarray(mask, bool)) for mask in masks)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        pickle.dump(panels, file, pickle.HIGHEST_PROTOCOL)
    os.replace(temporary, target)

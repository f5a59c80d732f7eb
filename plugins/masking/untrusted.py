"""Masks areas of the detector, as dials.generate_mask does."""

from __future__ import annotations

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import MaskModel, RunInputs

PHIL = """
include scope dials.util.masking.phil_scope
"""

SHAPES = ("circle", "rectangle", "polygon", "pixel")


class Untrusted(MaskModel):
    """The mask of `dials.util.masking.generate_mask`: borders, areas, resolution.

    Args:
        params: Extract of `dials.util.masking.phil_scope`.
        run: For the detector and the beam of each setup.

    Raises:
        ConfigError: DIALS can't use a parameter.
    """

    def __init__(self, params, run: RunInputs) -> None:
        params.untrusted = [r for r in params.untrusted if _is_given(r)]
        params.resolution_range = [r for r in params.resolution_range if r is not None]
        _check(params, run)
        self._params = params
        self._run = run
        self._active = bool(
            params.border
            or params.untrusted
            or params.d_min
            or params.d_max
            or params.resolution_range
            or params.ice_rings.filter
        )
        self._setup: int | None = None
        self._masks: tuple = ()

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Untrusted:
        return cls(params, run)

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None where no parameter is set."""
        if not self._active:
            return None
        if self._setup != geometry.setup:
            images = self._run.first_of_setup(geometry.setup).imageset
            self._masks = _generate(images, self._params)
            self._setup = geometry.setup
        return self._masks[geometry.index].as_numpy_array()


def _generate(images, params) -> tuple:
    from dials.util.masking import generate_mask

    try:
        return generate_mask(images, params)
    except (AssertionError, RuntimeError, SystemExit, ValueError) as error:
        raise ConfigError(
            f"DIALS can't make the mask that mask.untrusted describes ({error}): "
            "correct its parameters."
        ) from error


def _is_given(region) -> bool:
    return region.panel is not None or any(getattr(region, s) for s in SHAPES)


def _check(params, run: RunInputs) -> None:
    low, high = params.d_min, params.d_max
    if low is not None and high is not None and low >= high:
        raise ConfigError(
            f"mask.untrusted.d_min = {low:g} A must be below d_max = {high:g} A."
        )
    if params.border < 0:
        raise ConfigError(f"mask.untrusted.border = {params.border} must be 0 or more.")
    n_panels = max(len(e.detector) for e in run.experiments)
    for region in params.untrusted:
        if region.panel is not None and not 0 <= region.panel < n_panels:
            raise ConfigError(
                f"mask.untrusted.untrusted.panel = {region.panel}: the detector has "
                f"panels 0 to {n_panels - 1}."
            )
        if region.panel is None and n_panels > 1:
            raise ConfigError(
                "mask.untrusted.untrusted.panel must say which panel of the detector "
                f"(0 to {n_panels - 1}) the untrusted area is on."
            )


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="untrusted",
        factory="diffuse_core.plugins.masking.untrusted:Untrusted",
        summary="Areas of the detector, with the parameters of dials.generate_mask.",
        phil=PHIL,
        default=True,
    )

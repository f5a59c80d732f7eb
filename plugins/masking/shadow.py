"""Masks the shadow of the goniometer and of what it carries, image by image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, MaskModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
goniometer = *auto none mini_kappa dls_i23_kappa smargon diamond_anvil_cell
  .type = choice
  .help = "Shape of the goniometer: auto: the one that the image format knows, if any;"
          "mini_kappa: a cone around the innermost of three axes; dls_i23_kappa,"
          "smargon: those of DIALS; diamond_anvil_cell: everything outside of two"
          "cones along y at the datum."
cone_opening_angle = None
  .type = float(value_min=0, value_max=180)
  .help = "Of mini_kappa (default 43.6) and diamond_anvil_cell, deg."
shape
  .multiple = True
  .help = "A convex body that casts a shadow. May be given several times."
{
  points = None
    .type = floats
    .help = "Corners, three numbers each: mm, laboratory frame, all axes of the"
            "goniometer at 0, sample at 0 0 0. With 0 0 0 as a corner the body reaches"
            "to the sample."
  axis = None
    .type = int(value_min=0)
    .help = "The axis of the goniometer that the body is fixed to, counted from 0 at"
            "the crystal; outer axes carry it as well. None: it doesn't move. On"
            "stills without a goniometer only such bodies cast shadows."
}
"""

BUILT_IN = ("mini_kappa", "dls_i23_kappa", "smargon", "diamond_anvil_cell")


@dataclass(frozen=True, eq=False)
class Body:
    """One shadow masker as plain values: dxtbx' own objects can't be pickled.

    Attributes:
        make: Called with `goniometer` and `values`, gives a masker of dxtbx.
        goniometer: dxtbx MultiAxisGoniometer.
        values: Further arguments.
    """

    make: Callable[..., Any]
    goniometer: Any
    values: tuple = ()

    def masker(self):
        """A new masker: an object with get_mask(detector, angle)."""
        return self.make(self.goniometer, *self.values)


class Shadow(MaskModel):
    """Leaves out what lies in the shadow of a body at the start or end of an image.

    The corners of a body are turned by the axes of the goniometer that carry it, with
    the scan axis at the angle of the image, and projected from the sample onto the
    panels; their convex hull is the shadow. Source: `dxtbx.masking`, which does it.

    Args:
        bodies: Per experiment, the bodies that cast shadows.
        detectors: Per setup, the dxtbx detector.
    """

    def __init__(
        self, bodies: Sequence[Sequence[Body]], detectors: Sequence[Any]
    ) -> None:
        self.bodies, self.detectors = bodies, detectors
        self._maskers: dict[int, list] = {}
        self._panels: dict[tuple[int, int], Any] = {}

    def __getstate__(self) -> dict:
        return {**vars(self), "_maskers": {}, "_panels": {}}

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Shadow:
        """Raises ConfigError for bodies that the goniometer can't carry."""
        found: dict[int, list[Body]] = {}
        bodies = []
        for number, experiment in enumerate(run.experiments):
            key = id(experiment.imageset) if experiment.imageset else -1 - number
            if key not in found:
                found[key] = _bodies(params, experiment, number)
            bodies.append(found[key])
        if not any(bodies):
            logger.warning(
                "mask.models=shadow: neither the image format nor the parameters tell "
                "the shape of the goniometer, so no shadow is left out: set "
                "mask.shadow.goniometer or mask.shadow.shape."
            )
        setups = range(max(run.setups) + 1)
        return cls(bodies, [run.first_of_setup(setup).detector for setup in setups])

    def image_mask(self, image: Image, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None without bodies."""
        if not self.bodies[image.experiment]:
            return None
        detector = self._panel(geometry)
        half = 0.5 * image.width
        angles = {image.phi - half, image.phi + half}
        if image.experiment not in self._maskers:
            self._maskers[image.experiment] = [
                body.masker() for body in self.bodies[image.experiment]
            ]
        keep = np.ones(geometry.shape, bool)
        for masker in self._maskers[image.experiment]:
            for angle in sorted(angles):
                keep &= masker.get_mask(detector, angle)[0].as_numpy_array()
        return keep

    def _panel(self, geometry: PanelGeometry):
        """A detector of this panel alone, so that no other is calculated."""
        from dxtbx.model import Detector

        key = (geometry.setup, geometry.index)
        if key not in self._panels:
            panel = self.detectors[geometry.setup][geometry.index]
            single = Detector()
            copy = single.add_panel(panel)  # without the frame of the panel's group
            copy.set_frame(
                panel.get_fast_axis(), panel.get_slow_axis(), panel.get_origin()
            )
            self._panels[key] = single
        return self._panels[key]


def _bodies(params, experiment, number: int) -> list[Body]:
    wanted = params.goniometer
    bodies = []
    if wanted in BUILT_IN and experiment.goniometer is not None:
        bodies.append(_built_in(params, _multi_axis(experiment, number, wanted)))
    elif wanted != "none":
        bodies += _of_format(experiment)
    for shape in params.shape:
        still = experiment.goniometer is None
        if shape.points and not (still and shape.axis is not None):
            bodies.append(_shape(shape, experiment, number))
    return bodies


def _of_format(experiment) -> list[Body]:
    """The body that the image format describes, if it does."""
    from dxtbx.model import MultiAxisGoniometer

    images, goniometer = experiment.imageset, experiment.goniometer
    if images is None or not isinstance(goniometer, MultiAxisGoniometer):
        return []
    reader = images.get_format_class()
    if reader is None:
        return []
    arguments = (reader, images.get_path(0), dict(images.params()))
    if _format_masker(goniometer, *arguments) is None:
        return []
    return [Body(_format_masker, goniometer, arguments)]


def _format_masker(goniometer, reader, path: str, params: dict):
    """The masker of a format class, whether or not it was opened with shadowing."""
    from dxtbx.format.Format import Format

    if reader.get_goniometer_shadow_masker is Format.get_goniometer_shadow_masker:
        return None
    params = {**params, "dynamic_shadowing": True}
    image = reader.get_instance(path, **params)
    return image.get_goniometer_shadow_masker(goniometer=goniometer)


def _multi_axis(experiment, number: int, wanted: str):
    from dxtbx.model import MultiAxisGoniometer

    goniometer = experiment.goniometer
    if not isinstance(goniometer, MultiAxisGoniometer):
        raise ConfigError(
            f"mask.shadow.goniometer={wanted} needs a goniometer of several axes, but "
            f"experiment {number} has none: describe the body with mask.shadow.shape."
        )
    if wanted == "mini_kappa" and len(goniometer.get_axes()) != 3:
        raise ConfigError(
            f"mask.shadow.goniometer=mini_kappa needs three axes, but the goniometer "
            f"of experiment {number} has {len(goniometer.get_axes())}: describe the "
            "body with mask.shadow.shape."
        )
    return goniometer


def _built_in(params, goniometer) -> Body:
    from dxtbx.masking import GoniometerMaskerFactory

    make = getattr(GoniometerMaskerFactory, params.goniometer)
    angle = params.cone_opening_angle
    if params.goniometer == "diamond_anvil_cell":
        if angle is None:
            raise ConfigError(
                "mask.shadow.goniometer=diamond_anvil_cell needs "
                "mask.shadow.cone_opening_angle (deg)."
            )
        return Body(make, goniometer, (np.radians(angle),))
    if params.goniometer == "mini_kappa" and angle is not None:
        return Body(make, goniometer, (angle,))
    return Body(make, goniometer)


def _shape(shape, experiment, number: int) -> Body:
    """The body of a user's shape; a single rotation axis is an axis 0 at 0 deg."""
    from dxtbx.model import GoniometerFactory, MultiAxisGoniometer

    if len(shape.points) % 3 or len(shape.points) < 9:
        raise ConfigError(
            "mask.shadow.shape.points needs three numbers for each of three or more "
            f"corners, but has {len(shape.points)} numbers."
        )
    goniometer = experiment.goniometer
    if not isinstance(goniometer, MultiAxisGoniometer):
        from scitbx.array_family import flex

        axis = goniometer.get_rotation_axis() if goniometer else (1.0, 0.0, 0.0)
        goniometer = GoniometerFactory.make_multi_axis_goniometer(
            flex.vec3_double([axis]), flex.double([0]), flex.std_string(["AXIS"]), 0
        )
    n_axes = len(goniometer.get_axes())
    if shape.axis is not None and shape.axis >= n_axes:
        raise ConfigError(
            f"mask.shadow.shape.axis={shape.axis}: the goniometer of experiment "
            f"{number} has {n_axes}, counted from 0 at the crystal."
        )
    carrier = n_axes if shape.axis is None else shape.axis
    return Body(_hull, goniometer, (tuple(shape.points), carrier))


def _hull(goniometer, points: tuple[float, ...], carrier: int):
    from dxtbx.masking import GoniometerShadowMasker
    from scitbx.array_family import flex

    corners = flex.vec3_double(np.array(points).reshape(-1, 3))
    carriers = flex.size_t(len(corners), carrier)
    return GoniometerShadowMasker(goniometer, corners, carriers)


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="shadow",
        factory="diffuse_core.plugins.masking.shadow:Shadow",
        summary="Shadow of the goniometer, image by image.",
        phil=PHIL,
    )

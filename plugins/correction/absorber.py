"""Absorption around the sample: anvils, windows, capillaries."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.materials import Material, material
from diffuse_core.models import CorrectionModel, Image, RunInputs
from diffuse_core.mount import Mount, mount_of

logger = logging.getLogger("dials.diffuse")

LOWEST = 1e-6

PHIL = """
plate
  .multiple = True
  .help = "A flat plate beside the sample, or one on either side. Give all parameters"
          "in one block: each mention on the command line is a further plate."
{
  material = None
    .type = str
    .help = "diamond, be, kapton, silicon, silica, sapphire ... or a formula such as"
            "Si3N4."
  density = Auto
    .type = float(value_min=0)
    .help = "g/cm^3. Auto: tabulated (diamond 3.51); needed with a formula."
  thickness = None
    .type = float(value_min=0)
    .help = "mm, of each plate."
  normal = 0 1 0
    .type = floats(size=3)
    .help = "Normal of the plate, from the sample outwards."
  both_sides = True
    .type = bool
    .help = "True: two such plates with the sample between them (an anvil cell). False:"
            "one plate, on the side of the normal."
  frame = *goniometer laboratory
    .type = choice
    .help = "goniometer: the plate turns with the sample, and normal is where all"
            "angles of the goniometer are 0, as in dials.anvil_correction."
}
cylinder
  .multiple = True
  .help = "A long cylinder with the sample on its axis: a capillary, a loop of water."
{
  material = None
    .type = str
    .help = "silica, borosilicate, water, kapton ... or a formula."
  density = Auto
    .type = float(value_min=0)
    .help = "g/cm^3. Auto: tabulated; needed with a formula."
  inner_radius = 0
    .type = float(value_min=0, allow_none=False)
    .help = "mm."
  outer_radius = None
    .type = float(value_min=0)
    .help = "mm."
  axis = 1 0 0
    .type = floats(size=3)
    .help = "Axis of the cylinder."
  frame = *goniometer laboratory
    .type = choice
    .help = "goniometer: it turns with the sample, and axis is where all angles of the"
            "goniometer are 0."
}
"""


@dataclass(frozen=True)
class Plate:
    """A flat plate beside the sample, wide enough for all rays.

    Attributes:
        material: What it is made of.
        thickness: mm.
        axis: Unit normal, from the sample outwards.
        both_sides: Whether there is another one opposite.
        turns: Whether it turns with the sample.
    """

    material: Material
    thickness: float
    axis: tuple[float, float, float]
    both_sides: bool = True
    turns: bool = True

    def path(self, cosine: np.ndarray) -> np.ndarray:
        """Length in the plate (mm) of rays at this cosine to the normal."""
        if not self.both_sides:
            cosine = np.maximum(cosine, 0.0)
        length = self.thickness / np.maximum(abs(cosine), 1e-9)
        return length if self.both_sides else np.where(cosine > 0, length, 0.0)


@dataclass(frozen=True)
class Cylinder:
    """A wall between two radii around the sample, longer than all rays.

    Attributes:
        material: What it is made of.
        inner, outer: Radii (mm).
        axis: Unit vector.
        turns: Whether it turns with the sample.
    """

    material: Material
    inner: float
    outer: float
    axis: tuple[float, float, float]
    turns: bool = True

    def path(self, cosine: np.ndarray) -> np.ndarray:
        """Length in the wall (mm) of rays at this cosine to the axis."""
        sine = np.sqrt(np.maximum(1.0 - np.square(cosine), 1e-18))
        return (self.outer - self.inner) / sine


class Absorber(CorrectionModel):
    """Response exp(-sum mu (L_in + L_out)): transmission into and out of a surrounding.

    Plate: L = t / |n . v|, v the direction of the ray from the sample (to the source
    for L_in); for diamond the formula of dials.anvil_correction. Cylinder:
    L = (r_outer - r_inner) / |a x v|, a its axis. Values are at least 1e-6.

    Args:
        layers: Plates and cylinders.
        mounts: Experiment -> how its sample turns; None where it doesn't.
    """

    def __init__(
        self,
        layers: Sequence[Plate | Cylinder],
        mounts: Mapping[int, Mount | None] | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.mounts = dict(mounts or {})

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Absorber:
        """Raises ConfigError if a parameter of a layer is missing or impossible."""
        layers: list[Plate | Cylinder] = []
        where = "correction.absorber.plate"
        for p in params.plate:
            if p.material is None:
                continue
            layers.append(
                Plate(
                    material(p.material, _number(p.density), f"{where}.material"),
                    _given(p.thickness, f"{where}.thickness"),
                    _unit(p.normal, f"{where}.normal"),
                    p.both_sides,
                    p.frame == "goniometer",
                )
            )
        where = "correction.absorber.cylinder"
        for c in params.cylinder:
            if c.material is None:
                continue
            outer = _given(c.outer_radius, f"{where}.outer_radius")
            if outer < c.inner_radius:
                raise ConfigError(
                    f"{where}.outer_radius = {outer:g} must not be below "
                    f"inner_radius = {c.inner_radius:g}."
                )
            layers.append(
                Cylinder(
                    material(c.material, _number(c.density), f"{where}.material"),
                    c.inner_radius,
                    outer,
                    _unit(c.axis, f"{where}.axis"),
                    c.frame == "goniometer",
                )
            )
        if not layers:
            logger.warning(
                "correction.absorber does nothing without a correction.absorber.plate "
                "or cylinder with a material."
            )
        mounts = {i: mount_of(e) for i, e in enumerate(run.experiments)}
        return cls(layers, mounts)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float64: layers that stay where they are."""
        return self._transmission(geometry, False, np.eye(3))

    def image_response(
        self, image: Image, geometry: PanelGeometry
    ) -> np.ndarray | float:
        """(n_slow, n_fast) float64: layers that turn with the sample."""
        if not any(layer.turns for layer in self.layers):
            return 1.0
        mount = self.mounts.get(image.experiment)
        rotation = np.eye(3) if mount is None else mount.rotation(image.phi)
        return self._transmission(geometry, True, rotation)

    def _transmission(
        self, geometry: PanelGeometry, turns: bool, rotation: np.ndarray
    ) -> np.ndarray | float:
        beam = np.array(geometry.beam.s0) * geometry.beam.wavelength
        depth: np.ndarray | float = 0.0
        for layer in self.layers:
            if layer.turns != turns:
                continue
            mu = layer.material.attenuation(geometry.beam.wavelength)
            axis = rotation @ np.array(layer.axis)
            path = layer.path(geometry.direction @ axis) + layer.path(-beam @ axis)
            depth = depth + mu * path
        return np.maximum(np.exp(-depth), LOWEST) if np.ndim(depth) else 1.0


def _number(value) -> float | None:
    return value if isinstance(value, float) else None


def _given(value: float | None, name: str) -> float:
    if value is None:
        raise ConfigError(f"{name} is missing: give it in mm.")
    return value


def _unit(vector: Sequence[float], name: str) -> tuple[float, float, float]:
    length = np.linalg.norm(vector)
    if not length > 0:
        raise ConfigError(f"{name} = {tuple(vector)} has no direction.")
    x, y, z = np.asarray(vector, float) / length
    return float(x), float(y), float(z)


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="absorber",
        factory="diffuse_core.plugins.correction.absorber:Absorber",
        summary="Absorption in anvils, windows, capillaries around the sample.",
        phil=PHIL,
    )

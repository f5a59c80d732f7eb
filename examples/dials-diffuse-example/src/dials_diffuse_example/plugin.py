"""What this package offers to dials.diffuse; the entry point names this module."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

WINDOW = """
thickness = 2.0
  .type = float(value_min=0, allow_none=False)
  .help = "Thickness of the diamond behind the crystal, mm."
normal = Auto
  .type = floats(size=3)
  .help = "Normal of the window in the laboratory frame. Auto: along the beam."
"""

OPENING = """
half_angle = 40.0
  .type = float(value_min=0, value_max=90, allow_none=False)
  .help = "Half of the full opening angle of the cell, deg."
axis = Auto
  .type = floats(size=3)
  .help = "Axis of the cone in the laboratory frame, from the crystal to the detector."
          "Auto: along the beam."
"""

TURNING = """
normal = Auto
  .type = floats(size=3)
  .help = "Normal of the window in the laboratory frame at angle 0. Auto: along the"
          "beam."
smoothness = 1.0
  .type = float(value_min=1e-6, allow_none=False)
  .help = "Expected size of the optical depth."
"""


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="diamond_window",
        factory="dials_diffuse_example.window:DiamondWindow",
        summary="Absorption in a plane-parallel window of diamond.",
        phil=WINDOW,
    )


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="cell_opening",
        factory="dials_diffuse_example.opening:CellOpening",
        summary="The cone that the body of a diamond-anvil cell leaves open.",
        phil=OPENING,
    )


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="turning_window",
        factory="dials_diffuse_example.turning:TurningWindow",
        summary="G: a window that turns with the crystal, its depth fitted.",
        phil=TURNING,
    )

"""Images of an empty run: what is counted without the crystal."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = """
file = None
  .type = path
  .multiple = True
  .help = "The empty run: .expt file, image file, template (empty_####.cbf) or pattern"
          "(empty_*.cbf). Any number of images, any rotation."
window = None
  .type = float(value_min=0)
  .help = "Average the empty images in windows of this rotation (deg), and use the"
          "window nearest to the angle of each block (block.width), or all windows"
          "whose middle lies in the block: for set-ups that cast other shadows at other"
          "angles. None: the average of all images. A window should be several blocks"
          "wide: its error is taken as that of the window before, too large where a"
          "pixel stays in one voxel from window to window."
scale = 1
  .type = float(value_min=0, allow_none=False)
  .help = "Factor on the empty run, after its exposure times: for another flux, or less"
          "air that scatters. Auto: fitted to images of the crystal's run, see"
          "scale_range; without a range it is the ratio of the counts in the ring of"
          "|s| where that is smallest, the largest factor that leaves no ring negative."
          "As crystal and solvent scatter everywhere, that is an upper limit."
scale_range = None
  .type = floats(size=2, value_min=0)
  .help = "For scale=Auto: interval of d (A) where the sample scatters nothing, for"
          "example near the beam stop; the scale is the ratio of the counts there."
max_shift = 2.0
  .type = float(value_min=0, allow_none=False)
  .help = "How far panels of the two runs may be apart, mm (refinement moves them)."
max_tilt = 1.0
  .type = float(value_min=0, allow_none=False)
  .help = "How much panels of the two runs may be turned, deg."
"""


@hookimpl
def diffuse_background_models():
    yield ModelPlugin(
        name="images",
        factory="diffuse_core.plugins.background.images.model:Images",
        summary="Images of an empty run, scaled by exposure time and by a factor.",
        phil=PHIL,
    )

"""Parameters of dials.diffuse_simulate."""

from __future__ import annotations

import iotbx.phil
from libtbx.phil import scope, scope_extract
from libtbx.utils import Sorry

from diffuse_core.errors import ConfigError

PHIL = """
detector {
  name = pilatus_300k *pilatus_1m pilatus_2m pilatus_6m eiger_1m eiger_4m eiger_9m \
         eiger_16m test_small test_curved
    .type = choice
    .help = "Module layout, pixel size and sensor of a real detector. test_small is"
            "256 x 256 pixels of 0.172 mm in four modules; test_curved has three"
            "panels on a cylinder about the vertical."
  experiments = None
    .type = path
    .help = "Take the detector, the beam and the goniometer from this .expt file;"
            "detector.name, detector.distance, beam.wavelength ... are then not used."
  distance = 200
    .type = float(value_min=1e-3)
    .help = "Distance along the beam to the rotation centre of the detector, in mm."
  two_theta = 0
    .type = float
    .help = "Swing of the detector about the vertical (y) through the sample, towards"
            "+x, deg."
  tilt = 0
    .type = float
    .help = "Rotation of the detector about its own fast axis, deg."
  beam_centre = None
    .type = floats(size=2)
    .help = "Where the beam would meet the untilted detector at two_theta = 0, in"
            "pixels (fast, slow); default: the middle."
  thickness = None
    .type = float(value_min=0)
    .help = "Sensor thickness in mm, instead of that of the detector; 0: response 1."
  mu = None
    .type = float(value_min=0)
    .help = "Attenuation coefficient of the sensor in 1/mm, instead of silicon's."
  saturation = None
    .type = int(value_min=1)
    .help = "Counts at which a pixel is saturated; default: that of the detector."
}
beam {
  wavelength = 1.0
    .type = float(value_min=1e-3)
    .help = "In Angstrom."
  polarization_fraction = 0.999
    .type = float(value_min=0, value_max=1)
    .help = "0.5 is unpolarised, 1 fully polarised in the plane."
  polarization_normal = 0 1 0
    .type = floats(size=3)
    .help = "Normal to the plane of polarisation."
  flux = 1.0
    .type = float(value_min=0)
    .help = "Factor on everything that comes from the beam; 1 is the unit flux."
}
scan {
  n_images = 10
    .type = int(value_min=1)
  start = 0
    .type = float
    .help = "Goniometer angle at the start of the first image, deg."
  width = 1.0
    .type = float(value_min=1e-6)
    .help = "Rotation per image, deg; to rotate the other way, reverse the axis."
  exposure = 1.0
    .type = float(value_min=1e-9)
    .help = "Exposure time per image or still, s."
}
stills {
  n = None
    .type = int(value_min=1)
    .help = "Simulate this number of stills of random orientation, not a scan."
  seed = 1
    .type = int(value_min=0)
}
goniometer {
  axis = 1 0 0
    .type = floats(size=3)
    .help = "Rotation axis; with several axes, see goniometer.axes."
  fixed_rotation = None
    .type = floats(size=9)
    .help = "Rotation matrix between the crystal and the rotating axis."
  setting_rotation = None
    .type = floats(size=9)
    .help = "Rotation matrix of what carries the rotating axis."
  axes = None
    .type = floats
    .help = "Axes of a multi-axis goniometer, three numbers each, from the crystal"
            "outwards; used instead of the three parameters above."
  angles = None
    .type = floats
    .help = "One angle per axis, deg."
  names = None
    .type = strings
    .help = "One name per axis."
  scan_axis = 0
    .type = int(value_min=0)
    .help = "Which of goniometer.axes rotates during the scan."
}
crystal {
  unit_cell = 40 50 60 90 90 90
    .type = unit_cell
  space_group = P212121
    .type = space_group
  orientation = None
    .type = floats(size=9)
    .help = "Orientation matrix U; default: random by seed (every still has its own)."
  seed = 1
    .type = int(value_min=0)
  mosaicity = 0.05
    .type = float(value_min=0)
    .help = "Standard deviation of the orientations of the mosaic blocks, deg."
  drift {
    angle = 0
      .type = float
      .help = "Rotation of the crystal in its mount over the whole scan, deg."
    axis = 1 1 1
      .type = floats(size=3)
    cell = 0
      .type = float(value_min=-0.2, value_max=0.2)
      .help = "Relative expansion of the cell edges over the whole scan."
  }
}
diffuse {
  spherical {
    amplitude = 4e6
      .type = float(value_min=0)
      .help = "counts/s/sr per unit flux at s = 0."
    b_factor = 10
      .type = float(value_min=0)
      .help = "Fall-off exp(-b s^2/2), A^2."
    constant = 4e5
      .type = float(value_min=0)
      .help = "What does not fall off, counts/s/sr per unit flux."
    ring {
      height = 0.6
        .type = float(value_min=0)
        .help = "Relative to the amplitude."
      d = 3.3
        .type = float(value_min=0.1)
        .help = "Position as a d-spacing, A."
      width = 0.05
        .type = float(value_min=1e-4)
        .help = "Standard deviation, 1/A."
    }
  }
  halo {
    amplitude = 6e6
      .type = float(value_min=0)
      .help = "counts/s/sr per unit flux at an allowed lattice point of s = 0."
    b_factor = 10
      .type = float(value_min=0)
    width = 0.12 0.12 0.12
      .type = floats(size=3, value_min=1e-3)
      .help = "Standard deviation along h, k and l in reciprocal-lattice units."
  }
  cloud {
    amplitude = 2e6
      .type = float(value_min=0)
      .help = "counts/s/sr per unit flux; must not exceed the isotropic part."
    b_factor = 10
      .type = float(value_min=0)
    n_vectors = 6
      .type = int(value_min=1)
    length = 3 15
      .type = floats(size=2, value_min=0.1)
      .help = "Shortest and longest real-space vector, A."
    seed = 1
      .type = int(value_min=0)
  }
}
bragg {
  enable = True
    .type = bool
  amplitude = 10
    .type = float(value_min=0)
    .help = "Mean integral of a spot over reciprocal space, before the fall-off,"
            "(counts/s/sr)/A^3 per unit flux."
  b_factor = 20
    .type = float(value_min=0)
  width = 8e-4
    .type = float(value_min=1e-6)
    .help = "Standard deviation of a spot in reciprocal space, 1/A."
  d_min = None
    .type = float(value_min=0.1)
    .help = "Highest resolution with spots; default: that of the detector."
  seed = 1
    .type = int(value_min=0)
}
background {
  counts_per_pixel = 0
    .type = float(value_min=0)
    .help = "Counts per second and pixel of the detector itself."
  air {
    amplitude = 0
      .type = float(value_min=0)
      .help = "Scattering that does not come from the crystal, counts/s/sr per unit"
              "flux at s = 0; it passes the responses but not scale."
    b_factor = 20
      .type = float(value_min=0)
  }
}
response {
  polarization = True
    .type = bool
  sensor = True
    .type = bool
  air = True
    .type = bool
    .help = "Absorption by dry air between the sample and the detector."
  air_temperature = 293.15
    .type = float(value_min=1)
    .help = "K."
  air_pressure = 101.325
    .type = float(value_min=0)
    .help = "kPa."
}
scale {
  values = None
    .type = floats(value_min=0)
    .help = "Scale of the crystal in each image, instead of the smooth variation."
  amplitude = 0
    .type = float(value_min=0, value_max=0.99)
    .help = "1 + amplitude sin(2 pi x / period), x from 0 to 1 over the images."
  period = 1.0
    .type = float(value_min=1e-3)
  path {
    amplitude = 0
      .type = float(value_min=0, value_max=0.9)
      .help = "Everything that comes from the beam is multiplied by 1 + amplitude f,"
              "f a smooth function of direction and image between -1 and 1."
    seed = 1
      .type = int(value_min=0)
  }
  offset {
    amplitude = 0
      .type = float(value_min=0)
      .help = "Scattering that is added without lattice and changes from image to"
              "image, counts/s/sr per unit flux at s = 0."
    b_factor = 20
      .type = float(value_min=0)
      .help = "Fall-off exp(-b s^2/2), A^2."
    variation = 0.5
      .type = float(value_min=0, value_max=1)
      .help = "How much of it changes."
    seed = 1
      .type = int(value_min=0)
  }
  modules {
    spread = 0
      .type = float(value_min=0, value_max=0.3)
      .help = "Standard deviation of the sensitivities of the parts of each panel."
    n = 4 4
      .type = ints(size=2, value_min=1)
      .help = "Parts of each panel along fast and slow."
    seed = 1
      .type = int(value_min=0)
  }
}
noise {
  poisson = True
    .type = bool
    .help = "If False the expected counts are rounded."
  seed = 1
    .type = int(value_min=0)
  hot_pixels = 0
    .type = int(value_min=0)
    .help = "Number of pixels that count noise.hot_rate in addition."
  hot_rate = 1e4
    .type = float(value_min=0)
    .help = "Counts per second."
  dead_pixels = 0
    .type = int(value_min=0)
    .help = "Number of pixels that always read 0."
}
oversampling {
  pixel = 1 1
    .type = ints(size=2, value_min=1)
    .help = "Points per pixel (fast, slow) over which the intensity is averaged."
  rotation = 1
    .type = int(value_min=1)
    .help = "Angles per image over which the diffuse intensity is averaged; spots"
            "are always integrated over the rotation."
}
nproc = None
  .type = int(value_min=1)
  .help = "Number of threads; default: one per core. The images do not depend on it."
output {
  directory = simulated
    .type = path
  prefix = simulated
    .type = str
    .help = "Start of the names of the files in output.directory."
  log = dials.diffuse_simulate.log
    .type = path
  format = *auto cbf nxs
    .type = choice
    .help = "Image files: miniCBF (one panel) or NeXus (any detector). auto takes"
            "miniCBF where its header can say everything, else NeXus."
}
"""


def phil_scope() -> scope:
    """The scope of all parameters of a simulation."""
    return iotbx.phil.parse(PHIL)


def read_recipe(text: str) -> tuple[scope_extract, str]:
    """Working parameters and the full working PHIL text of a recipe.

    Raises:
        ConfigError: the text can't be parsed or names unknown parameters.
    """
    try:
        working, unused = phil_scope().fetch(
            iotbx.phil.parse(text), track_unused_definitions=True
        )
        if unused:
            names = ", ".join(str(item.path) for item in unused)
            raise ConfigError(
                f"The recipe has unknown parameters: {names}; see"
                " dials.diffuse_simulate -c for those that exist."
            )
        return working.extract(), working.as_str()
    except (RuntimeError, ValueError, Sorry) as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"The recipe can't be read: {text}.") from error

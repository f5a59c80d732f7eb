"""What the pictures of docs/models.md show: a made-up detector and simulated images.

Seven flat panels stand on a cylinder around the sample, tilted by 6 degrees and off
centre, so that a response that is right only for a flat detector across the beam would
look wrong.
"""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from dxtbx.model import (
    Beam,
    Detector,
    Experiment,
    ExperimentList,
    MultiAxisGoniometer,
    Panel,
    Scan,
)
from scitbx import matrix
from scitbx.array_family import flex

from diffuse_core import boundary, config, inputs
from diffuse_core.models import RunInputs
from diffuse_core.plan import Block, ImageSource
from diffuse_core.registry import Registry
from diffuse_core.simulate import run_simulation

WAVELENGTH = 1.0
RADIUS = 110.0
PANELS = 7
SHAPE = (192, 64)
PIXEL = 0.5
TILT = 6.0
N_IMAGES = 60
EXPOSURE = 2.0

RECIPE = """
detector.experiments = {geometry}
scan {{ n_images = 60
       width = 1.5
       exposure = 2 }}
crystal {{ unit_cell = 20 25 30 90 90 90
          space_group = P212121 }}
diffuse {{ spherical {{ amplitude = 2e5
                      b_factor = 6
                      constant = 1e4
                      ring {{ d = 3.3
                             height = 0.4 }} }}
          halo {{ amplitude = 8e5
                 b_factor = 6
                 width = 0.15 0.15 0.15 }}
          cloud {{ amplitude = 1.2e5
                  b_factor = 6 }} }}
bragg {{ amplitude = 20
        b_factor = 8
        width = 1.5e-3 }}
"""
AIR = "background { air { amplitude = 3e5\nb_factor = 15 }\ncounts_per_pixel = 0.2 }\n"
EMPTY = """
crystal.seed = 3
diffuse { spherical { amplitude = 0
                      constant = 1e-6 }
          halo.amplitude = 0
          cloud.amplitude = 0 }
bragg.enable = False
scan { n_images = 8
       width = 10 }
noise.seed = 7
"""
SPOTS = """
bragg { enable = True
        amplitude = 15 }
crystal.unit_cell = 16 18 20 90 90 90
scan { n_images = 1
       width = 1.5 }
"""
SMOOTH = """
bragg.enable = False
diffuse.halo.amplitude = 2e5
scan { n_images = 1
       width = 1.5 }
"""
DEFECTS = """
noise { hot_pixels = 250
        hot_rate = 40
        dead_pixels = 250 }
"""


def made_up_detector() -> Detector:
    """Seven panels of 32 x 96 mm on a cylinder of 110 mm, tilted and off centre."""
    detector = Detector()
    tilt = matrix.col((1, 0, 0)).axis_and_angle_as_r3_rotation_matrix(TILT, deg=True)
    fast_size, slow_size = SHAPE[1] * PIXEL, SHAPE[0] * PIXEL
    step = 2 * np.degrees(np.arctan(0.5 * (fast_size + 1.5) / RADIUS))
    for number in range(PANELS):
        angle = (number - (PANELS - 1) / 2) * step
        turn = matrix.col((0, 1, 0)).axis_and_angle_as_r3_rotation_matrix(
            -angle, deg=True
        )
        frame = tilt * turn
        fast, slow = frame * matrix.col((1, 0, 0)), frame * matrix.col((0, -1, 0))
        centre = frame * matrix.col((0, 0, -RADIUS)) + matrix.col((4, 12, 0))
        origin = centre - 0.5 * fast_size * fast - 0.5 * slow_size * slow
        panel = Panel()
        panel.set_frame(tuple(fast), tuple(slow), tuple(origin))
        panel.set_pixel_size((PIXEL, PIXEL))
        panel.set_image_size(SHAPE[::-1])
        panel.set_trusted_range((-1, 1e6))
        panel.set_mu(3.9)
        panel.set_thickness(0.32)
        panel.set_material("Si")
        panel.set_type("SENSOR_PAD")
        detector.add_panel(panel)
    return detector


def made_up_experiment() -> Experiment:
    """The detector, a beam along -z and a goniometer with three axes."""
    beam = Beam((0, 0, 1), WAVELENGTH)
    beam.set_polarization_fraction(0.99)
    beam.set_polarization_normal((0, 1, 0))
    axes = [(1, 0, 0), (0.914, 0.279, -0.297), (1, 0, 0)]
    goniometer = MultiAxisGoniometer(
        flex.vec3_double([matrix.col(a).normalize() for a in axes]),
        flex.double((0, 150, 0)),
        flex.std_string(["phi", "kappa", "omega"]),
        2,
    )
    return Experiment(
        beam=beam,
        detector=made_up_detector(),
        goniometer=goniometer,
        scan=Scan((1, N_IMAGES), (0, 1.5)),
    )


class Scene:
    """Simulated runs, made when they are first asked for.

    Args:
        folder: Where their files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry.discover({})
        logging.getLogger("dials.diffuse").setLevel(logging.ERROR)

    def simulate(self, name: str, more: str = "") -> Path:
        """The folder of a simulation of `RECIPE` with further parameters."""
        folder = self.folder / name
        if not folder.exists():
            geometry = self.folder / "geometry.expt"
            ExperimentList([made_up_experiment()]).as_file(str(geometry))
            with contextlib.redirect_stdout(io.StringIO()):
                run_simulation(RECIPE.format(geometry=geometry) + more, folder)
        return folder

    def run_of(self, folder: Path) -> RunInputs:
        """Experiments and reflections of a simulation."""
        experiments, reflections = inputs.load(
            [folder / "simulated.expt"], [folder / "simulated.refl"]
        )
        return RunInputs(experiments, reflections, boundary.setups_of(experiments))

    @cached_property
    def run(self) -> RunInputs:
        """The crystal, over 90 degrees, with air scattering."""
        return self.run_of(self.simulate("crystal", AIR))

    @cached_property
    def panels(self) -> list:
        """Geometry of the panels."""
        experiment = self.run.experiments[0]
        return [boundary.panel_geometry(experiment, 0, i) for i in range(PANELS)]

    def image(self, index: int = 20, run: RunInputs | None = None):
        """One image with its pixels."""
        source = ImageSource(run or self.run, 1)
        block = Block(0, 0, index, index + 1)
        (exposure,) = source.exposures(block)
        return exposure.image

    def models(self, text: str, kind: str, run: RunInputs | None = None) -> list:
        """The models of a kind that a PHIL text selects."""
        scope = config.master_scope(self.registry, (), (kind,))
        params = config.extract(scope, text)
        return config.build_models(self.registry, params, run or self.run, kind)

    def with_counts_of(self, image, other):
        """An image with the counts of another one added."""
        both = zip(image.counts, other.counts, strict=True)
        return replace(image, counts=tuple(np.maximum(a, 0) + b for a, b in both))

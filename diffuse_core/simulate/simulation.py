"""All models of a simulation together: expected counts and counts of each image."""

from __future__ import annotations

from typing import Any

import numpy as np

from dxtbx.model import Scan

from diffuse_core.errors import ConfigError
from diffuse_core.simulate import image_kernels
from diffuse_core.simulate.bragg import (
    Reflections,
    Spots,
    make_reflections,
    make_spots,
)
from diffuse_core.simulate.build_truth import crystal_symmetry, make_truth
from diffuse_core.simulate.models import (
    Instrument,
    make_crystals,
    make_instrument,
    make_scan,
)
from diffuse_core.simulate.noise import Faults, count, make_faults
from diffuse_core.simulate.orientation import Orientation
from diffuse_core.simulate.planted import Planted, make_planted
from diffuse_core.simulate.responses import PanelView, make_views
from diffuse_core.simulate.truth import Truth


class Simulation:
    """All models of a simulation; images are computed one at a time.

    Attributes:
        scales: Scale of the crystal (n_images,) in every image.
        planted: Scales of paths and modules, and what is added.
        spots: One table for the scan, or one for each still.
    """

    def __init__(self, params: Any):
        self.params = params
        self.truth: Truth = make_truth(params)
        self.instrument: Instrument = make_instrument(params)
        self.crystals = make_crystals(params)
        self.is_still = params.stills.n is not None
        self.n_images = params.stills.n if self.is_still else params.scan.n_images
        self.scan: Scan = make_scan(params)
        self.scales = image_scales(params, self.n_images)
        beam, detector = self.instrument.beam, self.instrument.detector
        self.views: list[PanelView] = make_views(params, beam, detector)
        self.planted: Planted = make_planted(
            params.scale,
            beam.get_s0(),
            [view.s[0, ::8, ::8].reshape(-1, 3) + beam.get_s0() for view in self.views],
            [panel.get_image_size() for panel in detector],
        )
        self.modules = [
            self.planted.module_factor(view.index, *_pixel_centres(view))
            if params.scale.modules.spread > 0
            else 1.0
            for view in self.views
        ]
        self.air = [_air_intensity(params, view) for view in self.views]
        self.faults: list[Faults] = make_faults(
            params, detector, self.instrument.layout
        )
        self.orientations = [
            Orientation.of_models(crystal, self.instrument.goniometer, self.scan)
            for crystal in self.crystals
        ]
        self.spots = self._all_spots()

    def _all_spots(self) -> list[Spots]:
        params, beam = self.params, self.instrument.beam
        detector = self.instrument.detector
        reflections = Reflections(np.zeros((0, 3)), np.zeros(0))
        if params.bragg.enable:
            d_min = params.bragg.d_min or detector.get_max_resolution(beam.get_s0())
            d_min = max(d_min, 0.5 * beam.get_wavelength() * 1.0001)
            reflections = make_reflections(params, crystal_symmetry(params), d_min)
        n = 1 if self.is_still else self.n_images
        return [
            make_spots(params, reflections, o, n, beam, detector, self.views)
            for o in self.orientations
        ]

    def expected_counts(self, image: int) -> list[np.ndarray]:
        """Expected counts (n_slow, n_fast) of every panel in one image, gaps included.

        t (flux response path (scale (I + Bragg) + air + offset) + detector background)
        """
        params = self.params
        orientation = self.orientations[image if self.is_still else 0]
        first = 0 if self.is_still else image
        n_angles = 1 if self.is_still else params.oversampling.rotation
        z = first + (np.arange(n_angles) + 0.5) / n_angles
        to_hkl = np.linalg.inv(orientation.matrices(z))
        out = []
        for view, air, modules in zip(self.views, self.air, self.modules, strict=True):
            intensity = np.empty(view.response.shape)
            image_kernels.diffuse_image(
                view.s, to_hkl, *self.truth.kernel_arguments, intensity
            )
            self._add_spots(image, view, intensity)
            intensity *= self.scales[image]
            intensity += air
            rate = params.beam.flux * view.response * modules
            rate *= self._planted(image, view, intensity)
            rate += params.background.counts_per_pixel
            out.append(params.scan.exposure * rate)
        return out

    def _planted(self, image: int, view: PanelView, intensity: np.ndarray):
        """The intensity with what is added, times the factor of its path."""
        progress = (image + 0.5) / self.n_images
        scale = self.params.scale
        if scale.path.amplitude == 0 and scale.offset.amplitude == 0:
            return intensity
        s = view.s.mean(axis=0)
        rays = s + np.array(self.instrument.beam.get_s0())
        added = self.planted.offset_intensity(np.linalg.norm(s, axis=-1), progress)
        return (intensity + added) * self.planted.path_factor(rays, progress)

    def _add_spots(self, image: int, view: PanelView, intensity: np.ndarray) -> None:
        spots = self.spots[image if self.is_still else 0]
        first = 0 if self.is_still else image
        keep = (spots.panel == view.index) & (spots.z + spots.half_z > first)
        spots = spots.select(keep & (spots.z - spots.half_z < first + 1))
        low = np.floor(spots.pixel - spots.half_box)
        high = np.ceil(spots.pixel + spots.half_box)
        n_slow, n_fast = intensity.shape
        boxes = np.column_stack(
            [
                np.clip(low[:, 0], 0, n_fast),
                np.clip(high[:, 0], 0, n_fast),
                np.clip(low[:, 1], 0, n_slow),
                np.clip(high[:, 1], 0, n_slow),
            ]
        ).astype(np.int64)
        per_image = np.radians(self.scan.get_oscillation()[1])
        image_kernels.add_spots(
            view.s,
            boxes,
            spots.strength,
            spots.centre,
            spots.velocity,
            self.params.bragg.width,
            spots.width,
            (first - spots.z) * per_image,
            (first + 1 - spots.z) * per_image,
            intensity,
        )

    def counts(self, image: int) -> list[np.ndarray]:
        """Counts int32 (n_slow, n_fast) of every panel in one image."""
        rng = np.random.default_rng((self.params.noise.seed, 1, image))
        return [
            count(self.params, expected, faults, rng)
            for expected, faults in zip(
                self.expected_counts(image), self.faults, strict=True
            )
        ]


def image_scales(params: Any, n_images: int) -> np.ndarray:
    """Scale of the crystal (n_images,) in every image.

    Raises:
        ConfigError: scale.values has the wrong length.
    """
    if params.scale.values is not None:
        if len(params.scale.values) != n_images:
            raise ConfigError(
                f"scale.values has {len(params.scale.values)} numbers but there are"
                f" {n_images} images; give one number per image."
            )
        return np.array(params.scale.values, dtype=float)
    x = (np.arange(n_images) + 0.5) / n_images
    return 1.0 + params.scale.amplitude * np.sin(2 * np.pi * x / params.scale.period)


def _pixel_centres(view: PanelView) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n_slow, n_fast) of a panel, pixels."""
    y, x = np.indices(view.response.shape) + 0.5
    return x, y


def _air_intensity(params: Any, view: PanelView) -> np.ndarray | float:
    """What the air scatters into each pixel (n_slow, n_fast), counts/s/sr; or 0."""
    air = params.background.air
    if air.amplitude == 0:
        return 0.0
    s_squared = np.mean(np.einsum("pjix,pjix->pji", view.s, view.s), axis=0)
    return air.amplitude * np.exp(-0.5 * air.b_factor * s_squared)

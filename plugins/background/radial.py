"""What is the same all round the beam: the robust radial profile of each image."""

from __future__ import annotations

import weakref
from collections import OrderedDict

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import BackgroundModel, Image, RunInputs

PHIL = """
rings = 100
  .type = int(value_min=2, allow_none=False)
  .help = "Number of rings of equal width in |s|, out to the corner of the detector."
          "Caution: this background holds ALL that is isotropic, the sample's own"
          "isotropic diffuse scattering included. What is left is the anisotropic part,"
          "with a mean near 0 in every shell."
tail = 1e-4
  .type = float(value_min=1e-12, value_max=0.1, allow_none=False)
  .help = "Pixels with a Poisson probability below this, given the profile, are left"
          "out of it: Bragg peaks, hot and dead pixels."
spread = 0.2
  .type = float(value_min=0, allow_none=False)
  .help = "Pixels of a ring may differ by this fraction from its mean: the anisotropic"
          "part of the scattering. It matters above about 20 counts per pixel."
"""


class Radial(BackgroundModel):
    """Mean = k R(|s|), with R the profile of the image over all its panels.

    k is what the geometry alone makes of isotropic scattering: solid angle x
    polarization x sensor. R (counts/s/sr) is the rate of the pixels of a ring with
    those left out that Poisson statistics exclude (`diffuse_core.robust`), placed at
    the mean |s| of the ring and linear between. The variance is that of R; it is shared
    by the pixels of a ring, but taken as independent.

    Args:
        run: The experiments, for the geometry of all panels.
        rings: Number of rings.
        tail: Poisson probability of what is left out, on each side.
        spread: Relative deviation from the ring's mean that is kept.
    """

    _KEPT = 64
    _STATE = ("run", "rings", "tail", "spread")

    def __init__(
        self, run: RunInputs, rings: int = 100, tail: float = 1e-4, spread: float = 0.2
    ) -> None:
        self.run = run
        self.rings = rings
        self.tail = tail
        self.spread = spread
        self._forget()

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Radial:
        return cls(run, params.rings, params.tail, params.spread)

    def _forget(self) -> None:
        self._setup: int | None = None
        self._panels: list[tuple[np.ndarray, np.ndarray]] = []
        self._profiles: OrderedDict = OrderedDict()

    def __getstate__(self) -> dict:
        return {name: self.__dict__[name] for name in self._STATE}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()

    def image_background(
        self, image: Image, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean (counts/s per pixel) and variance; 0 for an image without pixels."""
        if not image.counts:
            return 0.0, 0.0
        where, rate, variance = self._profile(image)
        if not len(where):
            return 0.0, 0.0
        s, k = self._of_setup(geometry.setup)[geometry.index]
        mean = k * np.interp(s, where, rate)
        return mean, k**2 * np.interp(s, where, variance)

    def _of_setup(self, setup: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per panel: |s| and k, float32 (n_slow, n_fast)."""

        from diffuse_core import boundary

        if setup != self._setup:
            experiment = self.run.first_of_setup(setup)
            geometries = (
                boundary.panel_geometry(experiment, setup, index)
                for index in range(len(experiment.detector))
            )
            self._panels = [(g.s_norm, geometric_response(g)) for g in geometries]
            self._setup = setup
        return self._panels

    def _profile(self, image: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """|s|, rate and variance of the rings; kept while the counts of the image are.

        The images of a block come again for each of their panels.
        """
        key = id(image.counts[0])
        known = self._profiles.get(key)
        if known is not None and known[0]() is image.counts[0]:
            return known[1]
        profile = self._calculate(image)
        self._profiles[key] = weakref.ref(image.counts[0]), profile
        self._profiles.move_to_end(key)
        while len(self._profiles) > self._KEPT:
            self._profiles.popitem(last=False)
        return profile

    def _calculate(self, image: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from diffuse_core import boundary
        from diffuse_core.robust import clipped_rates

        panels = self._of_setup(self.run.setups[image.experiment])
        readouts = boundary.readouts(self.run.experiments[image.experiment])
        width = max(float(s.max()) for s, _ in panels) / self.rings
        photons, exposure, ring = [], [], []
        place = np.zeros(self.rings)
        for index, ((s, k), readout) in enumerate(zip(panels, readouts, strict=True)):
            usable = image.usable[index] if image.usable else np.ones(s.shape, bool)
            s, k = s[usable].astype(float), k[usable].astype(float)
            rings = np.minimum((s / width).astype(np.int64), self.rings - 1)
            counts = image.counts[index][usable]
            photons.append((counts - readout.pedestal) / readout.gain)
            exposure.append(k * image.exposure)
            ring.append(rings)
            place += np.bincount(rings, s * exposure[-1], minlength=self.rings)
        photons, exposure, ring = map(np.concatenate, (photons, exposure, ring))
        if not len(ring):
            return np.empty(0), np.empty(0), np.empty(0)
        scale = exposure.mean()
        rate, variance = clipped_rates(
            photons, exposure / scale, ring, self.rings, self.tail, self.spread
        )
        seen = np.isfinite(rate)
        place = place[seen] / np.bincount(ring, exposure, self.rings)[seen]
        return place, rate[seen] / scale, variance[seen] / scale**2


def geometric_response(geometry: PanelGeometry) -> np.ndarray:
    """(n_slow, n_fast) float32: solid angle x polarization x sensor, sr; above 0.

    p_fast p_slow |cos a| / r^2 (1 - exp(-mu t / |cos a|))
    ((1 - 2f) (1 - (n.u)^2) + f (1 + (k.u)^2)), as in DIALS.
    """
    beam = geometry.beam
    u = geometry.direction.astype(float)
    cosine = np.maximum(geometry.cos_incidence.astype(float), 1e-6)
    along = u @ np.asarray(beam.s0) * beam.wavelength
    across = u @ np.asarray(beam.polarization_normal)
    f = beam.polarization_fraction
    response = (1 - 2 * f) * (1 - across**2) + f * (1 + along**2)
    response *= np.prod(geometry.pixel_size) * cosine / geometry.distance**2
    depth = geometry.sensor_mu * geometry.sensor_thickness
    if depth > 0:
        response *= -np.expm1(-depth / cosine)
    return np.maximum(response, 1e-6 * response.max()).astype(np.float32)


@hookimpl
def diffuse_background_models():
    yield ModelPlugin(
        name="radial",
        factory="diffuse_core.plugins.background.radial:Radial",
        summary="The robust radial profile of each image: all that is isotropic, the "
        "sample's own isotropic scattering included.",
        phil=PHIL,
    )

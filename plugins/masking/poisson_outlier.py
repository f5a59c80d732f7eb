"""Masks what does not come from the smooth scattering around it, in some images."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, MaskModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
width = 0.5
  .type = float(value_min=0, allow_none=False)
  .help = "Rotation (deg) over which consecutive images are searched as one, their"
          "counts added up: what is found is left out of all of them. Weak spots of"
          "finely sliced scans are seen only so, and it is quicker. 0: each image on"
          "its own."
pixel_false_alarm = 1e-6
  .type = float(value_min=1e-300, value_max=0.1, allow_none=False)
  .help = "Bound on the probability that a clean pixel is left out by chance."
spot_false_alarm = 1e-4
  .type = float(value_min=1e-300, value_max=0.1, allow_none=False)
  .help = "Bound on the probability that a clean place is taken for a spot. Larger"
          "finds weaker spots and leaves out more bright clean pixels: a bias from 1e-3"
          "on."
leak = 0.1
  .type = float(value_min=0.001, value_max=10, allow_none=False)
  .help = "Pixels are left out where a spot adds more than this share of what is"
          "around."
photon = Auto
  .type = float(value_min=0)
  .help = "Counts that one photon makes; Auto: 1 where the variance of the counts is"
          "that of photons, else variance over mean, image by image and panel by panel."
"""


@lru_cache(maxsize=2)
def _memory(shape: tuple[int, int], thread: int) -> tuple:
    """Counts, what counts, and the memory of `spots.find_in`: one image at a time, so
    each thread (of a Dask worker, say) has its own."""
    from diffuse_core import spots

    return np.empty(shape, np.float32), np.empty(shape, bool), spots.memory_of(shape)


class PoissonOutlier(MaskModel):
    """Leaves out pixels and spots whose counts are not by chance, and what spots reach.

    Against a ring of pixels around (see `diffuse_core.spots`) by the relative entropy
    m [ n ln(n / l) - n + l ], in both directions. It is the measure of the filter of
    S. P. Meisburger, D. A. Case & N. Ando, Nature Communications 11, 1271 (2020), that
    compares histograms of counts in reciprocal space with Poisson's; here each place of
    each image is judged on its own, against a bound on chance (H. Chernoff, 1952).

    Args:
        readouts: Per setup, per panel: pedestal and gain of the raw values.
        pixel_false_alarm: Probability that a clean pixel is left out.
        spot_false_alarm: Probability that a clean place is taken for a spot.
        leak: Largest share of what is around that a spot may add to a pixel.
        photon: Counts of a photon after pedestal and gain; None = from the image.
        width: Rotation (deg) over which images are searched as one.
    """

    def __init__(
        self,
        readouts: Sequence[Sequence[tuple[float, float]]],
        pixel_false_alarm: float = 1e-6,
        spot_false_alarm: float = 1e-4,
        leak: float = 0.1,
        photon: float | None = None,
        width: float = 0.0,
    ) -> None:
        self.readouts = readouts
        self.limits = -math.log(pixel_false_alarm), -math.log(spot_false_alarm)
        self.leak = leak
        self.photon = photon
        self.together = width

    @classmethod
    def from_params(cls, params, run: RunInputs) -> PoissonOutlier:
        """Raises ConfigError if a photon makes no counts."""
        from diffuse_core import boundary

        photon = params.photon if isinstance(params.photon, float) else None
        if photon == 0.0:
            raise ConfigError("mask.poisson_outlier.photon must be above 0.")
        readouts = []
        for setup in range(max(run.setups) + 1):
            panels = boundary.readouts(run.first_of_setup(setup))
            readouts.append([(panel.pedestal, panel.gain) for panel in panels])
        chances = params.pixel_false_alarm, params.spot_false_alarm
        return cls(readouts, *chances, params.leak, photon, params.width)

    def image_mask(self, image: Image, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool; None where the mean count is not above 0."""
        return self.image_masks([image], geometry)[0]

    def image_masks(
        self, images: Sequence[Image], geometry: PanelGeometry
    ) -> Sequence[np.ndarray | None]:
        """One mask for all: of their counts together.

        A pixel that one of the images may not use is left out of all of them.
        """
        mask = self._mask([i for i in images if i.counts], geometry)
        return [mask if image.counts else None for image in images]

    def _mask(self, images: Sequence[Image], geometry: PanelGeometry):
        from diffuse_core import poisson, spots
        from diffuse_core.usable import counts_of

        if not images:
            return None
        panel = geometry.index
        readout = self.readouts[geometry.setup][panel]
        raw = [image.counts[panel] for image in images]
        usable = [image.usable for image in images]
        counts, valid, memory = _memory(geometry.shape, threading.get_ident())
        negative = counts_of(raw, usable, panel, readout, counts, valid)
        photon = self.photon or poisson.photon_of(counts, valid)
        if photon is None:
            return None
        if photon != 1.0:
            counts /= np.float32(photon)
        if negative:
            np.maximum(counts, np.float32(0.0), out=counts)
        found = spots.find_in(memory, counts, valid, *self.limits, self.leak)
        keep = np.logical_not(found, out=found)
        if len(images) > 1:
            keep &= valid
        return keep


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="poisson_outlier",
        factory="diffuse_core.plugins.masking.poisson_outlier:PoissonOutlier",
        summary="Counts that disagree with those around them: spots, zingers, ice.",
        phil=PHIL,
        default=True,
    )

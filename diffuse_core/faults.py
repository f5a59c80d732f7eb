"""Pixels that do not count as they should, from sums over many images.

One pass, memory for a few arrays of the size of the detector, whatever the number of
images. What sticks out of an image (Bragg peaks, zingers) is replaced by what is around
it, so a peak that passes does not make a pixel hot; what sticks out always is noisy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from diffuse_core import poisson
from diffuse_core.fault_loops import add_image, add_silent, in_squares, write_high
from diffuse_core.geometry import PanelGeometry
from diffuse_core.spots import single_outliers

FEWEST_TIMES = 3
"""A pixel that sticks out in fewer images is not noisy."""

BLOCK = 8
"""Pixels along the side of the squares in which shadows are looked for."""

SHELLS = 50
"""Most shells of |s| in which a shadow is compared with the rest."""

PER_SHELL = 20
"""Fewest squares in a shell."""


class PixelSums:
    """Sums over the images of one panel.

    Args:
        shape: (n_slow, n_fast).
        limit: -ln of the probability of a false alarm.

    Attributes:
        images: (n_slow, n_fast) int32: images in which the pixel was usable.
        counts: (n_slow, n_fast) float64: photons, outliers replaced.
        sticks_out: (n_slow, n_fast) int32: images in which the pixel was an outlier.
    """

    def __init__(self, shape: tuple[int, int], limit: float) -> None:
        self.limit = limit
        self.images = np.zeros(shape, np.int32)
        self.counts = np.zeros(shape)
        self.sticks_out = np.zeros(shape, np.int32)

    def add(self, counts: np.ndarray, usable: np.ndarray) -> None:
        """Takes in one image.

        Args:
            counts: (n_slow, n_fast) float32: photons.
            usable: (n_slow, n_fast) bool.
        """
        counts = poisson.as_photons(counts, usable)
        if counts is None:
            return
        found = single_outliers(counts, usable, self.limit)[0]
        add_image(counts, usable, found, self.images, self.sticks_out, self.counts)

    def faults(self, noisy: float) -> dict[str, np.ndarray]:
        """ "hot", "dead" and "noisy": (n_slow, n_fast) bool, True = fault.

        Hot and dead pixels disagree with those around them in the sum of all images, by
        the test of single pixels in one image; dead ones lie below, or are always 0.

        Args:
            noisy: Share of the images in which a noisy pixel sticks out.
        """
        known = 2 * self.images > self.images.max()
        level = self.counts / np.maximum(self.images, 1) * self.images.max()
        level = level.astype(np.float32)
        found = single_outliers(level, known, self.limit)[0]
        high = np.zeros(found.shape, bool)
        write_high(level, known, found, high)
        dead = found & ~high
        add_silent(level, known, found, self.limit, dead)
        often = np.maximum(noisy * self.images, FEWEST_TIMES)
        return {
            "hot": high,
            "dead": dead,
            "noisy": (self.sticks_out >= often) & ~high & ~dead,
        }


def shadows(
    sums: Sequence[PixelSums], panels: Sequence[PanelGeometry], share: float
) -> list[np.ndarray]:
    """Per panel (n_slow, n_fast) bool: True where a fixed shadow lies.

    A square of `BLOCK` pixels is dark if its counts, divided by solid angle and
    polarization, are below `share` of the median in its shell of |s|, and not by
    chance. The squares next to it count as dark too. A shadow that fills a whole shell,
    such as that of a round beam stop, is not seen.

    Args:
        sums: Per panel.
        panels: The panels.
        share: Of the median intensity.
    """
    squares = [_squares(one, panel) for one, panel in zip(sums, panels, strict=True)]
    s, counts, exposure = (
        np.concatenate([b[i].ravel() for b in squares]) for i in range(3)
    )
    seen = exposure > 0
    if not seen.any():
        return [np.zeros(panel.shape, bool) for panel in panels]
    n_shells = min(max(seen.sum() // PER_SHELL, 1), SHELLS)
    edges = np.quantile(s[seen], np.linspace(0, 1, n_shells + 1)[1:-1])
    shell = np.digitize(s, edges)
    level = np.zeros(n_shells)
    for i in range(n_shells):
        here = seen & (shell == i)
        if here.any():
            level[i] = np.median(counts[here] / exposure[here])
    expected = level[shell] * exposure
    entropy = expected - counts
    some = (counts > 0) & (expected > 0)
    entropy[some] += counts[some] * np.log(counts[some] / expected[some])
    dark = seen & (counts < share * expected) & (entropy > sums[0].limit)
    result, start = [], 0
    for (one, _, _), panel in zip(squares, panels, strict=True):
        part = dark[start : start + one.size].reshape(one.shape)
        start += one.size
        part = ndimage.binary_dilation(part, np.ones((3, 3), bool))
        whole = np.kron(part, np.ones((BLOCK, BLOCK), bool)).astype(bool)
        result.append(whole[: panel.shape[0], : panel.shape[1]])
    return result


def _squares(sums: PixelSums, panel: PanelGeometry) -> tuple[np.ndarray, ...]:
    """|s|, counts and exposure (images times response) of the squares of a panel."""
    beam = panel.beam
    return in_squares(
        panel.s,
        panel.cos_incidence,
        panel.distance,
        sums.images,
        sums.counts,
        BLOCK,
        np.array(
            [
                beam.wavelength,
                *(beam.wavelength * np.array(beam.s0)),
                *beam.polarization_normal,
                beam.polarization_fraction,
            ]
        ),
    )

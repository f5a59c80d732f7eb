"""The shadow of a beam stop, from the mean of images."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SHADOW = 0.25
"""A pixel with less than this part of what its ring has lies in the shadow."""
GROW = 3
"""Pixels by which the shadow is enlarged."""
LEAST = 30
"""Smallest shadow, pixels."""


def shadow(
    image: np.ndarray, mask: np.ndarray, radius: np.ndarray, exposures: int
) -> np.ndarray:
    """(n_slow, n_fast) bool: pixels that a beam stop and its arm hide.

    A ring is expected to have what the upper fifth of its pixels have, and no less than
    the rings around it within a third of the detector, since the stop may hide all of
    it. The shadow is what is connected with the darkness around the beam.

    Args:
        image: Mean counts of images, spots clipped.
        mask: bool, True = valid.
        radius: Distance from the beam centre, pixels.
        exposures: Number of images in the mean: there must be enough counts to tell.
    """
    nothing = np.zeros(image.shape, bool)
    rings = radius.astype(np.int64)
    expected = np.zeros(rings.max() + 1)
    order = np.argsort(rings[mask], kind="stable")
    numbers, values = rings[mask][order], image[mask][order]
    present, first = np.unique(numbers, return_index=True)
    for ring, part in zip(present, np.split(values, first[1:]), strict=True):
        expected[ring] = np.percentile(part, 80)
    expected = ndimage.median_filter(expected, 5)
    inner = rings.max() // 3
    expected[:inner] = np.maximum.accumulate(expected[:inner][::-1])[::-1]
    ring_values = expected[rings]
    dark = mask & (image < SHADOW * ring_values) & (exposures * ring_values > 10.0)
    blurred = ndimage.uniform_filter(dark.astype(float), 3) > 0.6
    labels, _ = ndimage.label(blurred | ~mask & (radius < inner))
    near = radius < max(5.0, 0.03 * rings.max())
    touching = np.unique(labels[near & blurred])
    found = np.isin(labels, touching[touching > 0]) & blurred & (radius < 3 * inner)
    if found.sum() < LEAST:
        return nothing
    return ndimage.binary_dilation(found, iterations=GROW)

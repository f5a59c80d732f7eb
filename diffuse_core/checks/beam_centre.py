"""Where the beam meets a flat detector, from the symmetry of the background.

What is scattered by angle alone, and polarisation, look the same from both sides of the
beam: the image equals itself turned by 180 degrees about the beam. No spot is needed.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

BLUR = 1.0
"""Standard deviation of the smoothing that comes first, pixels."""
REACH = 15
"""Largest shift from the expected beam centre that is looked for, pixels."""


def offset(
    image: np.ndarray, mask: np.ndarray, centre: tuple[float, float]
) -> tuple[tuple[float, float], float]:
    """Shift of the true beam centre from the expected one, and how clear it is.

    The correlation of an image and its copy turned about the expected centre, over the
    pixels that are valid in both (masked normalised cross-correlation: Padfield (2012)
    IEEE Trans. Image Process. 21, 2706), is largest where the copy is moved by twice
    the shift.

    Args:
        image: (n_slow, n_fast) mean of images, spots clipped.
        mask: bool, True = valid.
        centre: Expected, fast and slow, pixels (centres of pixels at + 0.5).

    Returns:
        (fast, slow) pixels; the largest correlation, NaN where too few pixels overlap.
    """
    cut = _centred(image, mask, centre)
    if cut is None:
        return (np.nan, np.nan), np.nan
    values, valid, rest = cut
    turned, turned_valid = values[::-1, ::-1], valid[::-1, ::-1]
    correlation = _correlation(values, valid, turned, turned_valid)
    n = 2 * REACH
    window = np.full((2 * n + 1, 2 * n + 1), np.nan)
    for i in range(-n, n + 1):
        window[i + n] = correlation[i][np.arange(-n, n + 1)]
    if not np.isfinite(window).any():
        return (np.nan, np.nan), np.nan
    top = np.unravel_index(np.nanargmax(window), window.shape)
    slow = (_peak(window[:, top[1]], top[0]) - n) / 2 + rest[1]
    fast = (_peak(window[top[0]], top[1]) - n) / 2 + rest[0]
    return (float(fast), float(slow)), float(window[top])


def _centred(image, mask, centre):
    """Largest part with the expected centre in its middle, rounded to half pixels."""
    parts, rest = [], []
    for position, length in zip(centre, image.shape[::-1], strict=True):
        twice = round(2 * position)
        half = min(twice, 2 * length - twice) / 2
        if half < 2 * REACH:
            return None
        first = int(np.ceil(twice / 2 - half))
        parts.append(slice(first, twice - first))
        rest.append(twice / 2 - position)
    weight = ndimage.gaussian_filter(mask.astype(float), BLUR)
    smooth = ndimage.gaussian_filter(np.where(mask, image, 0.0), BLUR)
    values = np.where(mask, np.sqrt(np.maximum(smooth / np.maximum(weight, 0.1), 0)), 0)
    fast, slow = parts
    return values[slow, fast], mask[slow, fast].astype(float), rest


def _correlation(a, a_valid, b, b_valid) -> np.ndarray:
    """Masked normalised cross-correlation for all shifts of b, cyclic indices."""
    shape = [fft.next_fast_len(n + 4 * REACH, real=True) for n in a.shape]

    def transformed(x):
        return fft.rfft2(x, shape)

    def sums(x, y):
        return fft.irfft2(x * np.conj(y), shape)

    av, bv = transformed(a_valid), transformed(b_valid)
    af, bf = transformed(a), transformed(b)
    n = np.maximum(sums(av, bv), 1e-9)
    mean_a, mean_b = sums(af, bv) / n, sums(av, bf) / n
    covariance = sums(af, bf) / n - mean_a * mean_b
    var_a = sums(transformed(a * a), bv) / n - mean_a**2
    var_b = sums(av, transformed(b * b)) / n - mean_b**2
    scale = np.sqrt(np.maximum(var_a, 0) * np.maximum(var_b, 0))
    enough = (n > 0.25 * a_valid.sum()) & (scale > 1e-9)
    return np.where(enough, covariance / np.where(enough, scale, 1.0), np.nan)


def _peak(values: np.ndarray, top: int) -> float:
    """Position of the maximum of a parabola through three points."""
    if not 0 < top < len(values) - 1:
        return float(top)
    left, middle, right = values[top - 1 : top + 2]
    curvature = left - 2 * middle + right
    if not np.isfinite(curvature) or curvature >= 0:
        return float(top)
    return top + 0.5 * (left - right) / curvature

"""Whether pixel values are photon counts: whole, not negative, Poisson distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TILE = 8
ENOUGH = 1.0
"""Least mean of a tile for its variance to count, in the values' unit."""
TOLERATED = (0.75, 1.33)
"""Variance over mean of photons, with room for spots and slopes."""


@dataclass(frozen=True)
class Values:
    """What the values of an image are.

    Attributes:
        variance_to_mean: Of neighbouring pixels, NaN if there is too little to tell.
        negative: Part of the valid pixels that is below 0.
        fractional: Part of the valid pixels that is no whole number.
        step: Largest whole number that divides all values; 0 if all are 0.
    """

    variance_to_mean: float
    negative: float
    fractional: float
    step: int


def describe(values: np.ndarray, mask: np.ndarray) -> Values:
    """What the values of one panel are.

    Args:
        values: (n_slow, n_fast), raw.
        mask: bool, True = valid.
    """
    valid = values[mask]
    if not valid.size:
        return Values(np.nan, 0.0, 0.0, 0)
    whole = valid == np.rint(valid)
    step = 0
    if whole.all():
        step = int(np.gcd.reduce(np.unique(np.abs(valid)).astype(np.int64)))
    return Values(
        neighbour_ratio(values, mask),
        float((valid < 0).mean()),
        float((~whole).mean()),
        step,
    )


def neighbour_ratio(values: np.ndarray, mask: np.ndarray) -> float:
    """Variance over mean, from differences of neighbours along the fast axis.

    Half the mean squared difference within tiles of 8 x 8 pixels over their mean; the
    median over tiles, which spots and edges do not move. 1 for photons, the gain for a
    detector that multiplies them, less where neighbours share their charge.
    """
    n_slow, n_fast = (n // TILE * TILE for n in values.shape)
    if not n_slow or not n_fast:
        return np.nan
    tiles = _tiles(values[:n_slow, :n_fast].astype(np.float64))
    good = _tiles(mask[:n_slow, :n_fast]).all(axis=(1, 2))
    tiles = tiles[good]
    mean = tiles.mean(axis=(1, 2))
    tiles, mean = tiles[mean >= ENOUGH], mean[mean >= ENOUGH]
    if len(mean) < 20:
        return np.nan
    squares = np.diff(tiles, axis=2) ** 2
    return float(np.median(squares.mean(axis=(1, 2)) / 2.0 / mean))


def _tiles(array: np.ndarray) -> np.ndarray:
    n, m = array.shape
    cut = array.reshape(n // TILE, TILE, m // TILE, TILE)
    return cut.swapaxes(1, 2).reshape(-1, TILE, TILE)


def say(values: Values, gain: float) -> list[str]:
    """Sentences about values that are no photon counts, none if they are.

    Args:
        values: Of a typical image.
        gain: What the models of the detector say, values per photon.
    """
    told = []
    if values.fractional > 0.01:
        told.append(
            f"{100 * values.fractional:.0f} % of the pixel values are no whole "
            "numbers: the images are not counts but were corrected or scaled before; "
            "give the images as they were recorded."
        )
    if values.negative > 1e-3:
        told.append(
            f"{100 * values.negative:.1f} % of the valid pixels are negative: the "
            "detector has a pedestal or a dark image was subtracted; set the pedestal "
            "with dials.import.geometry.detector.panel.pedestal if the images hold one."
        )
    if values.step > 1:
        told.append(
            f"All pixel values are multiples of {values.step}: the images were "
            f"multiplied; set dials.import.geometry.detector.panel.gain={values.step}."
        )
    ratio = values.variance_to_mean / gain
    if np.isfinite(ratio) and not TOLERATED[0] < ratio < TOLERATED[1]:
        told.append(
            f"Neighbouring pixels vary by {ratio:.2g} times what photons would: the "
            "detector integrates charge and its gain is not in the images; set "
            "dials.import.geometry.detector.panel.gain (about "
            f"{values.variance_to_mean:.2g} unless neighbours share charge), or sigmas "
            "are wrong by its square root."
        )
    return told

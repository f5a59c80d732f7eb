"""The factor between an empty run and the background under a crystal's images."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from diffuse_core import boundary
from diffuse_core.errors import ConfigError
from diffuse_core.models import RunInputs
from diffuse_core.plan import shared_images
from diffuse_core.plugins.background.images.empty_run import EmptyRun
from diffuse_core.robust import clipped_rates

logger = logging.getLogger("dials.diffuse")

IMAGES = 20
"""Images of each run that are read, evenly spread."""
RINGS = 50
SPREAD = 0.3
"""Relative deviation from the ratio of a ring that is not clipped."""
PRECISION = 0.02
"""Largest relative error of the ratio of a ring that is looked at."""


def fit_scale(
    empty: EmptyRun, run: RunInputs, d_range: Sequence[float] | None
) -> float:
    """Counts of the crystal's images over those that the empty run predicts.

    Per ring of |s| the ratio of sums, with pixels left out that Poisson statistics
    exclude (Bragg peaks); the mean of the rings that can't be told from the smallest
    (2 sigma), or the one ring of `d_range`.

    Raises:
        ConfigError: No ring has enough counts.
    """
    rates = [e.smooth for e in empty.estimate(_spread(empty.frames))]
    n = 1 if d_range else RINGS
    counts, predicted = np.zeros(n), np.zeros(n)
    setup, rings = None, []
    for number, index in _sample(run):
        experiment = run.experiments[number]
        if run.setups[number] != setup:
            setup = run.setups[number]
            rings = _rings(experiment, setup, d_range)
        readouts = boundary.readouts(experiment)
        raw, usable = boundary.read_image(experiment, index)
        columns = []
        for panel, ring in enumerate(rings):
            use = usable[panel] & (ring >= 0) & (rates[panel] > 0)
            readout = readouts[panel]
            photons = (raw[panel][use] - readout.pedestal) / readout.gain
            columns.append((photons, rates[panel][use], ring[use]))
        photons, expected, ring = map(np.concatenate, zip(*columns, strict=True))
        expected = expected.astype(float) * boundary.exposure_time(experiment, index)
        ratio, variance = clipped_rates(photons, expected, ring, n, spread=SPREAD)
        good = np.isfinite(ratio) & (ratio > 0)
        weight = np.where(good, ratio / np.where(good, variance, 1.0), 0.0)
        counts += np.where(good, ratio, 0.0) * weight
        predicted += weight
    enough = counts > PRECISION**-2
    if not enough.any():
        raise ConfigError(
            f"The scale of the empty run {empty.name} can't be fitted, as there are "
            "too few counts: give background.images.scale, or another scale_range."
        )
    n, predicted = counts[enough], predicted[enough]
    ratio, error = n / predicted, np.sqrt(n) / predicted
    lowest = ratio - 2 * error <= (ratio + 2 * error).min()
    scale = n[lowest].sum() / predicted[lowest].sum()
    logger.info(
        "background.images: the scale of the empty run is %.4f +/- %.4f (fitted).",
        scale,
        np.sqrt(n[lowest].sum()) / predicted[lowest].sum(),
    )
    return float(scale)


def _spread(items: Sequence) -> list:
    """At most `IMAGES` of them, evenly spread."""
    where = np.linspace(0, len(items) - 1, min(len(items), IMAGES))
    return [items[i] for i in where.astype(int)]


def _sample(run: RunInputs) -> list[tuple[int, int]]:
    """(experiment, index) of some images, each image once."""
    firsts = sorted(group[0] for group in shared_images(run.experiments).values())
    images = [
        (number, index)
        for number in firsts
        for index in range(len(run.experiments[number].imageset))
    ]
    return _spread(images)


def _rings(experiment, setup: int, d_range) -> list[np.ndarray]:
    """Ring of each pixel of each panel, -1 outside of the range."""
    s_norm = [
        boundary.panel_geometry(experiment, setup, panel).s_norm
        for panel in range(len(experiment.detector))
    ]
    if d_range:
        low, high = min(d_range), max(d_range)
        return [np.where((s * high >= 1) & (s * low <= 1), 0, -1) for s in s_norm]
    top = max(float(s.max()) for s in s_norm) * (1 + 1e-6)
    return [(s / top * RINGS).astype(np.int64) for s in s_norm]

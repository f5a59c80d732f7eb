"""From expected counts to integer counts with the faults of a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dxtbx.model import Detector

from diffuse_core.errors import ConfigError
from diffuse_core.simulate.detectors import gap_mask, lowest_and_saturation


@dataclass(frozen=True)
class Faults:
    """Pixels of one panel that do not count right.

    gap: bool (n_slow, n_fast); hot, dead: (n, 2) int, (slow, fast) of each pixel;
    marker: the count in gaps; saturation: no count is larger.
    """

    gap: np.ndarray
    hot: np.ndarray
    dead: np.ndarray
    marker: int
    saturation: int


def make_faults(params: Any, detector: Detector, layout: str | None) -> list[Faults]:
    """The faults of all panels; hot and dead pixels are drawn by noise.seed.

    Raises:
        ConfigError: more hot and dead pixels are asked for than there are pixels.
    """
    gaps = [gap_mask(panel, layout) for panel in detector]
    places = np.concatenate(
        [
            np.column_stack([np.full(np.sum(~gap), index), *np.nonzero(~gap)])
            for index, gap in enumerate(gaps)
        ]
    )
    n_hot, n_dead = params.noise.hot_pixels, params.noise.dead_pixels
    if n_hot + n_dead > len(places):
        raise ConfigError(
            f"noise.hot_pixels + noise.dead_pixels = {n_hot + n_dead} is more than"
            f" the {len(places)} pixels of the detector."
        )
    rng = np.random.default_rng((params.noise.seed, 0))
    chosen = places[rng.choice(len(places), n_hot + n_dead, replace=False)]
    hot, dead = chosen[:n_hot], chosen[n_hot:]
    faults = []
    for index, (panel, gap) in enumerate(zip(detector, gaps, strict=True)):
        lowest, saturation = lowest_and_saturation(panel)
        faults.append(
            Faults(
                gap=gap,
                hot=hot[hot[:, 0] == index, 1:],
                dead=dead[dead[:, 0] == index, 1:],
                marker=min(-1, lowest - 1),
                saturation=saturation,
            )
        )
    return faults


def count(
    params: Any, expected: np.ndarray, faults: Faults, rng: np.random.Generator
) -> np.ndarray:
    """Counts int32 (n_slow, n_fast) of one panel for the `expected` ones (changed)."""
    expected[tuple(faults.hot.T)] += params.noise.hot_rate * params.scan.exposure
    if params.noise.poisson:
        counts = rng.poisson(expected)
    else:
        counts = np.rint(expected)
    counts = np.minimum(counts, faults.saturation).astype(np.int32)
    counts[tuple(faults.dead.T)] = 0
    counts[faults.gap] = faults.marker
    return counts

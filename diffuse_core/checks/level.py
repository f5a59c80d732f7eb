"""Drift and jumps of the level of a series of images: decay, refills, a lost beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

JUMP = 0.08
"""Least relative step between neighbours that is called a jump."""
DRIFT = 0.25
"""Least relative range of the level, jumps included, that is called a drift."""
DARK = 0.2
"""Images with less than this part of the median level are dark."""


@dataclass(frozen=True)
class Level:
    """How the level changes.

    Attributes:
        jumps: Positions in the series after which the level steps, and the ratio.
        dark: Positions of images with nearly nothing.
        range: Largest level over the smallest, dark images left out.
    """

    jumps: list[tuple[int, float]]
    dark: list[int]
    range: float


def describe(level: np.ndarray, sigma: np.ndarray | None = None) -> Level:
    """Jumps and drift of the level of images.

    A jump is a step between two images that is `JUMP` and 5 times as large as steps of
    this series usually are (median), and 5 sigma.

    Args:
        level: (n,) mean counts of the images, in order.
        sigma: (n,) standard errors; None: not known.
    """
    level = np.asarray(level, float)
    sigma = np.zeros_like(level) if sigma is None else np.asarray(sigma, float)
    median = np.median(level)
    dark = np.flatnonzero(level < DARK * median)
    use = np.flatnonzero(level >= max(DARK * median, 1e-300))
    if len(use) < 3:
        return Level([], dark.tolist(), 1.0)
    log, error = np.log(level[use]), sigma[use] / level[use]
    steps = np.diff(log)
    usual = np.median(np.abs(steps))
    large = np.abs(steps) > np.maximum(np.log1p(JUMP), 5.0 * usual)
    large &= np.abs(steps) > 5.0 * np.hypot(error[1:], error[:-1])
    jumps = [(int(use[i]), float(np.exp(steps[i]))) for i in np.flatnonzero(large)]
    return Level(jumps, dark.tolist(), float(np.exp(log.max() - log.min())))


def say(found: Level, names: list[str]) -> list[str]:
    """Sentences about the level, none if it is steady.

    Args:
        found: By `describe`.
        names: Of the images, in order.
    """
    told = []
    if found.dark:
        listed = ", ".join(names[i] for i in found.dark[:5])
        told.append(
            f"{len(found.dark)} images are nearly dark ({listed}): was the shutter "
            "closed? Leave them out."
        )
    if found.jumps:
        listed = ", ".join(f"{names[i + 1]} (x {r:.2f})" for i, r in found.jumps[:5])
        told.append(
            f"The level of the images jumps at {listed}: a refill of the beam, or an "
            "attenuator; scale the images."
        )
    if found.range > 1 + DRIFT:
        told.append(
            f"The level of the images changes by a factor of {found.range:.2f}: a beam "
            "that decays, or a crystal that moves; scale the images."
        )
    return told

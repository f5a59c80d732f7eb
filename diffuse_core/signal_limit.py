"""To which resolution a signal reaches: where its CC1/2 falls below a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.agreement import Estimate

THRESHOLD = 0.3
DRAWS = 500


@dataclass(frozen=True, eq=False)
class Limit:
    """Where a falling curve crosses a threshold.

    Attributes:
        s: 1/A, with 68 % bounds. A value of NaN: it does not cross; see `reaches`.
        threshold: The CC1/2.
        reaches: "edge" (above the threshold to the end of the data), "nowhere" (below
            it from the start) or "crossing".
        at: (n,) 1/A: middles of the shells.
        curve: (n,) the falling curve there.
        shells: Their CC1/2.
    """

    s: Estimate
    threshold: float
    reaches: str
    at: np.ndarray
    curve: np.ndarray
    shells: tuple[Estimate, ...]


def falling(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) the curve that never rises and fits values (n,) best (weights (n,) > 0).

    Pool adjacent violators: M. Ayer et al., Ann. Math. Stat. 26, 641 (1955).
    """
    pools: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        pools.append([value, weight, 1])
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            b, a = pools.pop(), pools.pop()
            total = a[1] + b[1]
            pools.append([(a[0] * a[1] + b[0] * b[1]) / total, total, a[2] + b[2]])
    return np.repeat([p[0] for p in pools], [int(p[2]) for p in pools])


def signal_limit(
    at: np.ndarray,
    cc_half: Sequence[Estimate],
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Limit | None:
    """Where CC1/2 falls below the threshold; None without at least three shells.

    A curve that never rises is fitted to Fisher's z of the shells, each weighted with
    its error, and is straight between their middles. The bounds are those of curves
    through shells that are moved at random within their errors (parametric bootstrap,
    B. Efron & R. Tibshirani, An Introduction to the Bootstrap, 1993, section 6.5).

    Args:
        at: (n,) 1/A, ascending: middles of the shells.
        cc_half: (n,) CC1/2 of the shells; those that are NaN are left out.
        threshold: CC1/2.
        seed: Of the random moves.
    """
    good = np.array([0.0 < c.high - c.low < 2.0 for c in cc_half], bool)
    if good.sum() < 3:
        return None
    at = np.asarray(at, float)[good]
    cc_half = [c for c, use in zip(cc_half, good, strict=True) if use]
    bounds = np.array([(c.value, c.low, c.high) for c in cc_half])
    z, low, high = np.arctanh(np.clip(bounds, -0.999999, 0.999999)).T
    error = np.maximum((high - low) / 2, 1e-6)
    level = np.arctanh(threshold)
    curve = falling(z, error**-2.0)
    value = _crossing(at, curve, level)
    draws = np.random.default_rng(seed).normal(z, error, (DRAWS, len(z)))
    crossings = [_crossing(at, falling(d, error**-2.0), level) for d in draws]
    low, high = np.quantile(crossings, [0.1587, 0.8413], method="nearest")
    reaches = "crossing" if np.isfinite(value) else "edge" if value > 0 else "nowhere"
    if reaches != "crossing":
        value = np.nan
    s = Estimate(
        float(value),
        float(low) if np.isfinite(low) else np.nan,
        float(high) if np.isfinite(high) else np.nan,
    )
    return Limit(s, threshold, reaches, at, np.tanh(curve), tuple(cc_half))


def _crossing(at: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Where a falling curve passes the level; inf above it at the end, -inf below."""
    if curve[0] < level:
        return -np.inf
    if curve[-1] >= level:
        return np.inf
    i = int(np.argmax(curve < level))
    part = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return float(at[i - 1] + part * (at[i] - at[i - 1]))

"""Made-up observations with all four kinds of scales, and how well a model has them.

B varies by 30 %, G by 20 % across the detector and with the angle, 16 modules by 3 %,
and C is as large as the signal.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diffuse_core.scale_model import ScaleModel
from diffuse_core.testing.made_up import SIZE, MadeUp, make_rows

DEGREES = 120.0
MODULES = np.random.default_rng(9).normal(1.0, 0.03, (4, 4))
D_MIN = 2.1

_CELL = np.array([65.0, 70.0, 75.0])
_CELL_ROWS = 86_000
_SHELLS = 40
_FEWEST = 300


def crystal(source: int, phi: np.ndarray) -> np.ndarray:
    """(n,) B at phi (deg)."""
    return 1.0 + 0.3 * np.sin(phi / 20.0)


def path(source: int, x: np.ndarray, y: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """(n,) G, whose mean over the detector is that of the modules at every angle."""
    u, v, t = 2 * x / SIZE - 1, 2 * y / SIZE - 1, np.radians(phi)
    return (1.0 + 0.2 * (u * np.cos(t) + v * np.sin(t))) * MODULES.flat[module(x, y)]


def module(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) int: number of the module, as the component `detector` counts."""
    i, j = (np.clip((4 * c / SIZE).astype(int), 0, 3) for c in (x, y))
    return 4 * j + i


def added(source: int, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """(n,) C, whose mean is near that of the intensities."""
    return 1.07 * np.exp(-2 * s**2) * (1.0 + 0.8 * np.cos(np.radians(3 * phi)))


def nothing(source: int, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """(n,) C = 0."""
    return np.zeros(len(s))


def four_parts(
    counts: float, rows: int, parts: int = 1, seed: int = 1, offset: bool = True
) -> tuple[tuple[float, float, float], Iterator[MadeUp]]:
    """A cell (A), and about so many rows of a scan of 120 degrees in disjoint parts.

    Args:
        counts: Mean of e I over the observations.
        rows: Of all parts together.
        parts: Their number.
        seed: Of orientation and counts.
        offset: Whether there is C.
    """
    cell = tuple(_CELL * np.cbrt(rows / _CELL_ROWS))
    made = (
        make_rows(
            counts,
            seed=seed,
            cell=cell,
            d_min=D_MIN,
            scans=((0.0, DEGREES),),
            crystal=crystal,
            path=path,
            offset=added if offset else nothing,
            background=0.05,
            part=(part, parts),
        )
        for part in range(parts)
    )
    return cell, made


def recovered(model: ScaleModel, detector: str = "detector") -> dict[str, float]:
    """Rms errors relative to the truth where observations are, conventions applied.

    What all directions share in G at one angle is a part of B; what is added to C at
    all angles in proportion to B, at each s, is a part of the intensities. C is in
    units of its mean. "ends" are the first and the last degree.

    Args:
        model: Of a scan of `four_parts`.
        detector: Name of its component with the module factors.
    """
    _, (made,) = four_parts(1.0, 150_000, seed=2)
    rows, found = made.rows, model.evaluate(made.rows)
    degree = np.minimum(rows.phi, DEGREES - 1e-3).astype(int)
    ratio = found.path / made.path
    common = _mean_by(degree, ratio)[degree]
    g = ratio / common - 1.0
    b = found.crystal * common / made.crystal
    b = _mean_by(degree, b / b.mean()) - 1.0
    shell = np.searchsorted(
        np.quantile(rows.s, np.arange(1, _SHELLS) / _SHELLS), rows.s
    )
    c = (found.offset * common - made.offset) / made.crystal
    c = (c - _mean_by(shell, c)[shell]) * made.crystal / made.offset.mean()
    last = (degree == 0) | (degree == degree.max())
    (parts,) = (c for c in model.components if c.name == detector)
    number = module(rows.x, rows.y)
    seen = np.bincount(number, minlength=MODULES.size) >= _FEWEST
    factor = parts.parameters[seen] / MODULES.ravel()[seen]
    product = found.crystal * found.path / (made.crystal * made.path)
    return {
        "B": _rms(b),
        "B, ends": float(np.abs(b[[0, -1]]).max()),
        "G": _rms(g),
        "G, ends": _rms(g[last]),
        "C": _rms(c),
        "C, ends": _rms(c[last]),
        "modules": _rms(factor / factor.mean() - 1.0),
        "B G": _rms(product / product.mean() - 1.0),
    }


def _mean_by(number: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(number, values) / np.maximum(np.bincount(number), 1)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))

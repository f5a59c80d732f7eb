"""Observations of a rotating crystal made up directly, without images, truth known.

An orthorhombic crystal in a general orientation, a flat detector across the beam, scans
about x. Every voxel crosses the Ewald sphere where geometry says, so angles and places
of symmetry mates are those of a real measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.grid import keys_of
from diffuse_core.rows import DTYPES, Rows, Source, rows_of

WAVELENGTH = 1.0
DISTANCE = 150.0
SIZE = 1000
PIXEL = 0.2
"""Detector: SIZE x SIZE pixels of PIXEL mm, the beam in the middle."""

FRAME = {
    "s0": [0.0, 0.0, -1.0 / WAVELENGTH],
    "panels": [
        {
            "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
            "fast": [1.0, 0.0, 0.0],
            "slow": [0.0, 1.0, 0.0],
            "pixel": [PIXEL, PIXEL],
            "size": [SIZE, SIZE],
        }
    ],
}
"""The same detector as the component `absorption` describes it."""


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Rows, and what they were made from.

    Attributes:
        rows: The observations.
        sources: Their experiments.
        index: (n, 3) int64 indices that were measured.
        intensity: (n,) true I of each row's voxel.
        crystal, path, offset: (n,) true B, G and C.
    """

    rows: Rows
    sources: tuple[Source, ...]
    index: np.ndarray
    intensity: np.ndarray
    crystal: np.ndarray
    path: np.ndarray
    offset: np.ndarray


def intensity_of(index: np.ndarray, s: np.ndarray) -> np.ndarray:
    """(n,) > 0: a fall-off in s, halos and a texture that only symmetry repeats.

    Args:
        index: (n, 3) indices of representatives.
        s: (n,) 1/A.
    """
    a, b, c = np.abs(index).T
    halo = np.exp(-0.5 * ((a % 6 - 3) ** 2 + (b % 6 - 3) ** 2 + (c % 6 - 3) ** 2))
    texture = 1.0 + 0.3 * np.cos(1.7 * a) * np.cos(0.9 * b) * np.cos(1.3 * c)
    return np.exp(-3.0 * s**2) * (texture + 3.0 * halo)


def make_rows(
    counts: float,
    seed: int = 1,
    cell: Sequence[float] = (60.0, 70.0, 80.0),
    d_min: float = 2.5,
    scans: Sequence[tuple[float, float]] = ((0.0, 120.0),),
    stills: int = 0,
    crystal: Callable = lambda source, phi: np.ones(len(phi)),
    path: Callable = lambda source, x, y, phi: np.ones(len(phi)),
    offset: Callable = lambda source, s, phi: np.zeros(len(phi)),
    background: float = 0.0,
    swap: Callable[[int], bool] = lambda source: False,
    fraction: float = 1.0,
    part: tuple[int, int] = (0, 1),
) -> MadeUp:
    """Poisson counts of E[n] = e G (B I + C) + b.

    Args:
        counts: Mean of e I over all observations.
        seed: Of orientations and counts.
        cell: a, b, c (A); a voxel is one reciprocal cell.
        d_min: A.
        scans: First and last angle (deg) of each scan; each has its own orientation.
        stills: Number of stills that follow, in random orientations.
        crystal: B of (source, phi).
        path: G of (source, x, y, phi), pixels and deg.
        offset: C of (source, s, phi).
        background: b in units of the mean of e I.
        swap: Whether the crystal of a source was indexed with h and k exchanged.
        fraction: Part of the rows to keep, at random.
        part: (i, n): only voxels whose |h| leaves i when divided by n. The parts of a
            large set have the same orientation.
    """
    rng = np.random.default_rng(seed)
    turns = [np.linalg.qr(rng.normal(size=(3, 3))) for _ in range(len(scans) + stills)]
    if part[1] > 1:
        rng = np.random.default_rng([seed, part[0]])
    a_star = 1.0 / np.asarray(cell)
    limit = np.floor(1.0 / (d_min * a_star)).astype(int)
    along = [np.arange(-n, n + 1) for n in limit]
    along[0] = along[0][np.abs(along[0]) % part[1] == part[0]]
    h = np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, 3)
    norm = np.linalg.norm(h * a_star, axis=1)
    h = h[(norm > 0.05) & (norm < 1.0 / d_min)]
    sources, parts = [], []
    for number, (q, r) in enumerate(turns):
        s = (h * a_star) @ (q * np.sign(np.diag(r))).T
        still = number >= len(scans)
        low, high = (0.0, 0.0) if still else scans[number]
        sources.append(Source(f"{number}", "made up", number, still, (low, high)))
        index, phi, x, y, norm = _seen(h, s, low, high, rng)
        parts.append((np.full(len(phi), number), index, phi, x, y, norm))
    source, index, phi, x, y, s = map(np.concatenate, zip(*parts, strict=True))
    if fraction < 1:
        keep = rng.random(len(s)) < fraction
        source, index, phi, x, y, s = (v[keep] for v in (source, index, phi, x, y, s))
    representative = np.abs(index)
    named = representative.copy()
    for number in range(len(sources)):
        if swap(number):
            named[source == number] = named[source == number][:, [1, 0, 2]]
    block = np.where(
        [sources[i].still for i in source], source, 1000 + np.floor(phi)
    ).astype(np.int32)
    n = len(s)
    columns = {
        "key": keys_of(named),
        "friedel": index[:, 2] < 0,
        "source": source.astype(np.int32),
        "block": block,
        "panel": np.zeros(n, np.int16),
        "pixels": np.full(n, 10, np.float32),
        "phi": phi.astype(np.float32),
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "s": s.astype(np.float32),
        "background_variance": np.zeros(n),
    }
    truth = {
        "index": index,
        "intensity": intensity_of(representative, s),
        "crystal": _by_source(sources, source, crystal, phi),
        "path": _by_source(sources, source, path, x, y, phi),
        "offset": _by_source(sources, source, offset, s, phi),
    }
    exposure = rng.uniform(0.5, 1.5, n)
    exposure *= counts / np.mean(exposure * truth["intensity"])
    signal = exposure * truth["path"]
    signal *= truth["crystal"] * truth["intensity"] + truth["offset"]
    columns["exposure"] = exposure
    columns["background"] = np.full(n, background * counts)
    columns["counts"] = rng.poisson(signal + columns["background"]).astype(float)
    return _in_order(columns, truth, tuple(sources))


def _in_order(columns, truth, sources) -> MadeUp:
    """Rows of one voxel sorted by source and block, and the truth in that order."""
    order = np.lexsort([columns[name] for name in ("phi", "block", "source", "key")])
    rows = rows_of({name: columns[name][order] for name in DTYPES})
    return MadeUp(rows, sources, **{k: v[order] for k, v in truth.items()})


def _by_source(sources, source, function, *columns) -> np.ndarray:
    result = np.empty(len(source))
    for number in range(len(sources)):
        use = source == number
        result[use] = function(number, *(c[use] for c in columns))
    return result


def _seen(h, s, low, high, rng):
    """Indices, phi (deg), x, y (pixels) and |s| of what a scan or a still sees."""
    k = 1.0 / WAVELENGTH
    norm = np.linalg.norm(s, axis=1)
    if high > low:
        rho = np.hypot(s[:, 1], s[:, 2])
        sine = norm**2 / (2 * k * np.maximum(rho, 1e-12))
        can = sine < 1
        h, s, norm, rho, sine = h[can], s[can], norm[can], rho[can], sine[can]
        alpha = np.arctan2(s[:, 2], s[:, 1])
        angle = np.concatenate([np.arcsin(sine), np.pi - np.arcsin(sine)])
        phi = np.degrees(angle - np.tile(alpha, 2))
        phi = low + np.mod(phi - low, 360.0)
        h, s, norm = (np.concatenate([v, v]) for v in (h, s, norm))
        use = phi < high
    else:
        excitation = np.abs(np.linalg.norm(s - [0, 0, k], axis=1) - k)
        phi = np.zeros(len(s))
        use = excitation < 0.01
    h, s, norm, phi = h[use], s[use], norm[use], phi[use]
    c, d = np.cos(np.radians(phi)), np.sin(np.radians(phi))
    turned = np.stack(
        [s[:, 0], c * s[:, 1] - d * s[:, 2], d * s[:, 1] + c * s[:, 2]], 1
    )
    s1 = turned - [0, 0, k]
    on = DISTANCE / PIXEL * s1[:, :2] / -s1[:, 2:] + SIZE / 2
    use = (s1[:, 2] < 0) & np.all((on > 0) & (on < SIZE), axis=1)
    return h[use], phi[use], on[use, 0], on[use, 1], norm[use]

"""Scales that a simulation plants: G(direction, t), C(s, t) and factors of modules.

t goes from 0 to 1 over the images. Functions are sums of a few sine waves with random
directions, frequencies and phases, never above 1 in size, so they are smooth and known
everywhere. They share no code with the scaling that has to find them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WAVES = 4


@dataclass(frozen=True, eq=False)
class Planted:
    """The functions, as the numbers that `truth.json` holds.

    Attributes:
        path: amplitude; across, two unit vectors (2, 3) across the beam; reach, the
            largest component of a ray along them; waves (n, 4).
        offset: amplitude (counts/s/sr), b_factor (A^2), variation, waves (n, 3).
        modules: factors, (n_slow, n_fast) for each panel, and sizes of the panels in
            pixels, (fast, slow).
    """

    path: dict[str, Any]
    offset: dict[str, Any]
    modules: dict[str, Any]

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> Planted:
        """Those of a simulation's truth.json."""
        return cls(**json.loads(Path(path).read_text())["simulation"]["planted"])

    def path_factor(self, s1: np.ndarray, t: np.ndarray | float) -> np.ndarray | float:
        """G, without the factors of modules, of rays s1 (..., 3) of any length."""
        p = self.path
        if p["amplitude"] == 0:
            return 1.0
        u, v = np.moveaxis(s1 @ np.array(p["across"]).T, -1, 0)
        length = np.linalg.norm(s1, axis=-1) * p["reach"]
        waves = [
            np.sin((a * u + b * v) / length + 2 * np.pi * rate * t + phase)
            for a, b, rate, phase in p["waves"]
        ]
        return 1.0 + p["amplitude"] * sum(waves) / len(waves)

    def offset_intensity(
        self, s: np.ndarray, t: np.ndarray | float
    ) -> np.ndarray | float:
        """C at |s| (1/A), counts/s/sr per unit flux."""
        c = self.offset
        if c["amplitude"] == 0:
            return 0.0
        waves = [
            np.sin(2 * np.pi * rate * t + length * s + phase)
            for rate, length, phase in c["waves"]
        ]
        height = 1.0 + c["variation"] * sum(waves) / len(waves)
        return c["amplitude"] * np.exp(-0.5 * c["b_factor"] * s**2) * height

    def module_factor(self, panel: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Factor of the part of a panel that holds x, y (pixels)."""
        factors = np.array(self.modules["factors"][panel])
        fast, slow = self.modules["sizes"][panel]
        row = (np.asarray(y) * factors.shape[0] / slow).astype(int)
        column = (np.asarray(x) * factors.shape[1] / fast).astype(int)
        return factors[row, column]


def make_planted(
    scale: Any,
    beam: Sequence[float],
    rays: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
) -> Planted:
    """The functions of the PHIL scope `scale`.

    Args:
        scale: Extracted scope.
        beam: s0 (3,).
        rays: Vectors to some pixels of each panel (n, 3), of any length.
        sizes: Size of each panel in pixels, (fast, slow).
    """
    rng = np.random.default_rng((scale.path.seed, 11))
    beam = np.asarray(beam, float) / np.linalg.norm(beam)
    side = np.eye(3)[np.argmin(np.abs(beam))]
    u = np.cross(beam, side)
    across = np.array([u / np.linalg.norm(u), np.cross(beam, u) / np.linalg.norm(u)])
    unit = np.concatenate(
        [ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays]
    )
    turn = rng.uniform(0, 2 * np.pi, WAVES)
    length = rng.uniform(0.8, 1.8, WAVES)
    path = {
        "amplitude": scale.path.amplitude,
        "across": across.tolist(),
        "reach": float(np.abs(unit @ across.T).max()),
        "waves": np.column_stack(
            [
                length * np.cos(turn),
                length * np.sin(turn),
                rng.uniform(-0.8, 0.8, WAVES),
                rng.uniform(0, 2 * np.pi, WAVES),
            ]
        ).tolist(),
    }
    rng = np.random.default_rng((scale.offset.seed, 12))
    offset = {
        "amplitude": scale.offset.amplitude,
        "b_factor": scale.offset.b_factor,
        "variation": scale.offset.variation,
        "waves": np.column_stack(
            [
                rng.uniform(0.5, 1.5, WAVES),
                rng.uniform(-3.0, 3.0, WAVES),
                rng.uniform(0, 2 * np.pi, WAVES),
            ]
        ).tolist(),
    }
    rng = np.random.default_rng((scale.modules.seed, 13))
    fast, slow = scale.modules.n
    spread = scale.modules.spread
    factors = [1.0 + spread * rng.standard_normal((slow, fast)) for _ in sizes]
    modules = {
        "factors": [np.maximum(f, 0.1).tolist() for f in factors],
        "sizes": [list(map(int, size)) for size in sizes],
    }
    return Planted(path, offset, modules)

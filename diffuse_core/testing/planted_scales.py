"""Scales that were found against those that a simulated scan was made with.

Symmetry mates leave some of a scaling model open (docs/scaling.md): functions of |s|
alone in G and C, and what G and B share at each angle. `compare` moves these parts to
where the truth has them, so that what is left of the differences is error.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffuse_core.compat import load_experiments
from diffuse_core.rows import DTYPES, Rows
from diffuse_core.scale_model import ScaleModel
from diffuse_core.simulate.planted import Planted

RECIPE = "scales_small"
INTEGRATE = (
    "simulated/simulated.expt",
    "engine=serial",
    "mask.models=None",
    "block.width=2",
    "mapping.hkl_grid.divisions=2,2,2",
)
SCALE = (
    "diffuse_observations",
    "engine=serial",
    "scaling.components=smooth_scale offset absorption detector",
    "smooth_scale.spacing=4",
    "smooth_scale.smoothness=0.02",
    "offset.intervals=8",
    "offset.spacing=8",
    "offset.smoothness=0.05",
    "absorption.smoothness=0.05",
    "detector.modules=2,2",
    "detector.smoothness=0.05",
)
"""The simulation, and the arguments of dials.diffuse_integrate and diffuse_scale."""

DEGREE = 6
"""Of the polynomials in |s| that are open."""


class PlantedScales:
    """B, G and C of a simulated scan of one panel.

    Args:
        folder: With simulated.expt and truth.json.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        path = Path(folder)
        (self.experiment,) = load_experiments(
            str(path / "simulated.expt"), check_format=False
        )
        self.planted = Planted.from_file(path / "truth.json")
        record = json.loads((path / "truth.json").read_text())
        self.scales = np.array(record["simulation"]["scales"])

    def image(self, phi: np.ndarray) -> np.ndarray:
        """Number of the image, from 0, in whose middle the angle is phi (deg)."""
        start, width = self.experiment.scan.get_oscillation()
        return (phi - start) / width - 0.5

    def rays(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """s1 (n, 3), 1/A, to places in pixels."""
        panel = self.experiment.detector[0]
        place = [panel.get_pixel_lab_coord(p) for p in zip(x, y, strict=True)]
        length = np.linalg.norm(place, axis=1, keepdims=True)
        return place / (length * self.experiment.beam.get_wavelength())

    def crystal(self, phi: np.ndarray) -> np.ndarray:
        """(n,) B, straight between images."""
        return np.interp(self.image(phi), np.arange(len(self.scales)), self.scales)

    def path(self, x: np.ndarray, y: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """(n,) G, with the factors of modules."""
        t = (self.image(phi) + 0.5) / len(self.scales)
        factor = self.planted.path_factor(self.rays(x, y), t)
        return factor * self.planted.module_factor(0, x, y)

    def offset(self, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """(n,) C, counts/s/sr per unit flux."""
        t = (self.image(phi) + 0.5) / len(self.scales)
        return self.planted.offset_intensity(s, t)


@dataclass(frozen=True, eq=False)
class Compared:
    """Scales at m angles and k places, each of (found, true).

    Attributes:
        phi: (m,) deg.
        x, y, s: (k,) pixels and 1/A.
        crystal: (m,) B, with a mean of 1.
        path: (m, k) G, with a mean of 1 at each angle.
        offset: (m, k) C / B less its mean at each place, in units of the mean of all.
    """

    phi: np.ndarray
    x: np.ndarray
    y: np.ndarray
    s: np.ndarray
    crystal: tuple[np.ndarray, np.ndarray]
    path: tuple[np.ndarray, np.ndarray]
    offset: tuple[np.ndarray, np.ndarray]


def compare(truth: PlantedScales, model: ScaleModel, n: int = 13) -> Compared:
    """The model of one scan at every second image and n x n places, and the truth."""
    start, width = truth.experiment.scan.get_oscillation()
    angles = start + width * (np.arange(1, len(truth.scales), 2) + 0.5)
    fast, slow = truth.experiment.detector[0].get_image_size()
    x, y = (
        v.ravel()
        for v in np.meshgrid(
            np.linspace(0.04, 0.96, n) * fast, np.linspace(0.04, 0.96, n) * slow
        )
    )
    s = truth.rays(x, y) - truth.experiment.beam.get_s0()
    s = np.linalg.norm(s, axis=1)
    use = (s > 0.07 * s.max()) & (s < 0.93 * s.max())
    x, y, s = x[use], y[use], s[use]
    shape = len(angles), len(s)
    phi = np.repeat(angles, len(s))
    every = {
        name: np.tile(v, len(angles)) for name, v in zip("xys", (x, y, s), strict=True)
    }
    columns = {name: np.zeros(len(phi), dtype) for name, dtype in DTYPES.items()}
    columns.update(phi=phi, **every)
    scales = model.evaluate(Rows(starts=np.arange(len(phi) + 1), **columns))
    true_path = truth.path(every["x"], every["y"], phi).reshape(shape)
    path = scales.path.reshape(shape)
    ratio = np.log(path / true_path)
    common = np.exp(ratio.mean(axis=1))
    radial = _smooth(s, ratio.mean(axis=0))
    radial = np.exp(radial - radial.mean())
    crystal = scales.crystal.reshape(shape)[:, 0] * common
    true_crystal = truth.crystal(angles)
    offset = scales.offset / scales.crystal
    offset = offset.reshape(shape) * radial
    true_offset = truth.offset(every["s"], phi) / truth.crystal(phi)
    true_offset = true_offset.reshape(shape)
    unit = true_offset.mean()
    return Compared(
        angles,
        x,
        y,
        s,
        (crystal / crystal.mean(), true_crystal / true_crystal.mean()),
        tuple(
            g / g.mean(axis=1, keepdims=True)
            for g in (path / radial / common[:, None], true_path)
        ),
        tuple((c - c.mean(axis=0)) / unit for c in (offset, true_offset)),
    )


def _smooth(s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The polynomial in s that is nearest to values."""
    basis = np.vander(s / s.max(), DEGREE + 1)
    return basis @ np.linalg.lstsq(basis, values, rcond=None)[0]

"""Maps in electron units, and the example of the models page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from diffuse_core.absolute import on_absolute_scale
from diffuse_core.grid import Grid, reciprocal_basis
from diffuse_core.io.files import write_map
from diffuse_core.models import IntensityBackground
from diffuse_core.testing import make_experiments
from diffuse_core.volume import Volume

CELL = (20.0, 25.0, 30.0, 80.0, 95.0, 100.0)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"


class Falling(IntensityBackground):
    """Mean 100 exp(-s), variance s^2."""

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def intensity(self, s_norm):
        return 100 * np.exp(-s_norm), s_norm**2


def make_volume():
    rng = np.random.default_rng(3)
    shape = (5, 4, 3)
    intensity = rng.uniform(1e5, 2e5, shape).astype(np.float32)
    sigma = rng.uniform(1e3, 2e3, shape).astype(np.float32)
    intensity[1, 2, 0] = sigma[1, 2, 0] = np.nan
    grid = Grid("hkl", (0.5, 0.25, 1.0))
    multiplicity = np.where(np.isnan(intensity), 0, 4).astype(np.int32)
    lower = np.array([-3, 1, -2])
    return Volume(grid, lower, intensity, sigma, multiplicity, CELL, "P 1")


def test_what_is_left_is_the_scaled_map_less_its_backgrounds():
    volume = make_volume()
    intensity, sigma = on_absolute_scale(volume, 0.01, [Falling(), Falling()])
    b = reciprocal_basis(CELL)
    for i, j, k in np.ndindex(volume.intensity.shape):
        hkl = 0.5 * (i - 3), 0.25 * (j + 1), k - 2
        s = np.linalg.norm(b @ hkl)
        left = 0.01 * volume.intensity[i, j, k] - 200 * np.exp(-s)
        error = np.sqrt((0.01 * volume.sigma[i, j, k]) ** 2 + 2 * s**2)
        assert intensity[i, j, k] == pytest.approx(left, rel=1e-6, nan_ok=True)
        assert sigma[i, j, k] == pytest.approx(error, rel=1e-6, nan_ok=True)
    assert np.isnan(intensity).sum() == 1


def test_the_example_of_the_page_subtracts_compton_scattering(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiments = make_experiments()
    experiments.as_file("refined.expt")
    volume = make_volume()
    write_map("diffuse_map.nxs", volume, {"program": "test"})
    text = PAGE.read_text(encoding="utf-8")
    (example,) = (
        code
        for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        if "on_absolute_scale" in code
    )
    found: dict = {}
    exec(compile(example, str(PAGE), "exec"), found)
    plain, _ = on_absolute_scale(volume, found["factor"])
    gone = plain - found["intensity"]
    assert np.nanmin(gone) > 0
    electrons = sum(z * n for z, n in found["compton"].atoms.items())
    assert np.nanmax(gone) < electrons

"""Merged intensities with fitted scales have no bias, at few counts and at many.

All levels from 0.2 to 500 counts, to 0.1 %: bench/scale_bias.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scaling import fit_scales
from diffuse_core.statistics import spherical_average
from diffuse_core.testing.made_up import FRAME
from diffuse_core.testing.made_up_four import four_parts
from diffuse_core.testing.made_up_merged import mean_error, merge_rows


@pytest.mark.parametrize(
    ("counts", "rows"), [(0.2, 300_000), (5.0, 150_000), (500.0, 50_000)]
)
def test_mean_of_weak_and_strong_voxels(counts, rows):
    _, (made,) = four_parts(counts, rows, offset=False)
    components = [
        ("b", SmoothScale(5.0, 0.03)),
        ("a", Absorption([FRAME], [0], (3, 3), 40.0, 0.1)),
    ]
    model = fit_scales(made.rows, made.sources, components).model
    scales = model.evaluate(made.rows)
    level = np.mean(scales.crystal * scales.path) / np.mean(made.crystal * made.path)
    voxels = merge_rows(made.rows, scales, model.expected, made.intensity)
    voxels.intensity[:] *= level
    voxels.sigma[:] *= level
    ratio = voxels.true / spherical_average(voxels.s, voxels.true)(voxels.s)
    low, high = np.quantile(ratio, [1 / 3, 2 / 3])
    for use in (ratio > 0, ratio < low, ratio > high):
        value, error = mean_error(voxels, use)
        print(f"{counts}: {100 * value:+.2f} +- {100 * error:.2f} %")
        assert abs(value) < max(0.005, 3.0 * error)
        assert error < 0.012

"""B, C, G and module factors with smoothness chosen by held-out observations.

The big variant, with the command, is bench/scale_fit.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scale_model import Scales
from diffuse_core.scaling import Options, fit_scales
from diffuse_core.testing.made_up import FRAME, SIZE
from diffuse_core.testing.made_up_four import four_parts, recovered
from diffuse_core.testing.made_up_merged import anisotropic, merge_rows


@pytest.fixture(scope="module")
def fitted():
    """120 degrees, 293 559 observations of 300 counts; the truth is told to nobody."""
    _, (made,) = four_parts(300.0, 250_000)
    components = [
        ("smooth_scale", SmoothScale()),
        ("offset", Offset()),
        ("absorption", Absorption([FRAME], [0])),
        ("detector", DetectorScale([[(SIZE, SIZE)]], [0], (4, 4))),
    ]
    options = Options(smoothness_rows=60_000)
    return made, fit_scales(made.rows, made.sources, components, options)


@pytest.fixture(scope="module")
def merged(fitted):
    """With fitted and with true scales; and the level of the fitted ones."""
    made, fit = fitted
    length = np.diff(made.rows.starts)
    keep = np.ones(len(made.rows), bool)
    keep[np.repeat(length > 1, length)] = fit.found.keep
    scales = fit.model.evaluate(made.rows)
    truth = Scales(made.crystal, made.path, made.offset)
    level = np.mean(scales.crystal * scales.path) / np.mean(made.crystal * made.path)
    return (
        merge_rows(made.rows, scales, fit.model.expected, made.intensity, keep),
        merge_rows(made.rows, truth, fit.model.expected, made.intensity),
        level,
    )


def test_each_scale_is_recovered(fitted):
    made, fit = fitted
    assert made.offset.mean() == pytest.approx(made.intensity.mean(), rel=0.02)
    error = recovered(fit.model)
    print({name: f"{100 * value:.2f} %" for name, value in error.items()})
    assert max(error[name] for name in ("B", "G", "C", "modules")) < 0.01
    assert max(error[name] for name in ("B, ends", "G, ends", "C, ends")) < 0.02
    assert fit.model.figures["converged"]


def test_anisotropic_part_is_as_good_as_with_true_scales(merged):
    found, best, _ = merged
    cc, most = (
        np.corrcoef(anisotropic(m.s, m.intensity), anisotropic(m.s, m.true))[0, 1]
        for m in (found, best)
    )
    print("CC", cc, "with true scales", most)
    assert most > 0.99
    assert cc > 0.99 * most


def test_sigmas_are_right(merged):
    """Against the truth, less the isotropic part that mates do not tell."""
    found, _, level = merged
    error = anisotropic(found.s, level * found.intensity - found.true)
    pull = error / (level * found.sigma)
    shell = np.searchsorted(np.quantile(found.s, np.arange(1, 10) / 10), found.s)
    chi = np.bincount(shell, pull**2) / np.bincount(shell)
    covered = np.mean(np.abs(pull) < 1)
    print("chi squared", chi.round(3), "covered", covered)
    assert np.all((chi > 0.95) & (chi < 1.10))
    assert 0.66 < covered < 0.70


def test_intensities_have_the_right_size(merged):
    """A factor of the anisotropic part would be a bias of scales or of merging."""
    found, _, level = merged
    truth = anisotropic(found.s, found.true)
    values = level * anisotropic(found.s, found.intensity)
    w = 1.0 / found.sigma**2
    slope = np.sum(w * truth * values) / np.sum(w * truth**2)
    print("slope", slope, "+-", 1.0 / np.sqrt(np.sum(w * truth**2)))
    assert slope == pytest.approx(1.0, abs=0.005)

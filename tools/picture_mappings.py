"""Pictures of the mappings: sections of maps of the simulated crystal."""

from __future__ import annotations

import numpy as np
from picture_drawing import figure, plane
from picture_scene import N_IMAGES

from diffuse_core.grid import indices_of
from diffuse_core.integrate import Integrator
from diffuse_core.panels import Models
from diffuse_core.plan import Block, ImageSource, PanelCache

KIND = "mapping"
UNIT = "counts / s / sr"


def _sums(scene, text, mask="mask.models = bragg"):
    """Voxel indices (n, 3), counts and exposures of all images."""
    (mapper,) = scene.models(text, "mapping")
    corrections = scene.models("", "correction")
    models = Models(scene.models(mask, "mask"), corrections, [], mapper)
    integrator = Integrator(models, PanelCache(scene.run, models))
    block = Block(0, 0, 0, N_IMAGES)
    columns, _ = integrator.integrate_block(
        0, ImageSource(scene.run, mapper.oversample[2]).exposures(block)
    )
    return indices_of(columns["key"]), columns["counts"], columns["exposure"]


def _plane(index, counts, exposure, reach, fold=False):
    """(2 reach + 1, 2 reach + 1): intensity of voxels (i, j), NaN = not measured."""
    if fold:
        signs = [(a, b) for a in (-1, 1) for b in (-1, 1)]
        index = np.concatenate([index * sign for sign in signs])
        counts, exposure = np.tile(counts, 4), np.tile(exposure, 4)
    use = (np.abs(index) <= reach).all(axis=1)
    size = 2 * reach + 1
    at = np.ravel_multi_index((index[use] + reach).T, (size, size))
    n, e = (np.bincount(at, c[use], size**2) for c in (counts, exposure))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(e > 0, n / e, np.nan).reshape(size, size)


def _section(scene, text, normal, step, reach, thick=0):
    index, counts, exposure = _sums(scene, text)
    inside = np.abs(index[:, normal]) <= thick
    across = np.delete(index[inside], normal, axis=1)
    values = _plane(across, counts[inside], exposure[inside], reach)
    return np.arange(-reach, reach + 1) * step, values


def _draw(x, values, title, x_label, y_label):
    drawn = figure(6.0, 4.8)
    axes = drawn.subplots()
    plane(axes, x, x, values, UNIT)
    axes.set_aspect("equal")
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return drawn


def hkl_grid(scene):
    text = "mapping.model = hkl_grid\nmapping.hkl_grid.divisions = 5 5 5"
    index, counts, exposure = _sums(scene, text)
    inside = index[:, 2] == 0
    values = _plane(index[inside][:, :2], counts[inside], exposure[inside], 55, True)
    x = np.arange(-55, 56) / 5
    title = "hkl_grid: divisions=5 5 5, hk0, averaged over mmm"
    return _draw(x, values, title, "h", "k")


def q_grid(scene):
    text = "mapping.model = q_grid\nmapping.q_grid.step = 0.01"
    x, values = _section(scene, text, 2, 0.01, 90, thick=1)
    title = "q_grid: step=0.01, q_z = 0, one sweep of 90°"
    return _draw(x, values, title, "q_x (1/Å)", "q_y (1/Å)")


def lab_grid(scene):
    text = "mapping.model = lab_grid\nmapping.lab_grid.step = 0.01"
    x, values = _section(scene, text, 0, 0.01, 90, thick=1)
    title = "lab_grid: frame=goniometer, q_x = 0, one sweep of 90°"
    return _draw(x, values, title, "q_y (1/Å)", "q_z (1/Å)")


def radial(scene):
    text = "mapping.model = radial\nmapping.radial.step = 0.01"
    index, counts, exposure = _sums(scene, text, "mask.models = None")
    index = index[:, :2]
    size = N_IMAGES, int(index[:, 1].max()) + 1
    at = np.ravel_multi_index(index.T, size)
    n, e = (np.bincount(at, c, size[0] * size[1]) for c in (counts, exposure))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(e > 0, n / e, np.nan).reshape(size)
    drawn = figure()
    axes = drawn.subplots()
    plane(axes, np.arange(N_IMAGES), np.arange(size[1]) * 0.01, values, UNIT)
    axes.set_title("radial: per=image, Bragg peaks included")
    axes.set_xlabel("number of the image")
    axes.set_ylabel("|s| (1/Å)")
    return drawn


PICTURES = {
    function.__name__: function for function in (hkl_grid, lab_grid, q_grid, radial)
}

"""Pictures of the masks: one simulated image, and what each leaves out of it."""

from __future__ import annotations

import pickle

import numpy as np
from picture_drawing import LEFT_OUT, figure, grey, left_out, share
from picture_scene import AIR, DEFECTS, EMPTY, SMOOTH, SPOTS

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy

from diffuse_core import show
from diffuse_core.mount import mount_of

KIND = "mask"


def _kept(scene, text, image, run=None):
    """Per panel (n_slow, n_fast) bool: what the masks of a PHIL text keep."""
    found = scene.models(text, "mask", run)
    return show.masks([("", model) for model in found], scene.panels, image)[-1].values


def _whole(scene, text, title, image=None, run=None):
    image = image or scene.image()
    drawn = figure()
    kept = _kept(scene, text, image, run)
    left_out(drawn.subplots(), scene.panels, kept, image.counts, title)
    return drawn


def bragg(scene):
    return _whole(scene, "mask.models = bragg", "mask.models=bragg, one image of 1.5°")


def shoebox(scene):
    return _whole(scene, "mask.models = shoebox", "mask.models=shoebox, one image")


def resolution(scene):
    text = """mask.models = resolution
    mask.resolution { d_min = 1.2
                      d_max = 12
                      ice_rings { filter = True
                                  width = 0.004 } }"""
    title = "resolution: d_min=1.2 d_max=12 ice_rings.filter=True"
    return _whole(scene, text, title)


def untrusted(scene):
    text = """mask.models = untrusted
    mask.untrusted {
      border = 2
      untrusted { panel = 3
                  circle = 30 120 14 }
      untrusted { panel = 3
                  rectangle = 27 33 120 191 }
      untrusted { panel = 5
                  polygon = 5 20 50 40 40 90 10 70 }
      untrusted { panel = 0 } }"""
    return _whole(scene, text, "untrusted: border, circle, rectangle, polygon, panel")


def file(scene):
    path = scene.folder / "made.mask"
    masks = []
    for panel in scene.panels:
        masks.append(flumpy.from_numpy(np.array(panel.two_theta > 12.0)))
    path.write_bytes(pickle.dumps(tuple(masks)))
    text = f"mask.models = file\nmask.file.path = {path}"
    return _whole(scene, text, "file: path=pixels.mask")


def shadow(scene):
    text = "mask.models = shadow\nmask.shadow { goniometer = mini_kappa }"
    drawn = figure(6.4, 6.6)
    for axes, index in zip(drawn.subplots(2, 1), (5, 18), strict=True):
        image = scene.image(index)
        title = f"goniometer=mini_kappa, {image.phi:.0f}°"
        kept = _kept(scene, text, image)
        left_out(axes, scene.panels, kept, image.counts, title)
    return drawn


def anvil(scene):
    mount = mount_of(scene.run.experiments[0])
    beam = np.array(scene.run.experiments[0].beam.get_unit_s0())
    normal = mount.rotation(scene.image(20).phi).T @ beam
    text = f"""mask.models = anvil
    mask.anvil {{ normal = {" ".join(map(str, normal))}
                 half_opening = 35 }}"""
    drawn = figure(6.4, 6.6)
    for axes, index in zip(drawn.subplots(2, 1), (20, 32), strict=True):
        image = scene.image(index)
        turned = image.phi - scene.image(20).phi
        title = f"half_opening=35, cell turned by {turned:.0f}°"
        kept = _kept(scene, text, image)
        left_out(axes, scene.panels, kept, image.counts, title)
    return drawn


def _beside(of_panels):
    """A part of the three panels in the middle, side by side."""
    return np.hstack([of_panels[i][40:135] for i in (2, 3, 4)])


def _close_up(axes, counts, title):
    mesh = axes.imshow(counts, **grey())
    axes.figure.colorbar(mesh, ax=axes, label="counts", shrink=0.9, pad=0.02)
    axes.set_title(title)
    axes.set_xlabel("fast (pixels of three panels)")
    axes.set_ylabel("slow (pixels)")


def pixel_statistics(scene):
    run = scene.run_of(scene.simulate("defects", AIR + DEFECTS))
    prefix = scene.folder / "statistics"
    text = f"""mask.models = pixel_statistics
    mask.pixel_statistics {{ prefix = {prefix}
                             shadow = 0 }}"""
    image = scene.image(20, run)
    keep = _beside(_kept(scene, text, image, run))
    drawn = figure()
    axes = drawn.subplots()
    _close_up(axes, _beside(image.counts), "pixel_statistics: hot and dead pixels")
    y, x = np.nonzero(~keep)
    axes.scatter(x, y, s=60, facecolors="none", edgecolors=LEFT_OUT, lw=1.8)
    return drawn


def poisson_outlier(scene):
    smooth = scene.run_of(scene.simulate("smooth", AIR + SMOOTH))
    spots = scene.run_of(scene.simulate("spots", EMPTY + SPOTS))
    image = scene.with_counts_of(scene.image(0, smooth), scene.image(0, spots))
    keep = _beside(_kept(scene, "mask.models = poisson_outlier", image))
    drawn = figure()
    axes = drawn.subplots()
    _close_up(
        axes, _beside(image.counts), "poisson_outlier: spots of an unknown lattice"
    )
    axes.contour(keep, levels=[0.5], colors=LEFT_OUT, linewidths=1.6)
    share(axes, [keep])
    return drawn


PICTURES = {
    function.__name__: function
    for function in (
        anvil,
        bragg,
        file,
        pixel_statistics,
        poisson_outlier,
        resolution,
        shadow,
        shoebox,
        untrusted,
    )
}

"""Pictures of the backgrounds: profiles of simulated images, and what is subtracted."""

from __future__ import annotations

import pickle

import numpy as np
from picture_drawing import curves, figure, plane
from picture_scene import AIR, EMPTY, EXPOSURE

from dials.algorithms.background.gmodel import StaticBackgroundModel
from dials.algorithms.background.modeller import BackgroundModeller
from dials.array_family import flex
from dials.command_line.model_background import phil_scope

from diffuse_core import show
from diffuse_core.plan import Block, ImageSource
from diffuse_core.simulate import recipe, run_simulation

KIND = "background"
S = "|s| (1/Å)"
RATE = "counts / s / pixel"
RINGS = np.linspace(0.02, 1.1, 73)
SCALES = (0.6, 0.8, 1.1, 1.3, 1.2, 0.9, 0.7, 0.5, 0.8, 1.0, 1.3, 1.4)


def _profile(scene, values, keep):
    """Mean of values over rings of |s|."""
    mean, number = np.zeros(len(RINGS) - 1), np.zeros(len(RINGS) - 1)
    for panel, value, good in zip(scene.panels, values, keep, strict=True):
        ring = np.digitize(panel.s_norm, RINGS) - 1
        good = good & (ring >= 0) & (ring < len(mean))
        mean += np.bincount(ring[good], np.asarray(value)[good], len(mean))
        number += np.bincount(ring[good], minlength=len(mean))
    return mean / np.maximum(number, 1)


def _of_model(scene, text, image):
    """Counts/s that the background of a PHIL text predicts, per panel."""
    corrections = [("", m) for m in scene.models("", "correction")]
    responses = show.corrections(corrections, scene.panels, image)[-1].values
    pairs = [("", m) for m in scene.models(text, "background")]
    responses = [r.astype(np.float32) for r in responses]
    return show.backgrounds(pairs, scene.panels, image, responses)[-1].values


def _kept(scene, image):
    masks = [("", m) for m in scene.models("mask.models = bragg", "mask")]
    return show.masks(masks, scene.panels, image)[-1].values


def _compare(scene, text, name, title):
    """Mean counts of one image, the background, and what is left."""
    image = scene.image()
    keep = _kept(scene, image)
    counts = [c / EXPOSURE for c in image.counts]
    predicted = _of_model(scene, text, image)
    seen, below = (_profile(scene, v, keep) for v in (counts, predicted))
    drawn = figure()
    axes = drawn.subplots()
    named = {
        "one image, without Bragg peaks": seen,
        name: below,
        "what is left": seen - below,
    }
    curves(axes, 0.5 * (RINGS[1:] + RINGS[:-1]), named, S, RATE)
    axes.set_title(title)
    return drawn


def constant(scene):
    text = """background.models = constant
    background.constant.rate = 0.2"""
    return _compare(scene, text, "constant", "constant: rate=0.2")


def images(scene):
    empty = scene.simulate("empty", AIR + EMPTY)
    text = f"""background.models = images
    background.images.file = {empty / "simulated.expt"}"""
    return _compare(scene, text, "empty run", "images: file=empty/simulated.expt")


def radial(scene):
    text = "background.models = radial"
    return _compare(scene, text, "radial", "radial: all that is isotropic goes")


def compton(scene):
    protein = "sequence = MKTAYIAKQRQIS\ncopies = 4\n"
    water = "solvent.fraction = 0.45\n"
    s = np.linspace(0.01, 1.4, 140)
    named = {}
    parts = {
        "4 x 13 residues": protein,
        "45 % of the unit cell is water": water,
        "both": protein + water,
    }
    for name, part in parts.items():
        text = f"background.models = compton\nbackground.compton {{ {part} }}"
        (model,) = scene.models(text, "background")
        named[name] = model.intensity(s)[0]
    drawn = figure()
    axes = drawn.subplots()
    curves(axes, s, named, S, "electrons per unit cell")
    axes.set_title("compton: I_incoh, unit cell 20 x 25 x 30 Å, 12.4 keV")
    return drawn


def dials_model(scene):
    folder = scene.folder / "one_panel"
    if not folder.exists():
        text = recipe("rotation_small") + f"scale.values = {' '.join(map(str, SCALES))}"
        run_simulation(text, folder)
    run = scene.run_of(folder)
    predicted = flex.reflection_table.from_predictions_multi(run.experiments)
    params = phil_scope.extract()
    (made,) = BackgroundModeller(run.experiments, predicted, params).compute()
    found = np.nan_to_num(made.model.as_numpy_array())
    saved = StaticBackgroundModel()
    saved.add(flex.double(np.ascontiguousarray(found, float)))
    path = folder / "background.pickle"
    path.write_bytes(pickle.dumps(saved, protocol=pickle.HIGHEST_PROTOCOL))
    text = f"background.models = dials_model\nbackground.dials_model.file = {path}"
    (model,) = scene.models(text, "background", run)
    scales = []
    for exposure in ImageSource(run, 1).exposures(Block(0, 0, 0, len(SCALES))):
        mean, _ = model.image_background(exposure.image, None, None)
        scales.append(exposure.image.exposure * mean.sum() / found.sum())
    drawn = figure(6.4, 5.6)
    upper, lower = drawn.subplots(2, 1, height_ratios=(3, 2))
    pixels = np.arange(found.shape[0])
    plane(upper, pixels, pixels, found.T, "photons / pixel")
    upper.set_aspect("equal")
    upper.set_title("dials_model: m, and its scale c in each image")
    upper.invert_yaxis()
    upper.set_xlabel("fast (pixels)")
    upper.set_ylabel("slow (pixels)")
    named = {"c": scales, "simulated": np.array(SCALES) / np.mean(SCALES)}
    curves(lower, np.arange(1, 13), named, "image number", "scale c")
    return drawn


PICTURES = {
    function.__name__: function
    for function in (compton, constant, dials_model, images, radial)
}

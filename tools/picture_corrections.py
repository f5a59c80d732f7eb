"""Pictures of the corrections: their responses on the made-up detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from picture_drawing import curves, detector, figure

from diffuse_core import show

KIND = "correction"


def _responses(scene, text, image=None):
    found = scene.models(text, "correction")
    pairs = [("", model) for model in found]
    return show.corrections(pairs, scene.panels, image or scene.image())[-1].values


def _map(scene, text, title, label="response", image=None):
    drawn = figure()
    axes = drawn.subplots()
    detector(axes, scene.panels, _responses(scene, text, image), label)
    axes.set_title(title)
    return drawn


def solid_angle(scene):
    values = _responses(scene, "correction.models = solid_angle")
    drawn = figure()
    axes = drawn.subplots()
    detector(axes, scene.panels, [1e6 * v for v in values], "µsr per pixel")
    axes.set_title("solid_angle, pixels of 0.5 mm")
    return drawn


def polarization(scene):
    return _map(
        scene,
        "correction.models = polarization",
        "polarization: fraction 0.99, horizontal plane",
    )


def sensor(scene):
    return _map(
        scene, "correction.models = sensor", "sensor: 0.32 mm of silicon, 12.4 keV"
    )


def air(scene):
    text = """correction.models = air
    correction.air { medium { material = helium
                              length = 90 }
                     medium { material = kapton
                              length = 0.025
                              flat = True }
                     medium { material = air } }"""
    drawn = figure(6.4, 6.6)
    upper, lower = drawn.subplots(2, 1)
    detector(
        upper, scene.panels, _responses(scene, "correction.models = air"), "response"
    )
    upper.set_title("air: the whole path in dry air")
    detector(lower, scene.panels, _responses(scene, text), "response")
    lower.set_title("air: 90 mm of helium, a flat window, the rest air")
    return drawn


def kapton(scene):
    text = """correction.models = kapton
    correction.kapton { absorption_correction {
      apply = True
      algorithm = %s
      fuller_kapton { rotation_angle_deg { value = 20 } } } }"""
    drawn = figure(6.4, 6.6)
    algorithms = ("fuller_kapton", "kapton_2019")
    for axes, name in zip(drawn.subplots(2, 1), algorithms, strict=True):
        detector(axes, scene.panels, _responses(scene, text % name), "response")
        axes.set_title(f"kapton: {name}, rotation_angle_deg=20")
    return drawn


def absorber(scene):
    text = """correction.models = absorber
    correction.absorber { %s }"""
    cases = {
        "absorber: a plate of diamond, 1.5 mm, across the beam": """
          plate { material = diamond
                  thickness = 1.5
                  normal = 0 0 1
                  frame = laboratory }""",
        "absorber: a capillary of 10 µm borosilicate, horizontal": """
          cylinder { material = borosilicate
                     inner_radius = 0.5
                     outer_radius = 0.51
                     frame = laboratory }""",
    }
    drawn = figure(6.4, 6.6)
    for axes, (title, case) in zip(drawn.subplots(2, 1), cases.items(), strict=True):
        detector(axes, scene.panels, _responses(scene, text % case), "response")
        axes.set_title(title)
    return drawn


def _file(scene, name):
    """An .npz file with one array per panel: levels of its halves and a smooth part."""
    path = scene.folder / name
    arrays = []
    for number, panel in enumerate(scene.panels):
        y, x = np.mgrid[0 : panel.shape[0], 0 : panel.shape[1]]
        level = 1 + 0.03 * np.sin(number * 2.3) + 0.02 * (x > 31)
        arrays.append(level + 0.02 * np.cos(y / 30))
    np.savez(path, *arrays)
    return path


def flat_field(scene):
    text = f"""correction.models = flat_field
    correction.flat_field.file = {_file(scene, "flat.npz")}"""
    return _map(scene, text, "flat_field: file=flat.npz")


def gain(scene):
    path = scene.folder / "gain.npz"
    arrays = []
    for panel in scene.panels:
        x = np.arange(panel.shape[1]) * np.ones(panel.shape)
        arrays.append(np.where(x < 32, 1.0, 1.08))
    np.savez(path, *arrays)
    text = f"correction.models = gain\ncorrection.gain.file = {path}"
    return _map(
        scene, text, "gain: file=gain.npz, halves of the panels", "g / g(panel)"
    )


def exposure(scene):
    path = scene.folder / "monitor.txt"
    number = np.arange(1, 61)
    decay = np.exp(-number / 120) * (1 + 0.03 * np.sin(number / 2))
    refilled = np.where(number > 40, decay / decay[40], decay)
    np.savetxt(path, np.column_stack([number, refilled]))
    text = f"correction.models = exposure\ncorrection.exposure.file = {path}"
    (model,) = scene.models(text, "correction")
    image = scene.image()
    found = [
        model.image_response(replace(image, index=i), scene.panels[0])
        for i in number - 1
    ]
    drawn = figure(6.4, 3.2)
    axes = drawn.subplots()
    curves(axes, number, {"": found}, "image number", "relative exposure")
    axes.set_title("exposure: file=monitor.txt (decay, and a refill after image 40)")
    return drawn


def lorentz(scene):
    text = "correction.models = lorentz"
    drawn = figure()
    axes = drawn.subplots()
    values = [np.log10(v) for v in _responses(scene, text)]
    detector(axes, scene.panels, values, "log10 of L")
    axes.set_title("lorentz: horizontal axis")
    return drawn


PICTURES = {
    function.__name__: function
    for function in (
        absorber,
        air,
        exposure,
        flat_field,
        gain,
        kapton,
        lorentz,
        polarization,
        sensor,
        solid_angle,
    )
}

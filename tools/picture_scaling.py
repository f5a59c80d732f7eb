"""Pictures of the scaling components: what each makes of made-up scales with noise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from picture_drawing import CURVES, detector, figure
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dials.algorithms.scaling.model.model import PhysicalScalingModel, model_phil_scope
from dials.array_family import flex

from diffuse_core import config
from diffuse_core.directions import frame_of, rays
from diffuse_core.harmonics import mount_of, turned_back
from diffuse_core.models import Domain, RunInputs
from diffuse_core.registry import Registry
from diffuse_core.rows import Source

KIND = "scaling"
PHI, S = (0.0, 90.0), (0.05, 0.8)
STILLS = 40
NOISE = 0.04
PHI_LABEL = "phi (deg)"


def _component(run: RunInputs, name: str, more: str = ""):
    """A scaling component made from its PHIL."""
    registry = Registry.discover({})
    scope = config.master_scope(registry, (), ("scaling",))
    text = f"scaling {{ components = {name}\n{name} {{ {more} }} }}"
    params = config.extract(scope, text)
    (model,) = config.build_models(registry, params, run, "scaling")
    return model


def _domain(scene, stills: int = 0) -> Domain:
    """A scan of 90 degrees, or stills."""
    panels = float(len(scene.panels) - 1)
    limits = {"phi": PHI, "s": S, "x": (0.0, 64.0), "y": (0.0, 192.0)}
    limits["panel"] = (0.0, panels)
    if stills:
        sources = [Source("", "", i, True, (0.0, 0.0)) for i in range(stills)]
        blocks = [(i,) for i in range(stills)]
    else:
        sources, blocks = [Source("", "", 0, False, PHI)], [tuple(range(90))]
    return Domain(tuple(sources), tuple(limits for _ in sources), tuple(blocks))


def _fitted(model, domain: Domain, points: dict, seen, smoothness: float) -> Callable:
    """The component, fitted to values seen at points, as a function of points.

    Args:
        model: The component.
        domain: What it is bound to.
        points: Column -> (n,) coordinates.
        seen: (n,) values with an error of `NOISE`.
        smoothness: Expected size of what the component's penalty holds down.
    """
    bound = model.bind(domain)

    def basis(at: dict):
        columns = np.broadcast_arrays(*(at.get(name, 0) for name in model.columns))
        return bound.basis(np.column_stack([c.ravel() for c in columns]).astype(float))

    weights = basis(points) / NOISE
    target = np.log(seen) if model.exponential else seen
    rest = target / NOISE - weights @ bound.initial
    penalty = bound.penalty() / smoothness
    normal = (weights.T @ weights + penalty.T @ penalty).tocsc()
    normal += 1e-9 * sparse.identity(normal.shape[0], format="csc")
    parameters = bound.initial + spsolve(normal, weights.T @ rest)

    def value(at: dict):
        found = basis(at) @ parameters
        return np.exp(found) if model.exponential else found

    return value


def _noisy(truth, seed: int = 5):
    return truth + NOISE * np.random.default_rng(seed).standard_normal(truth.shape)


def smooth_scale(scene):
    def truth(phi):
        return 1 + 0.25 * np.sin(np.radians(4 * phi)) - 0.002 * phi

    phi = np.random.default_rng(1).uniform(*PHI, 400)
    seen = _noisy(truth(phi))
    value = _fitted(
        _component(scene.run, "smooth_scale"),
        _domain(scene),
        {"phi": phi},
        seen,
        0.02,
    )
    drawn = figure()
    axes = drawn.subplots()
    x = np.linspace(*PHI, 300)
    axes.plot(phi, seen, ".", color="0.6", ms=4, label="scales with noise")
    axes.plot(x, value({"phi": x}), color=CURVES[0], lw=2, label="fitted")
    axes.plot(x, truth(x), "--", color=CURVES[1], label="truth")
    return _finish(axes, "smooth_scale: spacing=2", PHI_LABEL, "B")


def per_image(scene):
    number = np.arange(STILLS)
    truth = np.random.default_rng(2).lognormal(0.0, 0.3, STILLS)
    seen = _noisy(truth)
    model, domain = _component(scene.run, "per_image"), _domain(scene, STILLS)
    points = {"source": number, "block": number}
    value = _fitted(model, domain, points, seen, 0.3)
    drawn = figure()
    axes = drawn.subplots()
    axes.vlines(number, np.minimum(truth, 1), np.maximum(truth, 1), color="0.8", lw=3)
    axes.plot(number, value(points), "o", color=CURVES[0], ms=5, label="fitted")
    axes.plot(number, truth, "_", color=CURVES[1], ms=9, mew=2, label="truth")
    return _finish(axes, "per_image: one number for each still", "still", "B")


def _against_s(scene, name, truth, angles, smoothness, title, y_label, centre=False):
    """Curves against |s| at three angles: fitted, and truth in dashes."""
    rng = np.random.default_rng(3)
    phi, s = rng.uniform(*PHI, 3000), rng.uniform(*S, 3000)
    model, domain = _component(scene.run, name), _domain(scene)
    seen = _noisy(truth(s, phi))
    value = _fitted(model, domain, {"phi": phi, "s": s}, seen, smoothness)
    drawn = figure()
    axes = drawn.subplots()
    x = np.linspace(*S, 200)
    for angle, colour in zip(angles, CURVES, strict=False):
        axes.plot(
            x,
            value({"phi": np.full(200, angle), "s": x}),
            color=colour,
            lw=2,
            label=f"fitted at {angle:.0f}°",
        )
        axes.plot(x, truth(x, angle), "--", color=colour, lw=1)
    return _finish(axes, f"{title} (dashes: truth)", "|s| (1/Å)", y_label)


def relative_b(scene):
    def truth(s, phi):
        return np.exp(-0.5 * ((phi - 45) / 30) * s**2)

    title = "relative_b: b grows by 3 Å², with a mean of 0"
    return _against_s(scene, "relative_b", truth, (5, 45, 85), 0.05, title, "B")


def offset(scene):
    def truth(s, phi):
        height = 1 + np.cos(np.radians(4 * phi))
        return 0.3 * height * np.exp(-(((s - 0.3) / 0.12) ** 2))

    title = "offset: a ring of solvent that comes and goes"
    label = "C / mean intensity"
    return _against_s(scene, "offset", truth, (2, 22, 45), 0.05, title, label)


def _on_detector(scene, name, more, truth, smoothness, title, phi=0.0):
    """Fit and truth on the made-up detector, from noisy values at random pixels."""
    panels = scene.panels
    rng = np.random.default_rng(4)
    n = 20_000
    points = {
        "panel": rng.integers(0, len(panels), n),
        "x": rng.uniform(0, panels[0].shape[1], n),
        "y": rng.uniform(0, panels[0].shape[0], n),
        "phi": rng.uniform(*PHI, n),
    }
    model, domain = _component(scene.run, name, more), _domain(scene)
    value = _fitted(model, domain, points, _noisy(truth(**points)), smoothness)
    y, x = np.indices(panels[0].shape) + 0.5
    shape = panels[0].shape
    maps = []
    for function in (lambda **at: value(at), truth):
        maps.append(
            [
                function(
                    panel=np.full(x.size, number),
                    x=x.ravel(),
                    y=y.ravel(),
                    phi=np.full(x.size, phi),
                ).reshape(shape)
                for number in range(len(panels))
            ]
        )
    drawn = figure(6.4, 6.6)
    limits = min(map(np.min, maps[1])), max(map(np.max, maps[1]))
    names = (f"{title}: fitted", "truth")
    for axes, values, name in zip(drawn.subplots(2, 1), maps, names, strict=True):
        detector(axes, panels, values, "G", limits=limits)
        axes.set_title(name)
    return drawn


def absorption(scene):
    def truth(panel, x, y, phi):
        across = (panel - 3) / 3 + (x - 32) / 96
        return np.exp(-0.15 * across * np.cos(np.radians(phi)) * (y / 192 + 0.5))

    title = "absorption at phi = 20°"
    return _on_detector(scene, "absorption", "", truth, 0.05, title, 20.0)


def detector_parts(scene):
    factors = np.random.default_rng(6).normal(1.0, 0.03, (7, 3, 2))

    def truth(panel, x, y, phi):
        row = np.minimum(y // 64, 2).astype(int)
        return factors[panel, row, (x // 32).astype(int)]

    title = "detector: modules=2 3"
    return _on_detector(scene, "detector", "modules = 2 3", truth, 0.03, title)


def spherical_absorption(scene):
    """A plate that absorbs most along its normal, on the ways in and out."""
    experiment = scene.run.experiments[0]
    frames, mount = [frame_of(experiment)], mount_of(experiment)
    normal = np.array([0.2, 0.6, 0.77])

    def truth(panel, x, y, phi):
        out = rays(frames, np.zeros(len(x), int), panel, x, y)
        into = np.broadcast_to(-np.array(experiment.beam.get_unit_s0()), out.shape)
        ways = (turned_back(mount, phi, way) @ normal for way in (into, out))
        return np.exp(sum(0.35 * (1 / 3 - way**2) for way in ways))

    title = "spherical_absorption at phi = 20°: a plate"
    return _on_detector(scene, "spherical_absorption", "", truth, 0.3, title, 20.0)


def dials_scale(scene):
    """A physical model, by this program and by DIALS' own classes."""
    parameters = {
        "scale": [1.0, 1.2, 0.9, 1.1, 0.8, 0.9, 1.0, 0.95],
        "decay": [0.0, -0.2, -0.5, -1.1, -1.3, -1.8],
    }
    settings = {"corrections": list(parameters), "s_norm_fac": 0.0999}
    settings.update(d_norm_fac=0.0666)
    made = {
        name: {"parameters": flex.double(values), "parameter_esds": None}
        for name, values in parameters.items()
    }
    model = PhysicalScalingModel(made, settings)
    scaled = copy.deepcopy(scene.run.experiments[:1])
    scaled[0].scaling_model = model
    run = RunInputs(scaled, None, (0,))
    bound = _component(run, "dials_scale").bind(_domain(scene))
    z = np.linspace(0.0, 60.0, 121)
    drawn = figure()
    axes = drawn.subplots()
    for s, colour in zip((0.1, 0.5, 0.8), CURVES, strict=False):
        table = flex.reflection_table()
        zero = flex.double(len(z), 0.0)
        table["xyzobs.px.value"] = flex.vec3_double(zero, zero, flex.double(z))
        table["d"] = flex.double(len(z), 1 / s)
        model.configure_components(table, scaled[0], model_phil_scope.extract())
        theirs = np.ones(len(z))
        for part in model.components.values():
            part.update_reflection_data()
            theirs *= part.calculate_scales().as_numpy_array()
        columns = np.zeros((len(z), 6))
        columns[:, 1], columns[:, 5] = 1.5 * z, s
        value = bound.basis(columns) @ bound.initial
        axes.plot(1.5 * z, value, color=colour, lw=2, label=f"|s| = {s} 1/Å")
        axes.plot(1.5 * z[::5], theirs[::5] / bound.level, "o", color=colour, ms=4)
    title = "dials_scale: a physical model (dots: DIALS' classes)"
    return _finish(axes, title, PHI_LABEL, "B")


def _finish(axes, title, x_label, y_label):
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(framealpha=0.9)
    axes.grid(alpha=0.3)
    return axes.figure


_ALL = {
    "absorption": absorption,
    "detector": detector_parts,
    "dials_scale": dials_scale,
    "offset": offset,
    "per_image": per_image,
    "relative_b": relative_b,
    "smooth_scale": smooth_scale,
    "spherical_absorption": spherical_absorption,
}
_INSTALLED = {model.plugin.name for model in Registry.discover({}).models("scaling")}
PICTURES = {name: draw for name, draw in _ALL.items() if name in _INSTALLED}

"""`dials_scale` against dials.scale: its own classes, and a run of the program."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from dials.algorithms.scaling.model.model import (
    ArrayScalingModel,
    DoseDecay,
    KBScalingModel,
    PhysicalScalingModel,
    model_phil_scope,
)
from dials.algorithms.scaling.scaling_utilities import (
    align_axis_along_z,
    calc_crystal_frame_vectors,
)
from dials.array_family import flex
from dxtbx.imageset import ImageSetFactory
from dxtbx.model import (
    Beam,
    Crystal,
    DetectorFactory,
    Experiment,
    ExperimentList,
    Goniometer,
    Scan,
)

from diffuse_core import boundary, config
from diffuse_core.errors import DiffuseError
from diffuse_core.models import RunInputs
from diffuse_core.registry import Registry
from diffuse_core.rows import Source
from diffuse_core.scale_model import FittedComponent
from diffuse_core.scaling import fit_scales
from diffuse_core.scaling_terms import domain_of
from diffuse_core.testing.made_up import make_rows

MODELS = {
    "physical": PhysicalScalingModel,
    "array": ArrayScalingModel,
    "dose_decay": DoseDecay,
    "KB": KBScalingModel,
}
MORE = {
    "physical": "absorption_correction = True\nscale_interval = 9",
    "array": "modulation_correction = True",
    "dose_decay": "absorption_correction = True",
    "KB": "",
}
OPTIONS = ["model=physical", "full_matrix=False", "error_model=None"]


def make_experiment(identifier="made-up", n_images=200, width=0.5):
    """A scan about a general axis on one panel, a crystal of 25 x 28 x 32 A."""
    beam = Beam((0, 0, 1), 1.0)
    detector = DetectorFactory.simple(
        "PAD", 120.0, (60.0, 58.0), "+x", "-y", (0.24, 0.24), (500, 480), (-1, 1e6)
    )
    axis = np.array([1.0, 0.1, 0.05])
    goniometer = Goniometer(tuple(axis / np.linalg.norm(axis)))
    scan = Scan((1, n_images), (10.0, width))
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    q *= np.sign(np.linalg.det(q))
    vectors = (tuple(v) for v in (q * [25.0, 28.0, 32.0]).T)
    crystal = Crystal(*vectors, space_group_symbol="P222")
    models = {
        "beam": beam,
        "detector": detector,
        "goniometer": goniometer,
        "scan": scan,
    }
    files = ImageSetFactory.make_sequence(
        "image_#####.cbf", list(range(1, n_images + 1)), check_format=False, **models
    )
    return Experiment(identifier=identifier, crystal=crystal, imageset=files, **models)


@pytest.fixture(scope="module")
def measured():
    """An experiment and its reflections as dials.integrate leaves them.

    Intensities are equal for mates, times a scale that varies with angle and place.
    """
    from dials.algorithms.profile_model.gaussian_rs import Model

    experiment = make_experiment()
    experiment.profile = Model(None, 3, 0.03, 0.05, deg=True)
    table = flex.reflection_table.from_predictions(experiment, dmin=2.2)
    table["id"] = flex.int(len(table), 0)
    table.experiment_identifiers()[0] = experiment.identifier
    rng = np.random.default_rng(2)
    h = np.abs(np.array(table["miller_index"]))
    intensity = 1000 * (1.2 + np.sin(7.1 * h[:, 0]) * np.cos(3.3 * h[:, 1] + h[:, 2]))
    x, y, z = (part.as_numpy_array() for part in table["xyzcal.px"].parts())
    intensity *= 1 + 0.3 * np.sin(z / 40) + 0.2 * (x / 500 - 0.5) * np.cos(z / 60)
    intensity = rng.normal(intensity, np.sqrt(intensity) + 1)
    n = len(table)
    for kind in ("sum", "prf"):
        table[f"intensity.{kind}.value"] = flex.double(intensity)
        table[f"intensity.{kind}.variance"] = flex.double(np.abs(intensity) + 1)
    table["xyzobs.px.value"] = table["xyzcal.px"]
    table["d"] = flex.double(
        experiment.crystal.get_unit_cell().d(table["miller_index"])
    )
    for name in ("lp", "qe", "partiality"):
        table[name] = flex.double(n, 1.0)
    table["flags"] = flex.size_t(n, 0)
    flags = table.flags
    table.set_flags(
        flex.bool(n, True),
        flags.indexed | flags.predicted | flags.integrated_sum | flags.integrated_prf,
    )
    return experiment, table


def component_of(experiments, more=""):
    """`dials_scale` made from PHIL for these experiments."""
    registry = Registry.discover({})
    scope = config.master_scope(registry, (), ("scaling",))
    text = f"scaling {{ components = dials_scale\ndials_scale {{ {more} }} }}"
    run = RunInputs(experiments, None, boundary.setups_of(experiments))
    (model,) = config.build_models(
        registry, config.extract(scope, text), run, "scaling"
    )
    return model


def factors(component, table, experiment):
    """What the component gives where the reflections of a table are."""
    x, y, z = (part.as_numpy_array() for part in table["xyzobs.px.value"].parts())
    start, width = experiment.scan.get_oscillation()
    points = {
        "source": np.zeros(len(z)),
        "phi": start + width * z,
        "panel": np.zeros(len(z)),
        "x": x,
        "y": y,
        "s": 1 / table["d"].as_numpy_array(),
    }
    columns = np.column_stack([points[name] for name in component.columns])
    limits = {name: (v.min(), v.max()) for name, v in points.items()}
    source = Source("made-up", "", 0, False, limits["phi"])
    domain = type("Domain", (), {"limits": (limits,), "used": lambda self: [0]})()
    assert component.applies(source)
    basis = component.bind(domain)
    return basis.basis(columns) @ basis.initial


@pytest.mark.parametrize("kind", MODELS)
def test_values_are_those_of_dials_components(kind, measured, tmp_path):
    """Random parameters in DIALS' own classes."""
    experiment, table = measured
    table = calc_crystal_frame_vectors(table[:], experiment)
    for name in ("s0c", "s1c"):
        table[name] = align_axis_along_z((1.0, 0.0, 0.0), table[name])
    text = f"{kind} {{ {MORE[kind]} }}"
    params = model_phil_scope.fetch(config.parse(text)).extract()
    model = MODELS[kind].from_data(params, experiment, table)
    rng = np.random.default_rng(3)
    for name, part in model.components.items():
        spread = 0.002 if kind == "dose_decay" and name == "decay" else 0.2
        values = np.array(part.parameters) + spread * rng.normal(size=part.n_params)
        part._parameters = flex.double(values)
    model.configure_components(table, experiment, params)
    expected = np.ones(len(table))
    for part in model.components.values():
        part.update_reflection_data()
        expected *= part.calculate_scales().as_numpy_array()
    scaled = ExperimentList([make_experiment()])
    scaled[0].scaling_model = model
    table["inverse_scale_factor"] = flex.double(expected)
    table.experiment_identifiers()[0] = experiment.identifier
    table.as_file(tmp_path / "scaled.refl")
    component = component_of(scaled, f"reflections = {tmp_path}/scaled.refl")
    found = factors(component, table, experiment)
    ratio = found / expected
    print(kind, np.ptp(ratio) / ratio.mean(), expected.std())
    assert expected.min() > 0 and expected.std() > 0.01
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=1e-6)


@pytest.mark.slow
def test_factors_are_those_that_dials_scale_wrote(measured, tmp_path):
    experiment, table = measured
    ExperimentList([experiment]).as_file(tmp_path / "integrated.expt")
    table.as_file(tmp_path / "integrated.refl")
    done = subprocess.run(
        ["dials.scale", "integrated.expt", "integrated.refl", *OPTIONS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    scaled = flex.reflection_table.from_file(tmp_path / "scaled.refl")
    scaled = scaled.select(scaled["inverse_scale_factor"] > 0)
    expected = scaled["inverse_scale_factor"].as_numpy_array()
    assert len(expected) > 3000 and expected.std() / expected.mean() > 0.1
    files = f"experiments={tmp_path}/scaled.expt\nreflections={tmp_path}/scaled.refl\n"
    component = component_of(ExperimentList([make_experiment()]), files)
    ratio = factors(component, scaled, experiment) / expected
    print(len(ratio), np.abs(ratio / ratio.mean() - 1).max())
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=1e-3)
    roughly = component_of(ExperimentList([make_experiment()]), files.split("\n")[0])
    ratio = factors(roughly, scaled, experiment) / expected
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=1e-2)


def kb_model(scale, b=0.0):
    return KBScalingModel(
        {
            "scale": {"parameters": flex.double([scale]), "parameter_esds": None},
            "decay": {"parameters": flex.double([b]), "parameter_esds": None},
        },
        {"corrections": ["scale", "decay"]},
    )


def test_missing_models_are_told_in_a_sentence(tmp_path):
    experiments = ExperimentList([make_experiment()])
    with pytest.raises(DiffuseError, match="no scaling model for experiment 0: give"):
        component_of(experiments)
    experiments.as_file(tmp_path / "integrated.expt")
    path = f"experiments={tmp_path}/integrated.expt"
    with pytest.raises(DiffuseError, match="integrated.expt has no scaling model"):
        component_of(experiments, path)
    with pytest.raises(DiffuseError, match="nothing.expt does not exist"):
        component_of(experiments, "experiments=nothing.expt")
    two = ExperimentList([make_experiment("one"), make_experiment("other")])
    with pytest.raises(DiffuseError, match="does not have experiment 0"):
        component_of(two, path)
    experiments[0].scaling_model = kb_model(1.0)
    with pytest.raises(DiffuseError, match="terms selects nothing"):
        component_of(experiments, "terms = None")
    with pytest.raises(DiffuseError, match="scaled.refl of dials.scale"):
        component_of(experiments, f"reflections={tmp_path}/integrated.expt")


def test_terms_can_be_left_out():
    experiments = ExperimentList([make_experiment()])
    experiments[0].scaling_model = kb_model(2.0, 9.0)
    table = flex.reflection_table()
    table["xyzobs.px.value"] = flex.vec3_double(5, (1, 2, 3))
    table["d"] = flex.double(np.linspace(1.5, 8.0, 5))
    both = factors(component_of(experiments), table, experiments[0])
    s = 1 / np.linspace(1.5, 8.0, 5)
    np.testing.assert_allclose(both / both[-1], np.exp(4.5 * (s**2 - s[-1] ** 2)))
    only = factors(component_of(experiments, "terms = scale"), table, experiments[0])
    np.testing.assert_allclose(only, 1.0)


def test_scales_of_two_crystals_stay_fixed_and_others_fit_the_rest():
    """Scales from dials.scale that are 10 % wrong for one of two scans."""
    from diffuse_core.plugins.scaling.smooth_scale import SmoothScale

    size = [1.0, 3.0]
    made = make_rows(
        20.0,
        cell=(50.0, 55.0, 60.0),
        d_min=2.8,
        scans=((0.0, 60.0), (0.0, 60.0)),
        crystal=lambda source, phi: np.full(len(phi), size[source]),
    )
    experiments = ExperimentList([make_experiment("0"), make_experiment("1")])
    for experiment, scale in zip(experiments, (1.0, 3.3), strict=True):
        experiment.scaling_model = kb_model(scale)
    component = component_of(experiments)

    def ratio(components):
        model = fit_scales(made.rows, made.sources, components).model
        scale = model.evaluate(made.rows).crystal
        means = [scale[made.rows.source == i].mean() for i in (0, 1)]
        return model, means[1] / means[0]

    model, alone = ratio([("dials_scale", component)])
    assert alone == pytest.approx(3.3, rel=1e-6)
    (fitted,) = model.components
    assert isinstance(fitted, FittedComponent)
    assert fitted.parameters == pytest.approx(1.0, abs=1e-6)
    rest = ("smooth_scale", SmoothScale(20.0, 0.1))
    _, together = ratio([("dials_scale", component), rest])
    print(alone, together)
    assert together == pytest.approx(3.0, rel=0.01)
    assert domain_of(made.rows, made.sources, component).used() == [0, 1]

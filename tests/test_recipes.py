"""The recipes for users run from images to a map, and their models do what they say."""

from __future__ import annotations

import math
from importlib import resources

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401

from diffuse_core.boundary import image_of, panel_geometry
from diffuse_core.command_line import diffuse
from diffuse_core.compat import load_experiments
from diffuse_core.io.files import read_map
from diffuse_core.materials import material
from diffuse_core.observations import read_observations
from diffuse_core.plugins.correction.kapton import Kapton, Tape
from diffuse_core.simulate import recipe, run_simulation

FOLDER = resources.files("diffuse_core.phil") / "recipes"
NAMES = sorted(
    path.name.removesuffix(".phil")
    for path in FOLDER.iterdir()
    if path.name.endswith(".phil")
)
STILLS = {"stills", "kapton_tape"}
WAVELENGTH = {"stills": 1.3, "scan": 0.71}
N_IMAGES = 4


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """A scan of Mo radiation and stills at 1.3 A."""
    return {
        "scan": run_simulation(
            f"{recipe('rotation_small')}\nscan.n_images = {N_IMAGES}\n"
            f"beam.wavelength = {WAVELENGTH['scan']}\n",
            tmp_path_factory.mktemp("scan"),
        ),
        "stills": run_simulation(
            f"{recipe('stills_small')}\nstills.n = {N_IMAGES}\n"
            f"beam.wavelength = {WAVELENGTH['stills']}\n",
            tmp_path_factory.mktemp("stills"),
        ),
    }


def arguments(name, simulated, folder):
    kind = "stills" if name in STILLS else "scan"
    files = simulated[kind]
    steps = folder / "steps.txt"
    steps.write_text("".join(f"{i + 1} {i % 3}\n" for i in range(N_IMAGES)))
    extra = [f"correction.exposure.file={steps}"] if name == "laboratory" else []
    return [
        str(files.expt_path),
        str(files.refl_path),
        str(FOLDER / f"{name}.phil"),
        "parallel.nproc=1",
        *extra,
    ]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_from_images_to_a_map(name, simulated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    diffuse.run(arguments(name, simulated, tmp_path))
    volume = read_map(tmp_path / "diffuse_map.nxs")
    assert np.isfinite(volume.intensity).sum() > 100
    assert np.nanmedian(volume.intensity) > 0
    log = (tmp_path / "dials.diffuse.log").read_text()
    assert "Traceback" not in log
    assert "does nothing" not in log


def exposures(folder):
    """Key, image and pixel -> exposure, of voxels that hold one pixel."""
    found = {}
    for path in sorted(folder.glob("block_*.h5")):
        table = read_observations(path).columns
        for i in np.nonzero(table["pixels"] == 1)[0]:
            where = (path.name, int(table["key"][i]), int(table["panel"][i]))
            found[where] = [float(table[n][i]) for n in ("exposure", "x", "y", "phi")]
    return found


def helium(geometry, pixel, image):
    """Windows and helium instead of air all the way, for one pixel."""
    wavelength, distance = geometry.beam.wavelength, geometry.distance[pixel]
    inclined = 1 / math.cos(math.radians(geometry.two_theta[pixel]))
    layers = [
        ("air", 15.0),
        ("kapton", 0.025 * inclined),
        ("mylar", 0.012 * inclined),
    ]
    layers.append(("helium", distance - sum(length for _, length in layers)))
    depth = sum(material(n).attenuation(wavelength) * x for n, x in layers)
    return math.exp(-depth)


def tape(geometry, pixel, image):
    model = Kapton([Tape("kapton_2019", 0.04, 0.025, 0.665, 0.55)])
    return model.panel_response(geometry)[pixel]


def anvils(geometry, pixel, image):
    """In through one anvil, out through the other, turned about x by phi."""
    phi = math.radians(image.phi)
    normal = np.array([0.0, -math.sin(phi), math.cos(phi)])
    out = geometry.direction[pixel].astype(float) @ normal
    path = 1.5925 / abs(normal[2]) + 1.5925 / abs(out)
    return math.exp(-material("diamond").attenuation(geometry.beam.wavelength) * path)


def step(geometry, pixel, image):
    return [1.0, 0.1, 0.01][image.index % 3]


@pytest.mark.parametrize(
    ("name", "model", "transmission", "spread"),
    [
        ("helium_path", "air", helium, 1e-4),
        ("kapton_tape", "kapton", tape, 0.03),
        ("diamond_anvil", "absorber", anvils, 0.02),
        ("laboratory", "exposure", step, 0.5),
    ],
)
def test_model_of_a_recipe_multiplies_the_exposure_by_its_formula(
    name, model, transmission, spread, simulated, tmp_path, monkeypatch
):
    """With and without the model: one PHIL line, one factor in each row."""
    given = [*arguments(name, simulated, tmp_path), "block.width=1"]
    given.append("output.pictures=None")
    given.append("mapping.hkl_grid.divisions=5,5,5")
    others = ["solid_angle", "polarization", "sensor", "air"]
    found = {}
    for key, models in (
        ("with", dict.fromkeys([*others, model])),
        ("without", [other for other in others if other != model]),
    ):
        folder = tmp_path / key
        folder.mkdir()
        monkeypatch.chdir(folder)
        diffuse.run([*given, f"correction.models={'+'.join(models)}"])
        found[key] = exposures(folder / "diffuse_observations")
    assert found["with"].keys() == found["without"].keys()
    kind = "stills" if name in STILLS else "scan"
    experiments = load_experiments(str(simulated[kind].expt_path), check_format=False)
    expected, ratios = [], []
    for where in sorted(found["with"])[::17]:
        block = int(where[0].removeprefix("block_").removesuffix(".h5"))
        number, index = (block, 0) if kind == "stills" else (0, block)
        _, x, y, _ = found["with"][where]
        geometry = geometry_of(experiments[number], where[2])
        image = image_of(experiments[number], number, index)
        expected.append(transmission(geometry, (int(y), int(x)), image))
        ratios.append(found["with"][where][0] / found["without"][where][0])
    assert len(ratios) > 50
    assert np.ptp(expected) > spread
    np.testing.assert_allclose(ratios, expected, rtol=3e-6)


_GEOMETRY = {}


def geometry_of(experiment, panel):
    key = (experiment.beam.get_wavelength(), panel)
    if key not in _GEOMETRY:
        _GEOMETRY[key] = panel_geometry(experiment, 0, panel)
    return _GEOMETRY[key]

"""B, G, C and module factors together, against the truth; outliers; file; commands."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dials.util import Sorry

from diffuse_core.command_line import diffuse_integrate, diffuse_merge, diffuse_scale
from diffuse_core.errors import InputError
from diffuse_core.io.files import read_merged
from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.relative_b.model import RelativeB
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.rows import Rows, Source
from diffuse_core.scale_model import ScaleModel
from diffuse_core.scaling import fit_scales
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.testing.made_up import DISTANCE, PIXEL, SIZE, make_rows

PANEL = {
    "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
    "fast": [1, 0, 0],
    "slow": [0, 1, 0],
    "pixel": [PIXEL, PIXEL],
    "size": [SIZE, SIZE],
}
FRAMES = [{"s0": [0, 0, -1.0], "panels": [PANEL]}]
MODULES = np.random.default_rng(9).normal(1.0, 0.03, (4, 4))


def crystal(source, phi):
    return 1.0 + 0.3 * np.sin(phi / 20.0)


def path(source, x, y, phi):
    u, v, t = 2 * x / SIZE - 1, 2 * y / SIZE - 1, np.radians(phi)
    cell = [np.clip((4 * c / SIZE).astype(int), 0, 3) for c in (y, x)]
    return (1.0 + 0.4 * (u * np.cos(t) + v * np.sin(t))) * MODULES[tuple(cell)]


def offset(source, s, phi):
    return 0.8 * np.exp(-2 * s**2) * (1.0 + 0.8 * np.cos(np.radians(3 * phi)))


def relative(found, true):
    return found / true / np.mean(found / true) - 1.0


@pytest.fixture(scope="module")
def four():
    """120 degrees with all four terms, and the fit."""
    made = make_rows(
        400.0,
        cell=(65.0, 70.0, 75.0),
        d_min=2.4,
        crystal=crystal,
        path=path,
        offset=offset,
        background=0.05,
    )
    components = [
        ("b", SmoothScale(3.0, 0.01)),
        ("c", Offset(8, 8.0, False, 0.1)),
        ("a", Absorption(FRAMES, [0], (4, 4), 30.0, 0.1)),
        ("d", DetectorScale([[(SIZE, SIZE)]], [0], (4, 4), 0.05)),
    ]
    return made, fit_scales(made.rows, made.sources, components).model


def test_the_product_of_all_scales_is_found(four):
    """What multiplies the crystal's scattering, in every observation."""
    made, model = four
    scales = model.evaluate(made.rows)
    error = relative(scales.crystal * scales.path, made.crystal * made.path)
    print("B G rms", error.std())
    assert error.std() < 0.01
    chi = model.figures["chi_squared"]
    assert chi["without scales"] > 5
    assert 0.95 < chi["with scales"] < 1.05


def test_crystal_and_path_are_found_each(four):
    """With G divided by its mean over the detector at each angle: the gauge."""
    made, model = four
    phi, at = np.linspace(1, 119, 40), np.linspace(220, SIZE - 220, 15)
    p, x, y = (v.ravel() for v in np.meshgrid(phi, at, at, indexing="ij"))
    scales = model.evaluate(rows_at(p, x, y, 0.2))
    ratio = (scales.path / path(0, x, y, p)).reshape(len(phi), -1)
    common = ratio.mean(axis=1)
    error = ratio / common[:, None] - 1.0
    b = scales.crystal.reshape(len(phi), -1)[:, 0] * common
    b_error = relative(b, crystal(0, phi))
    print("G rms", error.std(), "B rms", b_error.std(), "ends", b_error[[0, -1]])
    assert error.std() < 0.01
    assert b_error.std() < 0.01
    assert np.abs(b_error[[0, -1]]).max() < 0.02


def test_offset_is_found_up_to_what_mates_share(four):
    """Differences of C / B between angles, at every s; the lowest C is 0."""
    made, model = four
    phi, s = np.linspace(1, 119, 40), np.linspace(0.08, 0.38, 15)
    p, s = (v.ravel() for v in np.meshgrid(phi, s, indexing="ij"))
    scales = model.evaluate(rows_at(p, SIZE / 2, SIZE / 2, s))
    level = np.mean(scales.crystal / crystal(0, p))
    difference = (scales.offset / level - offset(0, s, p)) / crystal(0, p)
    difference = difference.reshape(40, 15)
    error = difference - difference.mean(axis=0)
    size = offset(0, s, p).mean()
    print("C rms", error.std() / size)
    assert error.std() < 0.02 * size
    found = model.evaluate(made.rows).offset
    assert -0.05 * size < found.min() < 0.05 * size


def rows_at(phi, x, y, s) -> Rows:
    """Rows of source 0 and panel 0 at these places."""
    n = len(phi)
    zeros = np.zeros(n)
    sums = ("exposure", "counts", "background", "background_variance")
    columns = dict.fromkeys(sums, zeros)
    whole = np.zeros(n, np.int64)
    return Rows(
        key=np.arange(n),
        starts=np.arange(n + 1),
        friedel=zeros.astype(bool),
        source=whole,
        block=whole,
        panel=whole,
        pixels=zeros,
        phi=phi,
        x=x + zeros,
        y=y + zeros,
        s=s + zeros,
        **columns,
    )


def test_file_gives_the_model_again(four, tmp_path):
    made, model = four
    model.write(tmp_path / "scales.json")
    again = ScaleModel.read(tmp_path / "scales.json")
    for one, other in zip(
        vars(model.evaluate(made.rows)).values(),
        vars(again.evaluate(made.rows)).values(),
        strict=True,
    ):
        assert np.array_equal(one, other)
    assert again.gauge and again.sources == model.sources
    record = json.loads((tmp_path / "scales.json").read_text())
    assert [c["name"] for c in record["components"]] == ["b", "c", "a", "d"]


def test_sources_are_matched_by_identifier(four):
    made, model = four
    there = Source("0", "elsewhere", 5, False, (0.0, 120.0))
    other = Source("new", "elsewhere", 6, False, (0.0, 120.0))
    assert model.matched([there]).lookup.tolist() == [0]
    with pytest.raises(InputError, match="Experiment 6 of elsewhere has no scale"):
        model.matched([there, other])


def test_decay_with_resolution_is_found():
    def decay(source, s, phi):
        return np.exp(-0.5 * (phi / 12.0) * s**2)

    made = make_rows(100.0, cell=(50.0, 55.0, 60.0), d_min=2.0)
    rng = np.random.default_rng(1)
    factor = decay(0, made.rows.s, made.rows.phi)
    mean = made.rows.exposure * made.intensity * factor
    rows = Rows(**{**vars(made.rows), "counts": rng.poisson(mean).astype(float)})
    components = [("b", SmoothScale(10.0, 0.01)), ("r", RelativeB(20.0, 1.0))]
    model = fit_scales(rows, made.sources, components).model
    fitted = model.components[1]
    phi = np.linspace(5, 115, 12)
    at = {"source": np.zeros(12, int), "phi": phi, "s": np.full(12, 0.4)}
    b = np.log(fitted.value(at)) / (-0.5 * 0.4**2)
    assert np.abs((b - b.mean()) - (phi - phi.mean()) / 12.0).max() < 0.6


def test_outliers_up_and_down_are_removed_and_nothing_else():
    """0.1 % of 5 sigma and more upward, and as many downward; scales fitted."""
    made = make_rows(60.0, cell=(60.0, 65.0, 70.0), crystal=crystal)
    rng = np.random.default_rng(7)
    n = len(made.rows)
    mean = made.rows.exposure * made.crystal * made.intensity
    bad = rng.permutation(n)
    enough = np.repeat(np.diff(made.rows.starts) >= 4, np.diff(made.rows.starts))
    bad = bad[enough[bad] & (mean[bad] > 40)]
    up, down = bad[: n // 1000], bad[n // 1000 : 2 * (n // 1000)]
    size = 5.0 + rng.exponential(3.0, n)
    counts = made.rows.counts.copy()
    counts[up] += np.rint(size[up] * np.sqrt(mean[up]))
    counts[down] -= np.rint(size[down] * np.sqrt(mean[down]))
    rows = Rows(**{**vars(made.rows), "counts": np.maximum(counts, 0.0)})
    fitted = fit_scales(rows, made.sources, [("b", SmoothScale(5.0, 0.01))])
    length = np.repeat(np.diff(rows.starts), np.diff(rows.starts))
    keep = np.ones(n, bool)
    keep[length > 1] = fitted.found.keep
    planted = np.concatenate([up, down])
    good = np.setdiff1d(np.arange(n), planted)
    print(np.mean(~keep[planted]), np.mean(~keep[good]), fitted.found.figures())
    assert np.mean(~keep[planted]) > 0.95
    assert np.mean(~keep[good]) < 0.001
    assert fitted.found.tolerance < 0.03
    scale = fitted.model.evaluate(rows).crystal
    k = rows.exposure * scale * np.mean(made.crystal / scale)
    k, counts = np.where(keep, k, 0.0), np.where(keep, rows.counts, 0.0)
    exposure = np.add.reduceat(k, rows.starts[:-1])
    use = exposure > 0
    sums = np.add.reduceat(counts, rows.starts[:-1])[use]
    true = made.intensity[rows.starts[:-1]][use]
    pull = (sums / exposure[use] - true) / np.sqrt(true / exposure[use])
    assert abs(pull.mean()) < 0.1


@pytest.mark.slow
def test_commands_scale_and_merge_simulated_images(tmp_path, monkeypatch):
    """A scan whose scale varies by 30 %: found from images, and merging uses it."""
    files = run_simulation(
        recipe("rotation_small") + "\nscan.n_images = 40\nscan.width = 2.5\n"
        "scale.amplitude = 0.3\ncrystal.space_group = P222\n",
        tmp_path / "simulated",
    )
    monkeypatch.chdir(tmp_path)
    diffuse_integrate.run(
        [str(files.expt_path), str(files.refl_path), "engine=serial", "block.width=2.5"]
    )
    arguments = ["diffuse_observations", "engine=serial", "smooth_scale.spacing=5"]
    diffuse_scale.run(arguments)
    model = ScaleModel.read("diffuse_scales.json")
    (curve,) = model.components
    truth = json.loads(files.truth_path.read_text())["simulation"]["scales"]
    phi = 2.5 * (np.arange(40) + 0.5)
    found = curve.value({"source": np.zeros(40, int), "phi": phi})
    print("B rms", relative(found, np.array(truth)).std())
    assert relative(found, np.array(truth)).std() < 0.02
    figures = json.loads((tmp_path / "dials.diffuse_scale.json").read_text())
    assert figures["scaling"]["chi_squared"]["with scales"] < 1.15
    diffuse_scale.run([*arguments, "output.scales=again.json"])
    again = ScaleModel.read("again.json")
    assert np.array_equal(again.components[0].parameters, curve.parameters)
    diffuse_merge.run(
        ["diffuse_observations", "scales=diffuse_scales.json", "engine=serial"]
    )
    assert len(read_merged("diffuse_merged.nxs")) > 1000
    (tmp_path / "diffuse_observations" / "experiments.expt").unlink()
    with pytest.raises(Sorry, match="run dials.diffuse_integrate again"):
        diffuse_scale.run(arguments)

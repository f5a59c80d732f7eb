"""Many sweeps, crystals and stills, simulated: each adds to the merged map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cctbx import sgtbx
from dxtbx.model import ExperimentList

from diffuse_core.boundary import index_operator
from diffuse_core.command_line import diffuse_integrate, diffuse_merge, diffuse_scale
from diffuse_core.compat import load_experiments
from diffuse_core.io.files import read_merged
from diffuse_core.scale_model import ScaleModel
from diffuse_core.simulate import run_simulation
from diffuse_core.simulate.truth import Truth
from diffuse_core.statistics import correlation, spherical_average

RECIPE = """
detector {
  name = test_small
  distance = 60
}
crystal {
  unit_cell = 20 25 30 90 90 90
  space_group = P212121
}
diffuse {
  spherical {
    amplitude = 4e5
    constant = 5e4
    ring.height = 0
  }
  halo.amplitude = 0
  cloud {
    amplitude = 2e5
    length = 4 9
  }
}
bragg.enable = False
"""
POLAR = """
crystal {
  unit_cell = 24 24 30 90 90 120
  space_group = P3
}
"""
IN_PROCESS = "parallel.nproc=1"
SCALES = "scales=diffuse_scales.json"


def integrate(expt: Path, name: str) -> str:
    diffuse_integrate.run(
        [
            str(expt),
            "mask.models=resolution",
            "mask.resolution.d_max=12",
            "mapping.hkl_grid.divisions=2,2,2",
            f"output.observations={name}",
            IN_PROCESS,
        ]
    )
    return name


def merge(folders: list[str], *arguments: str):
    diffuse_merge.run(
        [*folders, "output.merged=m.nxs", "output.map=None", IN_PROCESS]
        + ["output.html=None", "leave_one_out=False", *arguments]
    )
    return read_merged("m.nxs")


def scale(folders: list[str], *arguments: str) -> ScaleModel:
    diffuse_scale.run([*folders, IN_PROCESS, "output.html=None", *arguments])
    return ScaleModel.read("diffuse_scales.json")


def agreement(merged, truth: Truth, where=None, setting: str = "h,k,l") -> float:
    """CC of the anisotropic part with the truth.

    Over the voxels of the table; over those of another, where voxels that the table
    lacks count as isotropic: that is all that it says of them. `setting` brings the
    indices to those of the truth.
    """
    index = merged.index if where is None else where.index
    grid = merged.grid
    s = grid.s_norm(index, truth.unit_cell)
    centres = grid.centres(index) @ index_operator(setting).T
    true = truth.voxel_average(centres, np.array(grid.steps))
    true -= spherical_average(s, true)(s)
    s = grid.s_norm(merged.index, truth.unit_cell)
    values = merged.intensity - spherical_average(s, merged.intensity)(s)
    known = dict(zip(map(tuple, merged.index.tolist()), values, strict=True))
    return correlation(
        np.array([known.get(tuple(i), 0.0) for i in index.tolist()]), true
    )


def improves(parts: list, together, truth: Truth) -> None:
    """Whether a map is better than its best part: there, and as a whole."""
    single = [agreement(part, truth) for part in parts]
    best = parts[int(np.argmax(single))]
    there = agreement(together, truth, best)
    whole = agreement(together, truth), agreement(best, truth, together)
    print(
        f"CC with the truth: parts {np.round(single, 4)}; together {there:.4f} over "
        f"the {len(best)} voxels of the best; over all {len(together)} voxels "
        f"{whole[0]:.4f}, the best part {whole[1]:.4f}"
    )
    assert len(together) >= max(len(part) for part in parts)
    assert there > max(single) + 0.05
    assert whole[0] > whole[1] + 0.05


@pytest.mark.slow
def test_two_sweeps_of_one_crystal(tmp_path, monkeypatch):
    """Forty degrees each about two axes, the flux of one of them half."""
    monkeypatch.chdir(tmp_path)
    folders = []
    for number, (axis, flux) in enumerate((("1 0 0", 1.0), ("0 1 0", 0.5))):
        files = run_simulation(
            f"{RECIPE}\nscan.n_images=30\ngoniometer.axis={axis}\n"
            f"beam.flux={flux}\nnoise.seed={number}\ncrystal.seed=3\n"
            f"crystal.orientation=1,0,0,0,1,0,0,0,1\n"
            "scale { amplitude=0.2\n period=0.8 }\n",
            tmp_path / f"scan_{number}",
        )
        folders.append(integrate(files.expt_path, f"sweep_{number}"))
    model = scale(folders)
    together = merge(folders, SCALES)
    improves([merge([f]) for f in folders], together, Truth.from_file(files.truth_path))
    assert not model.reindex


@pytest.mark.slow
def test_three_crystals_of_different_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = []
    size = [1.0, 0.35, 0.6]
    for number, value in enumerate(size):
        files = run_simulation(
            f"{RECIPE}\nscan.n_images=20\ncrystal.seed={number}\n"
            f"noise.seed={number}\nscale.values={','.join([str(value)] * 20)}\n",
            tmp_path / f"scan_{number}",
        )
        folders.append(integrate(files.expt_path, f"crystal_{number}"))
    model = scale(folders)
    together = merge(folders, SCALES)
    improves([merge([f]) for f in folders], together, Truth.from_file(files.truth_path))
    level = [
        model.components[0]
        .value({"source": np.full(20, i), "phi": np.arange(20) + 0.5})
        .mean()
        for i in np.argsort([s.folder for s in model.sources])
    ]
    found = np.array(level) / level[0]
    print("sizes", found)
    assert found == pytest.approx(size, rel=0.03)


def stills(folder: Path, more: str = "", n: int = 40, flux: float = 1.0):
    """Stills with scales of their own; the files and the scales."""
    values = np.exp(np.random.default_rng(7).normal(0.0, 0.5, n))
    files = run_simulation(
        f"{RECIPE}\n{more}\nstills {{ n={n}\n seed=5 }}\nbeam.flux={flux}\n"
        f"scale.values={','.join(f'{v:.6f}' for v in values)}\n",
        folder,
    )
    return files, values


@pytest.mark.slow
def test_forty_stills(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, values = stills(tmp_path / "stills", flux=3.0)
    truth = Truth.from_file(files.truth_path)
    folders = [integrate(files.expt_path, "all")]
    model = scale(folders)
    found = {
        model.sources[i].number: p
        for i, p in zip(
            model.components[0].used, model.components[0].parameters, strict=True
        )
    }
    r = correlation(np.array([found[i] for i in range(40)]), values)
    best = int(np.argmax(values))
    experiments = load_experiments(str(files.expt_path), check_format=False)
    ExperimentList([experiments[best]]).as_file("best.expt")
    part = merge([integrate(Path("best.expt"), "best")])
    together = merge(folders, SCALES)
    unscaled = agreement(merge(folders), truth)
    print(f"r of the scales {r:.5f}; CC without scales {unscaled:.4f}")
    assert r > 0.999
    assert agreement(together, truth) > unscaled + 0.05
    improves([part], together, truth)


def planted(expt: Path, other, text: str) -> tuple[Path, list[str]]:
    """Experiments with some (by number) in another setting; their identifiers."""
    experiments = load_experiments(str(expt), check_format=False)
    names = []
    for number, experiment in enumerate(experiments):
        if other(number):
            experiment.crystal = experiment.crystal.change_basis(
                sgtbx.change_of_basis_op(text)
            )
            names.append(experiment.identifier)
    path = expt.with_name("planted.expt")
    experiments.as_file(str(path))
    return path, names


@pytest.mark.slow
def test_ambiguity_of_forty_stills(tmp_path, monkeypatch):
    """Every other one of forty stills of P3 indexed as k,h,-l."""
    monkeypatch.chdir(tmp_path)
    files, _ = stills(tmp_path / "stills", POLAR, flux=3.0)
    truth = Truth.from_file(files.truth_path)
    right = integrate(files.expt_path, "right")
    expt, names = planted(files.expt_path, lambda number: number % 2, "k,h,-l")
    wrong = integrate(expt, "wrong")
    scale([right], "scaling.ambiguity=none")
    reference = agreement(merge([right], SCALES), truth)
    model = scale([wrong])
    everyone = {source.identifier for source in model.sources}
    assert set(model.reindex) in (set(names), everyone - set(names))
    assert set(model.reindex.values()) == {"k,h,-l"}
    setting = "h,k,l" if set(model.reindex) == set(names) else "k,h,-l"
    found = agreement(merge([wrong], SCALES), truth, setting=setting)
    replace(model, reindex={}).write("diffuse_scales.json")
    left = agreement(merge([wrong], SCALES), truth)
    print(
        f"CC as it should be {reference:.4f}, left alone {left:.4f}, found {found:.4f}"
    )
    figures = model.figures["ambiguity"]["experiments"]
    assert all(e["decided"] and e["next_cc"] < 0.6 * e["cc"] for e in figures)
    assert left < 0.8 * reference
    assert found == pytest.approx(reference, abs=0.005)

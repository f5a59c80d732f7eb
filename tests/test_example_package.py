"""The example of a plug-in package: installed, used, broken, taken away."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from cctbx.eltbx import attenuation_coefficient

from diffuse_core.io.files import read_merged
from diffuse_core.merge import Merged
from diffuse_core.observations import read_observations
from diffuse_core.simulate import run_simulation

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "dials-diffuse-example"
PACKAGE = "dials_diffuse_example"

RECIPE = """
detector { name = test_small
           distance = 60 }
scan { n_images = 2
       width = 0.5 }
"""
WAVELENGTH = 1.0
THICKNESS = 1.5


def python(*args: str | Path, path: Path, cwd: Path) -> subprocess.CompletedProcess:
    """This interpreter with the example on its path."""
    environ = {k: v for k, v in os.environ.items() if "DIALS_DIFFUSE" not in k}
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env={**environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the example's sources: pip leaves traces where it builds."""
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    folder = tmp_path_factory.mktemp("source") / EXAMPLE.name
    return Path(shutil.copytree(EXAMPLE, folder, ignore=ignored))


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory) -> Path:
    """The folder where pip installed the example."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, *options, "--target", folder, source], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def editable(installed, tmp_path) -> Path:
    """A copy of the installed example that a test may break."""
    return Path(shutil.copytree(installed, tmp_path / "copy"))


def test_models_are_listed_while_installed(installed, run_command, tmp_path):
    with_it = run_command(
        "dials.diffuse_plugins", cwd=tmp_path, env={"PYTHONPATH": str(installed)}
    ).stdout
    without = run_command("dials.diffuse_plugins", cwd=tmp_path).stdout
    for name in ("diamond_window", "cell_opening", "turning_window"):
        (line,) = (row for row in with_it.splitlines() if name in row)
        assert line.endswith("dials-diffuse-example 0.1.0")
        assert name not in without


def test_its_own_tests_pass(source, installed):
    done = python("-m", "pytest", "-q", path=installed, cwd=source)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("plugin", "SyntaxError: invalid syntax (plugin.py, line 1)"),
        ("window", "The model 'diamond_window' can't be imported"),
    ],
)
def test_a_broken_package_is_named_and_nothing_else_suffers(
    module, reason, editable, run_command, tmp_path
):
    (editable / PACKAGE / f"{module}.py").write_text("def broken(:\n")
    done = run_command(
        "dials.diffuse_plugins",
        cwd=tmp_path,
        env={"PYTHONPATH": str(editable)},
        status=1,
    )
    assert f"dials-diffuse-example 0.1.0 ({PACKAGE}.plugin)\n" in done.stdout
    assert reason in done.stdout
    assert "hkl_grid" in done.stdout
    script = "from diffuse_core.registry import Registry; Registry.discover()"
    assert python("-c", script, path=editable, cwd=tmp_path).returncode == 0


def test_the_tutorial_shows_the_code_as_it_is():
    text = (EXAMPLE / "README.md").read_text()
    code = [
        textwrap.dedent(block).strip()
        for block in re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", text)
        if re.match(r"    (thickness =|@hookimpl|\[project)", block)
    ]
    assert len(code) == 3
    plugin = (EXAMPLE / "src" / PACKAGE / "plugin.py").read_text()
    project = (EXAMPLE / "pyproject.toml").read_text()
    assert [block for block in code if block not in plugin + project] == []


def transmission(s: np.ndarray) -> np.ndarray:
    """exp(-mu t / cos 2 theta) at |s| (1/A), for a window across the beam."""
    carbon = attenuation_coefficient.get_table("C").mu_rho_at_angstrom(WAVELENGTH)
    two_theta = 2.0 * np.arcsin(np.asarray(s, float) * WAVELENGTH / 2.0)
    return np.exp(-carbon * 3.51 / 10.0 * THICKNESS / np.cos(two_theta))


def columns(folder: Path) -> dict[str, np.ndarray]:
    """The observations of both blocks, one after the other."""
    files = sorted((folder / "diffuse_observations").glob("block_*.h5"))
    blocks = [read_observations(path).columns for path in files]
    assert len(blocks) == 2
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def test_a_run_with_the_window(installed, run_command, tmp_path):
    """Exposures shrink and intensities grow by the window's transmission.

    The run with the window has two worker processes, which must find it, too.
    """
    scan = run_simulation(RECIPE, tmp_path)
    selection = [
        "correction.models=default+diamond_window",
        f"correction.diamond_window.thickness={THICKNESS}",
    ]
    folders = {}
    for window in (False, True):
        folders[window] = tmp_path / str(window)
        folders[window].mkdir()
        run_command(
            "dials.diffuse",
            scan.expt_path,
            "mask.models=None",
            *(selection if window else []),
            "merging.symmetry=P1",
            "output.pictures=None",
            "block.width=0.5",
            f"parallel.nproc={2 if window else 1}",
            cwd=folders[window],
            env={"PYTHONPATH": str(installed)} if window else {},
        )
    check_observations(columns(folders[False]), columns(folders[True]))
    check_merged(*(read_merged(folders[w] / "diffuse_merged.nxs") for w in folders))


def check_observations(without: dict, with_window: dict) -> None:
    for name in ("key", "panel", "pixels", "counts"):
        np.testing.assert_array_equal(with_window[name], without[name])
    ratio = with_window["exposure"] / without["exposure"]
    single = without["pixels"] == 1
    assert single.sum() > 100
    expected = transmission(without["s"])
    np.testing.assert_allclose(ratio[single], expected[single], rtol=1e-5)
    np.testing.assert_allclose(ratio, expected, rtol=1e-2)
    assert 0.1 < expected.min() < expected.max() < 0.6


def check_merged(without: Merged, with_window: Merged) -> None:
    np.testing.assert_array_equal(with_window.index, without.index)
    single = (without.observations == 1) & (without.intensity > 0)
    assert single.sum() > 1000
    ratio = with_window.intensity[single] / without.intensity[single]
    exposure = without.exposure[single] / with_window.exposure[single]
    np.testing.assert_allclose(ratio, exposure, rtol=1e-5)
    assert math.isclose(exposure.min(), 1 / transmission(0.0), rel_tol=0.05)

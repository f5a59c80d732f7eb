"""A run that is refused leaves what an earlier run wrote beside it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dials.util import Sorry

import diffuse_core
from diffuse_core.command_line import (
    diffuse,
    diffuse_compare,
    diffuse_integrate,
    diffuse_merge,
    diffuse_scale,
    diffuse_show,
    diffuse_simulate,
)
from diffuse_core.folder_lock import locked
from diffuse_core.simulate import recipe, run_simulation

IN_PROCESS = "parallel.nproc=1"
OBSERVATIONS = "diffuse_observations"
MERGED = "diffuse_merged.nxs"
QUICK = ("mask.models=bragg", "mapping.hkl_grid.divisions=2,2,2")
SMALL = f"{recipe('rotation_small')}\nscan.n_images = 2\n"

LAST = {
    "": "Report",
    "_integrate": "Observations",
    "_scale": "Report",
    "_merge": "Report",
    "_show": "+--",
    "_compare": "CC",
    "_simulate": "Truth",
}
WITHOUT_PHIL = ("_compare", "_simulate")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return run_simulation(SMALL, tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def done(simulated, tmp_path_factory):
    """A folder in which every command has run once."""
    folder = tmp_path_factory.mktemp("done")
    before = os.getcwd()
    os.chdir(folder)
    try:
        expt, refl = str(simulated.expt_path), str(simulated.refl_path)
        diffuse_integrate.run([expt, refl, IN_PROCESS, *QUICK])
        diffuse_scale.run([OBSERVATIONS, IN_PROCESS])
        diffuse_merge.run([OBSERVATIONS, IN_PROCESS, "output.pictures=None"])
        diffuse.run([expt, refl, IN_PROCESS, *QUICK, "output.pictures=None"])
        diffuse_show.run([expt, refl, "output.pictures=None"])
        diffuse_compare.run([MERGED, MERGED, "output.png=None"])
        Path("small.phil").write_text(SMALL)
        diffuse_simulate.run(["small.phil"])
    finally:
        os.chdir(before)
    return folder


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of the files of the working folder itself."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.mark.parametrize("name", LAST)
def test_every_command_writes_its_log(done, name):
    """From the first line to the last, and the parameters if it takes models."""
    program = f"dials.diffuse{name}"
    log = (done / f"{program}.log").read_text()
    assert log.count(f"dials.diffuse {diffuse_core.__version__}") == 1
    assert LAST[name] in log.splitlines()[-1]
    assert (done / f"{program}.phil").exists() == (name not in WITHOUT_PHIL)


REFUSED = {
    "a parameter of a model": (
        diffuse_integrate,
        ["{expt}", "mask.resolution.d_min=3", "mask.resolution.d_max=2"],
        "must be below",
    ),
    "no such model": (diffuse_integrate, ["{expt}", "mask.models=brag"], "brag"),
    "a grid that can't be merged": (
        diffuse,
        ["{expt}", "mapping.hkl_grid.divisions=2,3,2", "merging.space_group=P4"],
        "make them equal",
    ),
    "the first program's input": (diffuse, ["{truth}", "{expt}"], "truth.json"),
    "no folder of observations": (diffuse_scale, ["{truth}"], "truth.json"),
    "scales": (
        diffuse_merge,
        [OBSERVATIONS, "merging.scales=small.phil"],
        "small.phil",
    ),
    "an image that isn't there": (diffuse_show, ["{expt}", "show.image=99"], "99"),
    "limits": (diffuse_compare, [MERGED, MERGED, "d_min=3", "d_max=2"], "d_min"),
    "a recipe": (diffuse_simulate, ["detector.name=kodak"], "kodak"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake(done, simulated, monkeypatch, name):
    command, arguments, said = REFUSED[name]
    monkeypatch.chdir(done)
    before = files(done)
    places = {"expt": simulated.expt_path, "truth": simulated.truth_path}
    with pytest.raises((Sorry, SystemExit), match=said):
        command.run([argument.format(**places) for argument in arguments])
    assert files(done) == before


@pytest.mark.parametrize("command", [diffuse, diffuse_integrate])
def test_a_folder_that_another_run_fills(done, simulated, monkeypatch, command):
    monkeypatch.chdir(done)
    with locked(OBSERVATIONS):
        before = files(done)
        with pytest.raises((Sorry, SystemExit), match="Another run"):
            command.run([str(simulated.expt_path), IN_PROCESS, "block.width=0.5"])
        assert files(done) == before


def test_nothing_remains_of_a_refused_run(done, simulated, monkeypatch, tmp_path):
    """The next one in the same process has its own lines alone in its log."""
    monkeypatch.chdir(tmp_path)
    expt = str(simulated.expt_path)
    with pytest.raises((Sorry, SystemExit)):
        diffuse_integrate.run([expt, "mask.resolution.d_min=-1"])
    with pytest.raises((Sorry, SystemExit)):
        diffuse_integrate.run([expt, "input.image_range=98,99", IN_PROCESS])
    assert not list(tmp_path.iterdir())
    diffuse_integrate.run([expt, IN_PROCESS, *QUICK])
    log = Path("dials.diffuse_integrate.log").read_text()
    assert "image_range" not in log
    assert log.count("dials.diffuse ") == 1
    logging.getLogger("dials").info("afterwards")
    assert "afterwards" in Path("dials.diffuse_integrate.log").read_text()
    assert "afterwards" not in (done / "dials.diffuse_simulate.log").read_text()

"""Observations of other code are never taken for those of this one."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from dials.util import Sorry

import diffuse_core
from diffuse_core import run
from diffuse_core.command_line import diffuse_integrate
from diffuse_core.io import provenance
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.source_code import hash_of_sources

PACKAGE = Path(diffuse_core.__file__).parent


@pytest.fixture
def copy(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "core", ignore=ignored))


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        ("fused_kernel.py", True),
        ("boundary.py", True),
        ("io/panel_arrays.py", True),
        ("report/plots.py", False),
        ("command_line/common.py", False),
    ],
)
def test_it_tells_the_code_that_makes_numbers(copy, name, matters):
    before = hash_of_sources(copy)
    assert before == hash_of_sources(copy)
    text = (copy / name).read_text()
    (copy / name).write_text(text + "\n")
    assert (hash_of_sources(copy) != before) == matters
    (copy / name).write_text(text)
    assert hash_of_sources(copy) == before


def test_a_module_that_moves_is_noticed(copy):
    before = hash_of_sources(copy)
    (copy / "grid.py").rename(copy / "grids.py")
    assert hash_of_sources(copy) != before


def test_it_costs_nothing():
    times = []
    for _ in range(5):
        start = time.process_time()
        hash_of_sources(PACKAGE)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_blocks_of_other_code_are_integrated_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"{recipe('rotation_small')}\nscan.n_images = 1\n"
    scan = run_simulation(text, tmp_path / "scan")

    def reused() -> int:
        diffuse_integrate.run([str(scan.expt_path), "parallel.engine=serial"])
        figures = json.loads(Path("dials.diffuse_integrate.json").read_text())
        return figures["integration"]["reused"]

    assert [reused(), reused()] == [0, 1]
    monkeypatch.setattr(provenance, "own_hash", lambda: "01234567")
    assert [reused(), reused()] == [0, 1]
    versions = provenance.program()
    monkeypatch.setattr(run, "program", lambda: versions | {"code": "76543210"})
    with pytest.raises(Sorry, match=r"code 76543210.*start workers anew"):
        reused()

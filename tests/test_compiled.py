"""The first run says that it compiles; `warm_up` compiles before it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from diffuse_core import orchestrator
from diffuse_core.command_line import diffuse_integrate
from diffuse_core.simulate import recipe, run_simulation

MODULE = """
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x
"""
CALL = """
import sys
from diffuse_core.compiled import is_compiled
from loops import twice
before = is_compiled(twice)
twice(3)
print(before, is_compiled(twice))
"""


@pytest.mark.parametrize("cache", ["beside", "elsewhere"])
def test_a_change_of_the_source_makes_it_cold(tmp_path, cache):
    (tmp_path / "loops.py").write_text(MODULE)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    if cache == "elsewhere":
        environ["NUMBA_CACHE_DIR"] = str(tmp_path / "cache")

    def states() -> str:
        done = subprocess.run(
            [sys.executable, "-c", CALL],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert states() == "False True"
    assert states() == "True True"
    later = time.time() + 5
    os.utime(tmp_path / "loops.py", (later, later))
    assert states().startswith("False")


@pytest.mark.parametrize("cold", [True, False])
def test_the_first_run_says_that_it_compiles(tmp_path, monkeypatch, cold):
    monkeypatch.chdir(tmp_path)
    text = f"{recipe('rotation_small')}\nscan.n_images = 1\n"
    scan = run_simulation(text, tmp_path / "scan")
    monkeypatch.setattr(orchestrator, "is_compiled", lambda function: not cold)
    for again in (False, True):
        diffuse_integrate.run([str(scan.expt_path), "parallel.engine=serial"])
        log = (tmp_path / "dials.diffuse_integrate.log").read_text()
        assert ("Compiling" in log) == (cold and not again)

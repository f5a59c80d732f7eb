"""Parallel loops make each turn once, whatever DIALS has loaded."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
from cctbx import maptbx, miller, sgtbx
from dials.array_family import flex
import numpy as np
from numba import njit, prange, threading_layer
from diffuse_core.numba_threads import njit_parallel

@njit
def add_one(row):
    row[0] += 1

@njit_parallel
def count(n):
    turns = np.zeros((n, 1))
    for i in prange(n):
        add_one(turns[i])
    return turns

for _ in range(20):
    assert (count(1000) == 1).all()
print(threading_layer())
"""


def test_each_turn_is_made_once():
    """With OpenMP's threads beside Debian's DIALS every turn is made by each thread."""
    environ = {k: v for k, v in os.environ.items() if k != "NUMBA_THREADING_LAYER"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("tbb", "workqueue")

"""Parallel loops of numba that are right beside DIALS.

DIALS built without OpenMP (Debian's is) brings a library that answers OpenMP's
questions with "one thread, and this is number 0". Where numba's own threads come from
OpenMP too, they get these answers, and each does the work of all: sums are made twice.
Threads of other kinds do not ask.
"""

from __future__ import annotations

from functools import partial

from numba import config, njit

config.THREADING_LAYER_PRIORITY = ["tbb", "workqueue", "omp"]

njit_parallel = partial(njit, parallel=True)
"""`numba.njit` for functions with `prange`; calls must not overlap in time."""

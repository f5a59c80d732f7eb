"""Linear algebra on one thread: sums in one order, so the same bits everywhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager:
    """Within it BLAS and LAPACK take one thread, whatever the environment says."""
    return _controller().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  loads the library that is to be found

    return ThreadpoolController()

"""A job: tasks of one kind that share what a worker prepares once."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diffuse_core.errors import DiffuseError

BLAS_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
NUMBA_THREADS = ("NUMBA_NUM_THREADS",)


@dataclass(frozen=True, eq=False)
class Job:
    """Results are `task(prepare(spec), item)` for each item.

    Attributes:
        prepare: Builds what a worker keeps; called once in each worker.
        task: The work on one item.
        spec: Argument of `prepare`.
        items: What to work on.
        name: What an item is called in a message.

    `prepare` and `task` are functions of modules, and `spec`, items and results can be
    pickled, wherever a job leaves this process.
    """

    prepare: Callable[[Any], Any]
    task: Callable[[Any, Any], Any]
    spec: Any
    items: Sequence[Any]
    name: Callable[[Any], str] = str


def worker_died(what: str, cause: str) -> DiffuseError:
    """The error for an item that took its worker down again and again.

    Args:
        what: Name of the item.
        cause: How the worker ended.
    """
    return DiffuseError(
        f"The worker that worked on {what} died, and so did the next one ({cause}): "
        "give workers more memory (fewer of them, parallel.nproc), or look at that "
        "input; what is finished is kept when the command is run again."
    )


def thread_settings(
    threads: int, names: Sequence[str] = BLAS_THREADS + NUMBA_THREADS
) -> dict[str, str]:
    """Environment variables of a worker that shall use this many threads."""
    return dict.fromkeys(names, str(max(1, threads)))


def silence_models() -> None:
    """In a worker: what models log while they are made, the main process has said."""
    logging.getLogger("dials").addHandler(logging.NullHandler())


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """The environment with these values, which children inherit; then as it was."""
    saved = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in set(os.environ) - set(saved):
            del os.environ[name]
        os.environ.update(saved)

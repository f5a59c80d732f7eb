"""Executors: the same tasks in this process or in local worker processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from diffuse_core.errors import DiffuseError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_state: Any = None


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def run_tasks(
    prepare: Callable[[Any], Any],
    task: Callable[[Any, Any], Any],
    spec: Any,
    items: Iterable[Any],
    nproc: int,
) -> Iterator[Any]:
    """Results of `task(prepare(spec), item)` for each item, as they are ready.

    Args:
        prepare: Builds what a worker keeps; called once in each worker.
        task: The work; its results must be picklable if nproc > 1.
        spec: Picklable argument of `prepare`.
        items: Picklable items.
        nproc: Worker processes; 1 = in this process.

    Raises:
        DiffuseError: A worker died; errors of tasks are raised as they are.
    """
    items = list(items)
    nproc = min(nproc, len(items))
    if nproc <= 1:
        state = prepare(spec)
        for item in items:
            yield task(state, item)
        return
    saved = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    pool = ProcessPoolExecutor(
        nproc,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialize,
        initargs=(prepare, spec),
    )
    try:
        futures = {pool.submit(_call, task, item): item for item in items}
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise DiffuseError(
            "A worker process died (killed, or out of memory): run the command again "
            "to continue where it stopped, with a smaller parallel.nproc if memory "
            "was short."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _initialize(prepare, spec) -> None:
    global _state
    try:
        _state = prepare(spec)
    except Exception as error:
        _state = error


def _call(task, item):
    if isinstance(_state, Exception):
        raise _state
    return task(_state, item)

"""The same tasks in this process, in local processes or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from diffuse_core.executors import dask_cluster, processes, serial
from diffuse_core.executors.job import Job


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
    *,
    engine: str = "processes",
    address: str | None = None,
    name: Callable[[Any], str] = str,
) -> Iterator[Any]:
    """Results of `task(prepare(spec), item)` for each item, as they are ready.

    Workers take items from one queue, so the load balances itself; an item whose worker
    dies is done once more. All workers together use the cores of this job. They end
    when the iterator is closed or fails.

    Args:
        prepare: Builds what a worker keeps; called once in each worker.
        task: The work; its results must be picklable if they come from a worker.
        spec: Picklable argument of `prepare`.
        items: Picklable items.
        nproc: Worker processes on this machine; 1 = in this process, except for dask.
        engine: "serial", "processes" or "dask".
        address: Scheduler of a Dask cluster; None makes one on this machine.
        name: What to call an item in a message.

    Raises:
        ConfigError: Dask is not installed or does not answer.
        DiffuseError: Two workers in a row died of an item; errors of tasks are raised
            as they are.
    """
    job = Job(prepare, task, spec, list(items), name)
    if not job.items:
        return iter(())
    nproc = min(nproc, len(job.items))
    threads = max(1, available_cores() // nproc)
    if engine == "dask":
        return dask_cluster.run(job, nproc, threads, address)
    if engine == "serial" or nproc == 1:
        return serial.run(job)
    return processes.run(job, nproc, threads)

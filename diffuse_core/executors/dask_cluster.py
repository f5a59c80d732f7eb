"""Tasks on the workers of a Dask cluster: the user's, or one made for the job.

Dask balances the load and does tasks of a lost worker again. No more tasks are under
way than there are workers, so that a death is blamed on the task that was worked on.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from diffuse_core.errors import ConfigError, DiffuseError
from diffuse_core.executors.job import (
    BLAS_THREADS,
    Job,
    environment,
    silence_models,
    thread_settings,
    worker_died,
)

logger = logging.getLogger("dials.diffuse")

LOOPBACK = "127.0.0.1"
_CONNECT = 30.0
_LOOK = 5.0

_lock = threading.Lock()
_kept: dict[str, Any] = {}


def run(job: Job, nproc: int, threads: int, address: str | None) -> Iterator[Any]:
    """Results as they are ready.

    Args:
        job: The tasks.
        nproc, threads: Worker processes of the cluster made for the job, and the
            threads that each of them may use.
        address: Of a scheduler, or the scheduler file that it wrote; None makes a
            cluster on this machine that listens on loopback only.

    Raises:
        ConfigError: Dask isn't installed, or no scheduler answers.
        DiffuseError: The scheduler went away, or an item took its workers down.
    """
    try:
        import cryptography  # noqa: F401
        import distributed
    except ImportError as error:
        raise ConfigError(
            f"parallel.engine=dask needs the Python package '{error.name}': install it "
            f"(pip install {error.name}, or from conda-forge), or set "
            "parallel.engine=processes."
        ) from None
    where = f"The Dask scheduler at {address}" if address else "The Dask scheduler"
    with contextlib.ExitStack() as stack:
        if address is None:
            client = stack.enter_context(_local(distributed, nproc, threads))
        else:
            client = stack.enter_context(_client(distributed, address))
        try:
            yield from _results(distributed, client, job)
        except (_Lost, OSError) as error:
            closed = isinstance(error, (_Lost, distributed.comm.CommClosedError))
            if client.status == "running" and not closed:
                raise
            raise DiffuseError(
                f"{where} went away ({error}): start one, and run the command again to "
                "continue with what is missing."
            ) from error


class _Lost(Exception):
    """The scheduler no longer knows a task."""


def _results(distributed, client, job: Job) -> Iterator[Any]:
    run_id = uuid.uuid4().hex
    payload = pickle.dumps((job.prepare, job.task, job.spec))
    waiting = iter(enumerate(job.items))
    running: dict[Any, int] = {}
    _wait_for_workers(client)
    while True:
        free = len(client.nthreads()) - len(running)
        for number, item in itertools.islice(waiting, max(free, 0)):
            key = f"diffuse-{run_id}-{number}"
            future = client.submit(_work, run_id, payload, item, key=key, pure=False)
            running[future] = number
        if not running:
            break
        try:
            with client.as_current():
                distributed.wait(list(running), _LOOK, "FIRST_COMPLETED")
        except distributed.TimeoutError:
            _wait_for_workers(client)
            continue
        for future in [f for f in running if f.done()]:
            number = running.pop(future)
            yield _result(distributed, future, job, number)
    client.run(_forget, run_id, on_error="ignore")


def _result(distributed, future, job: Job, number: int):
    if future.status == "cancelled":
        raise _Lost("it dropped the tasks")
    try:
        return future.result()
    except distributed.KilledWorker as error:
        worker = error.last_worker.address
        raise worker_died(job.name(job.items[number]), f"at {worker}") from error
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != __package__.split(".")[0]:
            raise
        raise ConfigError(
            "The Dask workers can't import dials.diffuse: start them in an environment "
            "where it is installed, as it is here."
        ) from error


def _wait_for_workers(client) -> None:
    """Returns when there is a worker; says once that it waits."""
    said = False
    while not client.nthreads():
        if not said:
            logger.info("Waiting for workers of %s", client.scheduler.address)
            said = True
        time.sleep(0.5)


@contextlib.contextmanager
def _local(distributed, nproc: int, threads: int):
    """A client of a cluster of this machine, which ends with it.

    Loopback is open to all users of the machine, and who reaches a scheduler can run
    programs: it asks for a key (TLS) that this process and its workers alone know.
    """
    import dask

    with (
        environment(thread_settings(threads, BLAS_THREADS)),
        _silent("asyncio", "tornado"),
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=nproc,
            threads_per_worker=1,
            host=LOOPBACK,
            security=True,
            dashboard_address=f"{LOOPBACK}:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
            env=thread_settings(threads),
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextlib.contextmanager
def _silent(*names: str):
    """The connections of a worker that dies are no news to the user: it is replaced."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@contextlib.contextmanager
def _client(distributed, address: str):
    """A client of the user's cluster."""
    given = {"scheduler_file": address} if os.path.isfile(address) else {}
    try:
        client = distributed.Client(
            None if given else address, timeout=_CONNECT, set_as_default=False, **given
        )
    except (OSError, distributed.TimeoutError, ValueError) as error:
        raise ConfigError(
            f"No Dask scheduler answers at parallel.dask.address={address} ({error}): "
            "give the address that it printed when it started, tcp://host:port."
        ) from error
    with client:
        workers = client.nthreads()
        logger.info("Dask: %d workers at %s", len(workers), address)
        if any(n > 1 for n in workers.values()):
            logger.warning(
                "Some Dask workers have several threads, of which one is used: start "
                "them with one thread each (nthreads 1) and more of them"
            )
        yield client


def _work(run_id: str, payload: bytes, item):
    """One task, in a worker; what was prepared for an earlier run is dropped."""
    with _lock:
        if run_id not in _kept:
            _kept.clear()
            silence_models()
            prepare, task, spec = pickle.loads(payload)
            _kept[run_id] = task, prepare(spec)
        task, state = _kept[run_id]
        return task(state, item)


def _forget(run_id: str) -> None:
    with _lock:
        _kept.pop(run_id, None)

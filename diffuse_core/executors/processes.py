"""Tasks in local worker processes that take items from one queue.

A pool of its own, since that of the standard library breaks as a whole when one
process dies, and can't tell which task it worked on. Workers end with this process,
however it ends: a thread in each waits for that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from diffuse_core.executors.job import (
    Job,
    environment,
    silence_models,
    thread_settings,
    worker_died,
)

DEATHS = 2
_PATIENCE = 5.0


def run(job: Job, nproc: int, threads: int) -> Iterator[Any]:
    """Results as they are ready.

    Args:
        job: The tasks.
        nproc: Worker processes.
        threads: Threads that each of them may use.

    Raises:
        DiffuseError: An item took `DEATHS` workers down; its name is in the message.
    """
    pool = _Pool(job, nproc, threads)
    done: list[Any] = []
    try:
        while pool.unfinished or done:
            pool.give()
            yield from done
            done = pool.collect()
    except BaseException:
        pool.end(0.0)
        raise
    pool.end(_PATIENCE)


class _Pool:
    """Workers, the items that wait, and who works on which.

    Attributes:
        waiting: Numbers of the items to do.
        deaths: Number of an item -> workers that died of it.
        idle, busy: Workers; the latter by their pipe.
    """

    def __init__(self, job: Job, nproc: int, threads: int) -> None:
        self.job = job
        self.nproc = nproc
        self.threads = threads
        self.context = multiprocessing.get_context("spawn")
        self.waiting = deque(range(len(job.items)))
        self.deaths: Counter[int] = Counter()
        self.idle: list[_Worker] = []
        self.busy: dict[Any, _Worker] = {}

    @property
    def unfinished(self) -> bool:
        return bool(self.waiting or self.busy)

    def give(self) -> None:
        """Gives waiting items to idle and new workers."""
        while self.waiting and len(self.busy) < self.nproc:
            worker = self.idle.pop() if self.idle else self._start()
            try:
                worker.pipe.send(self.job.items[self.waiting[0]])
            except OSError:
                worker.end(0.0)
                continue
            worker.number = self.waiting.popleft()
            self.busy[worker.pipe] = worker

    def collect(self) -> list[Any]:
        """Waits for one result at least, or the death of a worker."""
        results = []
        for pipe in wait(list(self.busy)) if self.busy else ():
            worker = self.busy.pop(pipe)
            try:
                value, error, text = pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            self.idle.append(worker)
            if error is not None:
                raise error from _Remote(text)
            results.append(value)
        return results

    def end(self, patience: float) -> None:
        """Ends all workers: idle ones by closing their pipes, the rest by force."""
        workers = [*self.idle, *self.busy.values()]
        for worker in workers:
            worker.pipe.close()
            if not patience:
                worker.process.terminate()
        for worker in workers:
            worker.end(patience)

    def _start(self) -> _Worker:
        with environment(thread_settings(self.threads)), _interrupt_blocked():
            return _Worker(self.context, self.job)

    def _bury(self, worker: _Worker) -> None:
        worker.end(_PATIENCE)
        number = worker.number
        self.deaths[number] += 1
        if self.deaths[number] >= DEATHS:
            name = self.job.name(self.job.items[number])
            raise worker_died(name, _cause(worker.process.exitcode))
        self.waiting.appendleft(number)


class _Worker:
    """A process that prepares once, then does item after item.

    Attributes:
        number: The item that it works on.
    """

    def __init__(self, context, job: Job) -> None:
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, job.prepare, job.task, job.spec), daemon=True
        )
        self.process.start()
        theirs.close()
        self.number = -1

    def end(self, patience: float) -> None:
        """Waits for the end of the process; kills it when `patience` (s) is over."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.process.terminate()
            self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()


class _Remote(Exception):
    """The traceback of an error in a worker, shown as its cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _serve(pipe, prepare, task, spec) -> None:
    """The life of a worker: (result, None, "") or (None, error, traceback) per item."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    silence_models()
    state = None
    prepared = False
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            if not prepared:
                state = prepare(spec)
                prepared = True
            reply = task(state, item), None, ""
        except Exception as error:
            reply = None, error, traceback.format_exc()
        try:
            pipe.send(reply)
        except OSError:
            return
        except Exception as error:
            text = f"{reply[2]}\n{error!r}"
            pipe.send((None, RuntimeError(f"can't be sent: {error}"), text))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _cause(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit status {exitcode}"
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


@contextlib.contextmanager
def _interrupt_blocked():
    """Ctrl-C is held back, and children never see it: their parent ends them.

    The resource tracker is started before: starting it unblocks Ctrl-C.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""Tasks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffuse_core.executors.job import Job


def run(job: Job) -> Iterator[Any]:
    """Results in the order of the items."""
    state = job.prepare(job.spec)
    for item in job.items:
        yield job.task(state, item)

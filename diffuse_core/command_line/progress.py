"""How far a long task is: a bar in a terminal, lines in the log elsewhere.

Rates are means since the work began, so that blocks that end together, or start slowly,
don't make them jump.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

logger = logging.getLogger("dials.diffuse")

INTERVAL = 30.0


@contextlib.contextmanager
def progress_bar(
    description: str, unit: str = "image"
) -> Iterator[Callable[[int, int, float], None]]:
    """Yields progress(done, total, size=0): units/s, MB/s and the time left.

    `size` is the number of bytes read so far. For images that is the size of their
    files; an image of a container has a fair share of its file. The clock starts with
    the first call, so call it with `done` 0 when work begins.

    Args:
        description: What is done, for the start of the line.
        unit: What is counted, singular.
    """
    kind = _Bar if sys.stderr.isatty() else _Lines
    shown = None

    def progress(done: int, total: int, size: float = 0.0) -> None:
        nonlocal shown
        if shown is None:
            shown = kind(description, unit, total)
        shown.show(done, total, size)

    try:
        yield progress
    finally:
        if shown is not None:
            shown.close()


class _Bar:
    def __init__(self, description: str, unit: str, total: int) -> None:
        self.started = time.monotonic()
        self.bar = tqdm(
            desc=description,
            unit=unit,
            total=total,
            mininterval=0.2,
            smoothing=0,
            dynamic_ncols=True,
        )

    def show(self, done: int, total: int, size: float) -> None:
        self.bar.total = total
        if size:
            rate = _megabytes_per_second(size, time.monotonic() - self.started)
            self.bar.set_postfix_str(rate, refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class _Lines:
    def __init__(self, description: str, unit: str, total: int) -> None:
        self.description = description
        self.unit = unit
        self.started = self.last = time.monotonic()

    def show(self, done: int, total: int, size: float) -> None:
        now = time.monotonic()
        if now - self.last < INTERVAL or not done:
            return
        self.last = now
        seconds = now - self.started
        rates = [f"{done / seconds:.3g} {self.unit}s/s"]
        if size:
            rates.append(_megabytes_per_second(size, seconds))
        left = tqdm.format_interval((total - done) * seconds / done)
        logger.info(
            "%s: %d of %d %ss (%d %%), %s, %s left",
            self.description,
            done,
            total,
            self.unit,
            100 * done // total,
            ", ".join(rates),
            left,
        )

    def close(self) -> None:
        """There is nothing to close."""


def _megabytes_per_second(size: float, seconds: float) -> str:
    return f"{size / max(seconds, 1e-6) / 1e6:.3g} MB/s"

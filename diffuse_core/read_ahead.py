"""Reading that overlaps with computing: the images that follow are read meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

HDF5 = threading.Lock()
"""Held while a file is read or written: one thread at a time may be in HDF5, and dxtbx
does not know of the lock of h5py."""


class ReadAhead(Generic[T]):
    """Reads images in the order in which they are stored, in a thread of its own.

    dxtbx holds Python's lock while it reads and unpacks an image; the compiled loops do
    not, so they go on meanwhile. The images that follow the one that was asked for last
    are read, whether its block goes on or not: the next block begins there.

    Args:
        read: Index -> image.
        n_images: How many there are.
        depth: Images that wait at most.
    """

    def __init__(self, read: Callable[[int], T], n_images: int, depth: int) -> None:
        self._read = read
        self._n_images = n_images
        self._depth = depth
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._waiting: dict[int, Future[T]] = {}

    def __call__(self, index: int) -> T:
        """One image; errors of reading are raised here, and only if it is asked for."""
        following = range(index, min(index + 1 + self._depth, self._n_images))
        for other in [i for i in self._waiting if i not in following]:
            self._waiting.pop(other).cancel()
        for i in following:
            if i not in self._waiting:
                self._waiting[i] = self._thread.submit(self._locked, i)
        return self._waiting.pop(index).result()

    def _locked(self, index: int) -> T:
        with HDF5:
            return self._read(index)

    def close(self) -> None:
        """Nothing more is read."""
        self._waiting.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

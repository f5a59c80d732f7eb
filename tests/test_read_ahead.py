"""Images come in the order in which they are asked for, read once, a few ahead."""

from __future__ import annotations

import threading
import time

import pytest

from diffuse_core.memory import images_within
from diffuse_core.read_ahead import ReadAhead


class Reader:
    def __init__(self, fails=()):
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self.fails = fails

    def __call__(self, index):
        self.calls.append(index)
        self.threads.add(threading.get_ident())
        if index in self.fails:
            raise OSError(f"image {index}")
        return index * 10


def settle(reader, n):
    deadline = time.monotonic() + 60
    while len(reader.calls) < n and time.monotonic() < deadline:
        time.sleep(0.005)


def test_each_image_is_read_once_and_not_too_far_ahead():
    reader = Reader()
    ahead = ReadAhead(reader, 20, 3)
    assert ahead(0) == 0
    settle(reader, 4)
    assert reader.calls == [0, 1, 2, 3]
    assert [ahead(i) for i in range(1, 20)] == [10 * i for i in range(1, 20)]
    assert reader.calls == list(range(20))
    assert reader.threads.isdisjoint({threading.get_ident()})
    ahead.close()


def test_another_place_in_the_scan():
    reader = Reader()
    ahead = ReadAhead(reader, 100, 2)
    assert ahead(3) == 30
    assert ahead(50) == 500
    assert ahead(51) == 510
    assert ahead(7) == 70
    assert ahead(7) == 70
    ahead.close()


def test_errors_are_those_of_the_image_that_was_asked_for():
    ahead = ReadAhead(Reader(fails=(2, 4)), 6, 4)
    assert ahead(0) == 0
    assert ahead(1) == 10
    with pytest.raises(OSError, match="image 2"):
        ahead(2)
    assert ahead(3) == 30
    assert ahead(5) == 50
    ahead.close()


@pytest.mark.parametrize(("size", "n"), [(1, 12), (99, 10), (400, 2), (5000, 1)])
def test_images_within_a_limit(size, n):
    assert images_within(1000, size, 12) == n

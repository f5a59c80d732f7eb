"""What a worker needs of memory: bounded, and said before it starts."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence

import numpy as np

CHUNK_BYTES = 320_000_000
"""Raw values that go through the kernel together."""
AHEAD_BYTES = 240_000_000
"""Raw values that are read while the kernel is at work."""
ROWS = 1_000_000
"""Rows of a block that are held in memory; what is beyond goes to temporary files."""

PROGRAM = 400_000_000
"""Python, DIALS, compiled code, and gaps between pieces of memory in use."""
OF_PIXEL = 36
"""Bytes of a pixel for its geometry, masks and response."""
OF_BACKGROUND = 24
"""Bytes of a pixel for a background, its variance, and how long the pixel stays."""
OF_MODELS = 90
"""Bytes of a pixel of one panel while models work on it."""
OF_ROW = 450
"""Bytes of a row while rows are sorted and added up."""


_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def reuse_freed_memory() -> None:
    """Makes glibc keep the memory of an image for the next one.

    Otherwise it gives large blocks back at once, and every page of the next image is a
    fault of its own, which costs as much as reading it. Does nothing with another C
    library.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Makes glibc give all freed memory back to the system now.

    What `reuse_freed_memory` keeps is in pieces of the sizes of the past: where many
    rows of varying number come and go, it would grow from block to block.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def images_within(limit: int, image_bytes: int, most: int) -> int:
    """Images of this size within a limit (bytes): at least 1, at most `most`."""
    return max(1, min(most, limit // max(1, image_bytes)))


def worker_memory(
    shapes: Sequence[tuple[int, int]],
    images: int,
    most_images: int,
    *,
    ahead: bool,
    background: bool,
    kept: int = 0,
) -> int:
    """Bytes that a worker needs at most, whatever the number of images and the grid.

    What models keep for themselves (a mask file, a flat field) and arrays that they
    give for single images are not counted; raw values are taken as int32.

    Args:
        shapes: Of the panels.
        images: Images of the largest block.
        most_images: Images of a chunk at most (`chunk.IMAGES`).
        ahead: Images are read ahead.
        background: A background is subtracted.
        kept: Bytes of images that are kept for other crystals on them.
    """
    pixels = np.array([np.prod(shape) for shape in shapes], float)
    image = int(4 * pixels.sum())
    setup = pixels.sum() * (OF_PIXEL + background * OF_BACKGROUND)
    held = images_within(CHUNK_BYTES, image, min(images, most_images)) + 2
    if ahead:
        held += images_within(AHEAD_BYTES, image, most_images)
    rows = OF_ROW * min(ROWS, pixels.sum() * images)
    raw = held * image + min(kept, images * image)
    return int(PROGRAM + setup + max(OF_MODELS * pixels.max(), raw + rows))

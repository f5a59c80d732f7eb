"""What a worker needs of memory, so that it can be said before it starts."""

from __future__ import annotations

CHUNK_BYTES = 320_000_000
"""Raw values that go through the kernel together."""
AHEAD_BYTES = 160_000_000
"""Raw values that are read while the kernel is at work."""


def images_within(limit: int, image_bytes: int, most: int) -> int:
    """Images of this size within a limit (bytes): at least 1, at most `most`."""
    return max(1, min(most, limit // max(1, image_bytes)))

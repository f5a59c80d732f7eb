"""Which pixels of an image may be used, worked out only for what is asked.

dxtbx' own mask of an image costs more than reading it, as it is made again for every
image. The part that is the same for all images is made once; the rest is a comparison
of the raw values with the trusted range, which the kernel does while it reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass(frozen=True)
class Trusted:
    """What is the same for all images of an image set.

    Attributes:
        keep: Per panel (n_slow, n_fast) bool: untrusted areas of the detector, mask of
            the format and of the .expt.
        limits: Per panel: lowest and highest raw value that may be used, both included.
    """

    keep: tuple[np.ndarray, ...]
    limits: tuple[tuple[float, float], ...]


class Usable(Sequence):
    """Per panel (n_slow, n_fast) bool, True = use; each is made when it is asked for.

    Args:
        trusted: Of the image set.
        counts: Raw values, per panel.
        moving: The whole mask of the image, per panel, where the format knows of
            shadows that move; else None.
    """

    def __init__(
        self,
        trusted: Trusted,
        counts: Sequence[np.ndarray],
        moving: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.trusted = trusted
        self.counts = counts
        self.moving = moving

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, panel):
        if isinstance(panel, slice):
            return tuple(self[i] for i in range(*panel.indices(len(self))))
        if self.moving is not None:
            return self.moving[panel]
        low, high = self.trusted.limits[panel]
        counts = self.counts[panel]
        return self.trusted.keep[panel] & (counts >= low) & (counts <= high)


def limits_of(limits: tuple[float, float], dtype: np.dtype) -> tuple:
    """The trusted range, both ends included, in the type of the raw values."""
    if not np.issubdtype(dtype, np.integer):
        return limits
    info = np.iinfo(dtype)
    low, high = max(np.ceil(limits[0]), info.min), min(np.floor(limits[1]), info.max)
    return dtype.type(low), dtype.type(high)


MOST = 12
"""Images that are added up in one pass; more take several."""

_STRIP = 4096
"""Pixels of all images that are taken together: their sums stay in the cache."""


@njit(cache=True, nogil=True, error_model="numpy")
def _add(raw, n, keep, low, high, readout, first, counts, valid):
    """Adds the counts of n images, 0 where one of them may not be used, and writes
    where all may; returns whether a sum is below 0.

    Args:
        raw: `MOST` arrays (size,): raw values, of which the first n count.
        keep: (size,) bool: pixels that may be used if they are trusted.
        low, high: Trusted range of the raw values, both included.
        readout: Pedestal and gain.
        first: Nothing was added yet.
        counts, valid: (size,) float32, bool.
    """
    pedestal, gain = readout
    plain = pedestal == 0.0 and gain == 1.0
    negative = np.uint8(0)
    zero = np.float32(0.0)
    size = keep.size
    for begin in range(0, size, _STRIP):
        start, stop = np.uintp(begin), np.uintp(min(begin + _STRIP, size))
        if first:
            for i in range(start, stop):
                counts[i] = zero
                valid[i] = keep[i]
        for j in range(n):
            one = raw[j]
            if plain:
                for i in range(start, stop):
                    valid[i] &= (one[i] >= low) & (one[i] <= high)
                    counts[i] += np.float32(one[i])
            else:
                for i in range(start, stop):
                    valid[i] &= (one[i] >= low) & (one[i] <= high)
                    counts[i] += np.float32((one[i] - pedestal) / gain)
        for i in range(start, stop):
            value = counts[i] if valid[i] else zero
            counts[i] = value
            negative |= np.uint8(value < zero)
    return negative != 0


def counts_of(
    raw: Sequence[np.ndarray],
    usable: Sequence[Sequence[np.ndarray]],
    panel: int,
    readout: tuple[float, float],
    counts: np.ndarray,
    valid: np.ndarray,
) -> bool:
    """Whether a count is below 0; writes the counts of some images together.

    Args:
        raw: (n_slow, n_fast) raw values of the panel, of each image, all of one type.
        usable: Per image as `models.Image.usable`; all pixels if it is empty.
        panel: Index of the panel.
        readout: Pedestal and gain: counts are (raw - pedestal) / gain.
        counts, valid: (n_slow, n_fast) float32, bool: where to write the sums, 0 where
            an image may not be used, and where all may (True).
    """
    keep, limits = usable_in_all(usable, panel)
    if keep is None:
        keep = np.ones(counts.shape, bool)
    low, high = limits_of(limits, raw[0].dtype)
    keep = np.ascontiguousarray(keep).reshape(-1)
    flat = [np.ascontiguousarray(one).reshape(-1) for one in raw]
    negative = False
    for start in range(0, len(flat), MOST):
        some = flat[start : start + MOST]
        n = len(some)
        some += some[:1] * (MOST - n)
        negative = _add(
            tuple(some),
            n,
            keep,
            low,
            high,
            readout,
            start == 0,
            counts.reshape(-1),
            valid.reshape(-1),
        )
    return negative


def usable_in_all(
    usable: Sequence[Sequence[np.ndarray]], panel: int
) -> tuple[np.ndarray | None, tuple[float, float]]:
    """Pixels that may be used in all of some images, and a trusted range to apply.

    None for all pixels. Arrays are made only where the images do not share theirs.

    Args:
        usable: Per image as `models.Image.usable`; all pixels if it is empty.
        panel: Index of the panel.
    """
    if shared := shared_trusted(usable, panel):
        return shared
    keep = None
    for one in usable:
        if len(one):
            mask = np.asarray(one[panel], bool)
            keep = mask if keep is None else keep & mask
    return keep, (-np.inf, np.inf)


def shared_trusted(
    usable: Sequence[Sequence[np.ndarray]], panel: int
) -> tuple[np.ndarray, tuple[float, float]] | None:
    """What images may use (n_slow, n_fast) and the trusted range, both ends included.

    None if that differs between them, or is not known without their masks.
    """
    first = usable[0]
    for one in usable:
        if not isinstance(one, Usable) or one.moving is not None:
            return None
        if one.trusted.keep[panel] is not first.trusted.keep[panel]:
            return None
        if one.trusted.limits[panel] != first.trusted.limits[panel]:
            return None
    return first.trusted.keep[panel], first.trusted.limits[panel]

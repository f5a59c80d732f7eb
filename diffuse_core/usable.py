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


@njit(cache=True, error_model="numpy")
def _read(raw, keep, low, high, values, counts, valid):
    """Writes counts, 0 where they may not be used, and where they may; returns whether
    one is below 0.

    Args:
        raw, values: (size,) raw values, and what they mean.
        keep: (size,) bool: pixels that may be used if they are trusted.
        low, high: Trusted range of the raw values, both included.
        counts, valid: (size,) float32, bool.
    """
    negative = np.uint8(0)
    zero = np.float32(0.0)
    for i in range(np.uintp(raw.size)):
        good = keep[i] & (raw[i] >= low) & (raw[i] <= high)
        value = np.float32(values[i]) if good else zero
        valid[i] = good
        counts[i] = value
        negative |= np.uint8(value < zero)
    return negative != 0


def counts_of(
    raw: np.ndarray,
    usable: Sequence[np.ndarray],
    panel: int,
    readout: tuple[float, float],
    counts: np.ndarray,
    valid: np.ndarray,
) -> bool:
    """Whether a count is below 0; writes counts, 0 where they may not be used.

    Args:
        raw: (n_slow, n_fast) raw values of the panel.
        usable: As `models.Image.usable`; all pixels if it is empty.
        panel: Index of the panel.
        readout: Pedestal and gain: counts are (raw - pedestal) / gain.
        counts, valid: (n_slow, n_fast) float32, bool (True = use): where to write.
    """
    limits = -np.inf, np.inf
    if not usable:
        keep = np.ones(raw.shape, bool)
    elif isinstance(usable, Usable) and usable.moving is None:
        keep, limits = usable.trusted.keep[panel], usable.trusted.limits[panel]
    else:
        keep = np.asarray(usable[panel], bool)
    pedestal, gain = readout
    values = raw if readout == (0.0, 1.0) else (raw - pedestal) / gain
    flat = [np.ascontiguousarray(a).reshape(-1) for a in (raw, keep, values)]
    low, high = limits_of(limits, raw.dtype)
    return _read(
        flat[0], flat[1], low, high, flat[2], counts.reshape(-1), valid.reshape(-1)
    )

"""Which pixels of an image may be used, worked out only for what is asked.

dxtbx' own mask of an image costs more than reading it, as it is made again for every
image. The part that is the same for all images is made once; the rest is a comparison
of the raw values with the trusted range, which the kernel does while it reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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

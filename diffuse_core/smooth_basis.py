"""Gaussian smoothers as a basis of a scaling component, one for a group of sources."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from diffuse_core.models import Basis
from diffuse_core.smooth import Axis, roughness, smoother


@dataclass
class SmoothBasis(Basis):
    """A Gaussian smoother of one to three coordinates for each group of sources.

    Args:
        groups: Source (as text) -> its group, 0, 1, ...
        axes: Per group and coordinate: lowest, highest, number of intervals.
        level: Start value of all parameters.
        held: Coordinates over whose parameters means are held: at each parameter of the
            other coordinates the mean stays at `level`.
        across: Whether these means go over all groups, too.
    """

    groups: dict[str, int]
    axes: list[list[list[float]]]
    level: float = 1.0
    held: list[int] = field(default_factory=list)
    across: bool = False

    def __post_init__(self) -> None:
        self._axes = [
            [Axis(low, high, int(n)) for low, high, n in group] for group in self.axes
        ]
        self._sizes = [[axis.size for axis in group] for group in self._axes]
        totals = [math.prod(sizes) for sizes in self._sizes]
        self._first = np.cumsum([0, *totals])
        self._group = {int(source): group for source, group in self.groups.items()}
        self.initial = np.full(self._first[-1], self.level)

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 1 + number of coordinates): source, then the coordinates.
        """
        n = len(coordinates)
        width = 3 ** len(self._axes[0])
        index = np.zeros((n, width), np.int32)
        weight = np.zeros((n, width))
        known = sorted(self._group)
        groups = np.array([self._group[source] for source in known])
        found = np.searchsorted(known, coordinates[:, 0].astype(np.int64))
        group = groups[np.minimum(found, len(known) - 1)]
        for number, axes in enumerate(self._axes):
            here = np.flatnonzero(group == number)
            if not len(here):
                continue
            part = smoother(axes, coordinates[here, 1:].T)
            k = part.indptr[1]
            index[here, :k] = part.indices.reshape(-1, k) + self._first[number]
            weight[here, :k] = part.data.reshape(-1, k)
        start = np.arange(n + 1) * width
        return sparse.csr_matrix(
            (weight.ravel(), index.ravel(), start), (n, len(self.initial))
        )

    def penalty(self):
        """Second differences of neighbouring parameters along each coordinate."""
        return sparse.block_diag([roughness(sizes) for sizes in self._sizes])

    def gauge(self):
        """Means over the held coordinates."""
        if not self.held:
            return super().gauge()
        parts = []
        for sizes in self._sizes:
            part = sparse.identity(1)
            for i, size in enumerate(sizes):
                mean = np.full((1, size), 1.0 / size)
                part = sparse.kron(
                    part, mean if i in self.held else sparse.identity(size)
                )
            parts.append(part)
        if self.across:
            return sparse.hstack(parts) / len(parts)
        return sparse.block_diag(parts)

"""A basis that takes one of its parameters for each observation."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from diffuse_core.models import Basis


class OneOf(Basis):
    """One value for each of several groups of observations, expected to be 1.

    A subclass is a dataclass that sets `initial` and finds the groups.
    """

    @abstractmethod
    def group(self, coordinates: np.ndarray) -> np.ndarray:
        """(n,) int64: number of the parameter at each of the coordinates (n, ...)."""

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR with a single 1 in every row."""
        from scipy import sparse

        n = len(coordinates)
        return sparse.csr_matrix(
            (np.ones(n), self.group(coordinates), np.arange(n + 1)),
            (n, len(self.initial)),
        )

    def penalty(self):
        """Deviations from 1."""
        from scipy import sparse

        return sparse.identity(len(self.initial), format="csr")

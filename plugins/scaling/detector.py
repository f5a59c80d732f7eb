"""G(x, y): sensitivity of panels, or of their modules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent

PHIL = """
modules = 1 1
  .type = ints(size=2, value_min=1)
  .help = "Into how many equal parts along fast and slow every panel is divided; each"
          "part has a factor of its own. 1 1: one factor for each panel."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected spread of the factors about their mean, which is 1. Auto: chosen by"
          "held-out observations."
"""


class DetectorScale(ScalingComponent):
    """One factor for each part of each panel, the same for all images of a detector.

    Args:
        shapes: Per detector: size of its panels in pixels, (n_fast, n_slow).
        detectors: The detector of each source.
        modules: Parts of a panel along fast and slow.
        smoothness: Expected spread; None: to be chosen.
    """

    role = "path"
    columns = ("source", "panel", "x", "y")

    def __init__(
        self,
        shapes: list[list[tuple[int, int]]],
        detectors: list[int],
        modules: tuple[int, int] = (1, 1),
        smoothness: float | None = None,
    ) -> None:
        self.shapes = shapes
        self.detectors = detectors
        self.modules = modules
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> DetectorScale:
        detectors = [run.first_of_setup(i).detector for i in sorted(set(run.setups))]
        fixed = isinstance(params.smoothness, float)
        return cls(
            [[tuple(p.get_image_size()) for p in detector] for detector in detectors],
            list(run.setups),
            tuple(params.modules),
            params.smoothness if fixed else None,
        )

    def bind(self, domain: Domain) -> Basis:
        """One parameter for each part of each panel of each detector."""
        return Parts(self.shapes, list(self.detectors), list(self.modules))


@dataclass
class Parts(Basis):
    """One value for each part of a panel.

    Args:
        shapes: Per detector and panel: n_fast, n_slow.
        detectors: The detector of each source.
        modules: Parts of a panel along fast and slow.
    """

    shapes: list[list[list[int]]]
    detectors: list[int]
    modules: list[int]

    def __post_init__(self) -> None:
        self._first = np.cumsum([0, *(len(panels) for panels in self.shapes)])
        self._sizes = np.concatenate([np.array(p) for p in self.shapes])
        self.initial = np.ones(len(self._sizes) * self.modules[0] * self.modules[1])

    def basis(self, coordinates: np.ndarray):
        """(n, n_parameters) CSR.

        Args:
            coordinates: (n, 4): source, panel, x, y (pixels).
        """
        from scipy import sparse

        source, panel = coordinates[:, :2].astype(np.int64).T
        panel = panel + self._first[np.array(self.detectors)[source]]
        where = coordinates[:, 2:] / self._sizes[panel] * self.modules
        where = np.clip(where.astype(np.int64), 0, np.array(self.modules) - 1)
        index = (panel * self.modules[1] + where[:, 1]) * self.modules[0] + where[:, 0]
        n = len(index)
        return sparse.csr_matrix(
            (np.ones(n), index, np.arange(n + 1)), (n, len(self.initial))
        )

    def penalty(self):
        """Deviations from 1."""
        from scipy import sparse

        return sparse.identity(len(self.initial), format="csr")


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="detector",
        factory="diffuse_core.plugins.scaling.detector:DetectorScale",
        summary="G(x, y): relative sensitivity of panels or of their modules.",
        phil=PHIL,
    )

"""G(x, y): sensitivity of panels, of their modules, or smooth across the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent
from diffuse_core.one_of import OneOf
from diffuse_core.scan_component import given_size

PHIL = """
variation = *parts smooth
  .type = choice
  .help = "One factor for each part of a panel, or a smooth function of the direction"
          "to the pixel, across all panels."
intervals = 8 8
  .type = ints(size=2, value_min=1)
  .help = "Of a smooth variation: number of intervals of the parameters across the"
          "detector, horizontally and vertically as its first panel lies."
modules = 1 1
  .type = ints(size=2, value_min=1)
  .help = "Into how many equal parts along fast and slow every panel is divided; each"
          "part has a factor of its own. 1 1: one factor for each panel."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected spread of the factors about their mean, which is 1, or of a smooth"
          "variation the size of its second differences. Auto: chosen by held-out"
          "observations."
"""


class DetectorScale(ScalingComponent):
    """A function of the place on a detector, the same for all its images.

    Args:
        shapes: Per detector: size of its panels in pixels, (n_fast, n_slow).
        detectors: The detector of each source.
        modules: Parts of a panel along fast and slow, each with one factor.
        smoothness: Expected spread, or size of second differences; None: to be chosen.
        frames: Frame (`diffuse_core.directions`) of each detector: a Gaussian smoother
            of the direction, instead of parts.
        intervals: Of the smoother.
    """

    role = "path"
    columns = ("source", "panel", "x", "y")

    def __init__(
        self,
        shapes: list[list[tuple[int, int]]],
        detectors: list[int],
        modules: tuple[int, int] = (1, 1),
        smoothness: float | None = None,
        frames: list[dict] | None = None,
        intervals: tuple[int, int] = (8, 8),
    ) -> None:
        self.shapes = shapes
        self.detectors = detectors
        self.modules = modules
        self.smoothness = smoothness
        self.frames = frames
        self.intervals = intervals

    @classmethod
    def from_params(cls, params, run: RunInputs) -> DetectorScale:
        from diffuse_core.directions import frames_of

        frames = frames_of(run)
        return cls(
            [[tuple(p["size"]) for p in frame["panels"]] for frame in frames],
            list(run.setups),
            tuple(params.modules),
            given_size(params.smoothness),
            frames if params.variation == "smooth" else None,
            tuple(params.intervals),
        )

    def bind(self, domain: Domain) -> Basis:
        """One parameter for each part of each panel, or a smoother, per detector."""
        if self.frames is None:
            return Parts(self.shapes, list(self.detectors), list(self.modules))
        from diffuse_core.directions import DirectionBasis, limits

        return DirectionBasis(
            {str(source): group for source, group in enumerate(self.detectors)},
            [
                [
                    [*ends, n]
                    for ends, n in zip(limits(frame), self.intervals, strict=True)
                ]
                for frame in self.frames
            ],
            frames=self.frames,
            detectors=list(self.detectors),
        )


@dataclass
class Parts(OneOf):
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

    def group(self, coordinates: np.ndarray) -> np.ndarray:
        """(n,) int64: number of the part.

        Args:
            coordinates: (n, 4): source, panel, x, y (pixels).
        """
        source, panel = coordinates[:, :2].astype(np.int64).T
        panel = panel + self._first[np.array(self.detectors)[source]]
        where = coordinates[:, 2:] / self._sizes[panel] * self.modules
        where = np.clip(where.astype(np.int64), 0, np.array(self.modules) - 1)
        return (panel * self.modules[1] + where[:, 1]) * self.modules[0] + where[:, 0]


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="detector",
        factory="diffuse_core.plugins.scaling.detector:DetectorScale",
        summary="G(x, y): sensitivity of panels, of their modules, or smooth.",
        phil=PHIL,
    )

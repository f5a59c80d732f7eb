"""B of each still: one number for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Domain, RunInputs, ScalingComponent
from diffuse_core.one_of import OneOf
from diffuse_core.scan_component import given_size

PHIL = """
scans = False
  .type = bool
  .help = "One number for each block of a scan as well (block.width deg)."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected spread of the scales about their mean, which is 1. Auto: chosen by"
          "held-out observations."
"""


class PerImage(ScalingComponent):
    """One value for each still, or each block.

    Args:
        scans: Whether it applies to the blocks of scans as well.
        smoothness: Expected spread; None: to be chosen.
    """

    role = "crystal"
    columns = ("source", "block")

    def __init__(self, scans: bool = False, smoothness: float | None = None) -> None:
        self.scans = scans
        self.smoothness = smoothness

    @classmethod
    def from_params(cls, params, run: RunInputs) -> PerImage:
        return cls(params.scans, given_size(params.smoothness))

    def applies(self, source) -> bool:
        """Stills, and scans where the user says so."""
        return source.still or self.scans

    def bind(self, domain: Domain) -> Values:
        """One parameter for each block that has observations."""
        return Values({str(n): list(domain.blocks[n]) for n in domain.used()})


@dataclass
class Values(OneOf):
    """One value for each block; a block without one takes that of its neighbour.

    Args:
        blocks: Source -> numbers of its blocks, ascending.
    """

    blocks: dict[str, list[int]]

    def __post_init__(self) -> None:
        self._blocks = {int(s): np.asarray(b) for s, b in self.blocks.items()}
        sizes = [len(b) for b in self._blocks.values()]
        self._first = dict(zip(self._blocks, np.cumsum([0, *sizes]), strict=False))
        self.initial = np.ones(sum(sizes))

    def group(self, coordinates: np.ndarray) -> np.ndarray:
        """(n,) int64: number of the block.

        Args:
            coordinates: (n, 2): source, block.
        """
        source, block = coordinates.T
        sources = np.array(list(self._blocks))
        keys = np.concatenate(
            [s * 2.0**32 + blocks for s, blocks in sorted(self._blocks.items())]
        )
        order = np.concatenate(
            [self._first[s] + np.arange(len(self._blocks[s])) for s in np.sort(sources)]
        )
        found = np.searchsorted(keys, source * 2.0**32 + block)
        found = np.clip(found, 0, len(keys) - 1)
        before = np.clip(found - 1, 0, None)
        wrong = keys[found] // 2.0**32 != source
        return order[np.where(wrong, before, found)]


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="per_image",
        factory="diffuse_core.plugins.scaling.per_image:PerImage",
        summary="B of each still: one number for each image.",
        phil=PHIL,
        default=True,
    )

"""Images that are taken through the kernel together, as its arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.memory import CHUNK_BYTES, images_within
from diffuse_core.models import Image
from diffuse_core.panels import Exposure, Models, n_together
from diffuse_core.regions import pack_regions

IMAGES = 12
"""Most images of a chunk; large images make smaller ones (`memory.CHUNK_BYTES`)."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive images of a block; what does not depend on the panel.

    Attributes:
        images: With their pixels.
        affine: (n_images, n_rotation, 3, 4) float64: s (1/A) to voxel index; None if
            the mapping isn't affine.
        phi: (n_images, n_rotation) float64, deg.
        time: (n_images,) float64: exposure times, s.
        regions: Packed `LatticeRegion`s, see `regions.pack_regions`.
    """

    images: Sequence[Image]
    affine: np.ndarray | None
    phi: np.ndarray
    time: np.ndarray
    regions: tuple

    @classmethod
    def of(cls, exposures: Sequence[Exposure], models: Models) -> Chunk:
        """The chunk of some images that were read."""
        images = [e.image for e in exposures]
        affine = [
            [models.mapper.affine(sub) for sub in e.sub_images] for e in exposures
        ]
        return cls(
            images=images,
            affine=None if affine[0][0] is None else np.array(affine, float),
            phi=np.array([[sub.phi for sub in e.sub_images] for e in exposures]),
            time=np.array([image.exposure for image in images]),
            regions=pack_regions(
                [
                    [r for m in models.masks for r in m.lattice_regions(image)]
                    for image in images
                ]
            ),
        )


def chunks(exposures: Iterable[Exposure], models: Models) -> Iterator[Chunk]:
    """Chunks of at most `IMAGES` images; each is read when it is asked for.

    They hold whole groups of the images that masks want to see together, unless a
    group is larger than memory allows.
    """
    waiting: list[Exposure] = []
    for exposure in exposures:
        waiting.append(exposure)
        if len(waiting) == _length(exposure.image, models):
            yield Chunk.of(waiting, models)
            waiting = []
    if waiting:
        yield Chunk.of(waiting, models)


def _length(image: Image, models: Models) -> int:
    """How many images like this one make a chunk."""
    size = sum(panel.nbytes for panel in image.counts)
    most = images_within(CHUNK_BYTES, size, IMAGES)
    group = math.lcm(*(n_together(model, image) for model in models.masks))
    return most - most % group if group <= most else most

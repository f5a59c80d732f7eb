"""Lattice regions of a chunk of images as the arrays of the kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.errors import PluginError
from diffuse_core.models import LatticeRegion


def pack_regions(per_image: Sequence[Sequence[LatticeRegion]]) -> tuple:
    """Lattice regions as the arrays of the kernel, padded to equal numbers.

    Args:
        per_image: The regions of each image of a chunk.

    Returns:
        affine (n_images, n, 3, 4), b (n, 3, 3), its inverse, axis (n_images, n, 3),
        size (n_images, n, 6), rotations (n, m, 3, 3), translations (n, m, 3), number
        of operators (n,), denominator (n,), offsets (n, k, 3), number of them (n,).
    """
    n_images, n = len(per_image), len(per_image[0])
    if any(len(regions) != n for regions in per_image):
        raise PluginError(
            "A mask returned different numbers of lattice regions for the images of "
            "one block; it must return the same number for each."
        )
    n_op = np.array([len(r.rotations) for r in per_image[0]], np.int64)
    n_off = np.array([len(r.offsets) for r in per_image[0]], np.int64)
    most = int(n_op.max()) if n else 0
    affine = np.zeros((n_images, n, 3, 4))
    axis = np.zeros((n_images, n, 3))
    size = np.zeros((n_images, n, 6))
    b = np.zeros((n, 3, 3))
    rotations = np.zeros((n, most, 3, 3), np.int64)
    translations = np.zeros((n, most, 3), np.int64)
    denominator = np.ones(n, np.int64)
    offsets = np.zeros((n, int(n_off.max()) if n else 0, 3))
    for i, regions in enumerate(per_image):
        for j, r in enumerate(regions):
            affine[i, j], axis[i, j] = r.affine, r.axis
            squares = np.square([*r.radial, *r.tangential, r.floor])
            size[i, j] = [*squares, r.half_width]
            if i == 0:
                b[j] = r.b
                rotations[j, : n_op[j]] = r.rotations
                translations[j, : n_op[j]] = r.translations
                denominator[j] = r.denominator
                offsets[j, : n_off[j]] = r.offsets
    inverse_b = np.linalg.inv(b) if n else b
    return (
        affine,
        b,
        inverse_b,
        axis,
        size,
        rotations,
        translations,
        n_op,
        denominator,
        offsets,
        n_off,
    )

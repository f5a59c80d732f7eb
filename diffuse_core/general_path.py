"""The path of a chunk of images that holds for all models.

Oversampling, mappings that are not affine, and responses and backgrounds that single
images add go this way; `fused_path` is the fast one, and this its reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from diffuse_core import kernels
from diffuse_core.chunk import Chunk
from diffuse_core.geometry import PanelGeometry
from diffuse_core.grid import keys_of
from diffuse_core.panels import (
    Models,
    PanelSetup,
    checked,
    image_background,
    image_masks,
    image_response,
)
from diffuse_core.region_kernels import keep_pixels
from diffuse_core.stays import Stay

TILE = 64
LARGEST_BOX = 2_000_000


def integrate_chunk(
    models: Models, panel: PanelSetup, chunk: Chunk, stay: Stay
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys (n,) int64 and sums (n, 9) float64, `kernels.COLUMNS`, of voxels.

    A voxel may come several times.
    """
    geometry = panel.geometry
    p = geometry.index
    images = chunk.images
    counts = np.stack([image.counts[p] for image in images])
    usable = np.stack([image.usable[p] for image in images])
    for i, mask in enumerate(image_masks(images, panel, models)):
        if mask is not None:
            usable[i] &= mask
    scale, responses = image_response(images, panel, models)
    shared = (
        panel.response,
        responses,
        scale,
        panel.background,
        panel.variance,
        *image_background(images, panel, models),
        chunk.time,
        np.array([panel.readout.pedestal, panel.readout.gain]),
    )
    if chunk.affine is None:
        keep = np.empty(counts.shape, bool)
        keep_pixels(panel.mask, usable, geometry.s, chunk.regions, keep)
        yield from _any_mapping(
            models.mapper, panel, images, counts, keep, shared, stay
        )
        return
    sub_pixels = np.array(models.mapper.oversample[:2], np.int64)
    for tile, box in _tiles(geometry, chunk.affine, sub_pixels):
        sums = np.zeros((*(box[1] - box[0] + 1), len(kernels.COLUMNS)))
        kernels.accumulate_tile(
            counts,
            usable,
            panel.mask,
            geometry.s,
            *shared,
            chunk.affine,
            chunk.phi,
            sub_pixels,
            chunk.regions,
            tile,
            box,
            stay.key,
            stay.time,
            sums,
        )
        index, values = kernels.rows_of_box(sums, box)
        if len(index):
            yield keys_of(index), values


def _any_mapping(mapper, panel, images, counts, keep, shared, stay: Stay):
    """The path of mappings that aren't affine: keys from the mapper, one sort."""
    (
        response,
        image_response,
        scale,
        mean,
        variance,
        i_mean,
        i_var,
        time,
        readout,
    ) = shared
    geometry = panel.geometry
    zero = np.zeros(geometry.shape, np.float32)
    mean, variance = (b if b.size else zero for b in (mean, variance))
    for i, image in enumerate(images):
        voxels = mapper.voxels(image, geometry)
        voxels = checked(mapper, voxels, geometry.shape)
        where = np.nonzero(keep[i] & (voxels >= 0))
        y, x = where
        e = response[where] * scale[i]
        if len(image_response):
            e = e * image_response[i][where]
        b = mean[where] * time[i]
        v = variance[where] * stay.squares(where, voxels[where], time[i])
        if len(i_mean):
            b = b + i_mean[i][where] * time[i]
            v = v + i_var[i][where] * time[i] ** 2
        n = (counts[i][where] - readout[0]) / readout[1]
        s = np.linalg.norm(geometry.s[where], axis=-1)
        ones = np.ones(len(n))
        columns = [n, ones, e, b, v, ones * image.phi, x + 0.5, y + 0.5, s]
        yield _by_voxel(voxels[where], columns)


def _by_voxel(keys: np.ndarray, columns: Sequence[np.ndarray]):
    """Keys that occur, and the columns (n,) added up over each, (n_keys, n_columns)."""
    found, inverse = np.unique(keys, return_inverse=True)
    sums = [np.bincount(inverse, column, len(found)) for column in columns]
    return found, np.column_stack(sums)


def _tiles(geometry: PanelGeometry, affine: np.ndarray, sub_pixels: np.ndarray):
    n_slow, n_fast = geometry.shape
    waiting = [
        (y, min(y + TILE, n_slow), x, min(x + TILE, n_fast))
        for y in range(0, n_slow, TILE)
        for x in range(0, n_fast, TILE)
    ][::-1]
    while waiting:
        tile = waiting.pop()
        box = kernels.tile_box(geometry.s, affine, sub_pixels, *tile)
        y0, y1, x0, x1 = tile
        if np.prod(box[1] - box[0] + 1.0) > LARGEST_BOX and (y1 - y0) * (x1 - x0) > 1:
            if y1 - y0 >= x1 - x0:
                middle = (y0 + y1) // 2
                waiting += [(middle, y1, x0, x1), (y0, middle, x0, x1)]
            else:
                middle = (x0 + x1) // 2
                waiting += [(y0, y1, middle, x1), (y0, y1, x0, middle)]
            continue
        yield tile, box

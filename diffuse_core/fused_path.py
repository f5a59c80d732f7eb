"""The fast path of a chunk of images: calls of the compiled loop of `fused_kernel`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diffuse_core import kernels
from diffuse_core.chunk import IMAGES, Chunk
from diffuse_core.fused_kernel import accumulate, most_rows
from diffuse_core.grid import OFFSET
from diffuse_core.panels import (
    Models,
    PanelSetup,
    image_background,
    image_masks,
    image_response,
)
from diffuse_core.stays import Stay
from diffuse_core.usable import limits_of, shared_trusted

ROOM = 1 << 17
"""Rows that are collected before they are handed on."""


def integrate_chunk(
    models: Models, panel: PanelSetup, chunk: Chunk, stay: Stay
) -> Iterator[tuple[np.ndarray, np.ndarray]] | None:
    """Keys (n,) int64 and sums (n, 9) float64, `kernels.COLUMNS`, of voxels.

    A voxel may come several times. None if the chunk needs the general path.
    """
    images = chunk.images
    if chunk.affine is None or tuple(models.mapper.oversample) != (1, 1, 1):
        return None
    if not _within_keys(chunk.affine, panel.geometry.beam.wavelength):
        return None
    scale, responses = image_response(images, panel, models)
    mean, _ = image_background(images, panel, models)
    if len(responses) or len(mean):
        return None
    per_image = np.column_stack([scale, chunk.time, chunk.phi[:, 0]])
    return _rows(models, panel, chunk, stay, per_image)


def _within_keys(affine: np.ndarray, wavelength: float) -> bool:
    """True if no voxel index can be beyond what a key holds: |s| <= 2 / wavelength."""
    reach = np.linalg.norm(affine[..., :3], axis=-1) * 2.0 / wavelength
    return bool((reach + np.abs(affine[..., 3])).max() < OFFSET - 1)


def _rows(models, panel, chunk, stay, per_image):
    keep, limits, masks = _usable(models, panel, chunk)
    p = panel.geometry.index
    raw = [np.ascontiguousarray(image.counts[p]).reshape(-1) for image in chunk.images]
    n_images = len(raw)
    raw += raw[:1] * (IMAGES - n_images)
    masks += masks[:1] * (IMAGES - n_images)
    room = most_rows(n_images) + ROOM
    found, sums = np.empty(room, np.int64), np.empty((room, len(kernels.COLUMNS)))
    tile = 0
    while tile >= 0:
        tile, n = accumulate(
            tuple(raw),
            tuple(masks),
            n_images,
            limits_of(limits, raw[0].dtype),
            keep,
            panel.geometry.s,
            panel.response,
            panel.background,
            panel.variance,
            stay.key.reshape(-1),
            stay.time.reshape(-1),
            chunk.affine[:, 0],
            chunk.regions,
            per_image,
            (panel.readout.pedestal, panel.readout.gain),
            tile,
            found,
            sums,
        )
        if n:
            yield found[:n].copy(), sums[:n].copy()


def _usable(models: Models, panel: PanelSetup, chunk: Chunk):
    """What may be used in every image, the trusted range, and masks of the images.

    Masks are (n_slow * n_fast,) bool, all of them (0,) where no image has one.
    """
    p = panel.geometry.index
    keep, limits = panel.mask, (-np.inf, np.inf)
    shared = shared_trusted([image.usable for image in chunk.images], p)
    if shared:
        keep, limits = keep & shared[0], shared[1]
    masks = image_masks(chunk.images, panel, models)
    if not shared:
        for i, image in enumerate(chunk.images):
            usable, mask = np.asarray(image.usable[p]), masks[i]
            masks[i] = usable if mask is None else mask & usable
    if all(mask is None for mask in masks):
        return keep, limits, [np.empty(0, bool)] * len(masks)
    whole = np.ones(keep.shape, bool)
    masks = [whole if mask is None else mask for mask in masks]
    return keep, limits, [np.ascontiguousarray(m).reshape(-1) for m in masks]

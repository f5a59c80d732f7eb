"""How long pixels stay in voxels: what an error that images share needs to know.

A background that is measured once per pixel has one error for all images. While a
pixel stays in one voxel its exposure times add up before they are squared, so T^2
grows by dt (2 T + dt) with each image. A block begins with the T that its pixels bring
along from the images before it; thus the rows of several blocks simply add up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from diffuse_core.geometry import PanelGeometry
from diffuse_core.kernels import pixel_slope, voxel_key
from diffuse_core.models import Mapper, MaskModel
from diffuse_core.region_kernels import (
    in_region,
    keep_pixels,
    region_reach,
    within_reach,
)
from diffuse_core.regions import pack_regions

if TYPE_CHECKING:
    from diffuse_core.panels import Exposure

CHUNK = 8


@dataclass(frozen=True, eq=False)
class Stay:
    """How long each pixel of a panel has stayed in its voxel.

    Attributes:
        key: (n_slow, n_fast) int64: key of the voxel that the pixel was in last, -1 =
            none; (0, 0) where no background has a variance.
        time: (n_slow, n_fast) float64, s.
    """

    key: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))
    time: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def squares(self, where, keys: np.ndarray, dt: float) -> np.ndarray | float:
        """By how much T^2 of pixels grows that are in voxels `keys` for dt (s)."""
        if not self.key.size:
            return 0.0
        together = np.where(self.key[where] == keys, self.time[where], 0.0)
        self.key[where] = keys
        self.time[where] = together + dt
        return dt * (2.0 * together + dt)


def stay_before(
    geometry: PanelGeometry,
    mask: np.ndarray,
    masks: Sequence[MaskModel],
    mapper: Mapper,
    earlier: Iterator[Exposure],
) -> Stay:
    """The stay with which a block begins, after the images before it.

    No pixel is read: of what single images leave out only the lattice regions are
    known here.

    Args:
        geometry: The panel.
        mask: (n_slow, n_fast) bool: product of the masks of the panel.
        masks: Their `lattice_regions` count.
        mapper: The mapping.
        earlier: Images before the block without their pixels, the latest first; taken
            as long as a pixel can still be in the voxel that it was in last.
    """
    stay = Stay(np.full(geometry.shape, -1, np.int64), np.zeros(geometry.shape))
    following = np.flatnonzero(mask).astype(np.int32)
    while len(following) and (chunk := list(islice(earlier, CHUNK))):
        regions = pack_regions(
            [[r for m in masks for r in m.lattice_regions(e.image)] for e in chunk]
        )
        affine = [[mapper.affine(sub) for sub in e.sub_images] for e in chunk]
        if affine[0][0] is None:
            still = _walk_keys(geometry, mapper, chunk, regions, following, stay)
        else:
            still = walk_back(
                geometry.s,
                np.array(affine, float),
                np.array([e.image.exposure for e in chunk]),
                np.array(mapper.oversample[:2], np.int64),
                regions,
                following,
                stay.key,
                stay.time,
            )
        following = following[still]
    return stay


def _walk_keys(geometry, mapper, chunk, regions, following, stay: Stay) -> np.ndarray:
    """`walk_back` for a mapping that isn't affine."""
    mask = np.zeros(geometry.shape, bool)
    mask.flat[following] = True
    keep = np.empty((len(chunk), *geometry.shape), bool)
    keep_pixels(mask, np.ones_like(keep), geometry.s, regions, keep)
    for exposure, kept in zip(chunk, keep, strict=True):
        voxels = mapper.voxels(exposure.image, geometry)
        seen = mask & kept & (voxels >= 0)
        begun = seen & (stay.key < 0)
        stay.key[begun] = voxels[begun]
        same = seen & (stay.key == voxels)
        stay.time[same] += exposure.image.exposure
        mask &= same | ~seen
    return mask.flat[following]


@njit(cache=True)
def walk_back(s, affine, time, sub_pixels, regions, following, stay_key, stay_time):
    """Follows pixels back until they leave the voxel that they were in last.

    `kernels.accumulate_tile` in reverse, with nothing but the stays.

    Args:
        s: (n_slow, n_fast, 3) float32, 1/A.
        affine: (n_images, n_rotation, 3, 4) float64, the latest image first.
        time: (n_images,) float64: exposure time (s).
        sub_pixels: (2,) int64.
        regions: packed `LatticeRegion`s of these images.
        following: (n,) int32: the pixels, counted along fast, then slow.
        stay_key, stay_time: (n_slow, n_fast) int64 and float64 (s), written.

    Returns:
        (n,) bool: pixels that have not left their voxel.
    """
    lattices, basis, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = (
        regions
    )
    reach = region_reach(s, 0, s.shape[0], 0, s.shape[1], regions)
    n_rotation = affine.shape[1]
    n_x, n_y = sub_pixels[0], sub_pixels[1]
    share = 1.0 / (n_rotation * n_x * n_y)
    still = np.ones(len(following), np.bool_)
    for p in range(len(following)):
        y, x = divmod(following[p], s.shape[1])
        px = s[y, x, 0]
        py = s[y, x, 1]
        pz = s[y, x, 2]
        for i in range(affine.shape[0]):
            masked = False
            for r in range(lattices.shape[1]):
                if not masked and within_reach(px, py, pz, i, r, lattices, reach):
                    masked = in_region(
                        px,
                        py,
                        pz,
                        i,
                        r,
                        lattices,
                        basis,
                        inverse_b,
                        axis,
                        size,
                        rot,
                        trans,
                        n_op,
                        den,
                        offsets,
                        n_off,
                    )
            if masked:
                continue
            for part in range(n_x * n_y * n_rotation - 1, -1, -1):
                j = part % n_rotation
                u = (part // (n_rotation * n_y) + 0.5) / n_x - 0.5
                w = (part // n_rotation % n_y + 0.5) / n_y - 0.5
                qx, qy, qz = px, py, pz
                if n_x > 1:
                    qx += u * pixel_slope(s, y, x, 0, True)
                    qy += u * pixel_slope(s, y, x, 1, True)
                    qz += u * pixel_slope(s, y, x, 2, True)
                if n_y > 1:
                    qx += w * pixel_slope(s, y, x, 0, False)
                    qy += w * pixel_slope(s, y, x, 1, False)
                    qz += w * pixel_slope(s, y, x, 2, False)
                a = affine[i, j]
                key = voxel_key(
                    int(
                        np.floor(
                            a[0, 0] * qx + a[0, 1] * qy + a[0, 2] * qz + a[0, 3] + 0.5
                        )
                    ),
                    int(
                        np.floor(
                            a[1, 0] * qx + a[1, 1] * qy + a[1, 2] * qz + a[1, 3] + 0.5
                        )
                    ),
                    int(
                        np.floor(
                            a[2, 0] * qx + a[2, 1] * qy + a[2, 2] * qz + a[2, 3] + 0.5
                        )
                    ),
                )
                if stay_key[y, x] < 0:
                    stay_key[y, x] = key
                if stay_key[y, x] != key:
                    still[p] = False
                    break
                stay_time[y, x] += share * time[i]
            if not still[p]:
                break
    return still

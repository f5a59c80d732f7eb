"""Which spots a crystal gives, where and how strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cctbx import crystal, miller
from dxtbx.model import Beam, Detector
from scitbx.array_family import flex

from diffuse_core.simulate.orientation import Orientation
from diffuse_core.simulate.responses import PanelView

CUTOFF = 5.0
"""Spots are cut off at this number of standard deviations."""

SEARCH_STEP = 0.2
"""Degrees between the angles at which crossings of the Ewald sphere are bracketed."""

GRAZING = 0.1
"""Spots that cross the sphere more slowly than this part of their speed are left out:
they are near the rotation axis, where a spot does not move on a straight line."""

PADDING = 1.0
"""Degrees before and after the scan in which spots are looked for."""


@dataclass(frozen=True)
class Spots:
    """Spots of one experiment, one row each.

    hkl (n, 3) int; strength (n,): integral over reciprocal space, (counts/s/sr)/A^3 per
    unit flux; centre (n, 3): s when it crosses the Ewald sphere (stills: at the
    instant), 1/A; velocity (n, 3): ds/dphi, 1/A/rad (stills: 0); z (n,): image
    coordinate of the crossing, from the start of the scan; width (n,): standard
    deviation across s, 1/A; stretch (n,): how much longer than that a spot is because
    it moves along the sphere; ray (n, 3): s1 where it is brightest, not normalised;
    panel (n,) int; pixel (n, 2): fast, slow; half_box (n, 2): pixels (fast, slow) to
    the cut-off; half_z (n,): images to the cut-off.
    """

    hkl: np.ndarray
    strength: np.ndarray
    centre: np.ndarray
    velocity: np.ndarray
    z: np.ndarray
    width: np.ndarray
    stretch: np.ndarray
    ray: np.ndarray
    panel: np.ndarray
    pixel: np.ndarray
    half_box: np.ndarray
    half_z: np.ndarray

    def __len__(self) -> int:
        return len(self.z)

    def select(self, keep: np.ndarray) -> Spots:
        """The rows where `keep` (n,) is True."""
        return Spots(**{name: column[keep] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Reflections:
    """All reflections to a resolution limit: hkl (n, 3) float, strength (n,)."""

    hkl: np.ndarray
    strength: np.ndarray


def make_reflections(params: Any, symmetry: crystal.symmetry, d_min: float):
    """Reflections with Wilson-distributed strength, equal for Laue equivalents.

    The strength of an index depends on it and on the seed only. Acentric reflections
    are exponentially distributed, centric ones as the square of a normal variate
    (Wilson 1949, Acta Cryst. 2, 318); both have mean 1 before the fall-off. Absent
    reflections are left out.
    """
    unique = miller.build_set(symmetry, anomalous_flag=False, d_min=d_min)
    unique = unique.select(~unique.sys_absent_flags().data())
    indices = np.array(unique.indices().as_vec3_double()).reshape(-1, 3)
    centric = np.array(unique.centric_flags().data())
    uniform = _uniform(indices.astype(np.int64), params.bragg.seed)
    normal = np.sqrt(-2 * np.log(uniform[:, 0])) * np.cos(2 * np.pi * uniform[:, 1])
    wilson = np.where(centric, normal**2, -np.log(uniform[:, 0]))
    d_star_sq = np.array(unique.d_star_sq().data())
    strength = params.bragg.amplitude * wilson
    strength *= np.exp(-0.5 * params.bragg.b_factor * d_star_sq)
    full = unique.array(data=flex.double(strength)).expand_to_p1()
    full = full.generate_bijvoet_mates()
    hkl = np.array(full.indices().as_vec3_double()).reshape(-1, 3)
    return Reflections(hkl, np.array(full.data()))


def _uniform(indices: np.ndarray, seed: int) -> np.ndarray:
    """Two numbers (n, 2) in (0, 1) per index by hashing (splitmix64 finaliser)."""
    h, k, l = (indices + 2**15).T.astype(np.uint64)  # noqa: E741
    base = (h << np.uint64(42)) ^ (k << np.uint64(21)) ^ l
    out = []
    for stream in range(2):
        x = base + np.uint64((2 * seed + stream + 1) * 0x9E3779B97F4A7C15 % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
        x ^= x >> np.uint64(31)
        out.append(((x >> np.uint64(11)).astype(float) + 0.5) / 2.0**53)
    return np.column_stack(out)


def make_spots(
    params: Any,
    reflections: Reflections,
    orientation: Orientation,
    n_images: int,
    beam: Beam,
    detector: Detector,
    views: list[PanelView],
) -> Spots:
    """The spots that reach the detector during the scan or still."""
    s0 = np.array(beam.get_s0())
    if orientation.width == 0:
        spots = _still_spots(params, reflections, orientation, s0)
    else:
        spots = _crossings(params, reflections, orientation, n_images, s0)
    spots.ray[:] = _brightest_rays(params, spots, s0)
    return _on_detector(spots, detector, views)


def _widths(params: Any, s_norm: np.ndarray) -> np.ndarray:
    """Standard deviation of spots across s: shape and mosaic spread, 1/A."""
    return np.hypot(params.bragg.width, np.radians(params.crystal.mosaicity) * s_norm)


def _still_spots(
    params: Any, reflections: Reflections, orientation: Orientation, s0: np.ndarray
) -> Spots:
    """Spots closer to the Ewald sphere than the cut-off."""
    s = reflections.hkl @ orientation.matrices(np.zeros(1))[0].T
    norm = np.linalg.norm(s, axis=1)
    width = _widths(params, norm)
    excess = np.linalg.norm(s + s0, axis=1) - np.linalg.norm(s0)
    keep = (np.abs(excess) < CUTOFF * width) & (norm > 0)
    zero = np.zeros(keep.sum())
    return _unplaced(
        reflections.hkl[keep],
        reflections.strength[keep],
        s[keep],
        np.zeros((keep.sum(), 3)),
        zero + 0.5,
        width[keep],
        zero + 1.0,
        zero + 0.5,
    )


def _unplaced(hkl, strength, centre, velocity, z, width, stretch, half_z) -> Spots:
    n = len(z)
    return Spots(
        hkl=np.round(hkl).astype(int),
        strength=strength,
        centre=centre,
        velocity=velocity,
        z=z,
        width=width,
        stretch=stretch,
        ray=np.zeros((n, 3)),
        panel=np.full(n, -1),
        pixel=np.zeros((n, 2)),
        half_box=np.zeros((n, 2)),
        half_z=half_z,
    )


def _crossings(
    params: Any,
    reflections: Reflections,
    orientation: Orientation,
    n_images: int,
    s0: np.ndarray,
) -> Spots:
    """Crossings of the Ewald sphere, bracketed on a fine grid, then by bisection."""
    pad = PADDING / abs(orientation.width)
    n_steps = int(np.ceil((n_images + 2 * pad) * abs(orientation.width) / SEARCH_STEP))
    grid = np.linspace(-pad, n_images + pad, n_steps + 1)
    on_grid = _sphere_terms(orientation, grid, s0)
    rows, low, high = [np.zeros(0, dtype=int)], [np.zeros(0)], [np.zeros(0)]
    for first in range(0, len(reflections.hkl), 4096):
        terms = _index_terms(reflections.hkl[first : first + 4096])
        outside = terms @ on_grid.T > 0
        row, step = np.nonzero(outside[:, 1:] != outside[:, :-1])
        rows.append(row + first)
        low.append(grid[step])
        high.append(grid[step + 1])
    row, low, high = map(np.concatenate, (rows, low, high))
    hkl = reflections.hkl[row]
    terms = _index_terms(hkl)

    def is_outside(z: np.ndarray) -> np.ndarray:
        return np.sum(terms * _sphere_terms(orientation, z, s0), axis=1) > 0

    leaving = is_outside(high)
    for _ in range(40):
        middle = 0.5 * (low + high)
        after = is_outside(middle) == leaving
        low, high = np.where(after, low, middle), np.where(after, middle, high)
    z = 0.5 * (low + high)
    centre = np.einsum("nij,nj->ni", orientation.matrices(z), hkl)
    delta = 1e-4
    before, after = (orientation.matrices(z + side * delta) for side in (-1, 1))
    velocity = np.einsum("nij,nj->ni", after - before, hkl)
    velocity /= 2 * delta * np.radians(orientation.width)
    width = _widths(params, np.linalg.norm(centre, axis=1))
    speed = np.linalg.norm(velocity, axis=1)
    across = np.abs(np.einsum("ni,ni->n", velocity, centre + s0)) / np.linalg.norm(s0)
    clear = across > GRAZING * speed
    across, speed = np.where(clear, across, 1.0), np.where(clear, speed, 1.0)
    half_z = CUTOFF * width / across / abs(np.radians(orientation.width))
    spots = _unplaced(
        hkl,
        reflections.strength[row],
        centre,
        velocity,
        z,
        width,
        speed / across,
        half_z,
    )
    return spots.select(clear & (z + half_z > 0) & (z - half_z < n_images))


def _index_terms(hkl: np.ndarray) -> np.ndarray:
    """Monomials (n, 9): h^2, k^2, l^2, 2hk, 2hl, 2kl, h, k, l."""
    h, k, l = hkl.T  # noqa: E741
    return np.column_stack(
        [h * h, k * k, l * l, 2 * h * k, 2 * h * l, 2 * k * l, h, k, l]
    )


def _sphere_terms(
    orientation: Orientation, z: np.ndarray, s0: np.ndarray
) -> np.ndarray:
    """Factors (n, 9) of `_index_terms` that add up to |s0 + s|^2 - |s0|^2."""
    m = orientation.matrices(z)
    metric = np.einsum("nki,nkj->nij", m, m)
    i, j = np.array([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]).T
    return np.column_stack([metric[:, i, j], 2 * np.einsum("nki,k->ni", m, s0)])


def _brightest_rays(params: Any, spots: Spots, s0: np.ndarray) -> np.ndarray:
    """s1 (n, 3) where spots are brightest on the Ewald sphere.

    For stills the sphere cuts a spot beside its centre, at the point where its Gaussian
    is highest on the tangential plane n.x = 0: the centre less excess C n / n.C n,
    with the covariance C.
    """
    rays = spots.centre + s0
    length = np.linalg.norm(rays, axis=1, keepdims=True)
    normal = rays / length
    excess = length - np.linalg.norm(s0)
    radial = spots.centre / np.linalg.norm(spots.centre, axis=1, keepdims=True)
    across = spots.width[:, None] ** 2
    along = params.bragg.width**2 - across
    shift = across * normal
    shift += along * np.sum(radial * normal, axis=1, keepdims=True) * radial
    return rays - excess * shift / np.sum(normal * shift, axis=1, keepdims=True)


def _on_detector(spots: Spots, detector: Detector, views: list[PanelView]) -> Spots:
    """The spots whose ray meets a panel, with panel, pixel and box filled in."""
    for row, ray in enumerate(spots.ray):
        s1 = tuple(ray)
        panel = detector.get_panel_intersection(s1)
        if panel >= 0:
            spots.panel[row] = panel
            spots.pixel[row] = detector[panel].get_ray_intersection_px(s1)
    for panel, view in zip(detector, views, strict=True):
        rows = np.nonzero(spots.panel == view.index)[0]
        n_fast, n_slow = panel.get_image_size()
        s = view.s[0]
        length = spots.width[rows] * spots.stretch[rows]
        fast = np.clip(spots.pixel[rows, 0].astype(int), 0, n_fast - 2)
        slow = np.clip(spots.pixel[rows, 1].astype(int), 0, n_slow - 2)
        for axis, (dj, di) in enumerate(((0, 1), (1, 0))):
            step = np.linalg.norm(s[slow + dj, fast + di] - s[slow, fast], axis=1)
            spots.half_box[rows, axis] = CUTOFF * length / step
    return spots.select(spots.panel >= 0)

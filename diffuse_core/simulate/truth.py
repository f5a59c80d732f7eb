"""The known diffuse intensity of a simulated crystal, at any fractional hkl.

Needs NumPy and numba only: everything that cctbx knows about the crystal (the
matrices of the Laue group, the centring translations) is stored with the numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from diffuse_core.simulate import truth_kernels

FORMAT = "dials.diffuse truth 1"

CLOUD_BOUND = 1.22
"""No |cos z - sinc x| with |z| <= x is larger (at x = 4.49)."""


@dataclass(frozen=True)
class Spherical:
    """The isotropic part: a fall-off, one broad ring and a constant.

    amplitude, constant: counts/s/sr per unit flux. b_factor: A^2. ring_height:
    relative to amplitude. ring_position, ring_width: 1/A.
    """

    amplitude: float
    b_factor: float
    constant: float
    ring_height: float
    ring_position: float
    ring_width: float


@dataclass(frozen=True)
class Halo:
    """Periodic halos around the allowed lattice points.

    amplitude: counts/s/sr per unit flux at an allowed point, before the fall-off.
    b_factor: A^2. kappa: 3 numbers, 1/(2 pi sigma_i)^2 for a halo of standard
    deviation sigma_i reciprocal-lattice units along axis i.
    """

    amplitude: float
    b_factor: float
    kappa: tuple[float, float, float]


@dataclass(frozen=True)
class Cloud:
    """Cosines of real-space vectors without isotropic part.

    amplitude: counts/s/sr per unit flux. b_factor: A^2. vectors: (m, 3) fractional
    coordinates. lengths: (m,) A. weights: (m,), absolute values add up to 1.
    """

    amplitude: float
    b_factor: float
    vectors: tuple[tuple[float, float, float], ...]
    lengths: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Truth:
    """The diffuse intensity that a simulation was made with.

    unit_cell: a, b, c (A), alpha, beta, gamma (deg). b_matrix: reciprocal basis B
    (3, 3), s = B hkl in the crystal's Cartesian frame, 1/A. laue: (n, 3, 3) integers,
    equivalents of a row vector hkl are hkl @ R, inversion included. centring: (m, 3)
    translations, the zero vector first. flux: the flux that the images were made with;
    `intensity` does not contain it.
    """

    unit_cell: tuple[float, ...]
    space_group: str
    b_matrix: np.ndarray
    laue: np.ndarray
    centring: np.ndarray
    spherical_part: Spherical
    halo: Halo
    cloud: Cloud
    flux: float = 1.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Truth:
        """The truth of a dictionary made by `to_dict`; other keys are ignored.

        Raises:
            ValueError: the dictionary does not hold a truth of this format.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"format is {values.get('format')!r}, not {FORMAT!r}")
        cloud = dict(values["cloud"])
        cloud["vectors"] = tuple(tuple(v) for v in cloud["vectors"])
        cloud["lengths"] = tuple(cloud["lengths"])
        cloud["weights"] = tuple(cloud["weights"])
        halo = dict(values["halo"], kappa=tuple(values["halo"]["kappa"]))
        return cls(
            unit_cell=tuple(values["unit_cell"]),
            space_group=values["space_group"],
            b_matrix=np.array(values["b_matrix"], dtype=np.float64),
            laue=np.array(values["laue"], dtype=np.int64),
            centring=np.array(values["centring"], dtype=np.float64),
            spherical_part=Spherical(**values["spherical"]),
            halo=Halo(**halo),
            cloud=Cloud(**cloud),
            flux=values["flux"],
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Truth:
        """The truth of a truth.json file."""
        with open(path, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to rebuild this object, as plain JSON types."""
        return {
            "format": FORMAT,
            "unit_cell": list(self.unit_cell),
            "space_group": self.space_group,
            "b_matrix": self.b_matrix.tolist(),
            "laue": self.laue.tolist(),
            "centring": self.centring.tolist(),
            "spherical": dict(vars(self.spherical_part)),
            "halo": dict(vars(self.halo)),
            "cloud": dict(vars(self.cloud)),
            "flux": self.flux,
        }

    @cached_property
    def kernel_arguments(self) -> tuple:
        """(basis, spherical, halo, cloud) as the compiled functions take them."""
        part = self.spherical_part
        spherical = np.array(
            [
                part.amplitude,
                part.b_factor,
                part.constant,
                part.ring_height,
                part.ring_position,
                part.ring_width,
            ]
        )
        basis = np.ascontiguousarray(self.b_matrix)
        return basis, spherical, self._halo_arguments(), self._cloud_arguments()

    def _halo_arguments(self) -> tuple[np.ndarray, ...]:
        """Distinct Laue terms: columns (n, 3, 3), kappa (n, 3), phases (n, m, 3).

        Reordering the three cosines, changing the sign of an index and changing the
        sign of all phases leave a term as it is; P2/m has one term, P-3 three.
        """
        terms: dict[tuple, list] = {}
        for operation in self.laue:
            columns = operation.T.astype(float)
            phases = self.centring @ operation.T
            first = [tuple(c if tuple(c) > tuple(-c) else -c) for c in columns]
            pairs = tuple(sorted(zip(first, self.halo.kappa, strict=True)))
            signs = tuple(
                tuple(sorted(map(tuple, np.round(sign * phases, 9) + 0.0)))
                for sign in (1, -1)
            )
            terms.setdefault((pairs, max(signs)), [columns, phases, 0])[2] += 1
        columns, phases, counts = zip(*terms.values(), strict=True)
        return (
            np.array([self.halo.amplitude, self.halo.b_factor]),
            np.array(columns),
            np.tile(np.array(self.halo.kappa), (len(counts), 1)),
            np.array(phases),
            np.array(counts) / len(self.laue),
        )

    def _cloud_arguments(self) -> tuple[np.ndarray, ...]:
        """Vectors of all Laue operations (cos is even: one of each +- pair)."""
        vectors, weights = [], []
        half = {max(tuple(r.flat), tuple((-r).flat)) for r in self.laue}
        for flat in sorted(half):
            operation = np.array(flat, dtype=float).reshape(3, 3)
            for vector, weight in zip(
                self.cloud.vectors, self.cloud.weights, strict=True
            ):
                vectors.append(operation @ np.array(vector))
                weights.append(weight / len(half))
        return (
            np.array([self.cloud.amplitude, self.cloud.b_factor]),
            np.array(vectors).reshape(-1, 3),
            np.array(weights),
            np.array(self.cloud.lengths),
            np.array(self.cloud.weights),
        )

    def intensity(self, hkl: np.ndarray) -> np.ndarray:
        """Diffuse intensity at fractional hkl (..., 3), shape (...).

        Counts/s/sr per unit flux; Bragg peaks are not part of it.
        """
        hkl = np.asarray(hkl, dtype=np.float64)
        flat = np.ascontiguousarray(hkl.reshape(-1, 3))
        values = truth_kernels.intensities(flat, *self.kernel_arguments)
        return values.reshape(hkl.shape[:-1])

    def spherical(self, s_norm: np.ndarray) -> np.ndarray:
        """The isotropic part at |s| (...) in 1/A: counts/s/sr per unit flux."""
        s = np.asarray(s_norm, dtype=np.float64)
        part = self.spherical_part
        ring = (s - part.ring_position) / part.ring_width
        return part.constant + part.amplitude * (
            np.exp(-0.5 * part.b_factor * s**2)
            + part.ring_height * np.exp(-0.5 * ring**2)
        )

    def voxel_average(
        self,
        centres: np.ndarray,
        widths: np.ndarray,
        order: int | tuple[int, int, int] | None = None,
    ) -> np.ndarray:
        """Mean intensity (n,) over the voxels centres (n, 3) +- widths (3,) / 2.

        Args:
            centres: fractional hkl of the middle of each voxel.
            widths: full edges of a voxel in fractional hkl.
            order: Gauss-Legendre nodes per axis; by default so many that the mean of
                the narrowest halo is converged to 1e-3 of its value or better.
        """
        widths = np.asarray(widths, dtype=np.float64)
        orders = (
            self.quadrature_order(widths)
            if order is None
            else np.broadcast_to(np.asarray(order), (3,))
        )
        axes = [np.polynomial.legendre.leggauss(int(n)) for n in orders]
        nodes = np.stack(
            np.meshgrid(*[0.5 * w * x for w, (x, _) in zip(widths, axes, strict=True)]),
            axis=-1,
        ).reshape(-1, 3)
        weights = np.prod(np.meshgrid(*[0.5 * a for _, a in axes]), axis=0).ravel()
        flat = np.ascontiguousarray(np.asarray(centres, dtype=np.float64))
        return truth_kernels.voxel_means(flat, nodes, weights, *self.kernel_arguments)

    def quadrature_order(self, widths: np.ndarray) -> np.ndarray:
        """Nodes per axis (3,) for voxels of `widths` (3,) in fractional hkl.

        The number grows with the edge in units of the smallest scale on which the
        intensity changes along that axis, under any operation of the Laue group.
        """
        _, _, halo, cloud = self.kernel_arguments
        phase_rate = np.abs(cloud[1]).max(axis=0, initial=0.0) * (cloud[0][0] != 0)
        if halo[0][0] != 0:
            rate = np.sqrt(halo[2][:, :, None]) * np.abs(halo[1])
            phase_rate = np.maximum(phase_rate, rate.max(axis=(0, 1)))
            phase_rate = np.maximum(phase_rate, np.abs(halo[3]).max(axis=(0, 1)))
        return 2 + np.ceil(6.0 * phase_rate * widths).astype(int)

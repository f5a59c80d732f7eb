"""Makes the analytic truth of a simulation from its parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cctbx import crystal, sgtbx

from diffuse_core.errors import ConfigError
from diffuse_core.simulate.truth import CLOUD_BOUND, Cloud, Halo, Spherical, Truth


def crystal_symmetry(params: Any) -> crystal.symmetry:
    """Unit cell and space group of `params`, checked against each other.

    Raises:
        ConfigError: one is missing or they exclude each other.
    """
    cell, info = params.crystal.unit_cell, params.crystal.space_group
    if cell is None or info is None:
        raise ConfigError(
            "Both crystal.unit_cell and crystal.space_group must be given."
        )
    if not info.group().is_compatible_unit_cell(cell):
        raise ConfigError(
            f"crystal.unit_cell={','.join(f'{x:g}' for x in cell.parameters())} does"
            f" not have the symmetry of crystal.space_group={info}; give a cell of"
            " that lattice or another space group."
        )
    return crystal.symmetry(unit_cell=cell, space_group_info=info)


def laue_matrices(space_group: sgtbx.space_group) -> np.ndarray:
    """Rotation parts (n, 3, 3) int of the Laue group; equivalents are hkl @ R."""
    group = space_group.build_derived_laue_group()
    rotations = {op.r().num() for op in group.all_ops()}
    return np.array(sorted(rotations), dtype=np.int64).reshape(-1, 3, 3)


def centring_translations(space_group: sgtbx.space_group) -> np.ndarray:
    """Centring translations (n, 3) in [0, 1), the zero vector first."""
    translations = {
        tuple(x % 1.0 for x in op.t().as_double())
        for op in space_group.all_ops()
        if op.r().is_unit_mx()
    }
    return np.array(sorted(translations), dtype=float)


def make_truth(params: Any) -> Truth:
    """The truth that `params` describe.

    Raises:
        ConfigError: the parameters contradict each other, or the intensity would be
            negative somewhere.
    """
    symmetry = crystal_symmetry(params)
    cell, group = symmetry.unit_cell(), symmetry.space_group()
    b_matrix = np.array(cell.fractionalization_matrix()).reshape(3, 3).T
    diffuse = params.diffuse
    truth = Truth(
        unit_cell=cell.parameters(),
        space_group=str(params.crystal.space_group),
        b_matrix=b_matrix,
        laue=laue_matrices(group),
        centring=centring_translations(group),
        spherical_part=Spherical(
            amplitude=diffuse.spherical.amplitude,
            b_factor=diffuse.spherical.b_factor,
            constant=diffuse.spherical.constant,
            ring_height=diffuse.spherical.ring.height,
            ring_position=1.0 / diffuse.spherical.ring.d,
            ring_width=diffuse.spherical.ring.width,
        ),
        halo=Halo(
            amplitude=diffuse.halo.amplitude,
            b_factor=diffuse.halo.b_factor,
            kappa=tuple((2 * math.pi * w) ** -2 for w in diffuse.halo.width),
        ),
        cloud=_random_cloud(diffuse.cloud, b_matrix),
        flux=params.beam.flux,
    )
    _check_positive(truth)
    return truth


def _random_cloud(cloud: Any, b_matrix: np.ndarray) -> Cloud:
    """Vectors of random direction and length, weights of random size and sign."""
    rng = np.random.default_rng(cloud.seed)
    directions = rng.normal(size=(cloud.n_vectors, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(*sorted(cloud.length), size=cloud.n_vectors)
    weights = rng.uniform(0.5, 1.0, size=cloud.n_vectors)
    weights *= rng.choice([-1.0, 1.0], size=cloud.n_vectors)
    weights /= np.abs(weights).sum()
    fractional = (directions * lengths[:, None]) @ b_matrix
    return Cloud(
        amplitude=cloud.amplitude,
        b_factor=cloud.b_factor,
        vectors=tuple(map(tuple, fractional.tolist())),
        lengths=tuple(lengths.tolist()),
        weights=tuple(weights.tolist()),
    )


def _check_positive(truth: Truth) -> None:
    """Raises ConfigError where the cloud could exceed the isotropic part."""
    s = np.linspace(0.0, 2.0, 2001)
    bound = (
        CLOUD_BOUND * truth.cloud.amplitude * np.exp(-0.5 * truth.cloud.b_factor * s**2)
    )
    if truth.cloud.amplitude and np.any(truth.spherical(s) <= bound):
        ratio = float((truth.spherical(s) / bound).min())
        raise ConfigError(
            "diffuse.cloud.amplitude would make the intensity negative; choose"
            f" at most {0.99 * ratio * truth.cloud.amplitude:.3g} or a larger"
            " diffuse.spherical.amplitude."
        )
    if truth.spherical(s).min() <= 0:
        raise ConfigError(
            "diffuse.spherical.constant must be larger than 0, since the total"
            " intensity must be positive everywhere."
        )

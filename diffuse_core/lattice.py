"""Ways to index a crystal that its lattice can't tell apart."""

from __future__ import annotations

import numpy as np

from diffuse_core import boundary

MAX_DELTA = 2.0
"""Le Page's delta (deg) up to which an axis of the lattice counts as one: two edges
that differ by 3 % are then taken as equal."""


def lattice_operators(
    unit_cell, space_group, max_delta: float = MAX_DELTA
) -> np.ndarray:
    """(m, 3, 3) int64: every operator R of the lattice on Miller indices, index @ R.

    Those that turn whole indices into fractional ones (some of a centred lattice whose
    metric is higher than its axes show) are left out.

    Args:
        unit_cell: a, b, c, alpha, beta, gamma (A, deg).
        space_group: cctbx space group, for the centring.
        max_delta: See `MAX_DELTA`.
    """
    from cctbx import crystal, sgtbx, uctbx

    symmetry = crystal.symmetry(
        uctbx.unit_cell(tuple(unit_cell)),
        space_group=space_group,
        assert_is_compatible_unit_cell=False,
    )
    to_minimum = symmetry.change_of_basis_op_to_minimum_cell()
    minimum = symmetry.change_basis(to_minimum)
    group = sgtbx.lattice_symmetry.group(minimum.unit_cell(), max_delta=max_delta)
    group.expand_inv(sgtbx.tr_vec((0, 0, 0)))
    back = to_minimum.inverse().c().r().as_rational().as_float()
    back = np.array(back).reshape(3, 3)
    found = []
    for op in group:
        rotation = np.array(op.r().as_double()).reshape(3, 3)
        rotation = back @ rotation @ np.linalg.inv(back)
        if np.abs(rotation - np.rint(rotation)).max() < 1e-6:
            found.append(np.rint(rotation).astype(np.int64))
    return np.array(found)


def ambiguities(unit_cell, space_group, max_delta: float = MAX_DELTA) -> list[str]:
    """Operators such as "k,h,-l" that give other indices to the same lattice.

    One for each coset of the Laue group in the point group of the lattice, "h,k,l"
    first; each keeps the hand of the axes. Arguments are those of `lattice_operators`.
    """
    laue = np.array(boundary.laue_operators(space_group))
    lattice = lattice_operators(unit_cell, space_group, max_delta)
    seen: set[bytes] = {r.tobytes() for r in laue}
    found = ["h,k,l"]
    for matrix in sorted((r.T for r in lattice if np.linalg.det(r) > 0), key=_order):
        if np.ascontiguousarray(matrix.T).tobytes() in seen:
            continue
        found.append(operator_text(matrix))
        seen |= {np.ascontiguousarray(matrix.T @ r).tobytes() for r in laue}
    return found


def operator_text(matrix: np.ndarray) -> str:
    """The operator hkl' = matrix @ hkl, (3, 3) int64, as `index_operator` reads it."""
    rows = []
    for row in matrix.tolist():
        terms = [
            ("-" if n < 0 else "+") + (f"{abs(n)}*" if abs(n) > 1 else "") + name
            for n, name in zip(row, "hkl", strict=True)
            if n
        ]
        rows.append("".join(terms).removeprefix("+"))
    return ",".join(rows)


def _order(matrix: np.ndarray) -> tuple:
    """Simple operators first: few terms, few signs, their own inverse."""
    text = operator_text(matrix)
    turns_back = np.array_equal(matrix @ matrix, np.eye(3))
    return np.abs(matrix).sum(), text.count("-"), not turns_back, text.replace("-", "~")

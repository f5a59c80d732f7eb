"""Systematic absences as a short list of symmetry operators."""

from __future__ import annotations

from functools import cache

import numpy as np

BOX = 12
"""Indices up to the denominator of all translations show every kind of absence."""


def absence_operators(space_group) -> tuple[np.ndarray, np.ndarray, int]:
    """The fewest operators that make all systematically absent points absent.

    With the row vector hkl, hkl is absent when some operator (R, t), centring
    included, has hkl R = hkl and hkl . t not a whole number (International Tables B,
    chapter 1.4). Operators that add no absent point to those of the others are left
    out.

    Args:
        space_group: cctbx space group.

    Returns:
        R (n, 3, 3) int64, t (n, 3) int64 in 1/denominator, denominator.
    """
    return _of_hall_symbol(space_group.type().hall_symbol())


@cache
def _of_hall_symbol(hall: str) -> tuple[np.ndarray, np.ndarray, int]:
    from cctbx import sgtbx

    group = sgtbx.space_group(hall)
    denominator = group.t_den()
    axis = np.arange(-BOX, BOX + 1)
    hkl = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    hkl = hkl.reshape(-1, 3)
    found = []
    for operator in group.all_ops(1):
        t = np.array(operator.t().num())
        if t.any():
            r = np.array(operator.r().num()).reshape(3, 3)
            fixed = (hkl @ r == hkl).all(axis=1)
            found.append((fixed & (hkl @ t % denominator != 0), r, t))
    found.sort(key=lambda f: -f[0].sum())
    absent = np.zeros(len(hkl), bool)
    rotations, translations = [], []
    for points, r, t in found:
        if (points & ~absent).any():
            absent |= points
            rotations.append(r)
            translations.append(t)
    return (
        np.array(rotations, np.int64).reshape(-1, 3, 3),
        np.array(translations, np.int64).reshape(-1, 3),
        denominator,
    )

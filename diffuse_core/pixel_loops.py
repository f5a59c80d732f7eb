"""Loops over the pixels of a panel that make no temporary arrays."""

from __future__ import annotations

import numpy as np
from numba import njit


def quadratic(s: np.ndarray, a: np.ndarray, b: np.ndarray, c: float) -> np.ndarray:
    """(n_slow, n_fast) float32: s . a s + b . s + c, computed in float64.

    Args:
        s: (n_slow, n_fast, 3) float32.
        a: (3, 3), symmetric.
        b: (3,).
        c: A number.
    """
    out = np.empty(s.shape[:2], np.float32)
    squares = np.diag(a)
    mixed = 2.0 * np.array([a[0, 1], a[0, 2], a[1, 2]])
    terms = np.concatenate([squares, mixed, b, [c]]).astype(float)
    _quadratic(np.ascontiguousarray(s).reshape(-1), terms, out.reshape(-1))
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _quadratic(s, terms, out):
    xx, yy, zz, xy, xz, yz = terms[0], terms[1], terms[2], terms[3], terms[4], terms[5]
    bx, by, bz, c = terms[6], terms[7], terms[8], terms[9]
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for j in range(out.size):
        i = np.uintp(j)
        x = np.float64(s[three * i])
        y = np.float64(s[three * i + one])
        z = np.float64(s[three * i + two])
        out[i] = (
            x * (xx * x + xy * y + xz * z + bx)
            + y * (yy * y + yz * z + by)
            + z * (zz * z + bz)
            + c
        )


def multiply(product: np.ndarray, factor: np.ndarray, keep: np.ndarray) -> bool:
    """Multiplies by a factor where pixels are kept.

    Args:
        product: float32, contiguous, changed in place.
        factor: Of the same shape.
        keep: bool, of the same shape.

    Returns:
        Whether the factor of all kept pixels is finite and above 0 in single precision.
    """
    return not _multiply(
        product.reshape(-1),
        np.ascontiguousarray(factor).reshape(-1),
        np.ascontiguousarray(keep).reshape(-1),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _multiply(product, factor, keep):
    wrong = np.uint8(0)
    one, zero, infinite = np.float32(1.0), np.float32(0.0), np.float32(np.inf)
    for j in range(product.size):
        i = np.uintp(j)
        value = np.float32(factor[i]) if keep[i] else one
        wrong |= np.uint8(not ((value > zero) & (value < infinite)))
        product[i] *= value
    return wrong != 0

"""Models that vary along a scan: values at its points, straight lines between them."""

from __future__ import annotations

import numpy as np


def along_scan(n_points: int, z: float, at_point, static, shape) -> np.ndarray:
    """A model's value at z images into the scan, linear between scan points.

    Args:
        n_points: Scan points, one more than images; below 2 the model doesn't vary.
        z: Images since the start of the scan.
        at_point: Index of a scan point -> value.
        static: () -> value of a model that doesn't vary.
        shape: Of the value.
    """
    if n_points < 2:
        return np.array(static(), float).reshape(shape)
    i = min(max(int(z), 0), n_points - 2)
    w = z - i
    return (1 - w) * np.array(at_point(i), float).reshape(shape) + w * np.array(
        at_point(i + 1), float
    ).reshape(shape)

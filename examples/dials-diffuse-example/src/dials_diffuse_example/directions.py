"""Angles between a fixed direction and the rays to the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry


def given_direction(value, name: str) -> np.ndarray | None:
    """(3,) float64 unit vector; None for Auto or None, which stand for the beam.

    Args:
        value: What PHIL gives: three numbers, Auto or None.
        name: Full name of the parameter, for the message.

    Raises:
        ConfigError: The vector has no direction.
    """
    if not isinstance(value, Sequence):
        return None
    vector = np.array(value, float)
    length = np.linalg.norm(vector)
    if not length > 0:
        raise ConfigError(f"{name} = {tuple(value)} has no direction: give a vector.")
    return vector / length


def cosine(geometry: PanelGeometry, direction: np.ndarray | None) -> np.ndarray:
    """(n_slow, n_fast) float64: cosine of the angle between rays and direction.

    Args:
        geometry: The panel.
        direction: (3,) unit vector; None = the beam.
    """
    if direction is None:
        s0 = np.array(geometry.beam.s0)
        direction = s0 / np.linalg.norm(s0)
    return geometry.direction @ direction

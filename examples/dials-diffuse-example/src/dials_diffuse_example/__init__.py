"""Models of dials.diffuse for crystals in a diamond-anvil cell."""

from __future__ import annotations

"""Files of dials.diffuse and of other programs."""

from __future__ import annotations

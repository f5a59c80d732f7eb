"""One short module per dials.diffuse command."""

from __future__ import annotations

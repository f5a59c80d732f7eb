"""The models that come with the program; installed as diffuse_core.plugins."""

from __future__ import annotations

BUILTIN: tuple[str, ...] = ()

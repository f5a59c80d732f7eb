"""One short module per dials.diffuse command."""

from __future__ import annotations

import diffuse_core.compat  # noqa: F401  (before DIALS: see there)

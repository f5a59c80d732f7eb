"""Three-dimensional maps of diffuse X-ray scattering, a plug-in for DIALS."""

from __future__ import annotations

__version__ = "0.1.0"

"""Stands in for an extension that Debian's DIALS 3.12 imports but never uses."""

from __future__ import annotations

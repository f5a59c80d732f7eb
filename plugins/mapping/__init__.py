"""Mappings: the voxel of a pixel."""

from __future__ import annotations

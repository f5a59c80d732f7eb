"""Backgrounds: expected counts that have nothing to do with the crystal."""

from __future__ import annotations

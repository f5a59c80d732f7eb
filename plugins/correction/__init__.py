"""Corrections: the fraction of the ideal signal that is recorded."""

from __future__ import annotations

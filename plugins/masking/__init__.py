"""Masks: which pixels count."""

from __future__ import annotations

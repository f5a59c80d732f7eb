"""Checks of images and geometry: each finds one fault, and says what to do."""

from __future__ import annotations

"""PHIL files of the program, and recipes for users to copy."""

from __future__ import annotations

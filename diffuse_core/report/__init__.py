"""Tables and pictures for people."""

from __future__ import annotations

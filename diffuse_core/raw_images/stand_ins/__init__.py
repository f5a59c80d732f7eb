"""A folder for the path of modules, not a package: see `steps`."""

from __future__ import annotations

"""A short hash of the code that turns images into observations."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

PACKAGES = ("", "io")
"""Packages of the core whose modules integration may use; plug-ins have a fingerprint
of their own, and what reports, simulates or reads a command line changes no number."""


def hash_of_sources(root: Path) -> str:
    """Eight hexadecimal digits of the names and contents of the modules of the core.

    Args:
        root: Folder of the package.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).glob("*.py")):
            code = path.read_bytes()
            digest.update(f"{package}/{path.name} {len(code)}\n".encode())
            digest.update(code)
    return digest.hexdigest()[:8]


@functools.cache
def own_hash() -> str:
    """That of this process: taken once, so that it is not passed off as newer code."""
    return hash_of_sources(Path(__file__).parent)

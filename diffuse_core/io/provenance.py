"""Where a result comes from: program, parameters, models, input files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timezone

import diffuse_core
from diffuse_core.compat import dials_version
from diffuse_core.source_code import own_hash


def file_record(path: str) -> dict:
    """Path, size (bytes) and time of last change of an input file."""
    status = os.stat(path)
    changed = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    return {
        "path": os.path.abspath(path),
        "size": status.st_size,
        "changed": changed.isoformat(timespec="microseconds"),
    }


def program() -> dict[str, str]:
    """Versions of this program, of its code, and of the DIALS that it runs on."""
    return {
        "program": f"dials.diffuse {diffuse_core.__version__}",
        "code": own_hash(),
        "dials": dials_version(),
    }


def provenance(
    phil: str, fingerprint: Iterable[tuple[str, ...]], inputs: Iterable[str]
) -> dict:
    """The record that goes into every output; JSON-serialisable.

    Args:
        phil: Working PHIL in full.
        fingerprint: `registry.fingerprint` of the models used.
        inputs: Paths of the input files.
    """
    return {
        **program(),
        "phil": phil,
        "models": [list(model) for model in fingerprint],
        "inputs": [file_record(path) for path in inputs],
    }

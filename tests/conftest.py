"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real data: ``DIFFUSE_DATA``, else ``../shared/data``."""
    folder = Path(os.environ.get("DIFFUSE_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (DIFFUSE_DATA names it)")
    return folder


@pytest.fixture(scope="session")
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a console script of this interpreter in a subprocess.

    ``run_command("dials.diffuse", "a.expt", cwd=tmp_path)`` returns the completed
    process with its text. A test fails on any exit status but ``status``, which is 0
    unless given; None accepts all. ``env`` is added to an environment without the
    developer's own ``DIALS_DIFFUSE_*`` settings.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("DIALS_DIFFUSE_")
    }

    def run(
        command: str,
        *args: str | os.PathLike[str],
        cwd: str | os.PathLike[str],
        status: int | None = 0,
        env: dict[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [scripts / command, *args],
            cwd=cwd,
            env={**inherited, "MPLBACKEND": "Agg", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if status is not None and done.returncode != status:
            pytest.fail(
                f"{command} ended with status {done.returncode}, not {status}.\n"
                f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    return run

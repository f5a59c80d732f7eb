"""Fixtures that several test modules use."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = [
    "test_raw_rotation",
    "test_restart",
    "test_end_to_end",
    "test_raw_stills",
    "test_commands",
    "test_crystals",
    "test_recipes",
    "test_parallel",
    "test_example_package",
    "test_simulate_files",
    "test_mask_acceptance",
    "test_raw_inspection",
]
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first: none is left to one core at the end."""
    first = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))


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


@pytest.fixture
def fake_distribution(tmp_path) -> Iterator[Callable[..., Path]]:
    """A function that installs a plug-in distribution into a folder of its own.

    ``fake_distribution("my-plugin", text)`` writes a module with that text and the
    metadata that pip would write, and returns the folder, to be put on ``sys.path`` or
    PYTHONPATH. ``module`` is "my_plugin", ``entry`` (of the entry point) "my-plugin"
    and ``value`` the module, unless given. Modules that were imported from the folder
    are forgotten after the test.
    """
    folder = tmp_path / "site"

    def install(
        name: str,
        text: str,
        *,
        version: str = "1.0",
        module: str | None = None,
        entry: str | None = None,
        value: str | None = None,
    ) -> Path:
        module = module or name.replace("-", "_")
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(text)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (metadata / "entry_points.txt").write_text(
            f"[dials.diffuse]\n{entry or name} = {value or module}\n"
        )
        return folder

    yield install
    for name, imported in list(sys.modules.items()):
        if str(folder) in (getattr(imported, "__file__", None) or ""):
            del sys.modules[name]

"""What a wheel holds, and the environment that a checkout is installed in."""

from __future__ import annotations

import configparser
import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import pytest

import diffuse_core

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "diffuse_core": "diffuse_core",
    "plugins": "diffuse_core/plugins",
    "phil": "diffuse_core/phil",
}
NOT_ON_PYPI = {"dials", "dxtbx", "cctbx", "cctbx-base", "libtbx"}


def build(source: Path, target: Path, kind: str) -> Path:
    """The distribution (``kind`` "sdist" or "wheel") built from ``source``."""
    target.mkdir()
    call = f"setuptools.build_meta.build_{kind}({str(target)!r})"
    code = f"import setuptools.build_meta; {call}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (distribution,) = target.iterdir()
    return distribution


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """A wheel made from an sdist, which is made from a copy of the sources."""
    folder = tmp_path_factory.mktemp("packaging")
    source = folder / "source"
    source.mkdir()
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source)
    with tarfile.open(build(source, folder / "sdist", "sdist")) as archive:
        archive.extractall(folder / "unpacked")
    (unpacked,) = (folder / "unpacked").iterdir()
    return zipfile.ZipFile(build(unpacked, folder / "wheel", "wheel"))


def dist_info(wheel: zipfile.ZipFile, name: str) -> str:
    """The text of one file of the wheel's metadata."""
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_wheel_holds_every_source_file(wheel):
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".phil"}
    }
    assert expected - set(wheel.namelist()) == set()
    assert "diffuse_core/phil/master.phil" in expected


def test_wheel_has_one_top_level_package(wheel):
    top = {path.split("/")[0] for path in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"diffuse_core"}


def test_every_command_has_its_module(wheel):
    parser = configparser.ConfigParser()
    parser.read_string(dist_info(wheel, "entry_points.txt"))
    commands = dict(parser["console_scripts"])
    assert set(commands) == {
        "dials.diffuse",
        "dials.diffuse_compare",
        "dials.diffuse_integrate",
        "dials.diffuse_merge",
        "dials.diffuse_scale",
        "dials.diffuse_plugins",
        "dials.diffuse_show",
        "dials.diffuse_simulate",
    }
    for target in commands.values():
        module, function = target.split(":")
        source = wheel.read(module.replace(".", "/") + ".py").decode()
        assert re.search(rf"^def {function}\(", source, re.MULTILINE), target


def test_requirements_name_nothing_that_pypi_lacks(wheel):
    message = email.message_from_string(dist_info(wheel, "METADATA"))
    assert message["Name"] == "dials-diffuse"
    assert message["Version"] == diffuse_core.__version__
    requirements = message.get_all("Requires-Dist")
    names = {re.match(r"[\w.-]+", text).group().lower() for text in requirements}
    assert "numpy" in names
    assert names & NOT_ON_PYPI == set()


@pytest.mark.parametrize("name", ["plugins", "phil"])
def test_no_folder_shadows_an_installed_package(name):
    assert not (ROOT / "diffuse_core" / name).exists()


def test_installed_version_is_that_of_the_sources():
    assert metadata.version("dials-diffuse") == diffuse_core.__version__


def test_dxtbx_reads_what_h5py_opened(tmp_path):
    """dxtbx hands h5py's identifiers to its own HDF5: both must be one library."""
    pytest.importorskip("dials.array_family.flex")
    nexus = pytest.importorskip("dxtbx.format.nexus")
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        dataset = file.create_dataset("data", data=values)
        selection = (slice(1, 2, 1), slice(0, 3, 1), slice(0, 4, 1))
        read = nexus.dataset_as_flex(dataset, selection)
    assert list(read) == values[1].ravel().tolist()


def test_news_fragments_have_a_known_type():
    pattern = re.compile(r"[\w-]+\.(feature|bugfix|removal|doc|misc)\.md")
    names = {path.name for path in (ROOT / "newsfragments").iterdir()}
    assert [name for name in names - {"README.md"} if not pattern.fullmatch(name)] == []

"""Metadata, package layout and commands of dials.diffuse.

DIALS, dxtbx and cctbx are not named as requirements: they come from conda-forge
or from Debian, and the projects of those names on PyPI are empty placeholders.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

COMMANDS = (
    "diffuse",
    "diffuse_integrate",
    "diffuse_merge",
    "diffuse_scale",
    "diffuse_plugins",
    "diffuse_simulate",
    "diffuse_compare",
    "diffuse_show",
)

DASK = ("cryptography", "distributed>=2023.1")


def version() -> str:
    """``__version__`` of diffuse_core, read without importing it."""
    text = (ROOT / "diffuse_core" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError("diffuse_core/__init__.py has no __version__ line.")
    return found.group(1)


def packages() -> list[str]:
    """Every package as installed: plugins/ and phil/ sit below diffuse_core."""
    plugins = [f"diffuse_core.plugins.{name}" for name in find_packages("plugins")]
    return [
        *find_packages(include=["diffuse_core", "diffuse_core.*"]),
        "diffuse_core.plugins",
        *plugins,
        "diffuse_core.phil",
    ]


def long_description() -> str:
    """README.md, or nothing where it is not part of the tree."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="dials-diffuse",
    version=version(),
    description="Three-dimensional maps of diffuse X-ray scattering with DIALS",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="dials.diffuse developers",
    license="BSD-3-Clause",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Physics",
    ],
    python_requires=">=3.10",
    packages=packages(),
    package_dir={"diffuse_core.plugins": "plugins", "diffuse_core.phil": "phil"},
    package_data={"diffuse_core.phil": ["*.phil", "recipes/*.phil", "simulate/*.phil"]},
    install_requires=[
        "h5py",
        "hdf5plugin",
        "matplotlib",
        "numba",
        "numpy",
        "plotly",
        "pluggy>=1.2",
        "scipy",
        "threadpoolctl",
        "tqdm",
        "xraylib",
    ],
    extras_require={
        "dask": DASK,
        "test": [
            *DASK,
            "codespell",
            "dask-jobqueue>=0.9",
            "nexusformat",
            "pytest>=7",
            "pytest-xdist>=3.7",
            "ruff==0.17.6",
            "setuptools>=64",
            "wheel",
        ],
    },
    entry_points={
        "console_scripts": [
            f"dials.{name} = diffuse_core.command_line.{name}:run" for name in COMMANDS
        ],
    },
)

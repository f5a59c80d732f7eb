"""Image files that the arguments of a command name: files, folders, templates."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path

from diffuse_core.errors import InputError
from diffuse_core.inputs import EXPERIMENT_FILES, REFLECTION_FILES

IMAGE_SUFFIXES = frozenset(
    ".cbf .img .smv .mccd .marccd .sfrm .osc .tif .tiff .edf .h5 .hdf5 .nxs .nx5 .raw"
    " .mar2300 .mar3450 .mar1600 .mar1200 .mar1800 .mar2400 .mar3000 .mar2000".split()
)
COMPRESSED = (".gz", ".bz2")
HDF5 = (".h5", ".hdf5", ".nxs", ".nx5")
_PARTS = re.compile(r"(_data_\d+|_meta|_data)\.(h5|hdf5|nxs)$")


def names_models(name: str) -> bool:
    """True for an argument that names experiments or reflections of DIALS."""
    return name.endswith((*EXPERIMENT_FILES, *REFLECTION_FILES))


def exists(name: str) -> bool:
    """True for a file, a folder, or a template or pattern with at least one file."""
    return os.path.exists(name) or bool(matching(name))


def matching(pattern: str) -> list[str]:
    """Files of a template (`image_####.cbf`) or a shell pattern, in order of number."""
    if "#" in pattern:
        run = max(re.findall("#+", pattern), key=len)
        head, tail = pattern.rsplit(run, 1)
        globbed = glob(f"{_quoted(head)}{'[0-9]' * len(run)}{_quoted(tail)}")
    elif any(sign in pattern for sign in "*?["):
        globbed = glob(pattern)
    else:
        return []
    return sorted(globbed, key=in_order)


def in_order(path: str) -> list:
    """Sort key: text as text, numbers as numbers."""
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(path))]


def image_files(arguments: Sequence[str]) -> list[str]:
    """Absolute paths of all image files that the arguments name, without repeats.

    Raises:
        InputError: A folder or template holds no image, or .expt files are among them.
    """
    found: list[str] = []
    for name in arguments:
        if names_models(name):
            raise InputError(
                f"{name} can't be used together with image files: give either images, "
                "or .expt and .refl files, from which the reduction then goes on."
            )
        if os.path.isdir(name):
            files = _images_in(Path(name))
            if not files:
                raise InputError(
                    f"The folder {name} holds no image file that can be recognised by "
                    "its name: name the files themselves."
                )
        elif os.path.exists(name):
            files = [name]
        else:
            files = matching(name)
            if not files:
                raise InputError(f"No file fits {name}: correct the name.")
        found += [os.path.abspath(path) for path in files]
    return list(dict.fromkeys(found))


def image_suffix(path: str | os.PathLike) -> str:
    """The suffix that tells the format, in lower case: '.cbf' for 'a.cbf.gz'."""
    name = str(path).lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return os.path.splitext(name)[1]


def _images_in(folder: Path) -> list[str]:
    """Image files of a folder; of HDF5 files those that describe the others."""
    files = [
        str(path)
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and image_suffix(path) in IMAGE_SUFFIXES
        and not _PARTS.search(path.name.lower())
    ]
    masters = [f for f in files if f.endswith(("_master.h5", ".nxs"))]
    if masters:
        files = [f for f in files if not f.endswith(HDF5) or f in masters]
    return sorted(files, key=in_order)


def template_of(path: str) -> tuple[str, int | None]:
    """The name without its last number, which a series shares, and the number."""
    folder, name = os.path.split(path)
    stem = name
    for ending in COMPRESSED:
        stem = stem.removesuffix(ending)
    numbers = list(re.finditer(r"\d+", os.path.splitext(stem)[0]))
    if not numbers or image_suffix(path) in HDF5:
        return path, None
    last = numbers[-1]
    template = f"{name[: last.start()]}#{name[last.end() :]}"
    return os.path.join(folder, template), int(last.group())


def _quoted(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)

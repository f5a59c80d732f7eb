"""Readers of maps: ours and those of other programs, all as `Voxels`.

Each reader raises `InputError` with one sentence that names the file.
"""

from __future__ import annotations

import bz2
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.io.foreign_ccp4 import read_ccp4
from diffuse_core.io.foreign_nexus import read_nexus
from diffuse_core.voxel_list import Voxels, from_axes, from_points

LAT_MISSING = (0.0, -32768.0)
INTENSITIES = ("intensity", "I", "data", "signal")
SIGMAS = ("sigma", "intensity_error", "error", "errors")


def read_voxels(
    path: str | os.PathLike,
    unit_cell: tuple[float, ...] | None = None,
    ccp4_frame: str = "auto",
) -> Voxels:
    """The measured voxels of a map in any known format, told by the file's suffix.

    Args:
        path: The file.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg) of the crystal, where known: a
            Lunus lattice does not say how many voxels make a Miller index.
        ccp4_frame: "auto", "hkl" or "lab": see `foreign_ccp4.read_ccp4`.

    Raises:
        InputError: The file is missing, not recognised, or not what its suffix says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"The file {path} does not exist.")
    suffixes = [s.lower() for s in path.suffixes]
    while suffixes and suffixes[-1] in (".bz2", ".gz"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix in (".nxs", ".h5", ".hdf5"):
        return read_nexus(path)
    if suffix in (".ccp4", ".mrc", ".map"):
        return read_ccp4(path, ccp4_frame)
    if suffix == ".lat":
        return read_lat(path, unit_cell)
    reader = _READERS.get(suffix)
    if reader is None:
        raise InputError(
            f"The format of {path} is not recognised: known are truth.json, .nxs, .h5, "
            ".ccp4, .mrc, .map, .lat, .npz, .txt, .hkl, .dat and .csv."
        )
    return reader(path)


def read_lat(path: Path, unit_cell: tuple[float, ...] | None = None) -> Voxels:
    """A lattice of Lunus (.lat, also .lat.bz2, .lat.gz).

    Three voxel counts, six bounds in 1/A, then the voxels, x fastest (lreadlt.c of
    github.com/lanl/lunus). Counts have 4 or 8 bytes and either byte order, as of the
    computer that wrote it; what fits the length of the file is taken. The voxel of the
    origin is int(-lower bound / scale + 1/2), with scale = (upper - lower)/(n - 1).
    0 and -32768 mean not measured. One Miller index holds 1/(scale a) voxels; without
    a unit cell, one, and the cell is 1/scale with right angles.
    """
    data = _contents(path)
    for order in "><":
        for word in ("u4", "u8"):
            head = 3 * int(word[1]) + 24
            if len(data) < head:
                continue
            shape = np.frombuffer(data, order + word, 3).astype(object)
            if head + 4 * shape.prod() == len(data):
                bounds = np.frombuffer(data, order + "f4", 6, head - 24)
                values = np.frombuffer(data, order + "f4", offset=head)
                return _lattice(path, shape, bounds, values, unit_cell)
    raise InputError(
        f"The file {path} is not a Lunus lattice: its length does not fit its header."
    )


def _lattice(path, shape, bounds, values, unit_cell) -> Voxels:
    shape = tuple(int(n) for n in shape)
    low, high = bounds.astype(float).reshape(3, 2).T
    if min(shape) < 2 or not (np.isfinite(bounds).all() and (high > low).all()):
        raise InputError(f"The bounds of the Lunus lattice {path} make no sense.")
    scale = (high - low) / (np.array(shape) - 1)
    origin = np.floor(-low / scale + 0.5).astype(int)
    parts = np.ones(3)
    if unit_cell is None:
        unit_cell = (*(1.0 / scale).tolist(), 90.0, 90.0, 90.0)
    else:
        exact = 1.0 / (scale * np.asarray(unit_cell[:3]))
        parts = np.rint(exact)
        if parts.min() < 1 or np.abs(exact / parts - 1.0).max() > 0.03:
            raise InputError(
                f"The voxels of {path} divide the Miller indices by "
                f"{', '.join(f'{x:.3f}' for x in exact)}, not by whole numbers, for a "
                f"cell of {', '.join(f'{x:g}' for x in unit_cell[:3])} A: check the "
                "unit cell."
            )
    axes = [
        (np.arange(n) - o) / p for n, o, p in zip(shape, origin, parts, strict=True)
    ]
    intensity = values.reshape(shape[::-1]).T.astype(float)
    intensity[np.isin(intensity, LAT_MISSING)] = np.nan
    return from_axes(str(path), axes, intensity, unit_cell=tuple(unit_cell))


def read_npz(path: Path) -> Voxels:
    """Arrays of NumPy: h, k, l, an intensity, and if you have them sigma, unit_cell.

    h, k, l are the axes of a 3-D intensity, or one value a voxel of a 1-D intensity,
    which may be called intensity, I, data or signal. NaN = not measured.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InputError(f"The file {path} can't be read as .npz ({error}).") from error
    missing = [name for name in "hkl" if name not in arrays]
    name = next((n for n in INTENSITIES if n in arrays), None)
    if missing or name is None:
        raise InputError(
            f"The file {path} lacks "
            f"{', '.join(missing) if missing else 'an array called intensity'}: it "
            "needs the arrays h, k, l and intensity."
        )
    sigma = next((arrays[n] for n in SIGMAS if n in arrays), None)
    about = {"sigma": sigma}
    if "unit_cell" in arrays:
        about["unit_cell"] = tuple(float(x) for x in arrays["unit_cell"])
    axes = [arrays[n] for n in "hkl"]
    if sigma is not None and sigma.shape != arrays[name].shape:
        raise InputError(
            f"The arrays of intensity and sigma in {path} differ in shape."
        )
    if arrays[name].ndim == 3:
        return from_axes(str(path), axes, arrays[name], **about)
    if any(axis.shape != arrays[name].shape for axis in axes):
        raise InputError(f"The arrays h, k, l and {name} in {path} differ in shape.")
    return from_points(str(path), np.stack(axes, axis=-1), arrays[name], **about)


def read_text(path: Path) -> Voxels:
    """Columns h k l I, or h k l I sigma, split by blanks or commas.

    Lines that begin with # or ! are comments; the first line may hold titles.
    """
    try:
        lines = list(_numbers(path))
        table = np.loadtxt(lines, ndmin=2) if lines else np.empty((0, 0))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"The file {path} is not a table of numbers ({error})."
        ) from error
    if table.size == 0 or table.shape[1] not in (4, 5):
        raise InputError(
            f"The file {path} must have the columns h k l I or h k l I sigma."
        )
    sigma = table[:, 4] if table.shape[1] == 5 else None
    return from_points(str(path), table[:, :3], table[:, 3], sigma=sigma)


_READERS: dict[str, Callable[[Path], Voxels]] = {
    ".npz": read_npz,
    **dict.fromkeys((".txt", ".hkl", ".dat", ".csv"), read_text),
}


def _contents(path: Path) -> bytes:
    openers = {".bz2": bz2.open, ".gz": gzip.open}
    opener = openers.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            return file.read()
    except (OSError, EOFError) as error:
        raise InputError(f"The file {path} can't be read ({error}).") from error


def _numbers(path: Path) -> Iterator[str]:
    """Lines of a table as loadtxt takes them."""
    first = True
    for line in _contents(path).decode("utf-8").splitlines():
        line = line.replace(",", " ").strip()
        if not line or line[0] in "#!":
            continue
        try:
            float(line.split()[0])
        except ValueError:
            if first:
                first = False
                continue
        first = False
        yield line

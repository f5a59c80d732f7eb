"""The observations table: one row per voxel, block and panel.

A voxel that is seen by two panels in one block gives two rows, so that a panel and a
place on it are well defined for every row.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.read_ahead import HDF5
from diffuse_core.row_order import combined, split_sums

RUN_FILE = "run.json"
SUMS = ("counts", "exposure", "background", "background_variance")
MEANS = ("phi", "x", "y", "s")
DTYPES = {
    "key": np.int64,
    "panel": np.int16,
    "pixels": np.float32,
    **dict.fromkeys(SUMS, np.float64),
    **dict.fromkeys(MEANS, np.float32),
}


PACKED = ("key", "panel", "pixels", "counts", "background", "background_variance")
"""Columns that are compressed; the bits of the others are too random to gain by it."""
ROWS_PER_CHUNK = 1 << 15


@dataclass(frozen=True, eq=False)
class Observations:
    """Rows of one block, sorted by voxel key, then panel.

    Attributes:
        columns: name -> (n,) array:
            key int64 (`diffuse_core.grid`), symmetry not applied; panel int16;
            pixels float32; counts float64 (photons, whole numbers unless the
            detector has a gain or pixels are oversampled); exposure float64 (s sr,
            sum of response times exposure time); background, background_variance
            float64 (counts, counts^2); means over the pixels, float32: phi (deg),
            x, y (pixels), s (1/A).
        meta: What the rows belong to: grid, experiment, block, cell, provenance;
            JSON-serialisable.
    """

    columns: dict[str, np.ndarray]
    meta: dict

    def __len__(self) -> int:
        return len(self.columns["key"])


def columns_of(
    key: np.ndarray, panel: np.ndarray, sums: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of rows of sums.

    Args:
        key: (n,) int64.
        panel: (n,) int.
        sums: (n, 9) float64, `kernels.COLUMNS`.
    """
    totals, means = split_sums(np.ascontiguousarray(sums, float))
    values = {
        "key": key,
        "panel": panel,
        "pixels": means[0],
        **dict(zip(SUMS, totals, strict=True)),
        **dict(zip(MEANS, means[1:], strict=True)),
    }
    return {name: np.asarray(values[name], dtype) for name, dtype in DTYPES.items()}


def combine_rows(
    key: np.ndarray, panel: np.ndarray, sums: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the rows whose key and panel are equal added up, sorted."""
    return columns_of(*combined(key, np.asarray(panel, np.int16), sums))


def write_observations(path: Path, table: Observations) -> None:
    """Writes one block; the file appears whole or not at all."""
    write_parts(path, [table.columns], lambda: table.meta)


def write_parts(
    path: Path,
    parts: Iterable[dict[str, np.ndarray]],
    meta: Callable[[], dict],
) -> None:
    """Writes one block that comes in parts; the file appears whole or not at all.

    Args:
        path: The file.
        parts: Columns of consecutive rows.
        meta: Called when all parts are written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with HDF5, h5py.File(temporary, "w") as h5:
            h5.attrs["format"] = "dials.diffuse observations 1"
            for name, dtype in DTYPES.items():
                packed = name in PACKED
                h5.create_dataset(
                    name,
                    (0,),
                    dtype,
                    maxshape=(None,),
                    chunks=(ROWS_PER_CHUNK,),
                    compression="lzf" if packed else None,
                    shuffle=packed,
                )
            start = 0
            for part in parts:
                stop = start + len(part["key"])
                for name in DTYPES:
                    h5[name].resize((stop,))
                    if part[name].any():  # else HDF5 keeps nothing and reads 0
                        h5[name][start:stop] = part[name]
                start = stop
            h5.attrs["meta"] = json.dumps(meta())
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Returns when the file would survive a power cut."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_meta(path: Path) -> dict:
    """What the rows of a file belong to.

    Raises:
        InputError: The file is missing or isn't an observations file.
    """
    with _open(path) as h5:
        return json.loads(h5.attrs["meta"])


def read_head(path: Path) -> tuple[dict, int]:
    """What the rows of a file belong to, and how many there are.

    Raises:
        InputError: The file is missing or isn't an observations file.
    """
    with _open(path) as h5:
        return json.loads(h5.attrs["meta"]), len(h5["key"])


def read_observations(path: Path, rows: slice = slice(None)) -> Observations:
    """One block, or some rows of it.

    Raises:
        InputError: The file is missing or isn't an observations file.
    """
    with _open(path) as h5:
        columns = {name: h5[name][rows] for name in DTYPES}
        return Observations(columns, json.loads(h5.attrs["meta"]))


def phi_range(phi: np.ndarray) -> tuple[float, float] | None:
    """Lowest and highest of (n,) angles (deg); None if there are none."""
    return (float(phi.min()), float(phi.max())) if len(phi) else None


def block_files(folder: str | os.PathLike) -> list[Path]:
    """The files of a folder with a complete run.

    Raises:
        InputError: There is no folder, or its run isn't complete.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            f"The folder {folder} does not exist: run dials.diffuse_integrate first."
        )
    try:
        names = json.loads((path / RUN_FILE).read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"The folder {folder} holds no complete set of observations: run "
            "dials.diffuse_integrate (again), which continues where it stopped."
        ) from None
    return [path / name for name in names]


def _open(path: Path) -> h5py.File:
    try:
        h5 = h5py.File(path, "r")
    except OSError as error:
        reason = "does not exist" if not Path(path).exists() else "can't be read"
        raise InputError(
            f"The observations file {path} {reason}: run dials.diffuse_integrate again."
        ) from error
    if not str(h5.attrs.get("format", "")).startswith("dials.diffuse observations"):
        h5.close()
        raise InputError(
            f"The file {path} holds no observations of dials.diffuse_integrate."
        )
    return h5

"""A folder of observations of tetragonal crystals, some indexed in another setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from diffuse_core.boundary import laue_operators, space_group_of_hall
from diffuse_core.grid import Grid, keys_of
from diffuse_core.observations import (
    DTYPES,
    RUN_FILE,
    Observations,
    write_observations,
)
from diffuse_core.reduction import hash_of
from diffuse_core.symmetry import UniqueVoxels

CELL = [40.0, 40.0, 50.0, 90.0, 90.0, 90.0]
HALL = " P 4"
SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])


def write_folder(
    folder: Path, planted: Sequence[bool], steps=(0.5, 0.5, 0.5), nameless: int = 0
) -> str:
    """The path of a folder with an experiment "0", "1" ... for each entry; True:
    indexed as k,h,-l.

    The first `nameless` experiments have no identifier.
    """
    folder.mkdir()
    rng = np.random.default_rng(1)
    unique = UniqueVoxels(np.array(laue_operators(space_group_of_hall(HALL))))
    index = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), -1).reshape(-1, 3)
    s = np.linalg.norm(index / CELL[:3], axis=1)
    index, s = index[s > 0.05], s[s > 0.05]
    deviate = ndtri(np.clip(hash_of(unique.keys(keys_of(index))[0], 1), 1e-6, 1 - 1e-6))
    names = []
    for number, other in enumerate(planted):
        for block in range(2):
            use = rng.random(len(s)) < 0.5
            columns = {
                name: np.zeros(use.sum(), dtype) for name, dtype in DTYPES.items()
            }
            named = index[use] @ SWAP if other else index[use]
            columns["key"] = keys_of(named)
            columns["exposure"][:] = 2.0 + number
            mean = 2.0 * np.exp(0.3 * deviate[use])
            columns["counts"] = rng.poisson(mean).astype(DTYPES["counts"])
            columns["pixels"][:] = 3
            columns["phi"][:] = block
            columns["s"] = s[use].astype(np.float32)
            order = np.argsort(columns["key"])
            columns = {c: values[order] for c, values in columns.items()}
            name = f"block_{len(names):06d}.h5"
            record = {
                "grid": Grid("hkl", steps).to_dict(),
                "block": [len(names), number, block, block + 1],
                "identifier": str(number) if number >= nameless else "",
                "still": False,
                "unit_cell": CELL,
                "space_group": HALL,
                "provenance": {"program": "test"},
            }
            write_observations(folder / name, Observations(columns, record))
            names.append(name)
    (folder / RUN_FILE).write_text(json.dumps({"files": names}))
    return str(folder)

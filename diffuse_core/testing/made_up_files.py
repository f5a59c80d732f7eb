"""A folder of observations, as dials.diffuse_integrate leaves it, of made-up rows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from diffuse_core.grid import Grid, keys_of
from diffuse_core.kept_experiments import keep_experiments
from diffuse_core.observations import (
    DTYPES,
    RUN_FILE,
    Observations,
    write_observations,
)
from diffuse_core.testing.made_up import FRAME, WAVELENGTH, MadeUp

_IDENTIFIER = "made up"


def write_folder(
    parts: Iterable[MadeUp],
    folder: str | os.PathLike,
    cell: tuple[float, float, float],
    images: int,
) -> int:
    """Writes one scan about x, one degree an image and a block; number of rows.

    Args:
        parts: Disjoint parts of one scan that starts at 0 degrees.
        folder: To be made.
        cell: a, b, c (A) of the crystal.
        images: Degrees.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    pieces: list[list[dict]] = [[] for _ in range(images)]
    total = 0
    for made in parts:
        rows = made.rows
        total += len(rows)
        columns = {name: getattr(rows, name) for name in DTYPES}
        columns["key"] = keys_of(made.index)
        image = np.clip(np.floor(rows.phi), 0, images - 1).astype(int)
        order = np.lexsort([columns["key"], image])
        ends = np.searchsorted(image[order], np.arange(images + 1))
        for i in range(images):
            here = order[ends[i] : ends[i + 1]]
            pieces[i].append({name: columns[name][here] for name in DTYPES})
    names = []
    for i, blocks in enumerate(pieces):
        columns = {n: np.concatenate([b[n] for b in blocks]) for n in DTYPES}
        order = np.argsort(columns["key"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        meta = {
            "grid": Grid("hkl", (1.0, 1.0, 1.0), ("h", "k", "l"), "").to_dict(),
            "block": [i, 0, i, i + 1],
            "identifier": _IDENTIFIER,
            "still": False,
            "phi": [float(i), float(i + 1)],
            "unit_cell": [*cell, 90.0, 90.0, 90.0],
            "space_group": " P 2 2",
            "provenance": {"program": "made up"},
        }
        names.append(f"block_{i:06d}.h5")
        write_observations(folder / names[-1], Observations(columns, meta))
        blocks.clear()
    keep_experiments(_experiments(cell, images), folder)
    (folder / RUN_FILE).write_text(json.dumps({"files": names}))
    return total


def _experiments(cell: tuple[float, float, float], images: int):
    """dxtbx ExperimentList; the crystal's orientation is not that of the rows."""
    from dxtbx.model import (
        Beam,
        Crystal,
        Detector,
        Experiment,
        ExperimentList,
        Goniometer,
        Panel,
        Scan,
    )

    frame = FRAME["panels"][0]
    panel = Panel()
    panel.set_frame(*(tuple(frame[k]) for k in ("fast", "slow", "origin")))
    panel.set_pixel_size(tuple(frame["pixel"]))
    panel.set_image_size(tuple(frame["size"]))
    detector = Detector()
    detector.add_panel(panel)
    edges = np.diag(np.asarray(cell, float)).tolist()
    crystal = Crystal(*map(tuple, edges), space_group_symbol="P222")
    scan = Scan((1, images), (0.0, 1.0))
    scan.set_exposure_times([1.0] * images)
    return ExperimentList(
        [
            Experiment(
                identifier=_IDENTIFIER,
                beam=Beam((0.0, 0.0, 1.0), WAVELENGTH),
                detector=detector,
                goniometer=Goniometer((1.0, 0.0, 0.0)),
                scan=scan,
                crystal=crystal,
            )
        ]
    )

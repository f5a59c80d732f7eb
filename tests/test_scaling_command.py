"""dials.diffuse_scale on a folder of made-up observations: the same file again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from diffuse_core.scale_model import ScaleModel
from diffuse_core.testing.made_up_files import write_folder
from diffuse_core.testing.made_up_four import four_parts, recovered

COMPONENTS = "scaling.components=smooth_scale+offset+absorption+detector"
COARSE = [
    "absorption.intervals=3,3",
    "absorption.spacing=40",
    "offset.intervals=6",
    "offset.spacing=15",
    "smooth_scale.spacing=6",
    "detector.modules=4,4",
    "smooth_scale.smoothness=0.03",
    "offset.smoothness=0.1",
    "absorption.smoothness=0.1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 000 observations of 300 counts."""
    cell, parts = four_parts(300.0, 20_000, parts=2)
    place = tmp_path_factory.mktemp("made_up")
    write_folder(parts, place / "observations", cell, 120)
    return place


def scaled(folder, name: str, nproc: int, threads: int) -> dict:
    """The file of scales, without where it comes from."""
    environment = {
        variable: str(threads)
        for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    }
    subprocess.run(
        [
            sys.executable,
            "-m",
            "diffuse_core.command_line.diffuse_scale",
            "observations",
            COMPONENTS,
            *COARSE,
            f"parallel.nproc={nproc}",
            f"output.scales={name}",
            "output.html=None",
            "output.json=None",
        ],
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    record = json.loads((folder / name).read_text())
    del record["provenance"]
    return record


def test_same_file_again_and_for_any_number_of_workers(folder):
    first = scaled(folder, "one.json", 1, 2)
    assert [c["name"] for c in first["components"]] == [
        "smooth_scale",
        "offset",
        "absorption",
        "detector",
    ]
    assert scaled(folder, "again.json", 2, 1) == first
    error = recovered(ScaleModel.read(folder / "one.json"))
    print(error)
    assert error["B G"] < 0.03 and np.isfinite(list(error.values())).all()

"""Runs a simulation and writes its files."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diffuse_core.errors import ConfigError
from diffuse_core.parallel import available_cores
from diffuse_core.simulate import SimulationResult, minicbf
from diffuse_core.simulate.detectors import LAYOUTS
from diffuse_core.simulate.models import Instrument
from diffuse_core.simulate.nexus import NexusWriter
from diffuse_core.simulate.phil import phil_scope, read_recipe
from diffuse_core.simulate.simulation import Simulation
from diffuse_core.simulate.tables import (
    make_experiments,
    make_profile,
    make_reflections_table,
)

Progress = Callable[[int, int], None]
"""Called after each image with the number of images done and of all images."""


def simulate(
    recipe_or_params: Any, directory: Path, progress: Progress | None = None
) -> SimulationResult:
    """Writes images, .expt, .refl and truth.json; see `diffuse_core.simulate`."""
    params = recipe_or_params
    if isinstance(recipe_or_params, str):
        params, _ = read_recipe(recipe_or_params)
    simulation = Simulation(params)
    file_format = _file_format(params, simulation.instrument)
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    write_images = _write_nexus if file_format == "nxs" else _write_minicbf
    files = write_images(simulation, directory, progress)
    return _write_tables(simulation, directory, files)


def _all_counts(
    simulation: Simulation, progress: Progress | None
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(image, counts) of all images in order, computed ahead in threads."""
    n_threads = simulation.params.nproc or available_cores()
    with ThreadPoolExecutor(n_threads) as pool:
        pending: deque = deque()
        waiting = iter(range(simulation.n_images))
        for image in range(simulation.n_images):
            for ahead in islice(waiting, n_threads + 1 - len(pending)):
                pending.append(pool.submit(simulation.counts, ahead))
            yield image, pending.popleft().result()
            if progress is not None:
                progress(image + 1, simulation.n_images)


def _write_nexus(
    simulation: Simulation, directory: Path, progress: Progress | None
) -> list[Path]:
    path = directory / f"{simulation.params.output.prefix}.nxs"
    instrument = simulation.instrument
    with NexusWriter(
        path,
        instrument.beam,
        instrument.detector,
        instrument.goniometer,
        simulation.scan,
        simulation.n_images,
        [faults.gap for faults in simulation.faults],
    ) as writer:
        for image, counts in _all_counts(simulation, progress):
            writer.write(image, counts)
    return [path]


def _write_minicbf(
    simulation: Simulation, directory: Path, progress: Progress | None
) -> list[Path]:
    instrument, params = simulation.instrument, simulation.params
    layout = LAYOUTS.get(instrument.layout)
    description = "GENERIC" if layout is None else layout.description
    start, width = simulation.scan.get_oscillation()
    first_epoch = simulation.scan.get_epochs()[0]
    files = []
    for image, counts in _all_counts(simulation, progress):
        path = directory / f"{params.output.prefix}_{image + 1:05d}.cbf"
        text = minicbf.header(
            instrument.detector[0],
            instrument.beam,
            description,
            params.scan.exposure,
            (start + image * width, width),
            first_epoch + image * params.scan.exposure,
        )
        minicbf.write(path, counts[0], description, text)
        files.append(path)
    return files


def _write_tables(
    simulation: Simulation, directory: Path, files: list[Path]
) -> SimulationResult:
    """Writes .expt, .refl and truth.json beside the image files."""
    instrument, params = simulation.instrument, simulation.params
    result = SimulationResult(
        directory / f"{params.output.prefix}.expt",
        directory / f"{params.output.prefix}.refl",
        directory / "truth.json",
    )
    document = truth_document(simulation)
    experiments = make_experiments(
        instrument,
        simulation.crystals,
        simulation.scan,
        make_profile(params, instrument.beam.get_wavelength()),
        files,
        document["simulation"]["phil"],
    )
    table = make_reflections_table(simulation.spots, experiments)
    with _replacing(result.expt_path) as path:
        experiments.as_file(path)
    with _replacing(result.refl_path) as path:
        table.as_file(path)
    with _replacing(result.truth_path) as path:
        Path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")
    return result


def truth_document(simulation: Simulation) -> dict[str, Any]:
    """The contents of truth.json: the truth, and all else about the simulation."""
    params = copy.deepcopy(simulation.params)
    params.output.directory, params.nproc = "simulated", None
    text = phil_scope().format(python_object=params).as_str()
    return {
        **simulation.truth.to_dict(),
        "simulation": {
            "phil": text,
            "scales": simulation.scales.tolist(),
            "planted": dataclasses.asdict(simulation.planted),
            "exposure": params.scan.exposure,
            "hot_pixels": [f.hot.tolist() for f in simulation.faults],
            "dead_pixels": [f.dead.tolist() for f in simulation.faults],
        },
    }


def _file_format(params: Any, instrument: Instrument) -> str:
    """ "cbf" or "nxs"; auto takes miniCBF where its header describes everything."""
    choice = params.output.format
    if choice == "cbf" and len(instrument.detector) != 1:
        raise ConfigError(
            f"output.format=cbf can't hold the {len(instrument.detector)} panels of"
            " this detector; use nxs."
        )
    if choice in ("cbf", "nxs"):
        return choice
    panel, goniometer = instrument.detector[0], instrument.goniometer
    standard = (
        len(instrument.detector) == 1
        and np.allclose(panel.get_fast_axis(), (1, 0, 0), atol=1e-9)
        and np.allclose(panel.get_slow_axis(), (0, -1, 0), atol=1e-9)
        and np.allclose(instrument.beam.get_unit_s0(), (0, 0, -1), atol=1e-9)
    )
    if standard and goniometer is not None:
        standard = (
            np.allclose(goniometer.get_rotation_axis(), (1, 0, 0), atol=1e-9)
            and np.allclose(goniometer.get_fixed_rotation(), np.eye(3).ravel())
            and np.allclose(goniometer.get_setting_rotation(), np.eye(3).ravel())
        )
    return "cbf" if standard else "nxs"


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[str]:
    """A temporary name that becomes `path` when all went well."""
    partial = path.with_name(f"partial_{path.name}")
    yield str(partial)
    os.replace(partial, path)

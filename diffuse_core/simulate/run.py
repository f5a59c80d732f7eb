"""Runs a simulation: the only place that knows the order of its steps."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dxtbx.model import Scan

from diffuse_core.errors import ConfigError
from diffuse_core.parallel import available_cores
from diffuse_core.simulate import SimulationResult, image_kernels, minicbf
from diffuse_core.simulate.bragg import Spots, make_reflections, make_spots
from diffuse_core.simulate.build_truth import crystal_symmetry, make_truth
from diffuse_core.simulate.detectors import LAYOUTS
from diffuse_core.simulate.models import (
    Instrument,
    make_crystals,
    make_instrument,
    make_scan,
)
from diffuse_core.simulate.nexus import NexusWriter
from diffuse_core.simulate.noise import Faults, count, make_faults
from diffuse_core.simulate.orientation import Orientation
from diffuse_core.simulate.phil import phil_scope, read_recipe
from diffuse_core.simulate.responses import PanelView, make_views
from diffuse_core.simulate.tables import make_experiments, make_reflections_table
from diffuse_core.simulate.truth import Truth

logger = logging.getLogger(__name__)

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
    directory.mkdir(parents=True, exist_ok=True)
    files = simulation.write_images(directory.resolve(), progress)
    return simulation.write_tables(directory.resolve(), files)


class Simulation:
    """All models of a simulation; images are computed one at a time."""

    def __init__(self, params: Any):
        self.params = params
        self.truth: Truth = make_truth(params)
        self.instrument: Instrument = make_instrument(params)
        self.crystals = make_crystals(params)
        self.is_still = params.stills.n is not None
        self.n_images = params.stills.n if self.is_still else params.scan.n_images
        self.file_format = _file_format(params, self.instrument)
        epoch = minicbf.FIRST_EPOCH if self.file_format == "cbf" else 0.0
        self.scan: Scan = make_scan(params, epoch)
        self.scales = image_scales(params, self.n_images)
        beam, detector = self.instrument.beam, self.instrument.detector
        self.views: list[PanelView] = make_views(params, beam, detector)
        self.faults: list[Faults] = make_faults(
            params, detector, self.instrument.layout
        )
        self.orientations = [
            Orientation.of_models(crystal, self.instrument.goniometer, self.scan)
            for crystal in self.crystals
        ]
        self.spots = self._all_spots()

    def _all_spots(self) -> list[Spots]:
        params, beam = self.params, self.instrument.beam
        detector = self.instrument.detector
        d_min = params.bragg.d_min or detector.get_max_resolution(beam.get_s0())
        d_min = max(d_min, 0.5 * beam.get_wavelength() * 1.0001)
        reflections = make_reflections(params, crystal_symmetry(params), d_min)
        n = 1 if self.is_still else self.n_images
        return [
            make_spots(params, reflections, o, n, beam, detector, self.views)
            for o in self.orientations
        ]

    def expected_counts(self, image: int) -> list[np.ndarray]:
        """Expected counts (n_slow, n_fast) of every panel in one image, gaps included.

        t (flux response (scale (I + Bragg) + air) + detector background)
        """
        params = self.params
        orientation = self.orientations[image if self.is_still else 0]
        first = 0 if self.is_still else image
        n_angles = 1 if self.is_still else params.oversampling.rotation
        z = first + (np.arange(n_angles) + 0.5) / n_angles
        to_hkl = np.linalg.inv(orientation.matrices(z))
        air = params.background.air
        out = []
        for view in self.views:
            intensity = np.empty(view.response.shape)
            image_kernels.diffuse_image(
                view.s, to_hkl, *self.truth.kernel_arguments, intensity
            )
            if params.bragg.enable:
                self._add_spots(image, view, intensity)
            intensity *= self.scales[image]
            if air.amplitude:
                s_squared = np.mean(np.sum(view.s**2, axis=3), axis=0)
                intensity += air.amplitude * np.exp(-0.5 * air.b_factor * s_squared)
            rate = params.beam.flux * view.response * intensity
            rate += params.background.counts_per_pixel
            out.append(params.scan.exposure * rate)
        return out

    def _add_spots(self, image: int, view: PanelView, intensity: np.ndarray) -> None:
        spots = self.spots[image if self.is_still else 0]
        first = 0 if self.is_still else image
        keep = (spots.panel == view.index) & (spots.z + spots.half_z > first)
        spots = spots.select(keep & (spots.z - spots.half_z < first + 1))
        low = np.floor(spots.pixel - spots.half_box)
        high = np.ceil(spots.pixel + spots.half_box)
        n_slow, n_fast = intensity.shape
        boxes = np.column_stack(
            [
                np.clip(low[:, 0], 0, n_fast),
                np.clip(high[:, 0], 0, n_fast),
                np.clip(low[:, 1], 0, n_slow),
                np.clip(high[:, 1], 0, n_slow),
            ]
        ).astype(np.int64)
        per_image = np.radians(self.scan.get_oscillation()[1])
        image_kernels.add_spots(
            view.s,
            boxes,
            spots.strength,
            spots.centre,
            spots.velocity,
            self.params.bragg.width,
            spots.width,
            (first - spots.z) * per_image,
            (first + 1 - spots.z) * per_image,
            intensity,
        )

    def counts(self, image: int) -> list[np.ndarray]:
        """Counts int32 (n_slow, n_fast) of every panel in one image."""
        rng = np.random.default_rng((self.params.noise.seed, 1, image))
        return [
            count(self.params, expected, faults, rng)
            for expected, faults in zip(
                self.expected_counts(image), self.faults, strict=True
            )
        ]

    def all_counts(
        self, progress: Progress | None = None
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(image, counts) of all images in order, computed ahead in threads."""
        n_threads = self.params.nproc or available_cores()
        with ThreadPoolExecutor(n_threads) as pool:
            pending: deque = deque()
            waiting = iter(range(self.n_images))
            for image in range(self.n_images):
                for ahead in islice(waiting, n_threads + 1 - len(pending)):
                    pending.append(pool.submit(self.counts, ahead))
                yield image, pending.popleft().result()
                if progress is not None:
                    progress(image + 1, self.n_images)

    def write_images(
        self, directory: Path, progress: Progress | None = None
    ) -> list[Path]:
        """Writes all images to `directory` and returns the paths of the files."""
        prefix = self.params.output.prefix
        if self.file_format == "nxs":
            path = directory / f"{prefix}.nxs"
            with NexusWriter(
                path,
                self.instrument.beam,
                self.instrument.detector,
                self.instrument.goniometer,
                self.scan,
                self.n_images,
                [faults.gap for faults in self.faults],
            ) as writer:
                for image, counts in self.all_counts(progress):
                    writer.write(image, counts)
            return [path]
        files = []
        description = _description(self.instrument)
        for image, counts in self.all_counts(progress):
            path = directory / f"{prefix}_{image + 1:05d}.cbf"
            start, width = self.scan.get_oscillation()
            text = minicbf.header(
                self.instrument.detector[0],
                self.instrument.beam,
                description,
                self.params.scan.exposure,
                (start + image * width, width),
                minicbf.FIRST_EPOCH + image * self.params.scan.exposure,
            )
            minicbf.write(path, counts[0], description, text)
            files.append(path)
        return files

    def write_tables(self, directory: Path, files: list[Path]) -> SimulationResult:
        """Writes .expt, .refl and truth.json beside the image files."""
        prefix = self.params.output.prefix
        result = SimulationResult(
            directory / f"{prefix}.expt",
            directory / f"{prefix}.refl",
            directory / "truth.json",
        )
        document = self.truth_document()
        experiments = make_experiments(
            self.instrument,
            self.crystals,
            self.scan,
            files,
            document["simulation"]["phil"],
        )
        spots = self.spots
        if not self.params.bragg.enable:
            spots = [one.select(np.zeros(len(one), dtype=bool)) for one in spots]
        table = make_reflections_table(spots, experiments)
        with _replacing(result.expt_path) as path:
            experiments.as_file(path)
        with _replacing(result.refl_path) as path:
            table.as_file(path)
        with _replacing(result.truth_path) as path:
            Path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")
        return result

    def truth_document(self) -> dict[str, Any]:
        """The contents of truth.json: the truth, and all else about the simulation."""
        params = copy.deepcopy(self.params)
        params.output.directory, params.nproc = "simulated", None
        text = phil_scope().format(python_object=params).as_str()
        return {
            **self.truth.to_dict(),
            "simulation": {
                "phil": text,
                "scales": self.scales.tolist(),
                "exposure": params.scan.exposure,
                "hot_pixels": [f.hot.tolist() for f in self.faults],
                "dead_pixels": [f.dead.tolist() for f in self.faults],
            },
        }


def image_scales(params: Any, n_images: int) -> np.ndarray:
    """Scale of the crystal (n_images,) in every image.

    Raises:
        ConfigError: scale.values has the wrong length.
    """
    if params.scale.values is not None:
        if len(params.scale.values) != n_images:
            raise ConfigError(
                f"scale.values has {len(params.scale.values)} numbers but there are"
                f" {n_images} images; give one number per image."
            )
        return np.array(params.scale.values, dtype=float)
    x = (np.arange(n_images) + 0.5) / n_images
    return 1.0 + params.scale.amplitude * np.sin(2 * np.pi * x / params.scale.period)


def _description(instrument: Instrument) -> str:
    layout = LAYOUTS.get(instrument.layout)
    return "GENERIC" if layout is None else layout.description


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

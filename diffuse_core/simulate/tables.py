"""The experiments and reflections that belong to simulated images."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from dials.algorithms.profile_model.gaussian_rs import Model as GaussianProfile
from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.imageset import ImageSetFactory
from dxtbx.model import Beam, Crystal, Detector, Experiment, ExperimentList, Scan

from diffuse_core.simulate.bragg import CUTOFF, Spots
from diffuse_core.simulate.models import Instrument

BOX = 4.5
"""Half-width of bounding boxes in standard deviations of a spot."""


def make_experiments(
    instrument: Instrument,
    crystals: list[Crystal],
    scan: Scan,
    profile: GaussianProfile | None,
    files: list[Path],
    name: str,
) -> ExperimentList:
    """Experiments with exactly the models of the simulation and its image files.

    Args:
        profile: size of the spots; None if there are none.
        files: one miniCBF file per image, or one NeXus file.
        name: text from which the identifiers are made.
    """
    experiments = ExperimentList()
    for index, crystal in enumerate(crystals):
        experiments.append(
            Experiment(
                beam=instrument.beam,
                detector=instrument.detector,
                goniometer=instrument.goniometer,
                scan=scan,
                crystal=crystal,
                profile=profile,
                imageset=_imageset(instrument, scan, files, index),
                identifier=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {index}")),
            )
        )
    return experiments


def make_profile(params: Any, wavelength: float) -> GaussianProfile | None:
    """The size of the spots in DIALS' terms, None without spots.

    A divergence that displaces a point by bragg.width on the Ewald sphere, and the
    mosaicity: both standard deviations.
    """
    if not params.bragg.enable:
        return None
    divergence = np.degrees(params.bragg.width * wavelength)
    return GaussianProfile(None, 3, divergence, params.crystal.mosaicity, deg=True)


def _imageset(instrument: Instrument, scan: Scan, files: list[Path], index: int):
    if instrument.goniometer is not None:
        template = str(files[0])
        if len(files) > 1 or template.endswith(".cbf"):
            template = template[: -len("00001.cbf")] + "#####.cbf"
        return ImageSetFactory.make_sequence(
            template,
            list(range(1, scan.get_num_images() + 1)),
            beam=instrument.beam,
            detector=instrument.detector,
            goniometer=instrument.goniometer,
            scan=scan,
        )
    if len(files) > 1 or files[0].suffix == ".cbf":
        imageset = ImageSetFactory.make_imageset([str(files[index])])
    else:
        imageset = ImageSetFactory.make_imageset(
            [str(files[0])], single_file_indices=[index]
        )
    imageset.set_beam(instrument.beam, 0)
    imageset.set_detector(instrument.detector, 0)
    imageset.set_goniometer(None, 0)
    imageset.set_scan(scan, 0)
    return imageset


def make_reflections_table(
    spots: list[Spots], experiments: ExperimentList
) -> flex.reflection_table:
    """All spots of all experiments as an indexed and predicted reflection table."""
    table = flex.reflection_table()
    for index, (one, experiment) in enumerate(zip(spots, experiments, strict=True)):
        part = _part(one, experiment.beam, experiment.detector, experiment.scan)
        part["id"] = flex.int(len(one), index)
        part["imageset_id"] = flex.int(len(one), index)
        table.extend(part)
    for index, experiment in enumerate(experiments):
        table.experiment_identifiers()[index] = experiment.identifier
    return table


def _part(
    spots: Spots, beam: Beam, detector: Detector, scan: Scan
) -> flex.reflection_table:
    n_images = scan.get_num_images()
    start, width = scan.get_oscillation(deg=False)
    mm = np.array(
        [
            detector[int(panel)].get_ray_intersection(tuple(ray))
            for panel, ray in zip(spots.panel, spots.ray, strict=True)
        ]
    ).reshape(-1, 2)
    lengths = np.linalg.norm(spots.ray, axis=1, keepdims=True)
    s1 = spots.ray / (lengths * beam.get_wavelength())
    half = spots.half_box * (BOX / CUTOFF)
    half_z = spots.half_z * (BOX / CUTOFF)
    low = np.floor(spots.pixel - half)
    high = np.ceil(spots.pixel + half)
    first = np.clip(np.floor(spots.z - half_z), 0, n_images - 1)
    last = np.clip(np.ceil(spots.z + half_z), first + 1, n_images)
    box = [low[:, 0], high[:, 0], low[:, 1], high[:, 1], first, last]
    positions = np.column_stack([spots.pixel, spots.z])
    angles = np.column_stack([mm, start + spots.z * width])

    table = flex.reflection_table()
    table["miller_index"] = flex.miller_index(
        *(flex.int(column.astype(np.int32)) for column in spots.hkl.T.copy())
    )
    table["panel"] = flex.size_t(spots.panel.tolist())
    table["entering"] = flex.bool(np.sum(spots.velocity * s1, axis=1) < 0)
    table["s1"] = _vectors(s1)
    table["d"] = flex.double(1 / np.linalg.norm(spots.centre, axis=1))
    for kind in ("xyzcal", "xyzobs"):
        suffix = "" if kind == "xyzcal" else ".value"
        table[f"{kind}.px{suffix}"] = _vectors(positions)
        table[f"{kind}.mm{suffix}"] = _vectors(angles)
    table["bbox"] = flex.int6(*(flex.int(edge.astype(np.int32)) for edge in box))
    table["flags"] = flex.size_t(len(spots), 0)
    flags = table.flags
    table.set_flags(flex.bool(len(spots), True), flags.predicted | flags.indexed)
    return table


def _vectors(values: np.ndarray) -> flex.vec3_double:
    return flumpy.vec_from_numpy(np.ascontiguousarray(values, dtype=float)).deep_copy()

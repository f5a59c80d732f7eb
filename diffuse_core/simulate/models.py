"""Beam, goniometer, scan and crystal models of a simulation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from dxtbx.model import (
    Beam,
    BeamFactory,
    Crystal,
    Detector,
    Goniometer,
    GoniometerFactory,
    Scan,
    ScanFactory,
)
from scitbx.array_family import flex

from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.simulate.build_truth import crystal_symmetry
from diffuse_core.simulate.detectors import apply_overrides, make_detector


@dataclass(frozen=True)
class Instrument:
    """What all images of a simulation share; goniometer is None for stills."""

    beam: Beam
    detector: Detector
    goniometer: Goniometer | None
    layout: str | None


def make_instrument(params: Any) -> Instrument:
    """Beam, detector and goniometer of `params`.

    Raises:
        ConfigError, InputError: parameters or the .expt file can't be used.
    """
    stills = params.stills.n is not None
    if params.detector.experiments is None:
        return Instrument(
            beam=_beam(params.beam),
            detector=make_detector(params),
            goniometer=None if stills else _goniometer(params.goniometer),
            layout=params.detector.name,
        )
    experiment = _first_experiment(params.detector.experiments)
    apply_overrides(experiment.detector, params.detector)
    goniometer = experiment.goniometer or _goniometer(params.goniometer)
    return Instrument(
        beam=experiment.beam,
        detector=experiment.detector,
        goniometer=None if stills else goniometer,
        layout=None,
    )


FIRST_EPOCH = 1577836800.0
"""2020-01-01 00:00:00 UTC, the start of every simulated scan."""


def make_scan(params: Any) -> Scan:
    """The scan of all images; for stills the scan of one image without rotation."""
    scan = params.scan
    n = 1 if params.stills.n is not None else scan.n_images
    width = 0.0 if params.stills.n is not None else scan.width
    return ScanFactory.make_scan(
        (1, n),
        [scan.exposure] * n,
        (scan.start if width else 0.0, width),
        {i + 1: FIRST_EPOCH + i * scan.exposure for i in range(n)},
    )


def make_crystals(params: Any) -> list[Crystal]:
    """One crystal for a scan (drifting if asked), or one per still.

    Raises:
        ConfigError: cell, space group, orientation or drift can't be used.
    """
    symmetry = crystal_symmetry(params)
    if params.stills.n is None:
        crystal = _crystal(symmetry, _orientation(params, params.crystal.seed))
        _add_drift(crystal, params)
        return [crystal]
    seeds = np.random.SeedSequence(params.stills.seed).spawn(params.stills.n)
    return [_crystal(symmetry, _orientation(params, seed)) for seed in seeds]


def _beam(params: Any) -> Beam:
    normal = np.array(params.polarization_normal)
    if abs(normal[2]) > 1e-6 * np.linalg.norm(normal) or not normal.any():
        raise ConfigError(
            "beam.polarization_normal must be perpendicular to the beam, which"
            " travels along -z."
        )
    beam = BeamFactory.make_beam(
        sample_to_source=(0, 0, 1), wavelength=params.wavelength
    )
    beam.set_polarization_normal(tuple(normal / np.linalg.norm(normal)))
    beam.set_polarization_fraction(params.polarization_fraction)
    return beam


def _goniometer(params: Any) -> Goniometer:
    if params.axes is None:
        axis = np.array(params.axis)
        if not axis.any():
            raise ConfigError("goniometer.axis must not be 0 0 0.")
        return Goniometer(
            tuple(axis / np.linalg.norm(axis)),
            _rotation_matrix(params.fixed_rotation, "goniometer.fixed_rotation"),
            _rotation_matrix(params.setting_rotation, "goniometer.setting_rotation"),
        )
    n, rest = divmod(len(params.axes), 3)
    names = params.names or [f"AXIS_{i}" for i in range(n)]
    if rest or len(params.angles or []) != n or len(names) != n:
        raise ConfigError(
            "goniometer.axes needs three numbers per axis, and goniometer.angles and"
            " goniometer.names one entry per axis."
        )
    if params.scan_axis >= n:
        raise ConfigError(
            f"goniometer.scan_axis={params.scan_axis} does not exist: axes are"
            f" counted from 0 and there are {n}."
        )
    vectors = np.array(params.axes, dtype=float).reshape(n, 3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise ConfigError("goniometer.axes must not contain 0 0 0.")
    return GoniometerFactory.make_multi_axis_goniometer(
        flex.vec3_double([tuple(v) for v in vectors / lengths]),
        flex.double(params.angles),
        flex.std_string(names),
        params.scan_axis,
    )


def _rotation_matrix(values: list[float] | None, path: str) -> tuple[float, ...]:
    matrix = np.eye(3) if values is None else np.array(values).reshape(3, 3)
    if not (
        np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-4)
        and np.linalg.det(matrix) > 0
    ):
        raise ConfigError(f"{path} must be a rotation matrix of nine numbers, by rows.")
    return tuple(matrix.ravel())


def _first_experiment(path: str) -> Any:
    if not os.path.isfile(path):
        raise InputError(
            f"detector.experiments={path} does not exist; give the path of an .expt"
            " file."
        )
    try:
        experiments = load_experiments(path, check_format=False)
    except Exception as error:
        raise InputError(
            f"detector.experiments={path} can't be read as an experiment list: {error}."
        ) from error
    if len(experiments) == 0 or None in (experiments[0].detector, experiments[0].beam):
        raise InputError(
            f"detector.experiments={path} has no experiment with a beam and a detector."
        )
    experiment = experiments[0]
    experiment.beam.reset_scan_points()
    if experiment.goniometer is not None:
        experiment.goniometer.reset_scan_points()
    return experiment


def _orientation(params: Any, seed: Any) -> np.ndarray:
    if params.crystal.orientation is not None:
        values = _rotation_matrix(params.crystal.orientation, "crystal.orientation")
        return np.array(values).reshape(3, 3)
    quaternion = np.random.default_rng(seed).normal(size=4)
    return Rotation.from_quat(quaternion).as_matrix()


def _crystal(symmetry: Any, orientation: np.ndarray) -> Crystal:
    cell = np.array(symmetry.unit_cell().orthogonalization_matrix()).reshape(3, 3)
    a, b, c = (tuple(column) for column in (orientation @ cell).T)
    return Crystal(a, b, c, symmetry.space_group())


def _add_drift(crystal: Crystal, params: Any) -> None:
    """Sets A at the n_images + 1 scan points, x = 0 ... 1 over the scan."""
    drift, n = params.crystal.drift, params.scan.n_images
    if drift.angle == 0 and drift.cell == 0:
        return
    axis = np.array(drift.axis)
    if not axis.any():
        raise ConfigError("crystal.drift.axis must not be 0 0 0.")
    axis = axis / np.linalg.norm(axis)
    a = np.array(crystal.get_A()).reshape(3, 3)
    points = []
    for x in np.linspace(0.0, 1.0, n + 1):
        turn = Rotation.from_rotvec(axis * np.radians(drift.angle) * x).as_matrix()
        points.append(tuple((turn @ a / (1.0 + drift.cell * x)).ravel()))
    crystal.set_A_at_scan_points(points)

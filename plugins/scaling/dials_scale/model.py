"""B as dials.scale found it for the Bragg reflections: fixed, nothing is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from diffuse_core.directions import frames_of
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.harmonics import mount_of, path_harmonics
from diffuse_core.models import Basis, Domain, RunInputs, ScalingComponent
from diffuse_core.plugins.scaling.dials_scale.inverse_scales import (
    KNOWN,
    inverse_scales,
    order_of_surface,
)

NAME = "scaling.dials_scale"
_LEVEL_POINTS = 1000


class DialsScale(ScalingComponent):
    """The inverse scale factor of dials.scale's model, divided by its mean.

    One parameter, which stays at 1. Other components multiply: with them it is a start.

    Args:
        models: Per source: `id`, `configuration`, `terms`, `span` as for
            `inverse_scales`; `scan`, angle (deg) at z = 0 and width of an image.
        frames: Frame (`diffuse_core.directions`) of each detector.
        detectors: The detector of each source.
        mounts: Goniometer (`diffuse_core.harmonics.mount_of`) of each source.
        terms: Corrections to use.
    """

    role = "crystal"
    columns = ("source", "phi", "panel", "x", "y", "s")
    smoothness = 1e-6

    def __init__(
        self,
        models: list[dict],
        frames: list[dict],
        detectors: list[int],
        mounts: list[dict | None],
        terms: list[str],
    ) -> None:
        self.models = models
        self.frames = frames
        self.detectors = detectors
        self.mounts = mounts
        self.terms = terms

    @classmethod
    def from_params(cls, params, run: RunInputs) -> DialsScale:
        """Raises InputError if an experiment has no scaling model, or one of an unknown
        kind; ConfigError if no term is selected."""
        if not params.terms:
            raise ConfigError(f"{NAME}.terms selects nothing: name one term at least.")
        scaled = run.experiments
        if params.experiments is not None:
            scaled = _experiments(params.experiments)
        spans = _spans(params.reflections)
        return cls(
            [
                _model(_partner(e, n, run, scaled, params.experiments), n, spans)
                for n, e in enumerate(run.experiments)
            ],
            frames_of(run),
            list(run.setups),
            [mount_of(experiment) for experiment in run.experiments],
            list(params.terms),
        )

    def bind(self, domain: Domain) -> InverseScale:
        """One parameter for all; the level from places all over the ranges."""
        rng = np.random.default_rng(1)
        points = []
        for number in domain.used():
            limits = domain.limits[number]
            ends = np.array([limits[name] for name in self.columns[1:]])
            part = rng.uniform(ends[:, 0], ends[:, 1], (_LEVEL_POINTS, len(ends)))
            part[:, 1] = np.floor(part[:, 1])
            points.append(np.column_stack([np.full(_LEVEL_POINTS, number), part]))
        basis = InverseScale(
            self.models, self.frames, self.detectors, self.mounts, self.terms, 1.0
        )
        basis.level = float(basis.basis(np.concatenate(points)).data.mean())
        return basis


@dataclass
class InverseScale(Basis):
    """One function for all sources.

    Args:
        models, frames, detectors, mounts, terms: As in `DialsScale`.
        level: What the inverse scale factor is divided by.
    """

    models: list[dict]
    frames: list[dict]
    detectors: list[int]
    mounts: list[dict | None]
    terms: list[str]
    level: float

    def __post_init__(self) -> None:
        self.initial = np.ones(1)

    def basis(self, coordinates: np.ndarray):
        """(n, 1) CSR.

        Args:
            coordinates: (n, 6): source, phi (deg), panel, x, y (pixels), s (1/A).
        """
        source, phi, _, x, y, s = coordinates.T
        result = np.empty(len(source))
        for number in np.unique(source).astype(int):
            model, here = self.models[number], source == number
            surface, lmax = None, order_of_surface(model)
            if lmax:
                surface = path_harmonics(
                    self.frames,
                    self.detectors,
                    self.mounts,
                    lmax,
                    coordinates[here, :5],
                )
            start, width = model["scan"]
            z = (phi[here] - start) / width
            result[here] = inverse_scales(
                model, self.terms, z, x[here], y[here], s[here], surface
            )
        n = len(result)
        return sparse.csr_matrix(
            (result / self.level, np.zeros(n, np.int32), np.arange(n + 1)), (n, 1)
        )

    def penalty(self):
        """The parameter."""
        return sparse.identity(1, format="csr")


def _experiments(path: str):
    from diffuse_core.compat import load_experiments

    if not Path(path).is_file():
        raise InputError(f"{NAME}.experiments={path} does not exist.")
    try:
        return load_experiments(path, check_format=False)
    except Exception as error:
        raise InputError(
            f"{NAME}.experiments={path} can't be read as an experiment list: {error}."
        ) from error


def _partner(experiment, number: int, run: RunInputs, scaled, path: str | None):
    """The experiment that holds the scaling model of this one."""
    if scaled is run.experiments:
        found = [experiment]
    else:
        identifier = experiment.identifier
        found = [e for e in scaled if identifier and e.identifier == identifier]
        if not found and len(scaled) == len(run.experiments) == 1:
            found = [scaled[0]]
    if len(found) != 1:
        raise InputError(
            f"{path} does not have experiment {number} (identifier "
            f"{experiment.identifier!r}): {NAME}.experiments must be what dials.scale "
            "made of the same experiments."
        )
    if found[0].scaling_model is None:
        where = path or f"The input of {NAME}"
        raise InputError(
            f"{where} has no scaling model for experiment {number}: give "
            f"{NAME}.experiments=scaled.expt as dials.scale wrote it."
        )
    return found[0]


def _model(experiment, number: int, spans: dict | None) -> dict:
    record = experiment.scaling_model.to_dict()
    if record["__id__"] not in KNOWN:
        raise InputError(
            f"The scaling model {record['__id__']!r} of experiment {number} can't be "
            f"evaluated: {NAME} knows {', '.join(KNOWN)}."
        )
    settings = dict(record["configuration_parameters"])
    scan = experiment.scan
    start, width, span = 0.0, 1.0, [0.0, 1.0]
    if scan is not None and scan.get_oscillation()[1] != 0:
        width = scan.get_oscillation()[1]
        first, last = scan.get_array_range()
        start = scan.get_angle_from_array_index(0.0, deg=True)
        if "valid_image_range" in settings:
            first, last = settings["valid_image_range"]
            first -= 1
        span = [float(first), float(last)]
        if spans is not None:
            if experiment.identifier not in spans:
                raise InputError(
                    f"{NAME}.reflections has no scaled reflections of experiment "
                    f"{number}: give the scaled.refl that belongs to the scaling model."
                )
            span = spans[experiment.identifier]
    return {
        "id": record["__id__"],
        "configuration": {
            k: v for k, v in settings.items() if isinstance(v, (int, float, str))
        },
        "terms": {
            name: list(record[name]["parameters"]) for name in settings["corrections"]
        },
        "span": span,
        "scan": [start, width],
    }


def _spans(path: str | None) -> dict[str, list[float]] | None:
    """Identifier -> lowest and highest z of the reflections that were scaled."""
    if path is None:
        return None
    from dials.array_family import flex

    try:
        table = flex.reflection_table.from_file(path)
        scaled = table["inverse_scale_factor"].as_numpy_array() > 0
        z = table["xyzobs.px.value"].parts()[2].as_numpy_array()
        number = table["id"].as_numpy_array()
        names = dict(table.experiment_identifiers())
    except Exception as error:
        raise InputError(
            f"{NAME}.reflections={path} can't be used: give the scaled.refl of "
            f"dials.scale ({error})."
        ) from error
    spans = {}
    for i, name in names.items():
        use = scaled & (number == i)
        if use.any():
            spans[name] = [float(z[use].min()), float(z[use].max())]
    return spans

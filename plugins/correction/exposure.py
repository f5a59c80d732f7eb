"""Relative exposure of images: monitor readings, attenuator steps, beam decay."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, Image, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
file = None
  .type = path
  .help = "Text file with two columns, image number and relative exposure; or three,"
          "experiment (from 0), image number and relative exposure. # starts a comment."
          "Image numbers are those of the scan; a still is image 1."
steps = None
  .type = floats(value_min=0)
  .help = "Transmission of the attenuator at step 0, 1, 2 ...: the last column of the"
          "file then holds the step of each image, not its exposure."
beam_transmission = False
  .type = bool
  .help = "Multiply by the transmission of the beam in the .expt file."
"""


class Exposure(CorrectionModel):
    """A factor per image on everything that comes from the beam.

    It multiplies the exposure time of the .expt file, so 1 means the nominal flux.

    Args:
        values: (experiment, index of the image from 0) -> relative exposure, > 0; 1
            for images that are not in it.
    """

    def __init__(self, values: Mapping[tuple[int, int], float]) -> None:
        self.values = dict(values)

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Exposure:
        """Raises ConfigError if the file can't be used or lacks an image."""
        if params.file is None and not params.beam_transmission:
            logger.warning(
                "correction.exposure does nothing without correction.exposure.file."
            )
            return cls({})
        values = {
            (number, index): _transmission(experiment, number, params)
            for number, experiment in enumerate(run.experiments)
            for index in range(len(experiment.imageset))
        }
        if params.file is None:
            return cls(values)
        table = _read_columns(params.file, params.steps)
        by_image = {(int(e), int(i)): value for e, i, value in table}
        for number, experiment in enumerate(run.experiments):
            first = experiment.scan.get_image_range()[0] if experiment.scan else 1
            for index in range(len(experiment.imageset)):
                image = first + index
                value = by_image.get((number, image), by_image.get((-1, image)))
                if value is None:
                    raise ConfigError(
                        f"The file {params.file} of correction.exposure has no line "
                        f"for image {image} of experiment {number}."
                    )
                values[number, index] *= value
        return cls(values)

    def image_response(self, image: Image, geometry) -> float:
        """The relative exposure of the image."""
        return self.values.get((image.experiment, image.index), 1.0)


def _transmission(experiment, number: int, params) -> float:
    if not params.beam_transmission:
        return 1.0
    value = experiment.beam.get_transmission()
    if not value > 0:
        raise ConfigError(
            f"The beam of experiment {number} has the transmission {value}: leave "
            "correction.exposure.beam_transmission out."
        )
    return value


def _read_columns(path: str, steps: list[float] | None) -> np.ndarray:
    """(n, 3) float64: experiment (-1 = any), image number, relative exposure."""
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The file {path} of correction.exposure can't be read ({error})."
        ) from error
    if table.shape[1] == 2:
        table = np.column_stack([np.full(len(table), -1.0), table])
    if steps is not None:
        step = table[:, -1]
        if not np.isin(step, np.arange(len(steps))).all():
            raise ConfigError(
                f"The last column of {path} must hold steps from 0 to "
                f"{len(steps) - 1}, one for each number of correction.exposure.steps."
            )
        table[:, -1] = np.array(steps)[step.astype(int)]
    if table.shape[1] != 3 or not (
        np.isfinite(table).all() and (table[:, 2] > 0).all()
    ):
        raise ConfigError(
            f"The file {path} of correction.exposure must have two or three columns, "
            "the last above 0."
        )
    return table


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="exposure",
        factory="diffuse_core.plugins.correction.exposure:Exposure",
        summary="Relative exposure of each image: monitor, attenuator steps.",
        phil=PHIL,
    )

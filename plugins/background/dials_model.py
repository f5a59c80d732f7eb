"""The background model of dials.model_background, scaled to each image."""

from __future__ import annotations

import logging
import pickle

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import InputError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import BackgroundModel, Image, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
file = None
  .type = path
  .help = "background.pickle of dials.model_background, which describes detectors of"
          "one panel. Caution: it holds all that is smooth in the mean image, the"
          "sample's own smooth diffuse scattering included."
tail = 1e-4
  .type = float(value_min=1e-12, value_max=0.1, allow_none=False)
  .help = "Pixels with a Poisson probability below this are left out of the scale of an"
          "image: Bragg peaks, hot and dead pixels."
spread = 0.3
  .type = float(value_min=0, allow_none=False)
  .help = "Pixels may differ by this fraction from the scaled model. It matters above"
          "about 20 counts per pixel."
"""


class DialsModel(BackgroundModel):
    """Mean = c m / t: m the model (photons per pixel and image), t the exposure time.

    c is the ratio of sums of the image's counts and the model, over usable pixels that
    Poisson statistics do not exclude (`diffuse_core.robust`): one number per image.
    The variance is that of c; the error of the model is not in the file. Source of the
    model: J. M. Parkhurst et al., IUCrJ 4, 626 (2017).

    Args:
        model: (n_slow, n_fast) float64 >= 0, photons; None for no background.
        run: The experiments, for gain and pedestal.
        tail: Poisson probability of what is left out, on each side.
        spread: Relative deviation from the scaled model that is kept.
    """

    def __init__(
        self,
        model: np.ndarray | None,
        run: RunInputs,
        tail: float = 1e-4,
        spread: float = 0.3,
    ) -> None:
        self.model = model
        self.run = run
        self.tail = tail
        self.spread = spread

    @classmethod
    def from_params(cls, params, run: RunInputs) -> DialsModel:
        """Raises InputError if the file can't be used with the run's detector."""
        model = None
        if params.file is None:
            logger.warning(
                "background.dials_model does nothing without "
                "background.dials_model.file."
            )
        else:
            model = read_model(params.file)
            for setup in sorted(set(run.setups)):
                _check(model, params.file, run.first_of_setup(setup).detector)
        return cls(model, run, params.tail, params.spread)

    def image_background(
        self, image: Image, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean (counts/s per pixel) and variance; 0 for an image without pixels."""

        from diffuse_core import boundary
        from diffuse_core.robust import clipped_rates

        if self.model is None or not image.counts:
            return 0.0, 0.0
        (readout,) = boundary.readouts(self.run.experiments[image.experiment])
        use = self.model > 0
        if image.usable:
            use = use & image.usable[0]
        photons = (image.counts[0][use] - readout.pedestal) / readout.gain
        group = np.zeros(len(photons), np.int64)
        (scale,), (variance,) = clipped_rates(
            photons, self.model[use], group, 1, self.tail, self.spread
        )
        if not np.isfinite(scale):
            return 0.0, 0.0
        rate = self.model / image.exposure
        return scale * rate, variance * rate**2


def read_model(path: str) -> np.ndarray:
    """(n_slow, n_fast) float64: the model of a file of dials.model_background.

    Only arrays and the model are unpickled: a pickle can otherwise run any program.

    Raises:
        InputError: The file can't be read or isn't the model of one panel.
    """
    import dials.algorithms.background.gmodel  # noqa: F401  (registers the model)

    try:
        with open(path, "rb") as file:
            model = _Unpickler(file, encoding="bytes").load()
        panels = [model.data(index).as_numpy_array() for index in range(len(model))]
    except OSError as error:
        raise InputError(
            f"The background model {path} can't be read ({error.strerror}): correct "
            "background.dials_model.file."
        ) from error
    except Exception as error:
        raise InputError(
            f"The file {path} isn't a background model of dials.model_background "
            f"({error}): make one, or use another background."
        ) from error
    if len(panels) != 1:
        raise InputError(
            f"The background model {path} has {len(panels)} panels, but only models of "
            "one panel can be used: take background.models=radial or images."
        )
    return np.maximum(np.nan_to_num(panels[0].astype(float)), 0.0)


class _Unpickler(pickle.Unpickler):
    ALLOWED = {
        ("dials_algorithms_background_gmodel_ext", "StaticBackgroundModel"),
        ("scitbx_array_family_flex_ext", "double"),
        ("scitbx_array_family_flex_ext", "grid"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _check(model: np.ndarray, path: str, detector) -> None:
    if len(detector) != 1:
        raise InputError(
            f"The background model {path} is for a detector of one panel, not of "
            f"{len(detector)}: take background.models=radial or images."
        )
    shape = tuple(reversed(detector[0].get_image_size()))
    if model.shape != shape:
        raise InputError(
            f"The background model {path} has the shape {model.shape}, but the "
            f"detector has {shape} (slow, fast): give a model that was made for this "
            "run."
        )


@hookimpl
def diffuse_background_models():
    yield ModelPlugin(
        name="dials_model",
        factory="diffuse_core.plugins.background.dials_model:DialsModel",
        summary="A model of dials.model_background (one panel), scaled to each image.",
        phil=PHIL,
    )

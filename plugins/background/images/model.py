"""Images of an empty run: what is counted without the crystal."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.models import BackgroundModel, Image, RunInputs
from diffuse_core.plugins.background.images import fit
from diffuse_core.plugins.background.images.empty_run import EmptyRun, Estimate, Frame

logger = logging.getLogger("dials.diffuse")


class Images(BackgroundModel):
    """Mean = scale * photons / exposure time of the empty run, pixel by pixel.

    The response does not enter: the empty run saw the same. The variance is that of the
    Poisson statistics of the empty run. One average serves all images
    (`panel_background`), or with windows all images of a block (`block_background`).

    Args:
        empty: The empty run, or None for no background.
        scale: Factor on the empty run.
        window: Rotation of a window (deg), or None for one average.
    """

    _WINDOWS_KEPT = 2

    def __init__(
        self, empty: EmptyRun | None, scale: float = 1.0, window: float | None = None
    ) -> None:
        self.empty = empty
        self.scale = scale
        self.windows: list[tuple[float, list[Frame]]] = []
        if empty is not None and window:
            self.windows = make_windows(empty, window)
        self._estimates: OrderedDict[tuple[int, ...], list[Estimate]] = OrderedDict()

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Images:
        """Raises DiffuseError if the files can't be read or don't fit the run."""
        files = [name for name in params.file if name is not None]
        if not files:
            logger.warning(
                "background.images does nothing without background.images.file."
            )
            return cls(None)
        empty = EmptyRun(files)
        for setup in sorted(set(run.setups)):
            experiment = run.first_of_setup(setup)
            empty.check(
                experiment.detector, experiment.beam, params.max_shift, params.max_tilt
            )
        scale = params.scale
        if not isinstance(scale, (int, float)):
            scale = fit.fit_scale(empty, run, params.scale_range)
        return cls(empty, scale, params.window)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_estimates": OrderedDict()}

    def panel_background(
        self, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean (counts/s per pixel) and variance of the average of all images."""
        if self.empty is None or self.windows:
            return 0.0, 0.0
        return self._scaled((), self.empty.frames, geometry)

    def block_background(
        self, images: Sequence[Image], geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean and variance of the windows with their middle in the block, if any.

        Where no middle lies in the rotation of the block it is the nearest window.
        """
        if not self.windows:
            return 0.0, 0.0
        first = min(image.phi - image.width / 2 for image in images)
        last = max(image.phi + image.width / 2 for image in images)
        centres = np.array([centre for centre, _ in self.windows])
        away = np.abs((centres - (first + last) / 2 + 180.0) % 360.0 - 180.0)
        inside = np.flatnonzero(away < (last - first) / 2)
        chosen = tuple(inside.tolist()) or (int(away.argmin()),)
        frames = [frame for number in chosen for frame in self.windows[number][1]]
        return self._scaled(chosen, frames, geometry)

    def _scaled(self, key: tuple, frames: Sequence[Frame], geometry: PanelGeometry):
        if key not in self._estimates:
            self._estimates[key] = self.empty.estimate(frames)
        self._estimates.move_to_end(key)
        while len(self._estimates) > self._WINDOWS_KEPT:
            self._estimates.popitem(last=False)
        estimate = self._estimates[key][geometry.index]
        return self.scale * estimate.mean, self.scale**2 * estimate.variance


def make_windows(empty: EmptyRun, width: float) -> list[tuple[float, list[Frame]]]:
    """Consecutive windows of rotation that hold images: mean angle (deg), images.

    Raises:
        ConfigError: The empty run does not rotate.
    """
    if any(frame.phi is None for frame in empty.frames):
        raise ConfigError(
            f"The empty run {empty.name} has images without rotation: leave "
            "background.images.window unset."
        )
    first = min(frame.phi for frame in empty.frames)
    windows: dict[int, list[Frame]] = {}
    for frame in empty.frames:
        windows.setdefault(int((frame.phi - first + 1e-6) // width), []).append(frame)
    return [
        (float(np.mean([frame.phi for frame in windows[number]])), windows[number])
        for number in sorted(windows)
    ]

"""What is the same for all images of a panel, and what single images add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffuse_core.errors import PluginError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.models import (
    BackgroundModel,
    CorrectionModel,
    Image,
    Mapper,
    MaskModel,
)

_NONE2 = np.empty((0, 0), np.float32)
_NONE3 = np.empty((0, 0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a run."""

    masks: Sequence[MaskModel]
    corrections: Sequence[CorrectionModel]
    backgrounds: Sequence[BackgroundModel]
    mapper: Mapper


@dataclass(frozen=True, eq=False)
class Exposure:
    """An image as it is read, with `Image.counts` and `Image.usable` filled.

    Attributes:
        image: The image.
        sub_images: The image at the middles of equal parts of its rotation width;
            one, the image itself, without oversampling.
    """

    image: Image
    sub_images: tuple[Image, ...]


@dataclass(frozen=True, eq=False)
class Readout:
    """How raw values become photons: (raw - pedestal) / gain, per panel."""

    pedestal: float
    gain: float


@dataclass(frozen=True, eq=False)
class PanelSetup:
    """What is the same for all images of one panel of one setup."""

    geometry: PanelGeometry
    readout: Readout
    mask: np.ndarray
    response: np.ndarray
    background: np.ndarray
    variance: np.ndarray


def prepare_panel(
    geometry: PanelGeometry, readout: Readout, models: Models
) -> PanelSetup:
    """The panel's masks ANDed, responses multiplied, backgrounds added.

    Raises:
        PluginError: A model returns an array of the wrong shape, or a response that
            isn't finite and above 0 in a pixel that the masks keep.
    """
    mask = np.ones(geometry.shape, bool)
    for model in models.masks:
        one = model.panel_mask(geometry)
        if one is not None:
            mask &= checked(model, one, geometry.shape).astype(bool)
    response = np.ones(geometry.shape, np.float32)
    for model in models.corrections:
        one = model.panel_response(geometry)
        response *= _positive(model, one, geometry, mask)
    mean, variance = _backgrounds(
        models,
        geometry.shape,
        lambda model: model.panel_background(geometry, response),
    )
    return PanelSetup(replace(geometry), readout, mask, response, mean, variance)


def in_block(panel: PanelSetup, images: Sequence[Image], models: Models) -> PanelSetup:
    """The panel with what the backgrounds of one block add.

    Args:
        panel: The panel.
        images: All images of the block.
        models: The models of the run.
    """
    geometry = panel.geometry
    mean, variance = _backgrounds(
        models,
        geometry.shape,
        lambda model: model.block_background(images, geometry, panel.response),
    )
    if not mean.size:
        return panel
    if panel.background.size:
        mean, variance = panel.background + mean, panel.variance + variance
    return replace(panel, background=mean, variance=variance)


def _backgrounds(models: Models, shape: tuple[int, int], of_model) -> tuple:
    """Sums of the means and variances that `of_model` gives; (0, 0) for none at all."""
    mean = variance = _NONE2
    for model in models.backgrounds:
        m, v = of_model(model)
        if np.any(m) or np.any(v):
            if not mean.size:
                mean = np.zeros(shape, np.float32)
                variance = np.zeros(shape, np.float32)
            mean += checked(model, m, shape)
            variance += checked(model, v, shape)
    return mean, variance


def image_mask(image: Image, panel: PanelSetup, models: Models) -> np.ndarray | None:
    """Product of what the masks say of one image; None if they say nothing."""
    mask = None
    for model in models.masks:
        one = model.image_mask(image, panel.geometry)
        if one is not None:
            one = checked(model, one, panel.geometry.shape).astype(bool, copy=False)
            mask = one if mask is None else mask & one
    return mask


def image_response(
    images: Sequence[Image], panel: PanelSetup, models: Models
) -> tuple[np.ndarray, np.ndarray]:
    """What corrections say of single images.

    Returns:
        (n_images,) float64: exposure times (s) times responses that are one number.
        (n_images, n_slow, n_fast) float32: other responses; (0, 0, 0) without any.
    """
    geometry = panel.geometry
    scale = np.array([image.exposure for image in images], float)
    arrays = _NONE3
    for i, image in enumerate(images):
        for model in models.corrections:
            one = model.image_response(image, geometry)
            if np.ndim(one) == 0:
                scale[i] *= _positive(model, one, geometry, panel.mask)
                continue
            if not len(arrays):
                arrays = np.ones((len(images), *geometry.shape), np.float32)
            arrays[i] *= _positive(model, one, geometry, panel.mask)
    return scale, arrays


def image_background(
    images: Sequence[Image], panel: PanelSetup, models: Models
) -> tuple[np.ndarray, np.ndarray]:
    """(n_images, n_slow, n_fast) float32: mean and variance that single images add.

    (0, 0, 0) without any.
    """
    shape = panel.geometry.shape
    mean = variance = _NONE3
    for i, image in enumerate(images):
        for model in models.backgrounds:
            m, v = model.image_background(image, panel.geometry, panel.response)
            if not (np.any(m) or np.any(v)):
                continue
            if not len(mean):
                mean = np.zeros((len(images), *shape), np.float32)
                variance = np.zeros((len(images), *shape), np.float32)
            mean[i] += checked(model, m, shape)
            variance[i] += checked(model, v, shape)
    return mean, variance


def checked(model, values, shape: tuple[int, int]) -> np.ndarray:
    """What a model returned, as an array or a number.

    Raises:
        PluginError: The array has another shape.
    """
    values = np.asarray(values)
    if values.ndim and values.shape != shape:
        raise PluginError(
            f"The model {type(model).__name__} returned an array of shape "
            f"{values.shape} for a panel of shape {shape}."
        )
    return values


def _positive(model, values, geometry: PanelGeometry, mask: np.ndarray):
    values = checked(model, values, geometry.shape).astype(np.float32)
    seen = np.where(mask, values, np.float32(1.0)) if values.ndim else values
    if not (seen.min() > 0 and seen.max() < np.inf):
        raise PluginError(
            f"The correction {type(model).__name__} returned a response that is not "
            f"finite and above 0 on panel {geometry.index}: mask those pixels instead."
        )
    return seen

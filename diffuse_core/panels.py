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
from diffuse_core.pixel_loops import multiply

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
        _multiply(response, model, one, geometry, mask)
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


def n_together(model: MaskModel, image: Image) -> int:
    """How many consecutive images like this one the model wants to see at once."""
    if not image.width:
        return 1
    return max(1, int(model.together / abs(image.width) + 1e-6))


def image_masks(
    images: Sequence[Image], panel: PanelSetup, models: Models
) -> list[np.ndarray | None]:
    """Product of what the masks say of each image; None where they say nothing.

    Args:
        images: Consecutive images of a block, the first of them the first of a group
            (`n_together`) of each mask.
        panel: The panel.
        models: The models of the run.

    Raises:
        PluginError: A model returns too few or too many masks, or of the wrong shape.
    """
    masks: list[np.ndarray | None] = [None] * len(images)
    for model in models.masks:
        step = n_together(model, images[0])
        for start in range(0, len(images), step):
            group = images[start : start + step]
            found = model.image_masks(group, panel.geometry)
            if len(found) != len(group):
                raise PluginError(
                    f"{type(model).__name__}.image_masks returned {len(found)} masks "
                    f"for {len(group)} images."
                )
            for i, one in enumerate(found, start):
                if one is None:
                    continue
                one = checked(model, one, panel.geometry.shape)
                one, other = one.astype(bool, copy=False), masks[i]
                masks[i] = one if other is None else other & one
    return masks


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
                _multiply(scale[i : i + 1], model, one, geometry, panel.mask)
                continue
            if not len(arrays):
                arrays = np.ones((len(images), *geometry.shape), np.float32)
            _multiply(arrays[i], model, one, geometry, panel.mask)
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


def _multiply(
    product: np.ndarray, model, values, geometry: PanelGeometry, mask: np.ndarray
) -> None:
    """Multiplies by a response, an array or a number, in the pixels that are kept."""
    values = checked(model, values, geometry.shape)
    if values.ndim:
        right = multiply(product, values, mask)
    else:
        value = np.float32(values)
        right = 0 < value < np.inf
        product *= value
    if not right:
        raise PluginError(
            f"The correction {type(model).__name__} returned a response that is not "
            f"finite and above 0 on panel {geometry.index}: mask those pixels instead."
        )

"""What models do to each pixel of one image, as arrays to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.geometry import PanelGeometry
from diffuse_core.models import (
    BackgroundModel,
    CorrectionModel,
    Image,
    IntensityBackground,
    MaskModel,
)
from diffuse_core.panels import n_together
from diffuse_core.region_kernels import keep_pixels
from diffuse_core.regions import pack_regions


@dataclass(frozen=True, eq=False)
class Shown:
    """One model, or all together.

    Attributes:
        name: What the user calls it.
        values: Per panel (n_slow, n_fast): bool, True = keep; response; counts/s.
    """

    name: str
    values: list[np.ndarray]


def masks(
    models: Sequence[tuple[str, MaskModel]],
    panels: Sequence[PanelGeometry],
    image: Image,
    images: Sequence[Image] = (),
) -> list[Shown]:
    """What each mask keeps of an image, what its format keeps, and what all keep.

    Args:
        models: Names and models.
        panels: The panels.
        image: The image.
        images: Consecutive images, this one among them, for models that look at them
            together; else it is seen on its own.
    """
    found = []
    if image.usable:
        found.append(Shown("image format", [np.array(u, bool) for u in image.usable]))
    found += [
        Shown(name, [_kept(model, panel, image, images or [image]) for panel in panels])
        for name, model in models
    ]
    return [*found, _together("all masks", found, panels, np.logical_and, True)]


def corrections(
    models: Sequence[tuple[str, CorrectionModel]],
    panels: Sequence[PanelGeometry],
    image: Image,
) -> list[Shown]:
    """The response of each correction, and their product; sr with solid angles."""
    found = [
        Shown(
            name,
            [
                _full(panel, model.panel_response(panel))
                * _full(panel, model.image_response(image, panel))
                for panel in panels
            ],
        )
        for name, model in models
    ]
    return [*found, _together("product", found, panels, np.multiply, 1.0)]


def backgrounds(
    models: Sequence[tuple[str, BackgroundModel | IntensityBackground]],
    panels: Sequence[PanelGeometry],
    image: Image,
    responses: Sequence[np.ndarray],
) -> list[Shown]:
    """Mean of each background, counts/s, and their sum.

    One that is an intensity and nothing else counts as intensity times response.

    Args:
        models: Names and models.
        panels: The panels.
        image: The image.
        responses: Per panel, product of all responses.
    """
    found = []
    for name, model in models:
        values = []
        for panel, response in zip(panels, responses, strict=True):
            if isinstance(model, BackgroundModel):
                parts = (
                    model.panel_background(panel, response),
                    model.block_background([image], panel, response),
                    model.image_background(image, panel, response),
                )
                mean = sum(_full(panel, part[0]) for part in parts)
            else:
                mean = model.intensity(panel.s_norm)[0] * response
            values.append(mean)
        found.append(Shown(name, values))
    return [*found, _together("sum", found, panels, np.add, 0.0)]


def _kept(
    model: MaskModel, panel: PanelGeometry, image: Image, images: Sequence[Image]
) -> np.ndarray:
    keep = np.ones(panel.shape, bool)
    number = next(i for i, one in enumerate(images) if one.index == image.index)
    step = n_together(model, image)
    start = number // step * step
    of_images = model.image_masks(images[start : start + step], panel)
    for one in (model.panel_mask(panel), of_images[number - start]):
        if one is not None:
            keep &= one
    regions = pack_regions([list(model.lattice_regions(image))])
    out = np.empty((1, *panel.shape), bool)
    keep_pixels(keep, np.ones_like(out), panel.s, regions, out)
    return out[0]


def _full(panel: PanelGeometry, values) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, float), panel.shape)


def _together(name: str, found: Sequence[Shown], panels, operation, neutral) -> Shown:
    total = [np.full(panel.shape, neutral) for panel in panels]
    for shown in found:
        total = [operation(t, v) for t, v in zip(total, shown.values, strict=True)]
    return Shown(name, total)


def figures(shown: Shown, panels: Sequence[int] | None = None) -> dict[str, float]:
    """min, median, max and mean of the finite values; of a mask the mean is the share.

    Args:
        shown: The model.
        panels: Which panels; None = all.
    """
    chosen = range(len(shown.values)) if panels is None else panels
    values = np.concatenate([np.ravel(shown.values[i]) for i in chosen]).astype(float)
    values = values[np.isfinite(values)]
    if not len(values):
        values = np.array([np.nan])
    return {
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
        "mean": float(values.mean()),
    }

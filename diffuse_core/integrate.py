"""From images to observations: one block at a time, with model instances.

`Integrator` holds what is the same for all images of a setup (geometry, masks,
response, background) and passes pixels to the compiled kernel, tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import tee

import numpy as np

from diffuse_core import kernels
from diffuse_core.errors import PluginError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.grid import keys_of
from diffuse_core.models import (
    BackgroundModel,
    CorrectionModel,
    Image,
    Mapper,
    MaskModel,
)
from diffuse_core.observations import combine_rows
from diffuse_core.region_kernels import keep_pixels
from diffuse_core.regions import pack_regions
from diffuse_core.stays import Stay, stay_before

TILE = 64
LARGEST_BOX = 2_000_000
CHUNK = 12
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
            mask &= _checked(model, one, geometry.shape).astype(bool)
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
            mean += _checked(model, m, shape)
            variance += _checked(model, v, shape)
    return mean, variance


class Integrator:
    """Sums the pixels of blocks into observations.

    Args:
        models: The models of the run.
        panels_of: setup -> its panels, ready for use.
    """

    def __init__(
        self, models: Models, panels_of: Callable[[int], Sequence[PanelSetup]]
    ) -> None:
        self.models = models
        self.panels_of = panels_of

    def integrate_block(
        self,
        setup: int,
        exposures: Iterable[Exposure],
        images: Sequence[Image] | None = None,
        earlier: Iterable[Exposure] = (),
    ) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Observations of one block and what was counted on the way.

        Args:
            setup: Setup of the block's experiment.
            exposures: The images; they are read as they are needed, at most `CHUNK`
                at a time.
            images: All images of the block, without their pixels; None: `exposures`
                are read first, if there is a background.
            earlier: Images of the same experiment that earlier blocks hold, without
                their pixels, the latest first: for the errors that they share with
                this block (`stays`).

        Returns:
            Columns of `Observations` and {"images", "pixels" (looked at), "used"}.
        """
        if images is None and self.models.backgrounds:
            exposures = list(exposures)
            images = [exposure.image for exposure in exposures]
        panels = [
            in_block(panel, images or (), self.models)
            for panel in self.panels_of(setup)
        ]
        keys, panel_index, sums = [], [], []
        tally = {"images": 0, "pixels": 0, "used": 0}
        stays = [
            self._stay(panel, before)
            for panel, before in zip(panels, tee(earlier, len(panels)), strict=True)
        ]
        for chunk in _chunks(exposures, CHUNK):
            tally["images"] += len(chunk)
            for panel, stay in zip(panels, stays, strict=True):
                p = panel.geometry.index
                tally["pixels"] += len(chunk) * panel.mask.size
                for index, values in self._panel(panel, chunk, stay):
                    keys.append(index)
                    panel_index.append(np.full(len(index), p, np.int16))
                    sums.append(values)
                    tally["used"] += round(float(values[:, 1].sum()))
        if not keys:
            keys, panel_index = [np.empty(0, np.int64)], [np.empty(0, np.int16)]
            sums = [np.empty((0, len(kernels.COLUMNS)))]
        return (
            combine_rows(
                np.concatenate(keys), np.concatenate(panel_index), np.concatenate(sums)
            ),
            tally,
        )

    def _stay(self, panel: PanelSetup, earlier: Iterator[Exposure]) -> Stay:
        if not panel.variance.any():
            return Stay()
        models = self.models
        return stay_before(
            panel.geometry, panel.mask, models.masks, models.mapper, earlier
        )

    def _panel(self, panel: PanelSetup, chunk: list[Exposure], stay: Stay):
        geometry = panel.geometry
        p = geometry.index
        images = [e.image for e in chunk]
        counts = np.stack([image.counts[p] for image in images])
        usable = np.stack([self._image_mask(image, panel) for image in images])
        scale, image_response = self._image_response(images, panel)
        image_background, image_variance = self._image_background(images, panel)
        regions = pack_regions(
            [
                [r for m in self.models.masks for r in m.lattice_regions(image)]
                for image in images
            ]
        )
        time = np.array([image.exposure for image in images])
        readout = np.array([panel.readout.pedestal, panel.readout.gain])
        affine = [
            [self.models.mapper.affine(sub) for sub in e.sub_images] for e in chunk
        ]
        shared = (
            panel.response,
            image_response,
            scale,
            panel.background,
            panel.variance,
            image_background,
            image_variance,
            time,
            readout,
        )
        if affine[0][0] is None:
            keep = np.empty(counts.shape, bool)
            keep_pixels(panel.mask, usable, geometry.s, regions, keep)
            yield from self._general(panel, images, counts, keep, shared, stay)
            return
        phi = np.array([[sub.phi for sub in e.sub_images] for e in chunk])
        affine = np.array(affine, float)
        sub_pixels = np.array(self.models.mapper.oversample[:2], np.int64)
        for tile, box in _tiles(geometry, affine, sub_pixels):
            sums = np.zeros((*(box[1] - box[0] + 1), len(kernels.COLUMNS)))
            kernels.accumulate_tile(
                counts,
                usable,
                panel.mask,
                geometry.s,
                *shared,
                affine,
                phi,
                sub_pixels,
                regions,
                tile,
                box,
                stay.key,
                stay.time,
                sums,
            )
            index, values = kernels.rows_of_box(sums, box)
            if len(index):
                yield keys_of(index), values

    def _general(self, panel, images, counts, keep, shared, stay: Stay):
        """The path of mappings that aren't affine: keys from the mapper, one sort."""
        (
            response,
            image_response,
            scale,
            mean,
            variance,
            i_mean,
            i_var,
            time,
            readout,
        ) = shared
        geometry = panel.geometry
        zero = np.zeros(geometry.shape, np.float32)
        mean, variance = (b if b.size else zero for b in (mean, variance))
        for i, image in enumerate(images):
            voxels = self.models.mapper.voxels(image, geometry)
            voxels = _checked(self.models.mapper, voxels, geometry.shape)
            where = np.nonzero(keep[i] & (voxels >= 0))
            y, x = where
            e = response[where] * scale[i]
            if len(image_response):
                e = e * image_response[i][where]
            b = mean[where] * time[i]
            v = variance[where] * stay.squares(where, voxels[where], time[i])
            if len(i_mean):
                b = b + i_mean[i][where] * time[i]
                v = v + i_var[i][where] * time[i] ** 2
            n = (counts[i][where] - readout[0]) / readout[1]
            s = np.linalg.norm(geometry.s[where], axis=-1)
            ones = np.ones(len(n))
            columns = [n, ones, e, b, v, ones * image.phi, x + 0.5, y + 0.5, s]
            yield _by_voxel(voxels[where], columns)

    def _image_mask(self, image: Image, panel: PanelSetup) -> np.ndarray:
        usable = image.usable[panel.geometry.index]
        for model in self.models.masks:
            one = model.image_mask(image, panel.geometry)
            if one is not None:
                usable = usable & _checked(model, one, panel.geometry.shape).astype(
                    bool
                )
        return usable

    def _image_response(self, images, panel):
        geometry = panel.geometry
        scale = np.array([image.exposure for image in images], float)
        arrays = _NONE3
        for i, image in enumerate(images):
            for model in self.models.corrections:
                one = model.image_response(image, geometry)
                if np.ndim(one) == 0:
                    scale[i] *= _positive(model, one, geometry, panel.mask)
                    continue
                if not len(arrays):
                    arrays = np.ones((len(images), *geometry.shape), np.float32)
                arrays[i] *= _positive(model, one, geometry, panel.mask)
        return scale, arrays

    def _image_background(self, images, panel):
        shape = panel.geometry.shape
        mean = variance = _NONE3
        for i, image in enumerate(images):
            for model in self.models.backgrounds:
                m, v = model.image_background(image, panel.geometry, panel.response)
                if not (np.any(m) or np.any(v)):
                    continue
                if not len(mean):
                    mean = np.zeros((len(images), *shape), np.float32)
                    variance = np.zeros((len(images), *shape), np.float32)
                mean[i] += _checked(model, m, shape)
                variance[i] += _checked(model, v, shape)
        return mean, variance


def _by_voxel(keys: np.ndarray, columns: Sequence[np.ndarray]):
    """Keys that occur, and the columns (n,) added up over each, (n_keys, n_columns)."""
    found, inverse = np.unique(keys, return_inverse=True)
    sums = [np.bincount(inverse, column, len(found)) for column in columns]
    return found, np.column_stack(sums)


def _tiles(geometry: PanelGeometry, affine: np.ndarray, sub_pixels: np.ndarray):
    n_slow, n_fast = geometry.shape
    waiting = [
        (y, min(y + TILE, n_slow), x, min(x + TILE, n_fast))
        for y in range(0, n_slow, TILE)
        for x in range(0, n_fast, TILE)
    ][::-1]
    while waiting:
        tile = waiting.pop()
        box = kernels.tile_box(geometry.s, affine, sub_pixels, *tile)
        y0, y1, x0, x1 = tile
        if np.prod(box[1] - box[0] + 1.0) > LARGEST_BOX and (y1 - y0) * (x1 - x0) > 1:
            if y1 - y0 >= x1 - x0:
                middle = (y0 + y1) // 2
                waiting += [(middle, y1, x0, x1), (y0, middle, x0, x1)]
            else:
                middle = (x0 + x1) // 2
                waiting += [(y0, y1, middle, x1), (y0, y1, x0, middle)]
            continue
        yield tile, box


def _chunks(items: Iterable, size: int):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _checked(model, values, shape: tuple[int, int]) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim and values.shape != shape:
        raise PluginError(
            f"The model {type(model).__name__} returned an array of shape "
            f"{values.shape} for a panel of shape {shape}."
        )
    return values


def _positive(model, values, geometry: PanelGeometry, mask: np.ndarray):
    values = _checked(model, values, geometry.shape).astype(np.float32)
    seen = values[mask] if values.ndim else values
    if not (np.isfinite(seen).all() and (seen > 0).all()):
        raise PluginError(
            f"The correction {type(model).__name__} returned a response that is not "
            f"finite and above 0 on panel {geometry.index}: mask those pixels instead."
        )
    return values if values.ndim == 0 else np.where(mask, values, np.float32(1.0))

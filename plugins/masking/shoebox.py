"""Masks the shoeboxes of reflections, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, MaskModel, RunInputs

FOREGROUND = 4
"""MaskCode.Foreground of dials.algorithms.shoebox."""

EVERY_IMAGE = np.iinfo(np.int64).max


class Shoebox(MaskModel):
    """Leaves out the foreground of shoeboxes, or whole bounding boxes without them.

    A shoebox counts on the images that it spans, for every crystal on the image.

    Args:
        experiment: (n,) int: experiment of each reflection.
        panel: (n,) int.
        box: (n, 6) int: x0, x1, y0, y1 (pixels), z0, z1 (`Image.index`), half-open,
            may reach beyond the panel; z1 = `EVERY_IMAGE` on all images from z0 on.
        foreground: Per reflection (nz, ny, nx) codes with bit `FOREGROUND`, nz = 1 if
            the shoebox is flat, empty if it isn't stored. None = whole boxes.
    """

    def __init__(
        self,
        experiment: np.ndarray,
        panel: np.ndarray,
        box: np.ndarray,
        foreground: Sequence[np.ndarray] | None = None,
    ) -> None:
        order = np.lexsort((box[:, 4], panel, experiment))
        self._order, self._box, self._foreground = order, box[order], foreground
        pairs = np.column_stack([experiment, panel])[order]
        keys, starts = np.unique(pairs, axis=0, return_index=True)
        stops = np.append(starts[1:], len(order))
        self._rows = {
            (int(e), int(p)): (int(a), int(b))
            for (e, p), a, b in zip(keys, starts, stops, strict=True)
        }

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Shoebox:
        """Raises ConfigError if there are no reflections with bounding boxes."""
        from diffuse_core import boundary

        table = run.reflections
        if table is None or "bbox" not in table:
            lack = "there are no reflections" if table is None else "there are none"
            raise ConfigError(
                f"mask.models=shoebox needs bounding boxes of reflections, but {lack}: "
                "give an integrated.refl or a refined.refl as well."
            )
        experiment = table["id"].as_numpy_array().astype(int)
        box = np.column_stack([b.as_numpy_array() for b in table["bbox"].parts()])
        box = box.astype(np.int64)
        for number, one in enumerate(run.experiments):
            mine = experiment == number
            if boundary.is_still(one):
                box[mine, 4:] = 0, EVERY_IMAGE
            else:
                box[mine, 4:] -= one.scan.get_array_range()[0]
        stored = _Codes(table["shoebox"]) if "shoebox" in table else None
        return cls(experiment, table["panel"].as_numpy_array().astype(int), box, stored)

    def image_mask(self, image: Image, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None without reflections on the panel."""
        keep = None
        for number in {image.experiment, *(i.experiment for i in image.lattices)}:
            start, stop = self._rows.get((number, geometry.index), (0, 0))
            stop = start + np.searchsorted(
                self._box[start:stop, 4], image.index, side="right"
            )
            here = start + np.nonzero(self._box[start:stop, 5] > image.index)[0]
            for row in here:
                if keep is None:
                    keep = np.ones(geometry.shape, bool)
                self._leave_out(keep, row, image.index)
        return keep

    def _leave_out(self, keep: np.ndarray, row: int, index: int) -> None:
        x0, x1, y0, y1, z0, _ = self._box[row]
        xa, xb = max(x0, 0), min(x1, keep.shape[1])
        ya, yb = max(y0, 0), min(y1, keep.shape[0])
        if xa >= xb or ya >= yb:
            return
        part = keep[ya:yb, xa:xb]
        codes = () if self._foreground is None else self._foreground[self._order[row]]
        if not len(codes):
            part[:] = False
            return
        codes = codes[index - z0 if len(codes) > 1 else 0]
        part &= (codes[ya - y0 : yb - y0, xa - x0 : xb - x0] & FOREGROUND) == 0


class _Codes:
    """The masks of a flex.shoebox, converted when they are asked for."""

    def __init__(self, shoeboxes) -> None:
        self._shoeboxes = shoeboxes

    def __getitem__(self, row: int) -> np.ndarray:
        return self._shoeboxes[int(row)].mask.as_numpy_array()


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="shoebox",
        factory="diffuse_core.plugins.masking.shoebox:Shoebox",
        summary="Foreground of the shoeboxes of reflections, image by image.",
    )

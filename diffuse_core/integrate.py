"""From images to observations: one block at a time, with model instances.

`Integrator` takes chunks of images through the fast path or the general one, panel by
panel, and collects the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import tee

import numpy as np

from diffuse_core import fused_path, general_path
from diffuse_core.block_rows import BlockRows
from diffuse_core.chunk import Chunk, chunks
from diffuse_core.models import Image
from diffuse_core.panels import Exposure, Models, PanelSetup, in_block
from diffuse_core.stays import Stay, stay_before


class Integrator:
    """Sums the pixels of blocks into observations.

    Args:
        models: The models of the run.
        panels_of: setup -> its panels, ready for use.
        folder: For temporary files, which only very fine grids need; None: the
            system's.
    """

    def __init__(
        self,
        models: Models,
        panels_of: Callable[[int], Sequence[PanelSetup]],
        folder: str | None = None,
    ) -> None:
        self.models = models
        self.panels_of = panels_of
        self.folder = folder

    def integrate_rows(
        self,
        setup: int,
        exposures: Iterable[Exposure],
        images: Sequence[Image] | None = None,
        earlier: Iterable[Exposure] = (),
    ) -> tuple[BlockRows, dict[str, int]]:
        """Rows of one block and what was counted on the way.

        Args:
            setup: Setup of the block's experiment.
            exposures: The images; they are read as they are needed, at most
                `chunk.IMAGES` at a time.
            images: All images of the block, without their pixels; None: `exposures`
                are read first, if there is a background.
            earlier: Images of the same experiment that earlier blocks hold, without
                their pixels, the latest first: for the errors that they share with
                this block (`stays`).

        Returns:
            The rows, whose columns are those of `Observations`, and {"images",
            "pixels" (looked at), "used"}.
        """
        if images is None and self.models.backgrounds:
            exposures = list(exposures)
            images = [exposure.image for exposure in exposures]
        panels = [
            in_block(panel, images or (), self.models)
            for panel in self.panels_of(setup)
        ]
        rows = BlockRows(self.folder)
        tally = {"images": 0, "pixels": 0, "used": 0}
        stays = [
            self._stay(panel, before)
            for panel, before in zip(panels, tee(earlier, len(panels)), strict=True)
        ]
        for chunk in chunks(exposures, self.models):
            tally["images"] += len(chunk.images)
            for panel, stay in zip(panels, stays, strict=True):
                tally["pixels"] += len(chunk.images) * panel.mask.size
                for key, sums in self._panel(panel, chunk, stay):
                    rows.add(key, panel.geometry.index, sums)
                    tally["used"] += round(float(sums[:, 1].sum()))
        return rows, tally

    def integrate_block(self, *args, **kwargs) -> tuple[dict[str, np.ndarray], dict]:
        """The columns of all rows of a block at once; see `integrate_rows`."""
        rows, tally = self.integrate_rows(*args, **kwargs)
        return rows.columns(), tally

    def _stay(self, panel: PanelSetup, earlier: Iterator[Exposure]) -> Stay:
        if not panel.variance.any():
            return Stay()
        models = self.models
        return stay_before(
            panel.geometry, panel.mask, models.masks, models.mapper, earlier
        )

    def _panel(self, panel: PanelSetup, chunk: Chunk, stay: Stay):
        """Keys and sums by the fast path, or by the general one."""
        args = (self.models, panel, chunk, stay)
        fast = fused_path.integrate_chunk(*args)
        return general_path.integrate_chunk(*args) if fast is None else fast

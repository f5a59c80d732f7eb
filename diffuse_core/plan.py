"""What is to be done: the blocks of a run, and the images of a block.

A block is a run of consecutive images of one experiment: the unit of work, of
parallelism, of restart and of observation. A still is a block of its own.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from numba.core.config import NUMBA_NUM_THREADS

from diffuse_core import boundary
from diffuse_core.compat import oscillation_width
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.memory import AHEAD_BYTES, images_within
from diffuse_core.models import Image, RunInputs
from diffuse_core.panels import Exposure, Models, PanelSetup, prepare_panel
from diffuse_core.read_ahead import ReadAhead

logger = logging.getLogger("dials.diffuse")

SINGLY = 16
"""Images before a block that are looked at one by one, see `ImageSource.earlier`."""


READS_AHEAD = NUMBA_NUM_THREADS > 1
"""This process may use more than one core: images are read while the kernel works."""

KEPT = 256 * 2**20
"""Bytes of images that a worker keeps where several crystals share them."""


@dataclass(frozen=True)
class Block:
    """Images start <= index < stop of one experiment; `first`: of its first block."""

    number: int
    experiment: int
    start: int
    stop: int
    first: int = 0


def shared_images(experiments) -> dict[tuple, list[int]]:
    """Which experiments (crystals) lie on the same images.

    Returns:
        (paths and indices of the image set) -> indices of the experiments.
    """
    groups = defaultdict(list)
    for number, experiment in enumerate(experiments):
        groups[_images_key(experiment)].append(number)
    return dict(groups)


def _images_key(experiment) -> tuple:
    images = experiment.imageset
    return (tuple(images.paths()), tuple(images.indices()))


def check_experiments(experiments) -> None:
    """Refuses experiments that can't be integrated.

    Raises:
        InputError: An experiment has no crystal or no images.
    """
    for number, experiment in enumerate(experiments):
        if experiment.crystal is None:
            raise InputError(
                f"Experiment {number} has no crystal: index the images first "
                "(dials.index) and give the refined.expt."
            )
        if experiment.imageset is None:
            raise InputError(
                f"Experiment {number} has no images: give an .expt file that names "
                "the image files."
            )
        if boundary.is_still(experiment):
            continue
        if oscillation_width(experiment.scan) < 0:
            raise InputError(
                f"Experiment {number} has a negative oscillation width: import the "
                "images again with the rotation axis reversed and a positive width."
            )


def used_experiments(experiments, crystals: str) -> list[int]:
    """Experiments to integrate: all, or the first crystal of each image."""
    if crystals == "all":
        return list(range(len(experiments)))
    return sorted(group[0] for group in shared_images(experiments).values())


def make_blocks(
    experiments,
    numbers: Sequence[int],
    width: float,
    image_range: Sequence[int] | None = None,
) -> list[Block]:
    """The blocks of all experiments, in order.

    Args:
        experiments: dxtbx ExperimentList.
        numbers: Experiments to integrate.
        width: Rotation of a block (deg).
        image_range: First and last image number to use of every scan.

    Raises:
        ConfigError: No image is left.
    """
    blocks: list[Block] = []
    for number in numbers:
        experiment = experiments[number]
        first, stop = 0, len(experiment.imageset)
        if image_range is not None and None not in (
            experiment.scan,
            experiment.goniometer,
        ):
            offset = experiment.scan.get_image_range()[0]
            first = max(first, image_range[0] - offset)
            stop = min(stop, image_range[1] - offset + 1)
        step = 1
        if not boundary.is_still(experiment):
            step = max(1, round(width / oscillation_width(experiment.scan)))
        for start in range(first, stop, step):
            end = min(start + step, stop)
            blocks.append(Block(len(blocks), number, start, end, first))
    if not blocks:
        raise ConfigError(
            f"input.image_range={image_range[0]},{image_range[1]} leaves no image: "
            f"the scan has images {_ranges(experiments)}."
        )
    return blocks


def blocks_by_images(experiments, blocks: Sequence[Block]) -> list[tuple[Block, ...]]:
    """Blocks that lie on the same images together, all in the order of `blocks`."""
    first = {n: g[0] for g in shared_images(experiments).values() for n in g}
    groups = defaultdict(list)
    for block in blocks:
        groups[first[block.experiment], block.start, block.stop].append(block)
    return [tuple(group) for group in groups.values()]


def _ranges(experiments) -> str:
    found = {e.scan.get_image_range() for e in experiments if e.scan is not None}
    return ", ".join(f"{a}-{b}" for a, b in sorted(found))


class KeptImages:
    """The images of the block that was read last, for other crystals on them.

    Args:
        limit: Bytes of raw values to keep; what is beyond is read again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._key: tuple | None = None
        self._images: dict[int, tuple] = {}
        self._size = 0

    def of_block(self, block: Block, images: int, read: Callable) -> Callable:
        """`read` for a block of this set of images, which remembers its results."""
        key = (images, block.start, block.stop)
        if key != self._key:
            self._key, self._images, self._size = key, {}, 0

        def remembered(index: int) -> tuple:
            if index in self._images:
                return self._images[index]
            result = read(index)
            size = sum(panel.nbytes for panel in result[0])
            if self._size + size <= self.limit:
                self._images[index] = result
                self._size += size
            return result

        return remembered


class ImageSource:
    """Images of a run with their orientations and, when asked, their pixels.

    Args:
        run: Experiments of the run.
        n_rotation: Parts into which the mapper divides the rotation of an image.
    """

    def __init__(self, run: RunInputs, n_rotation: int) -> None:
        self.run = run
        self.n_rotation = n_rotation
        self._groups = {
            number: group
            for group in shared_images(run.experiments).values()
            for number in group
        }
        self._reader: tuple[int, Callable] | None = None
        self._kept = KeptImages(KEPT)

    @property
    def kept(self) -> int:
        """Bytes of images that are kept at most for other crystals on them."""
        shared = any(len(group) > 1 for group in self._groups.values())
        return self._kept.limit if shared else 0

    def image(self, number: int, index: int) -> Image:
        """One image without its pixels."""
        experiments = self.run.experiments
        group = self._groups[number]
        image = boundary.image_of(experiments[number], number, index)
        if len(group) == 1:
            return image
        lattices = tuple(
            boundary.image_of(experiments[other], other, index) for other in group
        )
        return replace(image, lattices=lattices)

    def images(self, block: Block) -> list[Image]:
        """The images of a block without their pixels."""
        return [self.image(block.experiment, i) for i in range(block.start, block.stop)]

    def exposures(self, block: Block) -> Iterator[Exposure]:
        """The images of a block, read one after the other."""
        read = self._reader_of(block.experiment)
        if len(self._groups[block.experiment]) > 1:
            read = self._kept.of_block(block, self._groups[block.experiment][0], read)
        exposures = [self._in_parts(image) for image in self.images(block)]
        for exposure in exposures:
            counts, usable = read(exposure.image.index)
            image = replace(exposure.image, counts=counts, usable=usable)
            yield replace(exposure, image=image)

    def _reader_of(self, number: int) -> Callable:
        """The last reader is kept: most blocks follow one of the same images.

        It reads ahead where this process may use more than one core.
        """
        first = self._groups[number][0]
        if self._reader is None or self._reader[0] != first:
            if self._reader is not None and isinstance(self._reader[1], ReadAhead):
                self._reader[1].close()
            experiment = self.run.experiments[number]
            reader: Callable = boundary.ImageReader(experiment)
            n_images = len(experiment.imageset)
            if READS_AHEAD and n_images > 1:
                depth = images_within(
                    AHEAD_BYTES, 4 * boundary.image_size(experiment.detector), 12
                )
                reader = ReadAhead(reader, n_images, depth)
            self._reader = (first, reader)
        return self._reader[1]

    def earlier(self, block: Block) -> Iterator[Exposure]:
        """The images before a block without their pixels, the latest first.

        Those far back are too many to be looked at one by one: where n * `SINGLY`
        images have passed, the one in the middle of n stands for them, with the sum of
        their exposure times.
        """
        experiment = self.run.experiments[block.experiment]
        stop = block.start
        while stop > block.first:
            start = max(block.first, stop - max(1, (block.start - stop) // SINGLY))
            seconds = [
                boundary.exposure_time(experiment, i) for i in range(start, stop)
            ]
            image = self.image(block.experiment, (start + stop) // 2)
            yield self._in_parts(replace(image, exposure=sum(seconds)))
            stop = start

    def _in_parts(self, image: Image) -> Exposure:
        n = self.n_rotation
        if n == 1 or not image.width:
            return Exposure(image, (image,))
        experiment = self.run.experiments[image.experiment]
        parts = tuple(
            boundary.image_of(
                experiment, image.experiment, image.index, ((i + 0.5) / n, 1 / n)
            )
            for i in range(n)
        )
        return Exposure(image, parts)


class PanelCache:
    """Panels of the setups, made when they are first needed, the last one kept."""

    def __init__(self, run: RunInputs, models: Models) -> None:
        self.run = run
        self.models = models
        self._setup: int | None = None
        self._panels: list[PanelSetup] = []

    def __call__(self, setup: int) -> list[PanelSetup]:
        if setup != self._setup:
            experiment = self.run.first_of_setup(setup)
            self._panels = []
            for index, readout in enumerate(boundary.readouts(experiment)):
                geometry: PanelGeometry = boundary.panel_geometry(
                    experiment, setup, index
                )
                self._panels.append(prepare_panel(geometry, readout, self.models))
            self._setup = setup
        return self._panels

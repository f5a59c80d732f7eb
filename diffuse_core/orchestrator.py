"""The stages in order: the only place that knows it.

experiments -> plan -> blocks -> observations -> merged -> map
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diffuse_core import boundary
from diffuse_core.compiled import is_compiled
from diffuse_core.errors import InputError
from diffuse_core.folder_lock import check_free, locked
from diffuse_core.fused_kernel import accumulate
from diffuse_core.io.image_files import bytes_per_image
from diffuse_core.kept_experiments import EXPERIMENTS, keep_experiments
from diffuse_core.observations import RUN_FILE
from diffuse_core.parallel import run_tasks
from diffuse_core.plan import (
    Block,
    blocks_by_images,
    make_blocks,
    shared_images,
    used_experiments,
)
from diffuse_core.registry import Registry
from diffuse_core.run import Run, RunSpec

logger = logging.getLogger("dials.diffuse")

UNFINISHED = (".block_*.tmp", f".{RUN_FILE}.*.tmp", f".*_{EXPERIMENTS}")
"""Names of files in a folder of observations that are being written."""

NETWORK_DELAY = 60.0
"""Seconds that a network file system may take to show what another node wrote."""
FIGURES = ("images", "pixels", "used", "observations", "counts")


def integrate(
    registry: Registry,
    spec: RunSpec,
    params,
    progress: Callable[[int, int, float], None],
    merging=None,
) -> dict:
    """Images to observations: one file per block and `run.json` in the folder.

    Args:
        registry: The plug-ins.
        spec: What to do, as text.
        params: Extracted working PHIL with `input`, `block` and `parallel`.
        progress: Called with (images done, images in all, bytes read) when work
            starts and after every block; what an earlier run did doesn't count.
        merging: Extracted `merging` scope where merging will follow: a grid that
            can't be merged so is refused before anything is integrated.

    Returns:
        Figures of the summary.

    Raises:
        ConfigError: Another run works in the folder, or the parameters can't be used.
        InputError: The experiments can't be used, or files of workers are not seen.
    """
    check_free(spec.folder)
    run = Run(spec, registry)
    experiments = run.inputs.experiments
    space_group = symmetry_of(experiments)
    if merging is not None:
        from diffuse_core.merge_stage import symmetry_of_merging

        symmetry_of_merging(run.models.mapper.grid, space_group, merging)
    numbers = used_experiments(experiments, params.input.crystals)
    blocks = make_blocks(
        experiments, numbers, params.block.width, params.input.image_range
    )
    _say_what(run, numbers, blocks)
    logger.info("Memory: at most %.1f GB in each worker", run.memory(blocks) / 1e9)
    Path(spec.folder).mkdir(parents=True, exist_ok=True)
    with locked(spec.folder):
        return _fill_folder(run, params.parallel, blocks, progress)


def _fill_folder(run: Run, parallel, blocks: Sequence[Block], progress) -> dict:
    """Figures of a folder that holds all blocks: those that were missing are made."""
    spec, experiments = run.spec, run.inputs.experiments
    run_file = Path(spec.folder) / RUN_FILE
    run_file.unlink(missing_ok=True)
    _remove_unfinished(spec.folder)
    keep_experiments(experiments, spec.folder)
    tallies = {block: run.finished(block) for block in blocks}
    waiting = [block for block in blocks if tallies[block] is None]
    reused = sum(t["images"] for t in tallies.values() if t)
    if reused:
        logger.info("%d images were integrated by an earlier run", reused)
    if waiting and not is_compiled(accumulate):
        logger.info("Compiling, before the first run only (half a minute) ...")
    total = sum(b.stop - b.start for b in waiting)
    done, size = 0, 0.0
    progress(done, total, size)
    for found in _integrate_blocks(run, parallel, waiting):
        tallies.update(found)
        done += sum(tally["images"] for _, tally in found)
        size += _size_of(experiments, found[0][0])
        progress(done, total, size)
    files = sorted(tally["written"] for tally in tallies.values())
    _check_seen(spec.folder, files)
    for old in Path(spec.folder).glob("block_*.h5"):
        if old.name not in files:
            old.unlink()
    _remove_unfinished(spec.folder)
    record = {
        **{name: sum(t[name] for t in tallies.values()) for name in FIGURES},
        "read": round(size),
        "reused": reused,
        "experiments": len({block.experiment for block in blocks}),
        "blocks": len(blocks),
    }
    temporary = run_file.with_name(f".{RUN_FILE}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"figures": record, "files": files}, indent=1))
    os.replace(temporary, run_file)
    return record


def _remove_unfinished(folder: str) -> None:
    """Removes what killed runs and workers were writing."""
    for pattern in UNFINISHED:
        for stale in Path(folder).glob(pattern):
            stale.unlink(missing_ok=True)


def _integrate_blocks(
    run: Run, parallel, blocks: Sequence[Block]
) -> Iterator[list[tuple[Block, dict]]]:
    """What was counted in each block, task by task as they are done.

    Blocks of the same images (several crystals) make one task, so that a worker reads
    the images once.
    """
    here = parallel.engine == "serial" or (
        parallel.engine == "processes" and parallel.nproc == 1
    )
    return run_tasks(
        (lambda _: run) if here else Run,
        Run.integrate_all,
        run.spec,
        blocks_by_images(run.inputs.experiments, blocks),
        parallel.nproc,
        engine="serial" if here else parallel.engine,
        address=parallel.dask.address,
        name=lambda group: _name_of(run, group[0]),
    )


def _check_seen(folder: str, files: Sequence[str]) -> None:
    """Refuses block files that workers wrote where this machine can't see them."""
    patience = time.monotonic() + NETWORK_DELAY
    while missing := set(files) - {path.name for path in Path(folder).iterdir()}:
        if time.monotonic() > patience:
            raise InputError(
                f"Workers wrote {len(missing)} block files, such as {min(missing)}, "
                f"that are not in {folder} on this machine: output.observations must "
                "be on a file system that all nodes share."
            )
        time.sleep(1.0)


def _name_of(run: Run, block: Block) -> str:
    images = run.inputs.experiments[block.experiment].imageset
    return (
        f"block {block.number} (experiment {block.experiment}, its images "
        f"{block.start + 1} to {block.stop}, from {images.get_path(block.start)})"
    )


def _size_of(experiments, block: Block) -> float:
    """Bytes of the images of a block, as they are stored."""
    return (block.stop - block.start) * bytes_per_image(experiments[block.experiment])


def _say_what(run: Run, numbers: Sequence[int], blocks: Sequence[Block]) -> None:
    experiments = run.inputs.experiments
    stills = sum(boundary.is_still(experiments[n]) for n in numbers)
    logger.info(
        "%d experiment%s (%d scan%s, %d still%s), %d panel%s, %d image%s in %d block%s",
        *_plural(len(numbers)),
        *_plural(len(numbers) - stills),
        *_plural(stills),
        *_plural(len(experiments[numbers[0]].detector)),
        *_plural(sum(b.stop - b.start for b in blocks)),
        *_plural(len(blocks)),
    )
    crowded = [g for g in shared_images(experiments).values() if len(g) > 1]
    if crowded:
        logger.info(
            "%d image set%s hold several crystals: each crystal gets the pixels that "
            "the Bragg masks of all of them keep; the other crystals' diffuse "
            "scattering stays in as a background",
            *_plural(len(crowded)),
        )
    if boundary.lacks_exposure([experiments[n] for n in numbers]):
        logger.warning("Images without an exposure time: 1 s is taken for them")


def _plural(n: int) -> tuple[int, str]:
    return n, "" if n == 1 else "s"


def symmetry_of(experiments):
    """The space group that all experiments share (cctbx space group).

    Raises:
        InputError: They differ.
    """
    groups = [e.crystal.get_space_group() for e in experiments if e.crystal is not None]
    for number, group in enumerate(groups):
        if group != groups[0]:
            raise InputError(
                f"Experiment 0 has space group {groups[0].info()}, experiment {number} "
                f"{group.info()}: bring them to one setting first (dials.reindex)."
            )
    return groups[0] if groups else None

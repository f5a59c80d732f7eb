"""Folders of observations that belong together: what they hold, checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diffuse_core.errors import InputError
from diffuse_core.grid import Grid
from diffuse_core.observations import (
    block_files,
    phi_range,
    read_head,
    read_observations,
)
from diffuse_core.rows import Source


@dataclass(frozen=True)
class BlockFile:
    """One block file.

    path: The file. source: Index of its source. block: Number of the block in its run.
    rows: How many rows it has.
    """

    path: Path
    source: int
    block: int
    rows: int


@dataclass(frozen=True, eq=False)
class Collection:
    """All block files of some folders, in an order that is independent of theirs.

    Attributes:
        grid: The voxels of all of them.
        space_group: Hall symbol, the same in all of them.
        cells: Unit cell (A, deg) of each file.
        sources: Experiments, sorted by identifier, folder and number.
        images: First image and last + 1 of each source, counted from 0.
        files: Sorted by source and block.
        provenance: That of the first file.
    """

    grid: Grid
    space_group: str
    cells: list[list[float]]
    sources: list[Source]
    images: list[tuple[int, int]]
    files: list[BlockFile]
    provenance: dict


def collect(folders: Sequence[str]) -> Collection:
    """What the folders hold.

    Raises:
        InputError: A folder is incomplete, was given twice, or does not fit the rest.
    """
    paths = [path for folder in folders for path in block_files(folder)]
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError(
            "A folder of observations was given twice: its data would count twice."
        )
    if not paths:
        raise InputError(
            f"The folder {folders[0]} holds no observations: run "
            "dials.diffuse_integrate again."
        )
    metas, rows = {}, {}
    for path in paths:
        metas[path], rows[path] = read_head(path)
        if path != paths[0]:
            del metas[path]["provenance"]
    first = metas[paths[0]]
    groups = defaultdict(list)
    runs: dict[Path, tuple[Path, str]] = {}
    for path, meta in metas.items():
        _check(path, meta, paths[0], first)
        other, run = runs.setdefault(path.parent, (path, meta.get("run")))
        if meta.get("run") != run:
            raise InputError(
                f"{path} and {other} come from runs with different input files, "
                "parameters or models: run dials.diffuse_integrate again."
            )
        number = meta["block"][1]
        groups[meta.get("identifier", ""), str(path.parent), number].append(path)
    _check_images(groups, metas)
    sources, images, files = [], [], []
    for index, (identity, members) in enumerate(sorted(groups.items())):
        members.sort(key=lambda path: metas[path]["block"][0])
        sources.append(_source(identity, [(p, metas[p]) for p in members]))
        blocks = [metas[p]["block"] for p in members]
        images.append((min(b[2] for b in blocks), max(b[3] for b in blocks)))
        files += [BlockFile(p, index, metas[p]["block"][0], rows[p]) for p in members]
    return Collection(
        grid=Grid.from_dict(first["grid"]),
        space_group=first["space_group"],
        cells=[metas[file.path]["unit_cell"] for file in files],
        sources=sources,
        images=images,
        files=files,
        provenance=first["provenance"],
    )


def _check(path: Path, meta: dict, first_path: Path, first: dict) -> None:
    if meta["grid"] != first["grid"]:
        raise InputError(
            f"{path} is on another grid than {first_path}: integrate all data with "
            "the same mapping."
        )
    if meta["space_group"] != first["space_group"]:
        raise InputError(
            f"{path} has another space group than {first_path}: bring all "
            "experiments to one setting first (dials.reindex)."
        )


def _check_images(groups: dict, metas: dict) -> None:
    seen: dict[tuple, str] = {}
    for (identifier, folder, _), members in groups.items():
        for path in members if identifier else ():
            _, _, start, stop = metas[path]["block"]
            for image in range(start, stop):
                other = seen.setdefault((identifier, image), folder)
                if other != folder:
                    raise InputError(
                        f"The folders {other} and {folder} both hold image "
                        f"{image + 1} of the experiment {identifier}: its data would "
                        "count twice, so leave one of them out."
                    )


def _source(identity: tuple, members: list) -> Source:
    identifier, folder, number = identity
    ranges = [
        meta["phi"] if "phi" in meta else phi_range(read_observations(p).columns["phi"])
        for p, meta in members
    ]
    ends = [angle for one in ranges if one for angle in one] or [0.0]
    single = all(meta["block"][3] - meta["block"][2] == 1 for _, meta in members)
    phi = (min(ends), max(ends))
    still = members[0][1].get("still", single and phi == (0.0, 0.0))
    return Source(identifier, folder, number, still, phi)

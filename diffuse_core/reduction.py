"""Observations of whole voxels from any number of block files, in key ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from diffuse_core.collection import Collection, collect
from diffuse_core.observations import DTYPES, read_observations
from diffuse_core.rows import Rows, Source, sorted_rows
from diffuse_core.symmetry import UniqueVoxels


class Reduction:
    """Every observation of some folders, one unique voxel after the other.

    Args:
        folders: Folders of observations, or what `collect` made of them.
        unique: Symmetry; None keeps every voxel.
        reindex: Identifier of an experiment -> (3, 3) whole-numbered matrix, hkl' =
            matrix @ hkl, applied before symmetry.
        memory: Roughly how much memory to use (GiB).
    """

    def __init__(
        self,
        folders: Sequence[str] | Collection,
        unique: UniqueVoxels | None = None,
        reindex: Mapping[str, np.ndarray] | None = None,
        memory: float = 2.0,
    ) -> None:
        self.collection = (
            folders if isinstance(folders, Collection) else collect(folders)
        )
        self.unique = unique or UniqueVoxels()
        self.reindex = dict(reindex or {})
        self.memory = memory

    @property
    def sources(self) -> list[Source]:
        """The experiments, in an order that is independent of that of the folders."""
        return self.collection.sources

    def ranges(self, nproc: int = 1) -> Iterator[Rows]:
        """All observations in ascending order of keys."""
        parts = [self._read(file) for file in self.collection.files]
        yield sorted_rows(
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )

    def sample(self, fraction: float, seed: int = 0) -> Rows:
        """All observations of a part of the voxels, chosen by a hash of their keys.

        Args:
            fraction: Part of the voxels, 0 to 1.
            seed: Another seed chooses other voxels.
        """
        parts = []
        for file in self.collection.files:
            part = self._read(file)
            keep = hash_of(part["key"], seed) < fraction
            parts.append({name: values[keep] for name, values in part.items()})
        return sorted_rows(
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )

    def _read(self, file) -> dict[str, np.ndarray]:
        columns = read_observations(file.path).columns
        identifier = self.sources[file.source].identifier
        key, friedel = self.unique.keys(columns["key"], self.reindex.get(identifier))
        n = len(key)
        return {
            **{name: columns[name] for name in DTYPES},
            "key": key,
            "friedel": friedel,
            "source": np.full(n, file.source, np.int32),
            "block": np.full(n, file.block, np.int32),
        }


def hash_of(key: np.ndarray, seed: int) -> np.ndarray:
    """(n,) float64 in [0, 1): splitmix64 of (n,) int64 keys; the same everywhere.

    G. Steele, D. Lea, C. Flood, OOPSLA 2014, fig. 17.
    """
    golden = 0x9E3779B97F4A7C15
    z = key.astype(np.uint64) + np.uint64((seed + 1) * golden % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**53

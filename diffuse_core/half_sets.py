"""Which half of the data an observation belongs to, for CC1/2 and R-split.

Four ways to halve the data, since each shows other errors: random halves show what
counting leaves uncertain; halves of alternating blocks also what differs from block to
block; halves of whole experiments also what differs between sweeps and crystals; the
halves of Friedel mates also what differs between opposite sides of the detector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from diffuse_core.rows import Rows, Source

MEANINGS = {
    "random": "random",
    "block": "alternating blocks",
    "experiment": "experiments",
    "friedel": "Friedel mates",
}
KINDS = tuple(MEANINGS)


def half_of(rows: Rows, kind: str, seed: int, sources: Sequence[Source]) -> np.ndarray:
    """(n,) int8, 0 or 1: the half of each row.

    "random": by a hash of the seed and of what the row is (voxel, experiment, block,
    panel, place on it): the same whatever else is merged, in any order.
    "block": the blocks of each experiment alternate; a hash of the seed and of the
    experiment says which half begins. So stills fall at random.
    "experiment": whole experiments, alternating in the order of such a hash: the two
    halves hold equally many. What else is merged may change the halves.
    "friedel": as measured, or by an operator with inversion.

    Args:
        rows: The observations.
        kind: One of `KINDS`.
        seed: Another seed gives other halves.
        sources: The experiments that `rows.source` counts in.

    Raises:
        ValueError: There is no such kind.
    """
    if kind == "friedel":
        return rows.friedel.astype(np.int8)
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    if kind == "experiment":
        return experiment_halves(sources, seed)[rows.source]
    mark = np.array([_mark(source, seed) for source in sources], np.uint64)[rows.source]
    if kind == "block":
        return ((rows.block + (mark & np.uint64(1)).astype(np.int64)) % 2).astype(
            np.int8
        )
    for part in (rows.key, rows.block, rows.panel, rows.friedel):
        mark = _mix(mark ^ part.astype(np.int64).view(np.uint64))
    for part in (rows.x, rows.y, rows.phi):
        mark = _mix(mark ^ part.astype(np.float32).view(np.uint32).astype(np.uint64))
    return (mark >> np.uint64(63)).astype(np.int8)


def experiment_halves(sources: Sequence[Source], seed: int) -> np.ndarray:
    """(n_sources,) int8, 0 or 1: the half of each experiment; see `half_of`."""
    marks = [_mark(source, seed) for source in sources]
    order = sorted(
        range(len(sources)),
        key=lambda i: (marks[i], sources[i].folder, sources[i].number),
    )
    halves = np.empty(len(sources), np.int8)
    halves[order] = np.arange(len(sources)) % 2
    return halves


def _mark(source: Source, seed: int) -> int:
    """64 bits of the seed and the experiment's identifier, else its number."""
    text = f"{seed} {source.identifier or source.number}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _mix(x: np.ndarray) -> np.ndarray:
    """(n,) uint64: the bits of x (n,), mixed (SplitMix64, G. Steele et al., 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))

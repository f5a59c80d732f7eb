"""Two maps, or a map and the truth, brought to common voxels: the crystallography.

The numerics are in `regrid` and `compare`; this module knows space groups, operators
and crystals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cctbx import sgtbx, uctbx

from diffuse_core import boundary, regrid
from diffuse_core.compare import Pair, pair_up
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.simulate.truth import Truth
from diffuse_core.truth_voxels import TruthVoxels
from diffuse_core.voxel_list import Voxels

CELL_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Orientation:
    """How a crystal was mounted: hkl = matrix^-1 q for the two Cartesian frames.

    Attributes:
        q: (3, 3), 1/A: setting matrix A = U B.
        lab: (3, 3), 1/A: S F A, with the goniometer at zero.
    """

    q: np.ndarray
    lab: np.ndarray

    @classmethod
    def of_experiment(cls, experiment) -> Orientation:
        """That of a dxtbx experiment with a crystal."""
        a = np.array(experiment.crystal.get_A()).reshape(3, 3)
        goniometer = experiment.goniometer
        mount = np.eye(3)
        if goniometer is not None:
            mount = np.array(goniometer.get_setting_rotation()).reshape(3, 3)
            mount = mount @ np.array(goniometer.get_fixed_rotation()).reshape(3, 3)
        return cls(a, mount @ a)

    def to_hkl(self, frame: str) -> np.ndarray:
        """(3, 3), A: hkl = matrix @ coordinates of a frame."""
        return np.linalg.inv(self.lab if frame == "lab" else self.q)


@dataclass(frozen=True, eq=False)
class Matched:
    """Two maps on common voxels.

    Attributes:
        pair: The common voxels.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg), or None (Cartesian maps).
        frame: "hkl", or "q" for Cartesian maps.
        operators: Laue operators R that the maps were folded with (equivalents are
            index @ R), or None.
        space_group: Hall symbol of the group folded with, or None.
        notes: What was done to the maps, one sentence each.
    """

    pair: Pair
    unit_cell: tuple[float, ...] | None
    frame: str
    operators: list[np.ndarray] | None
    space_group: str | None
    notes: tuple[str, ...]


def operator(text: str) -> sgtbx.change_of_basis_op:
    """The change of basis that a text like "k,h,-l" names.

    Raises:
        ConfigError: It names none.
    """
    try:
        return sgtbx.change_of_basis_op(text)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"reindex={text} is not an operator on indices: write it like k,h,-l."
        ) from error


def changed_cell(cell: tuple[float, ...] | None, change) -> tuple[float, ...] | None:
    """The unit cell after a change of basis."""
    if cell is None:
        return None
    return uctbx.unit_cell(cell).change_basis(change).parameters()


def match(
    a: Voxels | Truth,
    b: Voxels | Truth,
    *,
    unit_cell: tuple[float, ...] | None = None,
    space_group: sgtbx.space_group | None = None,
    reindex: str | None = None,
    min_coverage: float = 0.9,
    orientation: Orientation | None = None,
) -> Matched:
    """The common voxels of two maps, on the coarser of their grids.

    In this order: the first map is reindexed; a Cartesian map is sorted into the voxels
    of hkl of the other; both are folded into the asymmetric unit of the Laue group if
    one of them is, or a space group is given; finer voxels are averaged in coarser
    ones; a truth is averaged over the voxels.

    Args:
        a, b: The maps; at most one truth.
        unit_cell: Of b; overrides what the files say.
        space_group: Of b; its Laue group is applied to both.
        reindex: Operator on the indices of a, for example "k,h,-l".
        min_coverage: See `regrid.resampled`.
        orientation: Of the crystal, to relate Cartesian maps to hkl.

    Raises:
        InputError, ConfigError: The maps can't be compared.
    """
    notes: list[str] = []
    if isinstance(a, Truth) and isinstance(b, Truth):
        raise InputError("Both files are truths: give at least one map.")
    change = operator(reindex) if reindex else sgtbx.change_of_basis_op()
    matrix = np.array(change.c_inv().r().as_double()).reshape(3, 3).T
    cell_a = changed_cell(a.unit_cell, change)
    cell = unit_cell or cell_a or b.unit_cell
    _compare_cells(cell_a, unit_cell or b.unit_cell, notes)
    if isinstance(a, Truth):
        a, b = b, TruthVoxels(a, matrix)
        swapped = True
    else:
        if reindex:
            a = _reindexed(a, matrix, change)
        if isinstance(b, Truth):
            b = TruthVoxels(b, np.eye(3))
        swapped = False
    a, b = _same_frame(a, b, orientation, notes)
    group = _group_to_fold(a, b, space_group, notes) if a.frame == "hkl" else None
    representative = None
    if group is not None:
        representative = _folding(group, [v.steps for v in (a, b) if _is_map(v)])
        a = regrid.folded(a, representative)
        b = regrid.folded(b, representative) if _is_map(b) else b
    if isinstance(b, TruthVoxels):
        b = b.like(a, orientation and orientation.to_hkl(a.frame))
    target = np.maximum(a.steps, b.steps)
    for voxels in (a, b):
        if (np.rint(target / voxels.steps) % 2 == 0).any():
            notes.append(
                f"An even number of voxels of {voxels.name} makes a coarser one: the "
                "averages reach half a finer voxel beyond it, which smooths sharp "
                "features."
            )
    a, b = (regrid.resampled(v, target, representative, min_coverage) for v in (a, b))
    if a.frame == "hkl" and cell is None:
        raise InputError(
            f"Neither {a.name} nor {b.name} holds a unit cell: give it with unit_cell=."
        )
    return Matched(
        pair=pair_up(b, a, cell) if swapped else pair_up(a, b, cell),
        unit_cell=cell if a.frame == "hkl" else None,
        frame="hkl" if a.frame == "hkl" else "q",
        operators=None if group is None else boundary.laue_operators(group),
        space_group=None if group is None else group.type().hall_symbol(),
        notes=tuple(notes),
    )


def _is_map(source) -> bool:
    return isinstance(source, Voxels)


def _compare_cells(a, b, notes: list[str]) -> None:
    if a is None or b is None:
        return
    lengths = np.abs(np.divide(a[:3], b[:3]) - 1.0).max()
    angles = np.abs(np.subtract(a[3:], b[3:])).max()
    if lengths > CELL_TOLERANCE or angles > np.degrees(CELL_TOLERANCE):
        notes.append(
            f"The unit cells differ: {_numbers(a)} and {_numbers(b)}; the first one "
            "that is known is used."
        )


def _numbers(cell) -> str:
    return " ".join(f"{x:.2f}" for x in cell)


def _reindexed(a: Voxels, matrix: np.ndarray, change) -> Voxels:
    if a.frame != "hkl":
        raise ConfigError(
            f"reindex applies to maps on axes h, k, l, and {a.name} has Cartesian axes."
        )
    group = a.space_group
    if group is not None:
        group = boundary.space_group_of_hall(group).change_basis(change)
        group = group.type().hall_symbol()
    return replace(
        regrid.reindexed(a, matrix),
        unit_cell=changed_cell(a.unit_cell, change),
        space_group=group,
    )


def _same_frame(a: Voxels, b, orientation: Orientation | None, notes: list[str]):
    """Both in hkl, or both Cartesian."""
    for voxels in (a, b):
        if _is_map(voxels) and voxels.frame not in ("hkl", "q", "lab"):
            raise InputError(
                f"{voxels.name} has axes in the frame {voxels.frame!r}, which is "
                "not one of three-dimensional reciprocal space."
            )
    if a.frame == "hkl" and (not _is_map(b) or b.frame == "hkl"):
        return a, b
    if _is_map(b) and "hkl" not in (a.frame, b.frame):
        if a.frame != b.frame:
            turned = orientation is not None and not np.allclose(
                orientation.q, orientation.lab, atol=1e-6
            )
            if turned:
                raise InputError(
                    f"{a.name} and {b.name} are Cartesian maps in different frames, "
                    "because the goniometer has a fixed or setting rotation."
                )
            notes.append(
                "The Cartesian frames of both maps are taken for the same, which is "
                "right for a goniometer without fixed and setting rotation."
            )
        return a, replace(b, frame=a.frame)
    if orientation is None:
        cartesian = a if a.frame != "hkl" else b
        raise InputError(
            f"{cartesian.name} has Cartesian axes: give the .expt file of its crystal "
            "as well, to relate them to h, k, l."
        )
    if not _is_map(b):
        return a, b
    moved = []
    for voxels, other in ((a, b), (b, a)):
        if voxels.frame != "hkl":
            matrix = orientation.to_hkl(voxels.frame)
            notes.append(f"{voxels.name}: Cartesian voxels sorted into those of hkl.")
            voxels = regrid.binned(voxels, matrix, other.steps)
        moved.append(voxels)
    return tuple(moved)


def _group_to_fold(a: Voxels, b, given, notes: list[str]):
    """The space group whose Laue group both maps are folded with, or None."""
    maps = [v for v in (a, b) if _is_map(v)]
    if given is not None:
        return given
    groups, names = [], []
    for voxels in maps:
        if voxels.space_group is None:
            if voxels.asymmetric:
                raise InputError(
                    f"{voxels.name} holds an asymmetric unit, but no space group: give "
                    "space_group=."
                )
            continue
        group = boundary.space_group_of_hall(voxels.space_group)
        if voxels.asymmetric or _filled(voxels, group):
            groups.append(group)
            names.append(voxels.name)
    if not groups:
        return None
    if len({boundary.laue_group(g).type().hall_symbol() for g in groups}) > 1:
        raise InputError(
            "The maps were averaged over different Laue groups, those of "
            f"{groups[0].info()} and {groups[1].info()}: give space_group= of the "
            "higher symmetry."
        )
    if len(maps) > len(groups):
        notes.append(
            f"Both maps are averaged over the Laue group of {groups[0].info()}, as "
            f"{names[0]} is."
        )
    return groups[0]


def _filled(voxels: Voxels, group) -> bool:
    """Whether a map is made of copies of its asymmetric unit."""
    try:
        return regrid.filled_by_symmetry(voxels, _folding(group, [voxels.steps]))
    except ConfigError:
        return False


def _folding(group, all_steps) -> Callable[[np.ndarray], np.ndarray]:
    """Voxel indices -> those of their representatives.

    Raises:
        ConfigError: The group mixes axes with different voxel widths.
    """
    for steps in all_steps:
        for i, j in map(sorted, boundary.mixed_axes(group)):
            if abs(steps[i] - steps[j]) > 1e-6 * steps[i]:
                raise ConfigError(
                    f"The Laue group of {group.info()} mixes the axes {'hkl'[i]} and "
                    f"{'hkl'[j]}, along which the voxels have different widths, so "
                    "voxels have no equivalents."
                )
    return lambda index: boundary.to_asymmetric_unit(group, index)

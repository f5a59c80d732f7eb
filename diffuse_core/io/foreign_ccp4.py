"""Maps in the CCP4/MRC format: those of dials.rs_mapper, and maps on axes h, k, l.

Header as in the MRC2014 specification (A. Cheng et al., J. Struct. Biol. 192, 146
(2015)): 56 words of 4 bytes, 10 labels, NSYMBT further bytes, then the array, columns
fastest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.voxel_list import Voxels, from_axes

MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2"}
RS_MAPPER_UNIT = 100.0


def read_ccp4(path: Path, frame: str = "auto") -> Voxels:
    """A map in the CCP4/MRC format; voxels of value 0 are not measured.

    Args:
        path: The file.
        frame: "lab": a grid as dials.rs_mapper writes it: the cell is the width of the
            box in 1/(100 A), the origin is the voxel MX // 2, and values of voxels that
            no pixel touched are 0. The frame is that of the laboratory with the
            goniometer at zero. "hkl": voxel i of an axis is at (start + i) * cell / M
            Miller indices. "auto": "lab" for a cube that starts at 0 with right angles,
            else "hkl".

    Raises:
        InputError: It is not a map, or of a mode that is not known (0, 1, 2, 6).
    """
    data = path.read_bytes()
    header = None
    for order in "<>":
        if len(data) >= 1024:
            words = np.frombuffer(data, order + "i4", 56)
            if sorted(words[16:19]) == [1, 2, 3] and words[:3].min() > 0:
                header = words
                break
    if header is None or data[208:212] not in (b"MAP ", b"MAP\0", b"\0\0\0\0"):
        raise InputError(f"The file {path} is not a map in the CCP4/MRC format.")
    mode = MODES.get(int(header[3]))
    if mode is None:
        raise InputError(
            f"The map {path} is of mode {header[3]}; only 0, 1, 2 and 6 can be read."
        )
    columns, rows, layers = (int(n) for n in header[:3])
    offset = 1024 + int(header[23])
    if len(data) < offset + columns * rows * layers * np.dtype(mode).itemsize:
        raise InputError(f"The map {path} is shorter than its header says.")
    values = np.frombuffer(data, order + mode, columns * rows * layers, offset)
    to_xyz = np.argsort(header[16:19])
    array = values.reshape(layers, rows, columns).T.transpose(to_xyz).astype(float)
    start = header[4:7][to_xyz]
    intervals = header[7:10].astype(float)
    cell = np.frombuffer(data, order + "f4", 6, 40).astype(float)
    if not (intervals > 0).all() or not (cell[:3] > 0).all():
        raise InputError(f"The map {path} has no cell or no sampling in its header.")
    if frame == "auto":
        cube = np.ptp(cell[:3]) < 1e-3 * cell[0] and np.ptp(intervals) == 0
        right = np.abs(cell[3:] - 90.0).max() < 1e-3
        frame = "lab" if cube and right and not start.any() else "hkl"
    if frame == "lab":
        steps = cell[:3] / intervals / RS_MAPPER_UNIT
        first = -(intervals // 2)
        # The grid is periodic: rs_mapper repeats its first layer as the last one.
        array = array[tuple(slice(int(n)) for n in intervals)]
    else:
        steps = cell[:3] / intervals
        first = start
    axes = [
        (low + np.arange(n)) * step
        for low, n, step in zip(first, array.shape, steps, strict=True)
    ]
    array[array == 0] = np.nan
    return from_axes(str(path), axes, array, frame=frame)

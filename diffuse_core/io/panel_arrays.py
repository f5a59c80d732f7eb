"""One array of numbers for each panel, from the files that people have."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from diffuse_core.errors import InputError

HDF5 = (".h5", ".hdf5", ".nxs", ".nexus")


def read_panel_arrays(path: str, detector, where: str) -> list[np.ndarray]:
    """Per panel (n_slow, n_fast) float64.

    Args:
        path: .npy: (n_slow, n_fast), or (n_panels, n_slow, n_fast); .npz: one array
            for each panel, in order; HDF5: such a data set, alone in its file or named
            as in flat.h5:/entry/flat; .pickle: flex arrays, one for each panel, as
            DIALS writes gain maps; else an image that dxtbx reads.
        detector: dxtbx Detector, whose panels the arrays must fit.
        where: The PHIL path of the parameter, for messages.

    Raises:
        InputError: The file can't be read or doesn't fit the detector.
    """
    try:
        arrays = _read(path)
    except Exception as error:
        raise InputError(
            f"The file {path} of {where} can't be read ({type(error).__name__}: "
            f"{error}): give arrays in NumPy or HDF5 format, or an image."
        ) from error
    expected = [tuple(reversed(panel.get_image_size())) for panel in detector]
    found = [array.shape for array in arrays]
    if found != expected:
        raise InputError(
            f"The file {path} of {where} holds {_shapes(found)}, but the detector has "
            f"{_shapes(expected)} (slow, fast): give a file made for this detector."
        )
    return [np.ascontiguousarray(array, float) for array in arrays]


def _read(path: str) -> list[np.ndarray]:
    name, _, dataset = path.partition(":")
    suffix = Path(name).suffix.lower()
    if suffix == ".npy":
        return _panels(np.load(name))
    if suffix == ".npz":
        with np.load(name) as file:
            return [file[key] for key in file.files]
    if suffix in HDF5:
        return _panels(_read_hdf5(name, dataset))
    if suffix in (".pickle", ".pkl"):
        with open(name, "rb") as file:
            content = _FlexUnpickler(file, encoding="bytes").load()
        panels = content if isinstance(content, (tuple, list)) else [content]
        return [panel.as_numpy_array() for panel in panels]
    import dxtbx
    from dxtbx import flumpy

    raw = dxtbx.load(path).get_raw_data()
    return [flumpy.to_numpy(p) for p in (raw if isinstance(raw, tuple) else (raw,))]


def _panels(values: np.ndarray) -> list[np.ndarray]:
    return [values] if values.ndim == 2 else list(values)


def _read_hdf5(name: str, dataset: str) -> np.ndarray:
    import h5py

    with h5py.File(name, "r") as file:
        if dataset:
            return file[dataset][()]
        found: list[str] = []

        def note(path: str, item) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim in (2, 3):
                found.append(path)

        file.visititems(note)
        if len(found) != 1:
            raise ValueError(
                f"it holds {len(found)} data sets of two or three dimensions; name one "
                f"as in {name}:/entry/flat"
            )
        return file[found[0]][()]


class _FlexUnpickler(pickle.Unpickler):
    """Only flex arrays: a pickle can otherwise run any program."""

    ALLOWED = {
        ("_codecs", "encode"),
        *(
            ("scitbx_array_family_flex_ext", name)
            for name in ("bool", "double", "float", "grid", "int")
        ),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    kinds = ", ".join(str(shape) for shape in sorted(set(shapes)))
    return f"{len(shapes)} panel{'s' * (len(shapes) != 1)} of shape {kinds or '()'}"

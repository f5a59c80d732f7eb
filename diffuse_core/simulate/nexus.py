"""Writes the images of any detector as one NeXus (NXmx) file."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from dxtbx.model import Beam, Detector, Goniometer, MultiAxisGoniometer, Scan

from diffuse_core.simulate.detectors import lowest_and_saturation, written_thickness

TO_MCSTAS = np.diag((-1.0, 1.0, -1.0))
"""From the laboratory frame of dxtbx to that of NeXus: the beam travels along +z."""


class NexusWriter:
    """A file that takes one image after the other; use it as a context manager.

    Panels are stored below each other in one array, each with its own NXdetector_module
    (readers take these in alphabetical order). The file appears under its name when the
    context ends without an error. Gaps are flagged by negative counts and, where all
    panels have the same width (dxtbx can't read it otherwise), by a pixel_mask.
    """

    def __init__(
        self,
        path: Path,
        beam: Beam,
        detector: Detector,
        goniometer: Goniometer | None,
        scan: Scan,
        n_images: int,
        gaps: list[np.ndarray],
    ):
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        sizes = np.array([panel.get_image_size()[::-1] for panel in detector])
        self.origins = np.concatenate([[0], np.cumsum(sizes[:, 0])])
        self.shape = (int(self.origins[-1]), int(sizes[:, 1].max()))
        self.file = h5py.File(self.partial, "w")
        entry = _group(self.file, "entry", "NXentry")
        entry["definition"] = "NXmx"
        self._describe_sample(entry, beam, goniometer, scan, n_images)
        self._describe_detector(entry, detector, scan.get_exposure_times()[0], gaps)
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"] = "data"
        self.data = data.create_dataset(
            "data",
            (n_images, *self.shape),
            dtype=np.int32,
            chunks=(1, *self.shape),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )

    def write(self, index: int, counts: list[np.ndarray]) -> None:
        """Stores the int32 counts (n_slow, n_fast) of all panels of image `index`."""
        image = np.full(self.shape, -1, dtype=np.int32)
        for origin, panel in zip(self.origins, counts, strict=False):
            image[origin : origin + panel.shape[0], : panel.shape[1]] = panel
        self.data[index] = image

    def __enter__(self) -> NexusWriter:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.file.close()
        if kind is None:
            os.replace(self.partial, self.path)
        else:
            self.partial.unlink()

    def _describe_sample(self, entry, beam, goniometer, scan, n_images) -> None:
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = "simulated by dials.diffuse_simulate"
        source = _group(instrument, "beam", "NXbeam")
        _dataset(source, "incident_wavelength", beam.get_wavelength(), "angstrom")
        sample = _group(entry, "sample", "NXsample")
        sample["name"] = "simulated crystal"
        if goniometer is None:
            sample["depends_on"] = "."
            return
        axes = _group(sample, "transformations", "NXtransformations")
        depends_on = "."
        start, width = scan.get_oscillation()
        for name, axis, angle, moves in reversed(_goniometer_axes(goniometer)):
            values = start + width * np.arange(n_images) if moves else [angle]
            axes[name] = np.asarray(values, dtype=float)
            if moves:
                axes[f"{name}_end"] = np.asarray(values, dtype=float) + width
                axes[f"{name}_end"].attrs["units"] = "deg"
            _transformation(axes[name], "rotation", TO_MCSTAS @ axis, "deg", depends_on)
            depends_on = axes[name].name
        sample["depends_on"] = depends_on

    def _describe_detector(self, entry, detector, exposure, gaps) -> None:
        group = _group(entry["instrument"], "detector", "NXdetector")
        lowest, saturation = lowest_and_saturation(detector[0])
        group["sensor_material"] = "Si"
        _dataset(group, "sensor_thickness", written_thickness(detector[0]), "mm")
        group["underload_value"] = lowest
        group["saturation_value"] = saturation - 1
        _dataset(group, "frame_time", exposure, "s")
        _dataset(group, "count_time", exposure, "s")
        mask = np.ones(self.shape, dtype=np.uint32)
        shifts = _group(group, "transformations", "NXtransformations")
        # some readers take the first step of a module's chain for the whole detector
        whole = shifts.create_dataset("detector", data=np.array([0.0]))
        _transformation(whole, "translation", (0, 0, 1), "mm", ".")
        group["depends_on"] = whole.name
        for index, panel in enumerate(detector):
            n_fast, n_slow = panel.get_image_size()
            row = int(self.origins[index])
            mask[row : row + n_slow, :n_fast] = gaps[index]
            shift = shifts.create_dataset(f"module_{index:04d}", data=np.array([0.0]))
            _transformation(shift, "translation", (0, 0, 1), "mm", whole.name)
            shift.attrs["offset"] = TO_MCSTAS @ panel.get_origin()
            shift.attrs["offset_units"] = "mm"
            module = _group(group, f"module_{index:04d}", "NXdetector_module")
            module["data_origin"] = np.array((row, 0))
            module["data_size"] = np.array((n_slow, n_fast))
            module["data_stride"] = np.array((1, 1))
            for name, size, axis in zip(
                ("fast_pixel_direction", "slow_pixel_direction"),
                panel.get_pixel_size(),
                (panel.get_fast_axis(), panel.get_slow_axis()),
                strict=True,
            ):
                module[name] = np.array([size])
                _transformation(
                    module[name], "translation", TO_MCSTAS @ axis, "mm", shift.name
                )
        if len({panel.get_image_size()[0] for panel in detector}) == 1:
            group["pixel_mask"] = mask


def _goniometer_axes(
    goniometer: Goniometer,
) -> list[tuple[str, np.ndarray, float, bool]]:
    """Name, vector, angle (deg) and whether it scans, from the crystal outwards."""
    if isinstance(goniometer, MultiAxisGoniometer):
        moving = goniometer.get_scan_axis()
        axes = zip(
            goniometer.get_names(),
            goniometer.get_axes(),
            goniometer.get_angles(),
            strict=True,
        )
        return [(n, np.array(v), a, i == moving) for i, (n, v, a) in enumerate(axes)]
    return [("omega", np.array(goniometer.get_rotation_axis()), 0.0, True)]


def _group(parent: h5py.Group, name: str, nx_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group


def _dataset(parent: h5py.Group, name: str, value: float, units: str) -> None:
    parent[name] = value
    parent[name].attrs["units"] = units


def _transformation(dataset, kind: str, vector, units: str, depends_on: str) -> None:
    dataset.attrs["transformation_type"] = kind
    dataset.attrs["vector"] = np.asarray(vector, dtype=float)
    dataset.attrs["units"] = units
    dataset.attrs["depends_on"] = depends_on

"""Writes an image of a one-panel detector as miniCBF, the way Dectris does."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from cctbx import factor_ev_angstrom
from dxtbx import flumpy
from dxtbx.ext import compress
from dxtbx.model import Beam, Panel

from diffuse_core.simulate.detectors import lowest_and_saturation, written_thickness

BINARY_TAG = b"\x0c\x1a\x04\xd5"
PADDING = 4095
BOUNDARY = "--CIF-BINARY-FORMAT-SECTION--"


def header(
    panel: Panel,
    beam: Beam,
    description: str,
    exposure: float,
    angles: tuple[float, float],
    epoch: float,
) -> str:
    """Text of the header of one image; `angles` are start and width in degrees.

    Numbers have all their digits, so that dxtbx reads back the models as they are.
    """
    fast, slow = panel.get_beam_centre_px(beam.get_s0())
    px, py = (x * 1e-3 for x in panel.get_pixel_size())
    wavelength = beam.get_wavelength()
    time = datetime.fromtimestamp(epoch, timezone.utc)
    lines = (
        f"Detector: {description}, S/N 00-0000 simulated by dials.diffuse_simulate",
        time.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        f"Pixel_size {px:.12g} m x {py:.12g} m",
        f"Silicon sensor, thickness {written_thickness(panel) * 1e-3:.12g} m",
        f"Exposure_time {exposure:.12g} s",
        f"Exposure_period {exposure:.12g} s",
        f"Count_cutoff {lowest_and_saturation(panel)[1]} counts",
        f"Threshold_setting: {0.5 * factor_ev_angstrom / wavelength:.0f} eV",
        f"Wavelength {wavelength:.12g} A",
        f"Detector_distance {panel.get_distance() * 1e-3:.12g} m",
        f"Beam_xy ({fast:.10g}, {slow:.10g}) pixels",
        f"Start_angle {angles[0]:.10g} deg.",
        f"Angle_increment {angles[1]:.10g} deg.",
        f"Polarization {beam.get_polarization_fraction():.6g}",
        "Detector_2theta 0.0000 deg.",
        "Oscillation_axis X, CW",
    )
    return "\r\n".join(f"# {line}" for line in lines)


def write(path: Path, counts: np.ndarray, description: str, text: str) -> None:
    """Writes int32 counts (n_slow, n_fast) with byte-offset compression."""
    n_slow, n_fast = counts.shape
    binary = compress(flumpy.from_numpy(np.ascontiguousarray(counts)))
    convention = "PILATUS_1.2" if "PILATUS" in description else "GENERIC_MINI_1.0"
    digest = base64.b64encode(hashlib.md5(binary).digest()).decode()
    before = (
        "###CBF: VERSION 1.5, written by dials.diffuse_simulate",
        f"data_{path.stem}",
        "",
        f'_array_data.header_convention "{convention}"',
        "_array_data.header_contents",
        ";",
        text,
        ";",
        "",
        "_array_data.data",
        ";",
        BOUNDARY,
        "Content-Type: application/octet-stream;",
        '     conversions="x-CBF_BYTE_OFFSET"',
        "Content-Transfer-Encoding: BINARY",
        f"X-Binary-Size: {len(binary)}",
        "X-Binary-ID: 1",
        'X-Binary-Element-Type: "signed 32-bit integer"',
        "X-Binary-Element-Byte-Order: LITTLE_ENDIAN",
        f"Content-MD5: {digest}",
        f"X-Binary-Number-of-Elements: {counts.size}",
        f"X-Binary-Size-Fastest-Dimension: {n_fast}",
        f"X-Binary-Size-Second-Dimension: {n_slow}",
        f"X-Binary-Size-Padding: {PADDING}",
        "",
        "",
    )
    after = ("", f"{BOUNDARY}--", ";", "")
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        file.write("\r\n".join(before).encode("ascii"))
        file.write(BINARY_TAG + binary + bytes(PADDING))
        file.write("\r\n".join(after).encode("ascii"))
    os.replace(partial, path)

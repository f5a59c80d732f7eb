"""What kind of measurement images are, from their headers: rotation, stills, or both.

A rotation scan turns the crystal during each image. Stills don't; those that were taken
at known, equally spaced angles belong to one crystal, and their spots index together
as a scan whose images are as wide as the steps between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffuse_core.errors import ConfigError, InputError

ROTATION, STILL_SCAN, STILLS = "rotation", "still_scan", "stills"
TOLERANCE = 0.02
"""Largest deviation of a still's angle from even spacing, in steps."""


@dataclass(frozen=True)
class Series:
    """What the headers of a series of image files say, from a sample of them.

    Attributes:
        name: Template, or path of a file with many images.
        images: Number of images.
        width: Rotation during an image, deg; None: there is no goniometer or scan.
        starts: Image number -> angle at its start, deg, of the sampled images.
    """

    name: str
    images: int
    width: float | None
    starts: dict[int, float]


@dataclass(frozen=True)
class Route:
    """The way to go, and why.

    Attributes:
        mode: 'rotation', 'still_scan' or 'stills'.
        reason: Why, half a sentence.
        oscillation: Of still scans: start (deg) and width (deg) that make the images
            meet, each still in the middle of its own; else None.
    """

    mode: str
    reason: str
    oscillation: tuple[float, float] | None = None


def choose(series: Sequence[Series], mode: str | None = None) -> Route:
    """The route for these series.

    Args:
        series: One or more series, of one measurement.
        mode: What the user says; None: by the headers.

    Raises:
        InputError: The series are of different kinds.
        ConfigError: The headers can't be used the way the user wants.
    """
    if mode == STILLS:
        return Route(STILLS, "mode=stills says so")
    found = [_of_headers(one) for one in series]
    if mode == ROTATION:
        for one in series:
            if not one.width:
                raise ConfigError(
                    f"mode=rotation, but the headers of {one.name} tell no rotation "
                    "width: give start and width of the first image with "
                    "dials.import.geometry.scan.oscillation=START,WIDTH."
                )
        return Route(ROTATION, "mode=rotation says so")
    if mode == STILL_SCAN:
        for one, route in zip(series, found, strict=True):
            if route.mode != STILL_SCAN:
                raise ConfigError(
                    f"mode=still_scan, but the headers of {one.name} tell no equally "
                    "spaced angles: give start and step with "
                    "dials.import.geometry.scan.oscillation=START,STEP, where START is "
                    "half a step before the first still, and mode=rotation."
                )
    kinds = {route.mode for route in found}
    if len(kinds) > 1:
        text = "; ".join(
            f"{one.name}: {route.mode}"
            for one, route in zip(series, found, strict=True)
        )
        raise InputError(
            f"The images are of different kinds ({text}): reduce them in separate "
            "folders, or choose one way for all with mode=rotation or mode=stills."
        )
    oscillations = {route.oscillation for route in found}
    if len(oscillations) > 1:
        raise InputError(
            "Several series of stills at known angles have different angles: import "
            "them one by one with dials.import and give the imported.expt files."
        )
    return found[0]


def _of_headers(series: Series) -> Route:
    if series.width is None:
        return Route(STILLS, "the headers tell no goniometer or scan")
    if series.width < 0:
        raise InputError(
            f"The headers of {series.name} tell a negative rotation width: reverse the "
            "axis with dials.import.geometry.goniometer.axis and give start and width "
            "with dials.import.geometry.scan.oscillation."
        )
    if series.width > 0:
        return Route(ROTATION, f"each image is {series.width:g} degrees wide")
    step = _even_step(series.starts)
    if step is None:
        return Route(STILLS, "the crystal does not rotate during an image")
    start = series.starts[min(series.starts)] - step / 2
    return Route(
        STILL_SCAN,
        f"stills at known angles, {step:g} degrees apart",
        (start, step),
    )


def _even_step(starts: dict[int, float]) -> float | None:
    """Angle between neighbours (deg), if at least 3 angles grow evenly; else None."""
    numbers = sorted(starts)
    if len(numbers) < 3:
        return None
    span = numbers[-1] - numbers[0]
    step = (starts[numbers[-1]] - starts[numbers[0]]) / span
    if step <= 0:
        return None
    for number in numbers:
        expected = starts[numbers[0]] + step * (number - numbers[0])
        if abs(starts[number] - expected) > TOLERANCE * step:
            return None
    return round(step, 6)

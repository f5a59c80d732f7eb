"""The one place for what differs between DIALS 3.12 and the current release.

Import it before anything of DIALS: dxtbx imports scikit-learn for one function, DIALS
pandas for another, which takes a second; here both wait until they are used.
"""

from __future__ import annotations

import json
import math
import os
from functools import cache

from diffuse_core.postponed import postponed

with postponed("sklearn", "cluster"):
    import dxtbx.model.detector_helpers  # noqa: F401
with postponed("pandas"):
    import dials.array_family.flex  # noqa: F401
from dxtbx.model import Panel
from dxtbx.model.experiment_list import ExperimentListFactory
from scitbx.array_family import flex


def load_experiments(path: str, check_format: bool):
    """ExperimentList of a file written by either generation of dxtbx.

    dxtbx 3.18 and newer keep the data of a scan under "properties"; older readers
    want them at the top level of the scan.
    """
    try:
        return ExperimentListFactory.from_json_file(path, check_format=check_format)
    except KeyError:
        pass
    with open(path) as file:
        document = json.load(file)
    for scan in document.get("scan", []):
        properties = scan.pop("properties", None)
        if properties is None:
            continue
        first, last = scan["image_range"]
        n = last - first + 1
        start = list(properties["oscillation"])
        if "oscillation_width" in properties:
            width = properties["oscillation_width"][0]
        else:
            width = start[1] - start[0]
        scan["oscillation"] = [start[0], width]
        scan["exposure_time"] = list(properties.get("exposure_time", [0.0] * n))
        scan["epochs"] = list(properties.get("epochs", [0.0] * n))
    directory = os.path.dirname(os.path.abspath(path))
    return ExperimentListFactory.from_dict(
        document, check_format=check_format, directory=directory
    )


def oscillation_width(scan) -> float:
    """Rotation width of an image (deg); 0 for stills and scans without rotation."""
    if scan is None or (
        hasattr(scan, "has_property") and not scan.has_property("oscillation")
    ):
        return 0.0
    return scan.get_oscillation()[1]


def dials_version() -> str:
    """Version of DIALS (Debian's package metadata does not tell it)."""
    from dials.util.version import dials_version as version

    return version()


def trusted_limits(panel) -> tuple[float, float]:
    """Lowest and highest raw value of a panel that dxtbx' masks keep, both included.

    Up to dxtbx 3.11 the limits of the trusted range are not part of it, from 3.12 on
    they are. Raw values are compared as float64, so the neighbouring numbers are exact.
    """
    low, high = panel.get_trusted_range()
    if _limits_belong_to_range():
        return low, high
    return math.nextafter(low, math.inf), math.nextafter(high, -math.inf)


@cache
def _limits_belong_to_range() -> bool:
    panel = Panel()
    panel.set_image_size((1, 1))
    panel.set_trusted_range((0.0, 1.0))
    data = flex.double(flex.grid(1, 1), 1.0)
    return panel.get_trusted_range_mask(data)[0]

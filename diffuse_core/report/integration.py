"""The table of an integration, made of the figures that go into the JSON file."""

from __future__ import annotations

from dials.util import tabulate


def integration_table(figures: dict) -> str:
    """What was integrated, as text."""
    return tabulate(integration_rows(figures))


def integration_rows(figures: dict) -> list[list[str]]:
    """What was integrated: names and figures."""
    used, pixels = figures["used"], figures["pixels"]
    seconds = figures["seconds"]
    images = figures["images"] - figures["reused"]
    rows = [
        ["experiments", f"{figures['experiments']}"],
        ["blocks", f"{figures['blocks']}"],
        ["images", f"{figures['images']} ({figures['reused']} from an earlier run)"],
        ["pixels looked at", f"{pixels:.4g}"],
        ["pixels used", f"{used:.4g} ({100 * used / max(pixels, 1):.1f} %)"],
        ["photons in them", f"{figures['counts']:.6g}"],
        ["observations", f"{figures['observations']}"],
        ["time (s)", f"{seconds:.1f}"],
    ]
    if images:
        rows.append(["images/s", f"{images / seconds:.2f}"])
        rows.append(["MB/s read", f"{figures['read'] / seconds / 1e6:.3g}"])
    return rows

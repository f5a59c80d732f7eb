"""The figures of a run and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dials.util import tabulate

from diffuse_core.merge import Merged
from diffuse_core.statistics import shell_edges, shell_numbers


def integration_table(figures: dict) -> str:
    """What was integrated, as text."""
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
    return tabulate(rows)


def merging_figures(
    merged: Merged, operators: Sequence[np.ndarray] | None, n_shells: int = 10
) -> dict:
    """Figures of a merged table, overall and in shells of equal volume.

    Completeness is the part of a shell's volume that was measured: voxels, with all
    that are equivalent to them, times the volume of one.

    Args:
        merged: The table.
        operators: (3, 3) integer Laue operators that were averaged over, or None.
        n_shells: Resolution shells.
    """
    s = merged.grid.s_norm(merged.index, merged.unit_cell)
    edges = shell_edges(s.min(), s.max(), n_shells)
    shell = shell_numbers(s, edges)
    volumes = voxel_volume(merged) * equivalents(merged.index, operators)
    rows = [
        _figures_of(merged, volumes, shell == i, edges[i], edges[i + 1])
        for i in range(n_shells)
    ]
    everything = np.ones(len(merged), bool)
    return {
        "symmetry": merged.symmetry,
        "space_group": merged.space_group,
        "unit_cell": merged.unit_cell,
        "grid": merged.grid.to_dict(),
        "overall": _figures_of(merged, volumes, everything, edges[0], edges[-1]),
        "shells": rows,
    }


def equivalents(
    index: np.ndarray, operators: Sequence[np.ndarray] | None
) -> np.ndarray:
    """(n,) float64: how many voxels are equivalent to each of (n, 3) voxel indices."""
    if operators is None:
        return np.ones(len(index))
    same = np.zeros(len(index))
    for operator in operators:
        same += (index @ operator == index).all(axis=1)
    return len(operators) / same


def _figures_of(
    merged: Merged, volumes: np.ndarray, rows: np.ndarray, s_low: float, s_high: float
) -> dict:
    n = int(rows.sum())
    shell_volume = 4.0 / 3.0 * np.pi * (s_high**3 - s_low**3)
    observations = int(merged.observations[rows].sum())
    figures = {
        "d_max": 1.0 / s_low if s_low > 0 else None,
        "d_min": 1.0 / s_high,
        "voxels": n,
        "completeness": float(volumes[rows].sum() / shell_volume),
        "observations": observations,
        "pixels": float(merged.pixels[rows].sum()),
        "counts": float(merged.counts[rows].sum()),
    }
    if n:
        i, sigma = merged.intensity[rows], merged.sigma[rows]
        figures["multiplicity"] = observations / n
        figures["counts_per_observation"] = figures["counts"] / observations
        figures["mean_intensity"] = float(i.mean())
        figures["mean_sigma"] = float(sigma.mean())
        figures["mean_i_over_sigma"] = float((i / sigma).mean())
    return figures


def voxel_volume(merged: Merged) -> float:
    """Volume of a voxel (1/A^3)."""
    grid = merged.grid
    edges = grid.cartesian(np.eye(3, dtype=int), merged.unit_cell)
    return abs(float(np.linalg.det(edges)))


def shell_table(figures: dict) -> str:
    """The figures of a merge as text."""
    header = [
        "d_max",
        "d_min",
        "voxels",
        "compl. %",
        "mult.",
        "counts/obs.",
        "<I>",
        "<sigma>",
        "<I/sigma>",
    ]
    rows = []
    for shell in [*figures["shells"], figures["overall"]]:
        if not shell["voxels"]:
            continue
        d_max = f"{shell['d_max']:.2f}" if shell["d_max"] else "inf"
        rows.append(
            [
                d_max,
                f"{shell['d_min']:.2f}",
                shell["voxels"],
                f"{100 * shell['completeness']:.1f}",
                f"{shell['multiplicity']:.1f}",
                f"{shell['counts_per_observation']:.2f}",
                f"{shell['mean_intensity']:.4g}",
                f"{shell['mean_sigma']:.3g}",
                f"{shell['mean_i_over_sigma']:.1f}",
            ]
        )
    return (
        f"Merged in {figures['symmetry']} symmetry, space group "
        f"{figures['space_group']} (intensities in counts/s/sr)\n"
        + tabulate(rows, headers=header)
    )

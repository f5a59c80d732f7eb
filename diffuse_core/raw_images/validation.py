"""Whether the geometry puts spots where they were seen, before a photon is binned.

The scattering vector of the observed centroid, in the crystal's own frame, against that
of its Miller index: dq = B (hkl_observed - hkl), in 1/A and in indices. A reflection of
a still, or of an image wider than a spot, need not lie on the Ewald sphere where its
spot is: of its error only the part along the sphere counts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dials.util import tabulate
from dxtbx import flumpy

from diffuse_core import boundary
from diffuse_core.compat import oscillation_width
from diffuse_core.errors import InputError

logger = logging.getLogger("dials.diffuse")

MOST = 2000
"""So many reflections are looked at, spread evenly."""
STRONG = 10.0
"""Least intensity over sigma of a reflection that no spot finder saw."""
FEWEST = 10
"""Fewest spots of an experiment that say anything of it."""
COARSE = 0.25
"""Images wider than this (deg) don't tell the angle of a spot well enough."""
WRONG = 0.15
"""Median distance from the index, in indices, that is no better than chance allows:
random positions have 0.48."""
POOR = 0.08
"""Median distance that smears details of a map with three voxels for an index."""


@dataclass(frozen=True, eq=False)
class Residuals:
    """Observed minus predicted, one row for each reflection.

    Attributes:
        experiment: (n,) int.
        panel: (n,) int.
        image: (n,) int, array index of the image.
        d: (n,) A.
        hkl: (n, 3) observed minus true Miller index.
        q: (n,) |dq|, 1/A.
        radial: (n,) relative error of |q|.
    """

    experiment: np.ndarray
    panel: np.ndarray
    image: np.ndarray
    d: np.ndarray
    hkl: np.ndarray
    q: np.ndarray
    radial: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        """(n,) length of `hkl`, in indices."""
        return np.linalg.norm(self.hkl, axis=1)


def residuals(experiments, table) -> Residuals:
    """Residuals of the spots that were seen, from a table of DIALS.

    Args:
        experiments: ExperimentList.
        table: Reflections with `xyzobs.px.value` and `miller_index`, ids counting
            through the experiments.
    """
    rows = _seen(table)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).astype(int)]
    ids = flumpy.to_numpy(table["id"])[rows]
    panels = flumpy.to_numpy(table["panel"])[rows].astype(int)
    xyz = flumpy.to_numpy(table["xyzobs.px.value"])[rows]
    hkl = np.array(table["miller_index"].as_vec3_double()).reshape(-1, 3)[rows]
    bases = [np.array(e.crystal.get_B()).reshape(3, 3) for e in experiments]
    found = np.array(
        [
            boundary.hkl_at(experiments[int(e)], int(p), position)
            for e, p, position in zip(ids, panels, xyz, strict=True)
        ]
    ).reshape(-1, 3)
    for row, (e, z) in enumerate(zip(ids, xyz[:, 2], strict=True)):
        if _is_coarse(experiments[int(e)]):
            found[row] = _on_sphere(experiments[int(e)], z, found[row], hkl[row])
    expected = np.array([bases[e] @ h for e, h in zip(ids, hkl, strict=True)])
    observed = np.array([bases[e] @ h for e, h in zip(ids, found, strict=True)])
    expected, observed = expected.reshape(-1, 3), observed.reshape(-1, 3)
    length = np.linalg.norm(expected, axis=1)
    return Residuals(
        experiment=ids,
        panel=panels,
        image=np.floor(xyz[:, 2]).astype(int),
        d=1.0 / length,
        hkl=found - hkl,
        q=np.linalg.norm(observed - expected, axis=1),
        radial=np.linalg.norm(observed, axis=1) / length - 1.0,
    )


def _is_coarse(experiment) -> bool:
    """True where an image does not tell the angle at which a spot is brightest."""
    still = boundary.is_still(experiment)
    return still or oscillation_width(experiment.scan) > COARSE


def _on_sphere(experiment, z: float, found: np.ndarray, hkl: np.ndarray) -> np.ndarray:
    """Observed index without its distance from the Ewald sphere."""
    if boundary.is_still(experiment):
        image = boundary.image_of(experiment, 0, 0)
    else:
        z -= experiment.scan.get_array_range()[0]
        image = boundary.image_of(experiment, 0, int(z), (z - int(z), 1.0))
    setting = np.linalg.inv(image.to_hkl)
    normal = setting @ found + np.array(experiment.beam.get_s0())
    normal /= np.linalg.norm(normal)
    error = setting @ (found - hkl)
    return hkl + image.to_hkl @ (error - (error @ normal) * normal)


def _seen(table) -> np.ndarray:
    """Rows with an index whose spot was seen, or is strong."""
    keep = flumpy.to_numpy(table["id"]) >= 0
    hkl = np.array(table["miller_index"].as_vec3_double()).reshape(-1, 3)
    keep &= hkl.any(axis=1)
    strong = flumpy.to_numpy(table.get_flags(table.flags.strong))
    if "intensity.sum.value" in table:
        variance = flumpy.to_numpy(table["intensity.sum.variance"])
        value = flumpy.to_numpy(table["intensity.sum.value"])
        strong = strong | (value > STRONG * np.sqrt(np.maximum(variance, 1.0)))
    return np.flatnonzero(keep & strong)


def table_text(found: Residuals, shells: int = 5) -> str:
    """Residuals by resolution, and by panel and image where there are several."""
    edges = np.quantile(found.d, np.linspace(1, 0, shells + 1))
    number = np.clip(np.searchsorted(-edges, -found.d) - 1, 0, shells - 1)
    names = [f"{edges[i]:.2f} - {edges[i + 1]:.2f} A" for i in range(shells)]
    rows = _rows(found, number, names)
    if len(set(found.panel)) > 1:
        panels = np.unique(found.panel)
        named = [f"panel {p}" for p in panels]
        rows += _worst(_rows(found, np.searchsorted(panels, found.panel), named))
    key = found.experiment * 10**6 + found.image
    images = np.unique(key)
    if len(images) > 1:
        named = [f"experiment {k // 10**6}, image {k % 10**6 + 1}" for k in images]
        rows += _worst(_rows(found, np.searchsorted(images, key), named))
    rows += _rows(found, np.zeros(len(found.d), int), ["all"])
    return tabulate(
        rows,
        ["", "spots", "rms dh", "rms dk", "rms dl", "rms dq (1/A)", "d|q|/|q| (%)"],
    )


def _rows(found: Residuals, number: np.ndarray, names: Sequence[str]) -> list[list]:
    rows = []
    for n, name in enumerate(names):
        use = number == n
        if use.any():
            rms = np.sqrt((found.hkl[use] ** 2).mean(axis=0))
            rows.append(
                [
                    name,
                    int(use.sum()),
                    *(f"{value:.4f}" for value in rms),
                    f"{np.sqrt((found.q[use] ** 2).mean()):.5f}",
                    f"{100 * np.median(found.radial[use]):+.3f}",
                ]
            )
    return rows


def _worst(rows: list[list], n: int = 4) -> list[list]:
    """The rows with the largest errors among those with enough spots."""
    enough = [row for row in rows if row[1] >= FEWEST] or rows
    return sorted(enough, key=lambda row: -float(row[5]))[:n]


def wrong_experiments(found: Residuals, n: int) -> dict[int, str]:
    """Experiments whose spots are not where their models say -> why.

    Args:
        found: Residuals.
        n: Number of experiments.
    """
    wrong = {}
    distance = found.distance
    for number in range(n):
        mine = distance[found.experiment == number]
        if len(mine) < FEWEST:
            wrong[number] = f"{len(mine)} spots are too few"
        elif np.median(mine) > WRONG:
            wrong[number] = (
                f"spots are {np.median(mine):.2f} indices from where they should be"
            )
    return wrong


def judge(found: Residuals, n: int) -> list[str]:
    """Sentences about a geometry that is poor.

    Raises:
        InputError: Half of the experiments or more are wrong.
    """
    wrong = wrong_experiments(found, n)
    if 2 * len(wrong) >= n and wrong:
        number, why = next(iter(wrong.items()))
        raise InputError(
            f"{len(wrong)} of {n} experiments are not well enough indexed to be mapped "
            f"(experiment {number}: {why}): check cell, beam centre and rotation axis, "
            "or index again with other parameters."
        )
    told = [f"Experiment {number} is poor: {why}." for number, why in wrong.items()]
    typical = float(np.median(found.distance))
    if typical > POOR:
        told.append(
            f"Spots are {typical:.3f} indices from where the models put them, so that "
            "details of the map are smeared: refine the geometry better."
        )
    return told


def orientation_spread(experiments) -> float:
    """Rms angle (deg) of the orientations of one crystal from their mean.

    The mean rotation is the orthogonal part of the sum of the matrices, so this means
    something for nearly equal orientations only.
    """
    us = np.array([e.crystal.get_U() for e in experiments]).reshape(-1, 3, 3)
    left, _, right = np.linalg.svd(us.sum(axis=0))
    sign = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    mean = left @ sign @ right
    cosines = (np.einsum("nij,ij->n", us, mean) - 1.0) / 2.0
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return float(np.sqrt(np.mean(angles**2)))

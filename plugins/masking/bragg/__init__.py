"""Masks the neighbourhoods of the lattice points of all crystals on an image."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import Image, LatticeRegion, MaskModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
size = *auto profile observed floor
  .type = choice
  .help = "Where the size of the peaks comes from: profile: the profile model, or the"
          "mosaicity and the domain size of a still's crystal; observed: the strong"
          "spots of the .refl file (that of dials.refine, before integration); auto:"
          "the larger of both, where sigma_m of a scan is split into a width and an"
          "angle as the observed spots are; floor: the floor alone."
n_sigma = 3.0
  .type = float(value_min=0, allow_none=False)
  .help = "Sigmas of the peaks that are left out; what was observed counts as 3 sigma."
          "3 % of a Gaussian peak lie beyond 3 sigma, 0.1 % beyond 4."
floor = 0.12
  .type = float(value_min=0, value_max=0.5, allow_none=False)
  .help = "Smallest radius around a lattice point, in Miller indices. It covers an"
          "error of the prediction of a pixel or two, for 0.7 % of reciprocal space."
absent_points = False
  .type = bool
  .help = "Leave out systematically absent points too, where the space group isn't"
          "certain."
satellite
  .multiple = True
  .help = "Peaks of a modulated structure, beside the lattice points. May be given"
          "several times: vectors that are equivalent by symmetry, and sums of"
          "vectors, count as vectors of their own."
{
  q = None
    .type = floats(size=3)
    .help = "Satellites lie at hkl + n q and hkl - n q; q in Miller indices."
  order = 1
    .type = int(value_min=1, allow_none=False)
    .help = "Largest n."
}
"""

NO_SATELLITES = np.zeros((0, 3))
NO_OPERATORS = (np.zeros((0, 3, 3), np.int64), np.zeros((0, 3), np.int64), 12)


class Bragg(MaskModel):
    """Leaves out an ellipsoid around every lattice point that a crystal can show.

    The rule is that of `LatticeRegion`; sizes are those of `spot_sizes`.

    Args:
        bases: Per experiment (3, 3) float64, 1/A: B of the crystal.
        sizes: Per experiment (n, 4) float64: r0 (1/A), r1, t0 (1/A), t1 of
            `LatticeRegion`, for each image or, with one row, for all.
        operators: Per experiment R, t and denominator, see `absence_operators`.
        floor: Smallest radius in Miller indices.
        satellites: (n, 3) float64: offsets of satellites in Miller indices, both signs.
    """

    def __init__(
        self,
        bases: Sequence[np.ndarray],
        sizes: Sequence[np.ndarray],
        operators: Sequence[tuple[np.ndarray, np.ndarray, int]],
        floor: float,
        satellites: np.ndarray = NO_SATELLITES,
    ) -> None:
        self.bases, self.sizes, self.operators = bases, sizes, operators
        self.floor = floor
        self.offsets = np.vstack([np.zeros((1, 3)), satellites])

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Bragg:
        """Raises ConfigError if the size that the user wants isn't known."""
        from diffuse_core.plugins.masking.bragg.absences import absence_operators

        crystals = [experiment.crystal for experiment in run.experiments]
        operators = [
            NO_OPERATORS
            if params.absent_points
            else absence_operators(crystal.get_space_group())
            for crystal in crystals
        ]
        sizes = _sizes(params, run)
        satellites = _satellites(params.satellite)
        _warn_of_large(sizes, run, len(satellites))
        bases = [np.array(crystal.get_B()).reshape(3, 3) for crystal in crystals]
        return cls(bases, sizes, operators, params.floor, satellites)

    def lattice_regions(self, image: Image) -> list[LatticeRegion]:
        """One region for each crystal on the image."""
        return [self._region(lattice) for lattice in image.lattices or (image,)]

    def _region(self, image: Image) -> LatticeRegion:
        number = image.experiment
        rows = self.sizes[number]
        r0, r1, t0, t1 = rows[min(max(image.index, 0), len(rows) - 1)]
        rotations, translations, denominator = self.operators[number]
        return LatticeRegion(
            affine=image.affine(),
            b=self.bases[number],
            axis=image.axis,
            half_width=np.radians(abs(image.width)) / 2.0,
            radial=(r0, r1),
            tangential=(t0, t1),
            floor=self.floor,
            rotations=rotations,
            translations=translations,
            denominator=denominator,
            offsets=self.offsets,
        )


def _satellites(given) -> np.ndarray:
    """(n, 3) float64: n q and -n q for all vectors and orders."""
    offsets = [
        sign * n * np.array(one.q, float)
        for one in given
        if one.q is not None
        for n in range(1, one.order + 1)
        for sign in (1, -1)
    ]
    return np.array(offsets).reshape(-1, 3)


def _sizes(params, run: RunInputs) -> list[np.ndarray]:
    from diffuse_core.plugins.masking.bragg import spot_sizes

    wanted = params.size if isinstance(params.size, str) else "auto"  # libtbx.Auto
    none: list = [None] * len(run.experiments)
    profile = observed = none
    if wanted in ("auto", "profile"):
        profile = [
            spot_sizes.profile_size(experiment) for experiment in run.experiments
        ]
    if wanted in ("auto", "observed"):
        observed = spot_sizes.observed_spots(
            run.experiments, run.setups, run.reflections
        )
    sizes, unknown = [], []
    for number, (model, spots) in enumerate(zip(profile, observed, strict=True)):
        if model is not None and spots is not None:
            model = spots.resolved(model)
        seen = None if spots is None else spots.size
        rows = [size for size in (model, seen) if size is not None]
        if not rows:
            unknown.append(number)
            rows = [np.zeros((1, 4))]
        larger = np.maximum(*rows) if len(rows) == 2 else rows[0]
        sizes.append(larger * params.n_sigma / spot_sizes.N_SIGMA)
    if unknown and wanted == "auto":
        logger.warning(
            "The size of the Bragg peaks isn't known for %d of %d crystals (no profile "
            "model, mosaicity or strong spots): mask.bragg.floor alone masks them.",
            len(unknown),
            len(sizes),
        )
    elif unknown and wanted != "floor":
        what = {
            "profile": "profile model or mosaicity",
            "observed": "strong spots in a .refl file (give that of dials.refine)",
        }[wanted]
        raise ConfigError(
            f"mask.bragg.size={wanted}: experiment {unknown[0]} has no {what}; "
            "choose another size."
        )
    return sizes


def _warn_of_large(sizes: list[np.ndarray], run: RunInputs, n_satellites: int) -> None:
    """Warns where ellipsoids fill most of reciprocal space within the detector."""
    edge = {}
    for setup in set(run.setups):
        first = run.first_of_setup(setup)
        edge[setup] = first.detector.get_max_inscribed_resolution(first.beam.get_s0())
    full = 0
    worst = 0.0
    for size, experiment, setup in zip(sizes, run.experiments, run.setups, strict=True):
        d = edge[setup]
        r0, r1, t0, t1 = size.max(axis=0)
        r2, t2 = r0**2 + (r1 / d) ** 2, t0**2 + (t1 / d) ** 2
        group = experiment.crystal.get_space_group()
        volume = experiment.crystal.get_unit_cell().volume()
        points = volume * (1.0 / group.n_ltr() + n_satellites)
        share = 4.0 / 3.0 * np.pi * np.sqrt(r2) * t2 * points
        full += share > 0.5
        worst = max(worst, share)
    if full:
        logger.warning(
            "The Bragg masks of %d of %d crystals are so large that their volume is "
            "more than half of that of reciprocal space at the edge of the detector "
            "(up to %.1f times): reduce mask.bragg.n_sigma, or set "
            "mask.bragg.size=floor.",
            full,
            len(sizes),
            worst,
        )


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="bragg",
        factory="diffuse_core.plugins.masking.bragg:Bragg",
        summary="Neighbourhoods of the lattice points of all crystals.",
        phil=PHIL,
        default=True,
    )

"""The incoherent (Compton) scattering of the sample, from its composition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import BackgroundModel, IntensityBackground, RunInputs
from diffuse_core.plugins.background.compton import composition, theory

logger = logging.getLogger("dials.diffuse")

PHIL = """
formula = None
  .type = str
  .help = "Chemical formula of a molecule, for example C6H12O6."
sequence = None
  .type = str
  .help = "FASTA file (every entry is a chain), or a sequence in one-letter codes."
molecule = *protein dna rna
  .type = choice
  .help = "What the letters of the sequence are."
copies = 1
  .type = float(value_min=0, allow_none=False)
  .help = "How many of formula and sequence there are in the unit cell."
model = None
  .type = path
  .help = "PDB or mmCIF file with its space group: all that is in it, in the whole unit"
          "cell. Hydrogens that it lacks are added to the usual residues."
solvent {
  fraction = 0
    .type = float(value_min=0, value_max=1, allow_none=False)
    .help = "Part of the unit cell that liquid water fills, besides the water of the"
            "model. The unit cell is that of the first experiment."
  ion
    .multiple = True
    .help = "What is dissolved in the water."
  {
    formula = None
      .type = str
      .help = "Element or formula, for example Na or SO4."
    concentration = 0
      .type = float(value_min=0, allow_none=False)
      .help = "mol/l"
  }
}
scale = None
  .type = float(value_min=0)
  .help = "Intensity of one electron unit per unit cell, counts/s/sr: subtracts counts"
          "before merging. None: no command subtracts anything; from Python,"
          "diffuse_core.absolute.on_absolute_scale does, from a finished map."
detector = *counting integrating
  .type = choice
  .help = "A photon counter sees the shifted photon as one count, whatever its energy"
          "(the threshold must be below it); an integrating detector sees its energy."
sensor = Auto
  .type = str
  .help = "Chemical formula of the sensor, Si or CdTe. Auto: that of the .expt, or Si."
"""


class Compton(BackgroundModel, IntensityBackground):
    """Counts/s = scale * response * I_incoh, or I_incoh in electrons per unit cell.

    I_incoh is the sum of S(Z, |s|/2) over the atoms of the unit cell, times the
    Klein-Nishina factor and the efficiency of the sensor for the shifted photons
    relative to the elastic ones: the apparent intensity, in the units of intensities
    that were divided by the response. Theory and sources: `compton.theory`. The
    absorption of the shifted photons in air and sample is taken as that of the elastic
    ones. Both variances are 0.

    Args:
        atoms: Atomic number -> number of atoms per unit cell.
        geometries: Panels of the first detector, for `intensity`.
        scale: counts/s/sr per electron unit, or None.
        materials: Per setup and panel, formula of the sensor.
        counting: True for photons, False for energy.
    """

    def __init__(
        self,
        atoms: Mapping[int, float],
        geometries: Sequence[PanelGeometry],
        scale: float | None = None,
        materials: Mapping[tuple[int, int], str] | None = None,
        counting: bool = True,
    ) -> None:
        self.atoms = dict(atoms)
        self.scale = scale
        self.materials = dict(materials or {})
        self.counting = counting
        self._curve = self._mean_curve(geometries)

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Compton:
        """Raises ConfigError if the composition can't be used."""

        from diffuse_core import boundary

        atoms = _unit_cell(params, run)
        if not atoms:
            logger.warning(
                "background.compton does nothing without background.compton.formula, "
                "sequence, model or solvent.fraction."
            )
        elif params.scale is None:
            logger.info(
                "background.compton: no counts are subtracted, as "
                "background.compton.scale is not set."
            )
        materials = {}
        for setup in set(run.setups):
            for index, panel in enumerate(run.first_of_setup(setup).detector):
                material = panel.get_material() or "Si"
                materials[setup, index] = _material(params.sensor, material)
        first = run.first_of_setup(0)
        panels = range(len(first.detector)) if atoms else ()
        geometries = [boundary.panel_geometry(first, 0, index) for index in panels]
        counting = params.detector == "counting"
        return cls(atoms, geometries, params.scale, materials, counting)

    def apparent_intensity(self, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) float64: I_incoh of a panel, electrons per unit cell."""
        energy = theory.KEV_ANGSTROM / geometry.beam.wavelength
        cosine = np.cos(np.radians(geometry.two_theta.astype(float)))
        k = theory.energy_ratio(energy, cosine)
        depth = geometry.sensor_mu * geometry.sensor_thickness / geometry.cos_incidence
        material = self.materials.get((geometry.setup, geometry.index), "Si")
        result = theory.incoherent_function(self.atoms, 0.5 * geometry.s_norm)
        result *= theory.klein_nishina_ratio(k, _polarization(geometry))
        result *= theory.relative_efficiency(material, energy, k, depth)
        return result if self.counting else k * result

    def panel_background(
        self, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[np.ndarray | float, float]:
        """Mean (counts/s per pixel); 0 without scale or composition."""
        if not self.scale or not self.atoms:
            return 0.0, 0.0
        return self.scale * response * self.apparent_intensity(geometry), 0.0

    def intensity(self, s_norm: np.ndarray) -> tuple[np.ndarray, float]:
        """Mean over all directions of I_incoh at |s|, electrons per unit cell.

        0 where `scale` was given: the counts were subtracted already.
        """
        s_norm = np.asarray(s_norm, float)
        if self.scale or not self.atoms:
            return np.zeros(s_norm.shape), 0.0
        where, factor = self._curve
        theirs = theory.incoherent_function(self.atoms, 0.5 * s_norm)
        return theirs * np.interp(s_norm, where, factor), 0.0

    def _mean_curve(self, geometries, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """|s| and the mean there of the apparent intensity over the sum of S."""
        if not geometries:
            return np.zeros(1), np.ones(1)
        top = max(float(g.s_norm.max()) for g in geometries)
        pixels, total, place = np.zeros((3, n))
        for geometry in geometries:
            s = geometry.s_norm.astype(float).ravel()
            bins = np.minimum((s / top * n).astype(int), n - 1)
            free = theory.incoherent_function(self.atoms, 0.5 * s)
            factor = self.apparent_intensity(geometry).ravel()
            factor = factor[free > 0] / free[free > 0]
            pixels += np.bincount(bins[free > 0], minlength=n)
            total += np.bincount(bins[free > 0], factor, minlength=n)
            place += np.bincount(bins[free > 0], s[free > 0], minlength=n)
        seen = pixels > 0
        return place[seen] / pixels[seen], total[seen] / pixels[seen]


def _polarization(geometry: PanelGeometry) -> np.ndarray:
    """P of the Thomson formula, at least 0.001."""
    beam = geometry.beam
    u = geometry.direction.astype(float)
    along = u @ np.asarray(beam.s0) * beam.wavelength
    across = u @ np.asarray(beam.polarization_normal)
    f = beam.polarization_fraction
    p = (1 - 2 * f) * (1 - across**2) + f * (1 + along**2)
    return np.maximum(p, 1e-3)


def _material(asked, found: str) -> str:
    import xraylib

    material = asked if isinstance(asked, str) and asked != "Auto" else found
    try:
        xraylib.CompoundParser(material)
    except ValueError as error:
        raise ConfigError(
            f"The material of the sensor, {material}, is no chemical formula: set "
            "background.compton.sensor, for example to Si or CdTe."
        ) from error
    return material


def _unit_cell(params, run: RunInputs) -> dict[int, float]:
    """Atomic number -> number of atoms in the unit cell."""
    total = composition.Atoms()
    parts = []
    if params.formula is not None:
        name = "background.compton.formula"
        parts.append((params.copies, composition.parse_formula(params.formula, name)))
    if params.sequence is not None:
        atoms = composition.sequence_atoms(params.sequence, params.molecule)
        parts.append((params.copies, atoms))
    if params.model is not None:
        parts.append((1.0, composition.model_atoms(params.model)))
    if params.solvent.fraction > 0:
        crystal = run.experiments[0].crystal
        volume = params.solvent.fraction * crystal.get_unit_cell().volume()
        ions = {i.formula: i.concentration for i in params.solvent.ion if i.formula}
        parts.append((1.0, composition.solvent_atoms(volume, ions)))
    for number, atoms in parts:
        for element, n in atoms.items():
            total[element] += number * n
    return composition.atomic_numbers(total, "background.compton")


@hookimpl
def diffuse_background_models():
    yield ModelPlugin(
        name="compton",
        factory="diffuse_core.plugins.background.compton:Compton",
        summary="Incoherent (Compton) scattering of the sample, from its composition.",
        phil=PHIL,
    )

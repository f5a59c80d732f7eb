"""Attenuation of X-rays in materials given by name or by formula."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from diffuse_core.errors import ConfigError

TABLE = """
vacuum        gas    0
air           gas    1.20479e-3  C 0.000124 N 0.755267 O 0.231781 Ar 0.012827
helium        gas    1.66322e-4  He
nitrogen      gas    1.16528e-3  N2
argon         gas    1.66201e-3  Ar
kapton        solid  1.42        C22H10N2O5
mylar         solid  1.40        C10H8O4
polyethylene  solid  0.94        C2H4
polycarbonate solid  1.20        C16H14O3
pmma          solid  1.19        C5H8O2
be            solid  1.848       Be
beryllium     solid  1.848       Be
diamond       solid  3.51        C
graphite      solid  1.70        C
silicon       solid  2.33        Si
aluminium     solid  2.699       Al
silica        solid  2.20        SiO2
borosilicate  solid  2.23        Si .3772 O .5396 B .0401 Na .0282 Al .0116 K .0033
sapphire      solid  3.97        Al2O3
water         solid  1.00        H2O
"""
"""Density in g/cm^3 (gases: at 20 deg C and 101.325 kPa) and a formula or fractions by
mass. Source: NIST, ESTAR database of materials; silica, diamond: usual values of glass
and of anvils (the latter that of dials.anvil_correction)."""


@dataclass(frozen=True)
class Material:
    """What a layer is made of.

    Attributes:
        name: As the user wrote it.
        fractions: Element -> fraction by mass; they add up to 1, or none in vacuum.
        density: g/cm^3; of a gas at 20 deg C and 101.325 kPa.
        gas: Whether the density follows temperature and pressure.
    """

    name: str
    fractions: Mapping[str, float]
    density: float
    gas: bool

    def attenuation(
        self, wavelength: float, temperature: float = 20.0, pressure: float = 101.325
    ) -> float:
        """Linear attenuation coefficient (1/mm): mu = rho sum_i w_i (mu/rho)_i.

        mu/rho: photoelectric, coherent and incoherent, cctbx's NIST tables. A gas has
        rho of the ideal-gas law.

        Args:
            wavelength: A.
            temperature: deg C.
            pressure: kPa.
        """
        from cctbx.eltbx import attenuation_coefficient

        density = self.density
        if self.gas:
            density *= 293.15 / (temperature + 273.15) * pressure / 101.325
        return sum(
            density
            / 10.0
            * fraction
            * attenuation_coefficient.get_table(element).mu_rho_at_angstrom(wavelength)
            for element, fraction in self.fractions.items()
        )


def material(text: str, density: float | None = None, where: str = "") -> Material:
    """The material of this name or chemical formula.

    Args:
        text: A name of `TABLE`, or a formula such as "Al2O3" or "C5 H8 O2".
        density: g/cm^3 in place of that of the table; it is not scaled with
            temperature and pressure. Needed with a formula.
        where: The PHIL path of the parameter, for messages.

    Raises:
        ConfigError: The name is unknown, the formula can't be read or has no density.
    """
    known = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()}
    if text.lower() in known:
        state, tabulated, *composition = known[text.lower()]
        return Material(
            text,
            _fractions(composition),
            float(tabulated) if density is None else density,
            state == "gas" and density is None,
        )
    fractions = _by_formula(text, where, sorted(known))
    if density is None:
        raise ConfigError(
            f"The material {text} of {where} has no tabulated density: give "
            f"{where.rpartition('.')[0]}.density (g/cm^3)."
        )
    return Material(text, fractions, density, gas=False)


def _fractions(composition: list[str]) -> dict[str, float]:
    if len(composition) == 1:
        return _by_formula(composition[0], "", [])
    return {
        element: float(fraction)
        for element, fraction in zip(composition[::2], composition[1::2], strict=True)
    }


def _by_formula(text: str, where: str, names: list[str]) -> dict[str, float]:
    from cctbx.eltbx import tiny_pse

    formula = text.replace(" ", "")
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula)
    masses: dict[str, float] = {}
    try:
        for element, number in parts:
            mass = tiny_pse.table(element, True).weight() * float(number or 1)
            masses[element] = masses.get(element, 0.0) + mass
    except (RuntimeError, ValueError):
        parts = []
    if not parts or "".join(e + n for e, n in parts) != formula:
        raise ConfigError(
            f"The material {text!r} of {where} is neither a chemical formula nor one "
            f"of {', '.join(names)}."
        )
    total = sum(masses.values())
    return {element: mass / total for element, mass in masses.items()}

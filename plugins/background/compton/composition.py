"""Which atoms there are in a unit cell: from a formula, a sequence or a model.

Hydrogens that a model lacks are taken from the formula of the residue. Residues are
neutral; disulphide bonds and the charges of side chains are left out (below 0.1 % of
the electrons).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from diffuse_core.errors import ConfigError

logger = logging.getLogger("dials.diffuse")

Atoms = Counter
"""Element symbol -> number of atoms, which need not be whole."""

WATER_PER_ANGSTROM3 = 0.033368
"""Molecules: 0.9982 g/cm^3 at 20 deg C over 18.0153 g/mol."""
PER_MOLAR = 6.02214076e-4
"""Particles per A^3 in a solution of 1 mol/l."""

_PROTEIN = """
A C3H5NO     R C6H12N4O   N C4H6N2O2   D C4H5NO3    C C3H5NOS    E C5H7NO3
Q C5H8N2O2   G C2H3NO     H C6H7N3O    I C6H11NO    L C6H11NO    K C6H12N2O
M C5H9NOS    F C9H9NO     P C5H7NO     S C3H5NO2    T C4H7NO2    W C11H10N2O
Y C9H9NO2    V C5H9NO     U C3H5NOSe   O C12H19N3O2
"""
_DNA = "A C10H12N5O5P C C9H12N3O6P G C10H12N5O6P T C10H13N2O7P"
_RNA = "A C10H12N5O6P C C9H12N3O7P G C10H12N5O7P U C9H11N2O8P"


def parse_formula(formula: str, parameter: str) -> Atoms:
    """Atoms of a formula such as C6H12O6 or Ca(OH)2.

    Raises:
        ConfigError: It isn't a formula; the message names the parameter.
    """
    import xraylib

    try:
        parsed = xraylib.CompoundParser(formula.replace(" ", ""))
    except ValueError as error:
        raise ConfigError(
            f"{parameter}={formula} is no chemical formula such as C6H12O6 ({error})."
        ) from error
    symbols = map(xraylib.AtomicNumberToSymbol, parsed["Elements"])
    return Counter(dict(zip(symbols, parsed["nAtoms"], strict=True)))


def atomic_numbers(atoms: Mapping[str, float], parameter: str) -> dict[int, float]:
    """Atomic number -> number of atoms; deuterium counts as hydrogen.

    Raises:
        ConfigError: A symbol is no element; the message names the parameter.
    """
    import xraylib

    found: Counter = Counter()
    for symbol, number in atoms.items():
        name = {"D": "H"}.get(symbol, symbol)
        try:
            found[xraylib.SymbolToAtomicNumber(name)] += number
        except ValueError as error:
            raise ConfigError(f"{parameter}: {symbol} is no element.") from error
    return dict(found)


def residues(molecule: str) -> dict[str, Atoms]:
    """One-letter code -> atoms of the residue within a chain.

    Args:
        molecule: "protein", "dna" or "rna".
    """
    words = {"protein": _PROTEIN, "dna": _DNA, "rna": _RNA}[molecule].split()
    return {
        letter: Counter(_simple(formula))
        for letter, formula in zip(words[::2], words[1::2], strict=True)
    }


def _simple(formula: str) -> dict[str, int]:
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    return {symbol: int(number or 1) for symbol, number in parts}


def sequence_atoms(text: str, molecule: str) -> Atoms:
    """Atoms of all chains of a FASTA file, or of one sequence.

    Args:
        text: The path of a FASTA file (every entry is a chain), or a sequence.
        molecule: "protein", "dna" or "rna".

    Raises:
        ConfigError: A letter isn't a residue, or there is none.
    """
    where = "background.compton.sequence"
    if Path(text).is_file():
        where, text = text, Path(text).read_text(encoding="utf-8")
    table = residues(molecule)
    chains: list[str] = []
    for line in text.splitlines():
        if line.startswith((">", ";")) or not chains:
            chains.append("")
        if not line.startswith((">", ";")):
            chains[-1] += re.sub(r"[\s*\d-]", "", line).upper()
    total: Atoms = Counter()
    for chain in filter(None, chains):
        unknown = sorted(set(chain) - set(table))
        if unknown:
            raise ConfigError(
                f"The sequence {where} has letters that are no {molecule} residues "
                f"({', '.join(unknown)}): write the residues that are there, or set "
                "background.compton.molecule."
            )
        for letter, number in Counter(chain).items():
            total.update({e: number * n for e, n in table[letter].items()})
        total.update({"H": 2, "O": 1})
    if not total:
        raise ConfigError(f"The sequence {where} is empty.")
    return total


def model_atoms(path: str) -> Atoms:
    """Atoms in the unit cell of a PDB or mmCIF file, hydrogens completed.

    The atoms of the file with their occupancies, times the number of symmetry
    operators of its crystal. Hydrogens are added to residues that have none.

    Raises:
        ConfigError: The file can't be read or has no crystal symmetry.
    """
    import iotbx.pdb

    try:
        model = iotbx.pdb.input(file_name=path)
        hierarchy = model.construct_hierarchy()
        symmetry = model.crystal_symmetry()
    except Exception as error:
        raise ConfigError(
            f"The model {path} of background.compton can't be read ({error})."
        ) from error
    if symmetry is None or symmetry.space_group() is None:
        raise ConfigError(
            f"The model {path} of background.compton has no space group: add CRYST1 or "
            "the symmetry items of mmCIF."
        )
    known = _hydrogens()
    total: Atoms = Counter()
    without: Counter = Counter()
    for group in hierarchy.models()[0].atom_groups():
        atoms = [(a.element.strip().capitalize(), a.occ) for a in group.atoms()]
        for element, occupancy in atoms:
            total[element] += occupancy
        if any(element in ("H", "D") for element, _ in atoms):
            continue
        name = group.resname.strip()
        if name in known:
            total["H"] += known[name] * max(occupancy for _, occupancy in atoms)
        elif len(atoms) > 1:
            without[name] += 1
    if without:
        logger.warning(
            "%s: the hydrogens of %s are not in the model and are left out.",
            path,
            ", ".join(sorted(without)),
        )
    order = symmetry.space_group().order_z()
    return Counter({element: order * number for element, number in total.items()})


def _hydrogens() -> dict[str, int]:
    """Residue name -> number of hydrogens."""
    from iotbx.pdb.amino_acid_codes import three_letter_given_one_letter as names

    protein, dna, rna = (residues(kind) for kind in ("protein", "dna", "rna"))
    return {
        **{names[one]: atoms["H"] for one, atoms in protein.items() if one in names},
        **{f"D{one}": atoms["H"] for one, atoms in dna.items()},
        **{one: atoms["H"] for one, atoms in rna.items()},
        "MSE": protein["M"]["H"],
        "HOH": 2,
        "DOD": 2,
    }


def solvent_atoms(volume: float, ions: Mapping[str, float]) -> Atoms:
    """Atoms of liquid water with ions.

    Args:
        volume: A^3.
        ions: Element or formula of an ion -> concentration (mol/l).
    """
    total: Atoms = Counter({"H": 2.0, "O": 1.0})
    total = Counter({e: n * volume * WATER_PER_ANGSTROM3 for e, n in total.items()})
    for ion, concentration in ions.items():
        parts = parse_formula(ion, "background.compton.solvent.ion.formula")
        for element, number in parts.items():
            total[element] += number * concentration * volume * PER_MOLAR
    return total

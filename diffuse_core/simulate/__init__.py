"""Simulated images of a crystal whose diffuse scattering is known exactly.

Only for planning and testing: nothing here uses the code that reduces data.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SimulationResult:
    """Where the files of a simulation are."""

    expt_path: Path
    refl_path: Path
    truth_path: Path


def recipe(name: str) -> str:
    """PHIL text of a recipe that comes with the package, e.g. "rotation_small"."""
    files = resources.files("diffuse_core.phil") / "simulate"
    return (files / f"{name}.phil").read_text(encoding="utf-8")


def run_simulation(recipe_or_params: Any, directory: str | Path) -> SimulationResult:
    """Writes images, simulated.expt, simulated.refl and truth.json to `directory`.

    Args:
        recipe_or_params: PHIL text of a recipe (what it leaves out has its default)
            or extracted parameters of `diffuse_core.simulate.phil.phil_scope`.
        directory: where to write; made if it does not exist.

    Raises:
        DiffuseError: the recipe or a file that it names can't be used.
    """
    from diffuse_core.simulate.run import simulate

    return simulate(recipe_or_params, Path(directory))

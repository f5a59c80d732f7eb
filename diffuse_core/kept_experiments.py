"""The experiments that a folder of observations keeps, for scaling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dxtbx.model import ExperimentList

from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.rows import Source

EXPERIMENTS = "experiments.expt"
"""Copy of the experiments in a folder of observations: scaling needs the geometry."""


def keep_experiments(experiments, folder: str | os.PathLike) -> None:
    """Writes the experiments into the folder of their observations."""
    target = Path(folder) / EXPERIMENTS
    temporary = target.with_name(f".{os.getpid()}_{EXPERIMENTS}")
    try:
        experiments.as_file(str(temporary))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def experiments_of(sources: Sequence[Source]):
    """dxtbx ExperimentList with the experiment of each source.

    Raises:
        InputError: A folder of observations has no experiments.
    """
    lists = {}
    for folder in {source.folder for source in sources}:
        path = Path(folder) / EXPERIMENTS
        if not path.exists():
            raise InputError(
                f"The folder {folder} holds no {EXPERIMENTS}: run "
                "dials.diffuse_integrate again, which writes it and uses the "
                "observations that are there."
            )
        lists[folder] = load_experiments(str(path), check_format=False)
    return ExperimentList([lists[s.folder][s.number] for s in sources])

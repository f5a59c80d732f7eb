"""Experiments and reflections of a run, from the files that the user names."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.model.experiment_list import ExperimentList

from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError

EXPERIMENT_FILES = (".expt", ".json")
REFLECTION_FILES = (".refl", ".pickle")


def sort_files(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Experiment files and reflection files among the arguments of a command.

    Raises:
        InputError: A file is missing, of another kind, or there is no .expt file.
    """
    experiments, reflections = [], []
    for path in paths:
        if path.endswith(EXPERIMENT_FILES):
            experiments.append(path)
        elif path.endswith(REFLECTION_FILES):
            reflections.append(path)
        else:
            raise InputError(
                f"The argument {path!r} is neither an .expt file, a .refl file, a "
                ".phil file nor a parameter (name=value)."
            )
        if not os.path.isfile(path):
            raise InputError(f"The file {path} does not exist.")
    if not experiments:
        raise InputError("No experiments: give at least one .expt file.")
    return experiments, reflections


def load(
    experiment_files: Sequence[str],
    reflection_files: Sequence[str] = (),
    check_format: bool = True,
):
    """All experiments, and all reflections with `id` counting through them.

    Args:
        experiment_files: .expt files.
        reflection_files: As many .refl files, in the same order; or fewer, that tell
            by their experiment identifiers where they belong.
        check_format: Open the images, so that they can be read.

    Returns:
        (ExperimentList, reflection table or None).

    Raises:
        InputError: A file can't be read, or a .refl belongs to another .expt.
    """
    experiments = ExperimentList()
    ranges = []
    for path in experiment_files:
        part = _load_experiments(path, check_format)
        ranges.append(range(len(experiments), len(experiments) + len(part)))
        experiments.extend(part)
    if not reflection_files:
        return experiments, None
    if len(reflection_files) != len(experiment_files):
        return experiments, load_reflections(reflection_files, experiments)
    return experiments, _joined(reflection_files, experiments, ranges)


def load_reflections(paths: Sequence[str], experiments):
    """All reflections of some .refl files, with `id` counting through experiments.

    Args:
        paths: .refl files that tell by their identifiers where they belong.
        experiments: dxtbx ExperimentList.

    Raises:
        InputError: A file can't be read, or belongs to other experiments.
    """
    return _joined(paths, experiments, [range(len(experiments))] * len(paths))


def _joined(paths: Sequence[str], experiments, ranges: Sequence[range]):
    """One table of files whose experiments are in these ranges."""
    tables = [
        _load_reflections(path, experiments, where)
        for path, where in zip(paths, ranges, strict=True)
    ]
    for table in tables[1:]:
        tables[0].extend(table)
    return tables[0]


def _load_experiments(path: str, check_format: bool):
    try:
        experiments = load_experiments(path, check_format)
    except FileNotFoundError as error:
        missing = getattr(error, "filename", None) or error
        raise InputError(
            f"The images that {path} names can't be found ({missing}): put them back, "
            "or import them again (dials.import) at their new place."
        ) from error
    except Exception as error:
        text = str(error)
        if "Cannot open" in text or "No such file" in text:
            raise InputError(
                f"The images that {path} names can't be found ({text}): put them back, "
                "or import them again (dials.import) at their new place."
            ) from error
        raise InputError(
            f"The file {path} can't be read as experiments ({type(error).__name__}: "
            f"{error})."
        ) from error
    if not len(experiments):
        raise InputError(f"The file {path} holds no experiment.")
    return experiments


def _load_reflections(path: str, experiments, where: range):
    try:
        table = flex.reflection_table.from_file(path)
    except Exception as error:
        raise InputError(
            f"The file {path} can't be read as reflections ({type(error).__name__}: "
            f"{error}); a .refl written by a newer DIALS must be written again by the "
            "one installed here."
        ) from error
    if "id" not in table:
        raise InputError(f"The file {path} has no column 'id': give integrated.refl.")
    names = dict(table.experiment_identifiers())
    known = {experiments[n].identifier: n for n in where if experiments[n].identifier}
    table = table.select(table["id"] >= 0)
    ids = flumpy.to_numpy(table["id"])
    new = np.full(int(ids.max()) + 1 if len(ids) else 0, -1)
    for i in range(len(new)):
        name = names.get(i)
        if name and known:
            new[i] = known.get(name, -1)
        elif i < len(where):
            new[i] = where[i]
    used = np.unique(ids)
    foreign = (new[used] < 0).any() or not _plausible(table, ids, new, experiments)
    if foreign:
        raise InputError(
            f"The reflections of {path} do not belong to these experiments: give the "
            ".refl that was written together with the .expt."
        )
    for key in list(table.experiment_identifiers().keys()):
        del table.experiment_identifiers()[key]
    table["id"] = flumpy.from_numpy(np.ascontiguousarray(new[ids], np.int32))
    return table


def _plausible(table, ids: np.ndarray, new: np.ndarray, experiments) -> bool:
    """False if predicted positions are not where the experiments put their indices."""
    if "xyzcal.px" not in table or "miller_index" not in table or not len(table):
        return True
    from diffuse_core import boundary

    panel = flumpy.to_numpy(table["panel"])
    sample = np.linspace(0, len(table) - 1, min(len(table), 100)).astype(int)
    xyz = flumpy.to_numpy(table["xyzcal.px"])
    hkl = np.array(table["miller_index"].as_vec3_double()).reshape(-1, 3)
    right = checked = 0
    for row in sample:
        experiment = experiments[int(new[ids[row]])]
        if panel[row] >= len(experiment.detector):
            return False
        if not hkl[row].any():
            continue
        found = boundary.hkl_at(experiment, int(panel[row]), xyz[row])
        checked += 1
        right += bool(np.abs(found - hkl[row]).max() < 0.5)
    return right >= 0.5 * checked

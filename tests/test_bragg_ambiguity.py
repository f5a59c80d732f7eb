"""Integrated reflections in, operators for each experiment out, through dials.cosym."""

from __future__ import annotations

import logging
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from cctbx import sgtbx, uctbx
from dials.algorithms.spot_prediction import ScanStaticReflectionPredictor
from dials.array_family import flex
from dials.util import Sorry
from dxtbx import flumpy
from dxtbx.model import (
    Beam,
    Crystal,
    DetectorFactory,
    Experiment,
    ExperimentList,
    GoniometerFactory,
    ScanFactory,
)

from diffuse_core import scale_stage
from diffuse_core.ambiguity_stage import Question
from diffuse_core.boundary import index_operator, laue_operators
from diffuse_core.bragg_agreement import confirmed
from diffuse_core.bragg_ambiguity import Bragg, by_bragg, chosen_operators
from diffuse_core.collection import collect
from diffuse_core.command_line import diffuse_scale
from diffuse_core.errors import ConfigError, DiffuseError
from diffuse_core.grid import keys_of
from diffuse_core.kept_experiments import keep_experiments
from diffuse_core.lattice import ambiguities, lattice_operators
from diffuse_core.reduction import hash_of
from diffuse_core.report.scaling import scaling_items
from diffuse_core.scale_model import ScaleModel
from diffuse_core.symmetry import UniqueVoxels
from diffuse_core.testing.made_up_settings import CELL, write_folder

HEXAGONAL = [40.0, 40.0, 50.0, 90.0, 90.0, 120.0]
PLANTED = [False, True, False, True, False]
BY_BRAGG = "Bragg reflections (dials.cosym)"


def asked_of(cell: list[float], group, names: list[str]) -> Question:
    operators = {t: index_operator(t) for t in ambiguities(cell, group)}
    return Question(names, operators, group, lattice_operators(cell, group))


def wilson(index: np.ndarray, group) -> np.ndarray:
    """Intensities that have the Laue symmetry and no other, of mean 1."""
    unique = UniqueVoxels(np.array(laue_operators(group)))
    return -np.log(np.clip(hash_of(unique.keys(keys_of(index))[0], 7), 1e-9, 1.0))


def made_up(cell: list[float], group, planted: list[np.ndarray]):
    """A scan of 40 degrees for each crystal, indexed as matrix @ hkl, and its spots."""
    rng = np.random.default_rng(5)
    reciprocal = np.linalg.inv(axes_of(cell))
    experiments, tables = ExperimentList(), []
    for number, matrix in enumerate(planted):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn *= np.sign(np.linalg.det(turn))
        setting = turn @ reciprocal @ np.linalg.inv(matrix)
        axes = np.linalg.inv(setting)
        experiment = Experiment(
            beam=Beam((0, 0, 1), 1.0),
            detector=DetectorFactory.simple(
                "PAD", 100, (60, 60), "+x", "-y", (1, 1), (120, 120), (-1, 1e7)
            ),
            goniometer=GoniometerFactory.known_axis((1, 0, 0)),
            scan=ScanFactory.make_scan((1, 40), 1.0, (0, 1), list(range(40))),
            crystal=Crystal(*map(tuple, axes), group),
            identifier=str(number),
        )
        experiments.append(experiment)
        predict = ScanStaticReflectionPredictor(experiment, dmin=3.5)
        table = predict.for_ub(experiment.crystal.get_A())
        index = np.array(table["miller_index"].as_vec3_double()).reshape(-1, 3)
        index = np.rint(index).astype(np.int64)
        s = np.linalg.norm(index @ setting.T, axis=1)
        true = np.rint(index @ np.linalg.inv(matrix).T).astype(np.int64)
        expected = 1e3 * (1 + number) * wilson(true, group) * np.exp(-10 * s**2)
        sigma = np.sqrt(expected + 30.0)
        values = expected + sigma * rng.normal(size=len(sigma))
        table["intensity.sum.value"] = flumpy.from_numpy(values)
        table["intensity.sum.variance"] = flumpy.from_numpy(sigma**2)
        table["xyzobs.px.value"] = table["xyzcal.px"]
        table["partiality"] = flex.double(len(table), 1.0)
        table["id"] = flex.int(len(table), number)
        table.experiment_identifiers()[number] = str(number)
        table.set_flags(flex.bool(len(table), True), table.flags.integrated_sum)
        tables.append(table)
    return experiments, tables


def axes_of(cell: list[float]) -> np.ndarray:
    """Rows a, b, c (A)."""
    matrix = uctbx.unit_cell(tuple(cell)).orthogonalization_matrix()
    return np.array(matrix).reshape(3, 3).T


def write(tables, path: Path) -> str:
    whole = flex.reflection_table.concat([table.copy() for table in tables])
    whole.as_file(str(path))
    return str(path)


def settings_agree(reindex, names, planted, group) -> bool:
    """Whether all crystals, reindexed, are in one setting up to the Laue group."""
    laue = {np.ascontiguousarray(r.T).tobytes() for r in laue_operators(group)}
    total = [
        index_operator(reindex.get(name, "h,k,l")) @ matrix
        for name, matrix in zip(names, planted, strict=True)
    ]
    first = np.rint(np.linalg.inv(total[0])).astype(np.int64)
    return all(np.ascontiguousarray(m @ first).tobytes() in laue for m in total)


@pytest.mark.parametrize(
    ("cell", "symbol"), [(HEXAGONAL, "P3"), (HEXAGONAL, "P321"), (CELL, "P4")]
)
def test_operators_are_those_between_settings(cell, symbol):
    """Also where dials.cosym chose other axes for all, and turned each by the Laue
    group; most experiments stay as they are."""
    group = sgtbx.space_group_info(symbol).group()
    rng = np.random.default_rng(2)
    laue = [r.T for r in laue_operators(group) if np.linalg.det(r) > 0]
    names = [str(i) for i in range(12)]
    asked = asked_of(cell, group, names)
    ways = list(asked.operators.values())
    number = [0] * 7 + [i % len(ways) for i in range(5)]
    planted = [ways[i] for i in number]
    common = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]]) / 2.0
    changes = {
        name: common @ laue[rng.integers(len(laue))] @ np.linalg.inv(matrix)
        for name, matrix in zip(names, planted, strict=True)
    }
    changes["1"] = changes["1"] + 0.01
    found = chosen_operators(changes, asked)
    assert set(found) == set(names)
    assert [found[n] for n in names[:7]] == [0] * 7
    texts = list(asked.operators)
    reindex = {name: texts[i] for name, i in found.items()}
    assert settings_agree(reindex, names, planted, group)
    changes["2"] = changes["2"] @ np.diag([2.0, 1.0, 1.0])
    changes["3"] = changes["3"] + 0.3
    assert set(names) - set(chosen_operators(changes, asked)) == {"2", "3"}


def test_intensities_refuse_a_wrong_operator():
    """And say nothing where there are too few, or where nothing was found."""
    group = sgtbx.space_group_info("P4").group()
    swap = index_operator("k,h,-l")
    rng = np.random.default_rng(1)
    index = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3), -1).reshape(-1, 3)
    index = index[index.any(axis=1)]
    parts = []
    for number in range(6):
        use = rng.random(len(index)) < (0.002 if number == 5 else 0.3)
        noise = 1 + 0.2 * rng.normal(size=use.sum())
        value = (1 + number) * wilson(index[use], group) * noise
        parts.append((np.full(use.sum(), number), index[use], value))
    crystal, hkl, value = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    choices = confirmed(
        crystal,
        keys_of(hkl),
        np.linalg.norm(hkl / CELL[:3], axis=1),
        value,
        UniqueVoxels(np.array(laue_operators(group))),
        [np.eye(3, dtype=np.int64), swap],
        [0, 0, 0, 1, None, 0],
    )
    assert [c.decided for c in choices] == [True, True, True, False, False, False]
    assert [c.operator for c in choices] == [0] * 6
    assert choices[0].cc > 0.8 > 0.6 > choices[0].next_cc
    assert choices[3].gain < -100 and choices[3].compared > 500


@pytest.mark.parametrize(("symbol", "cell"), [("P4", CELL), ("P3", HEXAGONAL)])
def test_cosym_brings_crystals_to_one_setting(tmp_path, monkeypatch, symbol, cell):
    """A file of reflections for each crystal, in any order; or one for all, besides
    spots that aren't integrated, with an .expt of other settings than observed."""
    monkeypatch.chdir(tmp_path)
    group = sgtbx.space_group_info(symbol).group()
    names = [str(i) for i in range(6)]
    asked = asked_of(cell, group, names)
    ways = list(asked.operators.values())
    planted = [ways[i] for i in (0, 1, 0, len(ways) - 1, 0, 1)]
    experiments, tables = made_up(cell, group, planted)
    observed, moved = experiments, {"1", "3", "5"}
    if symbol == "P4":
        files = [write([t], tmp_path / f"{i}.refl") for i, t in enumerate(tables)][::-1]
    else:
        spots = [table.copy() for table in tables]
        for table in spots:
            table["flags"] = flex.size_t(len(table), table.flags.strong)
            for column in ("intensity.sum.value", "intensity.sum.variance"):
                del table[column]
        experiments.as_file("given.expt")
        observed, moved = deepcopy(experiments), {"3", "5"}
        setting = np.array(observed[1].crystal.get_A()).reshape(3, 3) @ ways[1]
        observed[1].crystal.set_A(tuple(setting.ravel()))
        planted[1] = np.eye(3, dtype=np.int64)
        files = ["given.expt", write(tables, tmp_path / "all.refl")]
        files.append(write(spots, tmp_path / "spots.refl"))
    observed.as_file("experiments.expt")
    kept = [tmp_path / "experiments.expt"]
    result = by_bragg(asked, observed, kept, Bragg(files, "diffuse_dials"))
    assert set(result.reindex) == moved
    assert settings_agree(result.reindex, names, planted, group)
    assert result.figures["by"] == BY_BRAGG
    for record in result.figures["experiments"]:
        assert record["decided"] and record["cc"] > 0.8 and record["next_cc"] < 0.5


@pytest.fixture(scope="module")
def p4():
    group = sgtbx.space_group_info("P4").group()
    swap = index_operator("k,h,-l")
    one = np.eye(3, dtype=np.int64)
    return made_up(CELL, group, [swap if other else one for other in PLANTED])


def folder_of(path: Path, experiments, planted: list[bool]) -> str:
    folder = write_folder(path, planted)
    keep_experiments(experiments, folder)
    return folder


def run_scale(*arguments: str) -> ScaleModel:
    diffuse_scale.run(
        [*arguments, "parallel.nproc=1", "output.html=None", "components=per_image"]
    )
    return ScaleModel.read("diffuse_scales.json")


def test_reflections_come_before_maps(tmp_path, monkeypatch, p4):
    """The maps say that none is to be moved, the reflections which are; log and report
    show it."""
    monkeypatch.chdir(tmp_path)
    experiments, tables = p4
    folder = folder_of(tmp_path / "o", experiments, [False] * len(PLANTED))
    refl = write(tables, tmp_path / "all.refl")
    model = run_scale(folder, refl)
    assert dict(model.reindex) == {"1": "k,h,-l", "3": "k,h,-l"}
    assert model.figures["ambiguity"]["by"] == BY_BRAGG
    log = Path("dials.diffuse_scale.log").read_text()
    (line,) = re.findall(
        r"\| +3 +\| k,h,-l +\| Bragg reflections \(dials.cosym\).*", log
    )
    cc, next_cc = re.findall(r"0\.\d{3}", line)
    assert float(cc) > 0.9 > 0.5 > float(next_cc)
    (item,) = [i for i in scaling_items(model) if i.title == "Indexing"]
    assert [row[:3] for row in item.content[1:3]] == [
        ["0", "h,k,l", BY_BRAGG],
        ["1", "k,h,-l", BY_BRAGG],
    ]
    assert dict(run_scale(folder, refl, "ambiguity=maps").reindex) == {}


def test_maps_decide_where_reflections_cannot(tmp_path, monkeypatch, caplog, p4):
    """Reflections that aren't integrated; one crystal only; dials.cosym that stops;
    too few reflections, of which it makes something; too many experiments."""
    monkeypatch.chdir(tmp_path)
    experiments, tables = p4
    found = collect([folder_of(tmp_path / "o", experiments, PLANTED)])
    refl = write(tables, tmp_path / "all.refl")
    plain = [table.copy() for table in tables]
    for table in plain:
        table["flags"] = flex.size_t(len(table), 0)
    strong = write(plain, tmp_path / "strong.refl")
    single = write(tables[:1], tmp_path / "single.refl")
    chosen = [t.select(flex.random_selection(len(t), 12)) for t in tables]
    few = write(chosen, tmp_path / "few.refl")
    stops = {"cosym": "unit_cell_clustering.threshold = -1\n"}
    for file, user, reason in (
        (strong, {}, "strong.refl are not integrated: give those of dials.integrate"),
        (single, {}, "single.refl belong to 1 of the experiments"),
        (refl, stops, "dials.cosym stopped: "),
        (few, {}, "do not confirm the operators of dials.cosym for any of 5 exp"),
    ):
        bragg = Bragg([file], "diffuse_dials", user)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="dials.diffuse"):
            result = decide(found, experiments, "auto", bragg)
        (warning,) = [r for r in caplog.records if r.levelname == "WARNING"]
        text = warning.getMessage()
        assert reason in text and text.endswith(". The diffuse maps decide instead.")
        assert set(result.reindex) in ({"1", "3"}, {"0", "2", "4"})
        assert result.figures["by"] == "diffuse scattering"
        with pytest.raises(DiffuseError, match=reason):
            decide(found, experiments, "cosym", bragg)
    monkeypatch.setattr(scale_stage, "FOR_COSYM", 4)
    with caplog.at_level(logging.INFO, logger="dials.diffuse"):
        result = decide(found, experiments, "auto", Bragg([refl], "diffuse_dials"))
    assert result.figures["by"] == "diffuse scattering"
    assert "take long for 5 experiments, so the diffuse maps decide" in caplog.text
    with pytest.raises(ConfigError, match="cosym needs reflections"):
        decide(found, experiments, "cosym", None)


def decide(found, experiments, way: str, bragg: Bragg | None):
    class Scaling:
        ambiguity = way
        seed = 0

    class Merging:
        space_group = None

    class Params:
        scaling = Scaling
        merging = Merging

    return scale_stage._ambiguity(found, experiments, Params, bragg)


def test_arguments_that_make_no_sense(tmp_path, monkeypatch, p4):
    monkeypatch.chdir(tmp_path)
    p4[0].as_file("all.expt")
    refl = write(p4[1], tmp_path / "all.refl")
    folder = folder_of(tmp_path / "o", p4[0], PLANTED)
    with pytest.raises(Sorry, match="all.expt was given without reflections"):
        run_scale(folder, "all.expt")
    with pytest.raises(Sorry, match="No observations: give the folders"):
        run_scale(refl)

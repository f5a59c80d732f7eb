"""dials.diffuse_merge as a user meets it: scales, fine maps, tables, huge maps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dials.util import Sorry

from diffuse_core import volume
from diffuse_core.collection import collect
from diffuse_core.command_line import diffuse_integrate, diffuse_merge
from diffuse_core.io.files import read_map, read_merged, read_provenance
from diffuse_core.scale_model import Curve, FittedComponent, ScaleModel
from diffuse_core.simulate import recipe, run_simulation

IN_PROCESS = "parallel.nproc=1"
NO_PICTURES = "output.pictures=None"
LEVEL = """
from dataclasses import dataclass
import numpy as np
from scipy import sparse
from diffuse_core.models import Basis

@dataclass
class Level(Basis):
    def __post_init__(self):
        self.initial = np.ones(1)

    def basis(self, coordinates):
        return sparse.csr_matrix(np.ones((len(coordinates), 1)))

    def penalty(self):
        return sparse.csr_matrix((0, 1))
"""


@pytest.fixture(scope="module")
def integrated(tmp_path_factory):
    """Folder with observations of a scan on a coarse grid and on a fine one."""
    folder = tmp_path_factory.mktemp("integrated")
    files = run_simulation(recipe("rotation_small"), folder / "scan")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for name, n in (("coarse", 1), ("fine", 3)):
            divisions = f"mapping.hkl_grid.divisions={n},{n},{n}"
            output = f"output.observations={name}"
            diffuse_integrate.run([str(files.expt_path), divisions, output, IN_PROCESS])
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "level_of_scale.py").write_text(LEVEL)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return tmp_path


def write_scales(path: str, folder: Path, level: float, expected: float) -> None:
    """Scales with B = `level` for the experiments of a folder."""
    from level_of_scale import Level

    scale = FittedComponent(
        *("level", "crystal", ("phi",), False, (0,), Level(), np.array([level]), 1.0)
    )
    ends = np.array([0.0, 1.0])
    ScaleModel(
        tuple(collect([str(folder)]).sources),
        (scale,),
        Curve(ends, np.zeros(2)),
        Curve(ends, np.full(2, expected)),
    ).write(path)


def merge(*arguments: str) -> None:
    diffuse_merge.run([*map(str, arguments), IN_PROCESS, NO_PICTURES])


def test_fine_map_with_scales_fitted_on_a_coarse_grid(integrated, here):
    """Twice the scale is half the intensity, with half the sigma."""
    fine = integrated / "fine"
    merge(fine, "output.merged=plain.nxs", "output.map=None")
    level = read_merged("plain.nxs").intensity.mean()
    for scale in (1.0, 2.0):
        write_scales(f"{scale}.json", integrated / "coarse", scale, level / scale)
        merge(
            *(fine, f"scales={scale}.json", f"output.merged={scale}.nxs"),
            "merging.outliers=none",
            f"output.map={'fine_map.nxs' if scale == 2 else None}",
        )
    one, two, plain = (read_merged(f"{n}.nxs") for n in ("1.0", "2.0", "plain"))
    assert two.estimator == "weighted"
    assert two.intensity == pytest.approx(one.intensity / 2, rel=1e-9)
    assert two.sigma == pytest.approx(one.sigma / 2, rel=1e-9)
    assert one.intensity == pytest.approx(plain.intensity, rel=0.2, abs=0.2 * level)
    assert one.grid.steps == (1 / 3, 1 / 3, 1 / 3)
    assert read_map("fine_map.nxs").grid.steps == (1 / 3, 1 / 3, 1 / 3)
    record = read_provenance("2.0.nxs")
    assert record["scales"]["path"] == str(here / "2.0.json")
    assert "scales = " in record["phil_merging"]


def test_outliers_are_counted_in_log_and_json(integrated, here):
    level = 1e3
    write_scales("s.json", integrated / "coarse", 1.0, level)
    merge(integrated / "coarse", "scales=s.json")
    figures = json.loads(Path("dials.diffuse_merge.json").read_text())["merging"]
    assert figures["outliers"]["tested"] > 0
    assert {"high", "low", "tolerance"} <= set(figures["outliers"])
    assert "too high" in Path("dials.diffuse_merge.log").read_text()


def test_a_merged_table_gives_its_map_again(integrated, here):
    merge(integrated / "coarse")
    first = read_map("diffuse_map.nxs")
    merge("diffuse_merged.nxs", "output.merged=copy.nxs", "output.map=again.nxs")
    again = read_map("again.nxs")
    assert np.array_equal(first.intensity, again.intensity, equal_nan=True)
    merge("diffuse_merged.nxs", "map_d_min=4", "output.map=cut.nxs")
    cut = read_map("cut.nxs")
    assert cut.intensity.size < first.intensity.size
    merged = read_merged("diffuse_merged.nxs")
    inside = merged.grid.s_norm(merged.index, merged.unit_cell) <= 1 / 4
    place = tuple((merged.index[inside] - cut.lower).T)
    assert cut.intensity[place] == pytest.approx(merged.intensity[inside], rel=1e-6)
    assert (~inside).any()


def test_friedel_mates_stay_apart_with_anomalous(integrated, here):
    merge(integrated / "coarse", "merging.symmetry=anomalous")
    merged = read_merged("diffuse_merged.nxs")
    assert merged.symmetry == "anomalous"
    keys = set(map(tuple, merged.index.tolist()))
    assert any((i, j, -k) in keys for i, j, k in keys if min(i, j, k) > 0)
    shown = read_map("diffuse_map.nxs")
    at = tuple((merged.index - shown.lower).T)
    assert shown.intensity[at] == pytest.approx(merged.intensity, rel=1e-6)


def test_a_map_that_is_too_large_costs_only_the_map(integrated, here, monkeypatch):
    monkeypatch.setattr(volume, "LARGEST", 1000)
    merge(integrated / "coarse")
    assert Path("diffuse_merged.nxs").exists()
    assert not Path("diffuse_map.nxs").exists()
    log = Path("dials.diffuse_merge.log").read_text()
    assert "There is no map" in log and "merging.map_d_min=" in log


def test_a_table_that_is_too_large_for_statistics_is_kept(
    integrated, here, monkeypatch
):
    monkeypatch.setattr("diffuse_core.io.files.machine_memory", lambda: 2**10)
    with pytest.raises(Sorry) as caught:
        merge(integrated / "coarse")
    assert "is complete, but its" in str(caught.value)
    assert len(read_merged("diffuse_merged.nxs", slice(0, 10))) == 10


def test_grids_that_differ_are_named(integrated, here):
    with pytest.raises(Sorry) as caught:
        merge(integrated / "coarse", integrated / "fine")
    assert "is on another grid than" in str(caught.value)


def test_a_table_without_a_place_leaves_no_files(integrated, here):
    merge(integrated / "coarse", "output.merged=None")
    names = {p.name for p in here.iterdir()}
    assert "diffuse_map.nxs" in names
    assert not any(name.startswith(".") or "merged.nxs" in name for name in names)

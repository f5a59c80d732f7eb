"""Several tables of one set of experiments: every reflection stays with its own."""

from __future__ import annotations

import pytest

pytest.importorskip("dials")

import numpy as np

from dials.array_family import flex

from diffuse_core.inputs import load


@pytest.mark.parametrize("first", [None, 2])
def test_ids_count_through_the_experiments(data_dir, tmp_path, first):
    """A second table of the same crystals, or a table that lacks some of them."""
    expt = data_dir / "thaumatin_grid" / "dials" / "refined.expt"
    _, whole = load([str(expt)], [str(expt.with_suffix(".refl"))], check_format=False)
    table = flex.reflection_table.from_file(str(expt.with_suffix(".refl")))
    if first is not None:
        table = table.select(table["id"] == first)
    table.as_file(str(tmp_path / "more.refl"))
    files = [str(tmp_path / "more.refl"), str(expt.with_suffix(".refl"))]
    experiments, both = load([str(expt)], files, check_format=False)
    assert len(experiments) == 3
    expected = np.concatenate([np.array(table["id"]), np.array(whole["id"])])
    np.testing.assert_array_equal(np.array(both["id"]), expected)
    assert set(expected) == {0, 1, 2}

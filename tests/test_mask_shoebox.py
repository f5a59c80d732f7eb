"""The shoebox mask against a brute-force walk through all reflections."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dials.array_family import flex

from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.models import Image, RunInputs
from diffuse_core.plugins.masking.shoebox import EVERY_IMAGE, Shoebox

BLANK = Image(
    experiment=0,
    index=0,
    phi=0.0,
    width=0.0,
    exposure=1.0,
    to_hkl=np.eye(3),
    s_shift=np.zeros(3),
    axis=np.zeros(3),
)


def panel_of(detector, index):
    n_fast, n_slow = detector[index].get_image_size()
    return SimpleNamespace(index=index, shape=(n_slow, n_fast))


def with_shoeboxes(table, seed=4):
    """The table with stored codes: a random foreground (code 4) in valid pixels."""
    rng = np.random.default_rng(seed)
    shoeboxes = flex.shoebox(table["panel"], table["bbox"])
    for box in shoeboxes:
        x0, x1, y0, y1, z0, z1 = box.bbox
        codes = rng.choice([1, 3, 5, 21, 0, 4], size=(z1 - z0, y1 - y0, x1 - x0))
        if isinstance(box.mask, flex.int):
            box.mask = flex.int(codes.astype(np.int32))
        else:  # DIALS 3.29 and newer
            box.mask = flex.uint8(codes.astype(np.uint8))
    table["shoebox"] = shoeboxes
    return table


def brute_force(table, detector, index, numbers, z=None, stored=False):
    """Every foreground pixel of the reflections of `numbers` on array index z."""
    n_fast, n_slow = detector[index].get_image_size()
    keep = np.ones((n_slow, n_fast), bool)
    for row in range(len(table)):
        if table["panel"][row] != index or table["id"][row] not in numbers:
            continue
        x0, x1, y0, y1, z0, z1 = table["bbox"][row]
        codes = table["shoebox"][row].mask.as_numpy_array() if stored else None
        for k in range(z0, z1):
            if z is not None and k != z:
                continue
            for y in range(max(y0, 0), min(y1, n_slow)):
                for x in range(max(x0, 0), min(x1, n_fast)):
                    if not stored or codes[k - z0, y - y0, x - x0] & 4:
                        keep[y, x] = False
    return keep


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "name", ["lcls_rayonix_kapton/dials/refined", "thaumatin_grid/dials/refined"]
)
def test_stills(data_dir, name, stored):
    experiments = load_experiments(str(data_dir / f"{name}.expt"), check_format=False)
    table = flex.reflection_table.from_file(str(data_dir / f"{name}.refl"))
    if stored:
        table = with_shoeboxes(table)
    detector = experiments[0].detector
    model = Shoebox.from_params(None, RunInputs(experiments, table, (0,)))
    found = model.image_mask(BLANK, panel_of(detector, 0))
    expected = brute_force(table, detector, 0, {0}, stored=stored)
    assert 0 < (~expected).sum() < 0.1 * expected.size
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("stored", [False, True])
def test_every_image_of_a_scan(data_dir, stored):
    path = str(data_dir / "l_cysteine/dials/integrated")
    experiments = load_experiments(path + ".expt", check_format=False)
    table = flex.reflection_table.from_file(path + ".refl")
    shift = 100
    table["bbox"] = flex.int6(
        [(*b[:4], b[4] + shift, b[5] + shift) for b in table["bbox"]]
    )
    for experiment in experiments:
        experiment.scan.set_image_range((shift + 1, shift + 15))
    if stored:
        table = with_shoeboxes(table)
    detector = experiments[0].detector
    model = Shoebox.from_params(None, RunInputs(experiments, table, (0, 0, 0, 1)))
    sizes = set()
    for index in (0, 1, 6, 14):
        image = replace(BLANK, experiment=1, index=index)
        found = model.image_mask(image, panel_of(detector, 0))
        expected = brute_force(table, detector, 0, {1}, index + shift, stored)
        np.testing.assert_array_equal(found, expected)
        sizes.add((~expected).sum())
    assert len(sizes) == 4


def test_crystals_on_one_image_and_panels(data_dir):
    path = str(data_dir / "thermolysin_cspad/dials/refined")
    experiments = load_experiments(path + ".expt", check_format=False)
    table = flex.reflection_table.from_file(path + ".refl")
    detector = experiments[0].detector
    model = Shoebox.from_params(None, RunInputs(experiments, table, (0,) * 4))
    lattices = tuple(replace(BLANK, experiment=i) for i in (0, 2))
    for image, numbers in [
        (BLANK, {0}),
        (replace(lattices[0], lattices=lattices), {0, 2}),
        (replace(lattices[1], lattices=lattices), {0, 2}),
    ]:
        for index in range(0, 64, 3):
            found = model.image_mask(image, panel_of(detector, index))
            expected = brute_force(table, detector, index, numbers)
            if expected.all():
                assert found is None
            else:
                np.testing.assert_array_equal(found, expected)


def test_flat_boxes_boxes_over_the_edge_and_boxes_that_are_not_stored():
    box = np.array([[-2, 3, 1, 3, 4, 7], [5, 9, 4, 9, 0, EVERY_IMAGE]])
    flat = np.full((1, 2, 5), 4)
    flat[0, 1, 4] = 2
    model = Shoebox(
        np.zeros(2, int), np.zeros(2, int), box, [flat, np.empty((0, 0, 0))]
    )
    geometry = SimpleNamespace(index=0, shape=(6, 8))
    for index, spot in [(3, False), (4, True), (6, True), (7, False)]:
        expected = np.ones((6, 8), bool)
        expected[4:6, 5:8] = False
        if spot:
            expected[1:3, 0:3] = False
            expected[2, 2] = True
        found = model.image_mask(replace(BLANK, index=index), geometry)
        np.testing.assert_array_equal(found, expected)


def test_needs_reflections():
    with pytest.raises(ConfigError, match=r"mask\.models=shoebox.*no reflections"):
        Shoebox.from_params(None, RunInputs([], None, ()))
    with pytest.raises(ConfigError, match="bounding boxes"):
        Shoebox.from_params(None, RunInputs([], flex.reflection_table(), ()))

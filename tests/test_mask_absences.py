"""Systematic absences by the rule of LatticeRegion against cctbx."""

from __future__ import annotations

import numpy as np
import pytest

from cctbx import sgtbx
from dials.array_family import flex

from diffuse_core.plugins.masking.bragg.absences import absence_operators

OTHER_SETTINGS = (
    "R 3 :H",
    "R 3 2 :R",
    "R -3 c :H",
    "C 1 2 1",
    "I 1 2 1",
    "A 1 1 2",
    "P 1 1 21",
    "P 2 21 21",
    "B 2 21 2",
    "P 41 21 2 (a+b,-a+b,c)",
    "F d -3 m :1",
)


def by_the_rule(hkl, rotations, translations, denominator):
    """hkl is absent when, for some operator, hkl R = hkl and hkl . t isn't whole."""
    absent = np.zeros(len(hkl), bool)
    for r, t in zip(rotations, translations, strict=True):
        absent |= (hkl @ r == hkl).all(axis=1) & (hkl @ t % denominator != 0)
    return absent


def assert_agrees(info, reach):
    group = info.group()
    axis = np.arange(-reach, reach + 1)
    hkl = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    flexed = flex.miller_index(
        *(flex.int(np.ascontiguousarray(hkl[:, i].astype(np.int32))) for i in range(3))
    )
    expected = group.is_sys_absent(flexed).as_numpy_array()
    rotations, translations, denominator = absence_operators(group)
    assert rotations.dtype == translations.dtype == np.int64
    assert rotations.shape == (*translations.shape, 3)
    np.testing.assert_array_equal(
        by_the_rule(hkl, rotations, translations, denominator),
        expected,
        err_msg=str(info),
    )


def test_all_230_groups():
    for number in range(1, 231):
        assert_agrees(sgtbx.space_group_info(number), 6)


@pytest.mark.parametrize(
    "symbol",
    [
        *OTHER_SETTINGS,
        "P 21 21 21",
        "P 43 21 2",
        "I 21 3",
        "F 4 3 2",
        "P 61",
        "I 41/a m d",
        "I a -3 d",
    ],
)
def test_beyond_the_box_that_the_operators_were_chosen_in(symbol):
    assert_agrees(sgtbx.space_group_info(symbol), 15)


def test_list_is_short():
    def count(symbol):
        return len(absence_operators(sgtbx.space_group_info(symbol).group())[0])

    assert count("P 1") == count("P 2") == count("P 4/m") == 0
    assert count("P 21 21 21") == 3
    assert count("C 2") == 1
    assert count("F 4 3 2") <= 3

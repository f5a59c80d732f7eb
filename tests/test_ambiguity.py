"""Indexing ambiguities planted in made-up observations of crystals and stills."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from cctbx import sgtbx, uctbx

from diffuse_core.ambiguity import Reference, choose, make_maps
from diffuse_core.boundary import index_operator, laue_operators
from diffuse_core.grid import keys_of, reciprocal_basis
from diffuse_core.lattice import ambiguities, lattice_operators, operator_text
from diffuse_core.reduction import hash_of
from diffuse_core.symmetry import UniqueVoxels

CELLS = {
    "P3": (50.0, 50.0, 70.0, 90.0, 90.0, 120.0),
    "P31": (50.0, 50.0, 70.0, 90.0, 90.0, 120.0),
    "P4": (50.0, 50.0, 70.0, 90.0, 90.0, 90.0),
    "P23": (55.0, 55.0, 55.0, 90.0, 90.0, 90.0),
    "P21": (50.0, 60.0, 50.0, 90.0, 105.0, 90.0),
}


def group_of(name: str):
    return sgtbx.space_group_info(name).group()


class Made:
    """Observations of crystals, some in another setting.

    Args:
        name: Space group.
        planted: Number of the operator of each crystal that brings it to the true
            setting.
        counts: Mean counts of an observation of each crystal.
        still: Whether each is a still (voxels near a sphere through the origin) or a
            crystal (a random half of all).
        contrast: Standard deviation of the relative anisotropic part.
        d_min: A.
    """

    def __init__(
        self, name, planted, counts, still=False, contrast=0.3, d_min=3.5, seed=1
    ):
        rng = np.random.default_rng(seed)
        cell, group = CELLS[name], group_of(name)
        self.operators = ambiguities(cell, group)
        matrices = [index_operator(text) for text in self.operators]
        unique = UniqueVoxels(np.array(laue_operators(group)))
        basis = reciprocal_basis(cell)
        n = np.ceil(np.array(cell[:3]) / d_min).astype(int)
        h = np.stack(np.meshgrid(*(np.arange(-i, i + 1) for i in n)), -1).reshape(-1, 3)
        s = h @ basis.T
        norm = np.linalg.norm(s, axis=1)
        use = (norm > 0.03) & (norm < 1 / d_min)
        h, s, norm = h[use], s[use], norm[use]
        parts = []
        for number, (k, mean) in enumerate(zip(planted, counts, strict=True)):
            if still:
                turn = Rotation.random(random_state=rng.integers(2**31)).as_matrix()
                away = np.abs(np.linalg.norm(s @ turn.T - [0, 0, 1.0], axis=1) - 1.0)
                seen = away < 0.01
            else:
                seen = rng.random(len(h)) < 0.5
            index, q = h[seen], norm[seen]
            keys = unique.keys(keys_of(index))[0]
            deviate = ndtri(np.clip(hash_of(keys, 5), 1e-6, 1 - 1e-6))
            intensity = (0.3 + np.exp(-9 * q**2)) * np.exp(
                contrast * deviate - 0.5 * contrast**2
            )
            exposure = rng.uniform(0.5, 1.5, len(q))
            exposure *= mean / np.mean(exposure * intensity)
            named = index @ np.linalg.inv(matrices[k]).T
            parts.append(
                {
                    "crystal": np.full(len(q), number),
                    "key": keys_of(np.rint(named)),
                    "counts": rng.poisson(exposure * intensity + 0.2 * mean),
                    "background": np.full(len(q), 0.2 * mean),
                    "background_variance": np.zeros(len(q)),
                    "exposure": exposure * rng.uniform(0.2, 5.0),
                    "s": q,
                }
            )
        columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        crystal, key = columns.pop("crystal"), columns.pop("key")
        self.maps = make_maps(crystal, key, columns, unique, matrices)
        self.matrices, self.unique = matrices, unique

    def same_setting(self, planted, found) -> bool:
        """Whether all crystals end in one setting: found = (one operator) x planted."""
        probe = keys_of(np.array([[1, 2, 5]]))
        apart = set()
        for p, f in zip(planted, found, strict=True):
            matrix = self.matrices[f] @ np.rint(np.linalg.inv(self.matrices[p])).astype(
                int
            )
            apart.add(int(self.unique.keys(probe, matrix)[0][0]))
        return len(apart) == 1


@pytest.mark.parametrize(
    ("name", "n"),
    [("P3", 4), ("P31", 4), ("P4", 2), ("P23", 2), ("P21", 2)],
)
def test_operators_are_the_cosets_of_the_lattice(name, n):
    cell, group = CELLS[name], group_of(name)
    found = ambiguities(cell, group)
    assert len(found) == n and found[0] == "h,k,l"
    laue = laue_operators(group)
    assert n * len(laue) == len(lattice_operators(cell, group))
    metric = uctbx.unit_cell(cell)
    for text in found:
        matrix = index_operator(text)
        assert operator_text(matrix) == text
        assert np.linalg.det(matrix) == pytest.approx(1.0)
        for h in ((1, 2, 5), (3, -1, 2), (0, 4, -3)):
            moved = tuple((matrix @ h).tolist())
            assert metric.d(moved) == pytest.approx(metric.d(h), rel=1e-9)
    images = {
        tuple(UniqueVoxels(np.array(laue))(index[None])[0])
        for index in (index_operator(text) @ [1, 2, 5] for text in found)
    }
    assert len(images) == n


@pytest.mark.parametrize("name", ["P43212", "P6522", "I432", "P212121", "C2", "P1"])
def test_groups_as_symmetric_as_their_lattice_have_none(name):
    cell = {
        "P43212": CELLS["P4"],
        "P6522": CELLS["P3"],
        "I432": CELLS["P23"],
        "P212121": (50.0, 55.0, 70.0, 90.0, 90.0, 90.0),
        "C2": (80.0, 60.0, 50.0, 90.0, 105.0, 90.0),
        "P1": (50.0, 60.0, 70.0, 80.0, 85.0, 95.0),
    }[name]
    assert ambiguities(cell, group_of(name)) == ["h,k,l"]


def test_edges_that_are_nearly_equal_make_an_ambiguity():
    group = group_of("P212121")
    near, far = (50.0, 50.5, 70.0, 90.0, 90.0, 90.0), (50.0, 53.0, 70.0, 90, 90, 90)
    assert ambiguities(near, group) == ["h,k,l", "k,h,-l"]
    assert ambiguities(near, group, 0.1) == ["h,k,l"]
    assert ambiguities(far, group) == ["h,k,l"]


@pytest.mark.parametrize("name", list(CELLS))
def test_half_of_the_crystals_in_another_setting(name):
    n = len(ambiguities(CELLS[name], group_of(name)))
    planted = [0, 1, n - 1, 0, n // 2, 0]
    made = Made(name, planted, counts=[1.5, 0.7, 1.0, 0.9, 0.6, 2.0])
    found = choose(made.maps)
    assert all(choice.decided for choice in found)
    assert made.same_setting(planted, [choice.operator for choice in found])
    for choice in found:
        assert choice.cc > 0.1 and choice.next_cc < 0.4 * choice.cc
    assert found[5].operator == 0


@pytest.mark.parametrize("name", ["P3", "P4", "P23"])
def test_half_of_forty_stills_in_another_setting(name):
    rng = np.random.default_rng(3)
    n = len(ambiguities(CELLS[name], group_of(name)))
    planted = rng.integers(0, n, 40).tolist()
    counts = np.exp(rng.normal(np.log(3.0), 0.5, 40))
    made = Made(name, planted, counts, still=True, d_min=3.0)
    found = choose(made.maps)
    certain = [i for i, choice in enumerate(found) if choice.decided]
    assert len(certain) >= 38
    assert made.same_setting(
        [planted[i] for i in certain], [found[i].operator for i in certain]
    )


@pytest.mark.parametrize("name", ["P3", "P23"])
@pytest.mark.parametrize("still", [False, True])
def test_noise_never_moves_a_crystal(name, still):
    for seed in range(5):
        made = Made(
            name, [0] * 12, [0.5] * 12, still=still, contrast=0.0, d_min=5.0, seed=seed
        )
        found = choose(made.maps)
        assert all(choice.operator == 0 and not choice.decided for choice in found)


def test_crystals_too_weak_to_decide_stay_and_do_no_harm():
    planted = [0, 1, 0, 1, 1, 1]
    made = Made("P4", planted, counts=[2.0, 2.0, 2.0, 2.0, 1e-3, 1e-3])
    found = choose(made.maps)
    assert [choice.decided for choice in found] == [True] * 4 + [False] * 2
    assert [choice.operator for choice in found[4:]] == [0, 0]
    assert made.same_setting(planted[:4], [choice.operator for choice in found[:4]])


def test_a_signal_with_the_symmetry_of_the_lattice_is_left_alone():
    """What lacks the ambiguity decides nothing, however strong."""
    made = Made("P4", [0, 1, 0], counts=[5.0] * 3)
    full = np.minimum(*made.maps.place)
    symmetric = type(made.maps)(
        made.maps.starts,
        ndtri(np.clip(hash_of(full.astype(np.int64), 1), 1e-6, 1 - 1e-6)),
        made.maps.variance,
        made.maps.place,
        made.maps.prior,
    )
    found = choose(symmetric)
    assert all(choice.operator == 0 for choice in found)


def test_a_crystal_is_never_compared_with_itself():
    made = Made("P4", [0, 0], counts=[2.0, 2.0])
    reference = Reference(made.maps)
    reference.put(0, 0)
    assert reference.compare(0)[1].compared == 0
    reference.put(1, 0)
    assert reference.compare(0)[1].compared > 0


def test_one_crystal_alone_and_an_empty_one():
    made = Made("P4", [0], counts=[2.0])
    (only,) = choose(made.maps)
    assert only.operator == 0 and not only.decided and np.isnan(only.cc)


def test_the_true_part_is_seen_through_the_counting_noise():
    made = Made("P4", [0, 0], counts=[3.0, 3.0], contrast=0.3)
    assert made.maps.prior == pytest.approx(np.expm1(0.09), rel=0.1)

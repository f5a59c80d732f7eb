"""Pictures: what is drawn where, and that files are made."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.grid import Grid
from diffuse_core.volume import Volume

pictures = pytest.importorskip("diffuse_core.report.pictures")
sections = pytest.importorskip("diffuse_core.report.sections")
image = pytest.importorskip("matplotlib.image")
figure = pytest.importorskip("matplotlib.figure")

MONOCLINIC = (30.0, 40.0, 50.0, 90.0, 115.0, 90.0)


def volume_of(values, lower, cell=MONOCLINIC, step=0.5, frame="hkl"):
    grid = Grid(frame, (step,) * 3)
    if frame == "q":
        grid = Grid("q", (step,) * 3, ("qx", "qy", "qz"), "1/A")
        cell = None
    ones = np.ones(values.shape)
    return Volume(
        grid,
        np.array(lower),
        values.astype(np.float32),
        ones.astype(np.float32),
        ones.astype(np.int32),
        cell,
    )


def radial_volume(shape=(21, 17, 25), **about):
    """A ring in |s| and a little noise; half of k < 0 not measured."""
    lower = [-(n // 2) for n in shape]
    axes = [low + np.arange(n) for low, n in zip(lower, shape, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    s = Grid("hkl", (0.5,) * 3).s_norm(index.reshape(-1, 3), MONOCLINIC).reshape(shape)
    values = 50 + 40 * np.exp(-0.5 * ((s - 0.1) / 0.02) ** 2)
    values[(index[..., 1] < 0) & (index[..., 0] < 0)] = np.nan
    return volume_of(values, lower, **about)


def test_three_sections_are_written(tmp_path):
    paths = pictures.write_sections(radial_volume(), tmp_path / "new" / "folder")
    names = [path.name for path in paths]
    assert names == ["section_hk0.png", "section_h0l.png", "section_0kl.png"]
    assert sorted(p.name for p in paths[0].parent.iterdir()) == sorted(names)
    for path in paths:
        pixels = image.imread(path)
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


@pytest.mark.parametrize("about", [{"frame": "q", "step": 0.02}, {"step": 1.0}])
def test_other_grids_can_be_drawn(tmp_path, about):
    assert len(pictures.write_sections(radial_volume(**about), tmp_path)) == 3


def test_a_map_without_the_origin_is_cut_where_it_comes_nearest(tmp_path):
    volume = volume_of(np.ones((4, 5, 6)), [3, -2, -9])
    assert len(pictures.write_sections(volume, tmp_path)) == 3


def test_an_empty_map_makes_no_picture(tmp_path):
    volume = volume_of(np.full((3, 3, 3), np.nan), [-1, -1, -1])
    assert pictures.write_sections(volume, tmp_path) == []


def test_lattice_points_do_not_count_for_average_and_colours():
    shape = (21, 21, 21)
    index = np.stack(np.meshgrid(*[np.arange(-10, 11)] * 3, indexing="ij"), -1)
    values = np.where((index % 2 == 0).all(axis=-1), 1e4, 10.0)
    volume = volume_of(values, (-10, -10, -10))
    average = pictures.volume_average(volume)
    assert average.values == pytest.approx(np.full(len(average.values), 10.0))
    section = sections.plane(
        volume.grid, MONOCLINIC, 2, 0, volume.intensity[:, :, 10], volume.lower
    )
    assert section.values.shape == shape[:2]
    assert section.between_lattice_points().max() == 10.0


@pytest.mark.parametrize("normal", [0, 1, 2])
def test_a_section_is_true_to_the_reciprocal_cell(normal):
    """Distances on paper from the origin are |s| of the voxels."""
    grid = Grid("hkl", (0.5, 0.25, 1.0))
    cell = (31.0, 42.0, 53.0, 81.0, 98.0, 113.0)
    values = np.arange(20.0).reshape(4, 5)
    section = sections.plane(grid, cell, normal, 0, values, np.array([-2, 3, -1]))
    transform, corners = sections._placement(section)
    index = np.zeros((2, 3), int)
    x, y = (i for i in range(3) if i != normal)
    index[0, [x, y]] = (3, -7)
    index[1, [x, y]] = (5, 2)
    points = transform.transform(grid.centres(index)[:, [x, y]])
    assert np.linalg.norm(points, axis=1) == pytest.approx(grid.s_norm(index, cell))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(
        grid.s_norm(index[:1] - index[1:], cell)[0]
    )
    first = (section.lower - 0.5) * section.steps
    assert corners[0] == pytest.approx(transform.transform(first))


def test_title_names_the_plane():
    grid = Grid("hkl", (0.5, 0.5, 0.5))
    one = sections.plane(grid, MONOCLINIC, 2, 3, np.ones((2, 2)), np.zeros(3, int))
    assert one.title == "hk1.5"
    assert not one.lattice


def test_cropping_keeps_indices():
    grid = Grid("hkl", (1.0, 1.0, 1.0))
    values = np.full((6, 7), np.nan)
    values[2:4, 5] = 1.0
    section = sections.plane(grid, MONOCLINIC, 0, 0, values, np.array([0, -3, -3]))
    cropped = section.cropped()
    assert cropped.values.shape == (2, 1)
    assert cropped.lower.tolist() == [-1, 2]


def test_colours(tmp_path):
    """Not measured: light grey; the anisotropic part: white at 0, even limits."""
    grid = Grid("hkl", (1.0, 1.0, 1.0))
    values = np.linspace(-3, 5, 30).reshape(5, 6)
    values[0, 0] = np.nan
    section = sections.plane(grid, MONOCLINIC, 2, 0, values, np.zeros(3, int))
    axes = figure.Figure().subplots()
    drawn = sections.draw(axes, section, "counts", diverging=True)
    assert drawn.norm.vmin == -drawn.norm.vmax
    assert 4 < drawn.norm.vmax <= 5
    assert drawn.cmap(0.5)[:3] == pytest.approx((0.97, 0.97, 0.97), abs=0.02)
    assert drawn.to_rgba(np.ma.masked_invalid([np.nan]))[0] == pytest.approx(
        (0.85, 0.85, 0.85, 1.0)
    )


def test_large_sections_are_averaged():
    values = np.ones((2500, 10))
    values[1] = np.nan
    values[3] = 4.0
    small, blocks = sections._smaller(values)
    assert blocks.tolist() == [3, 1]
    assert small.shape == (834, 10)
    assert small[0, 0] == 1.0
    assert small[1, 0] == pytest.approx(2.0)

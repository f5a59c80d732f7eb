"""Maps of other programs, written here as their formats are defined."""

from __future__ import annotations

import bz2
import struct

import numpy as np
import pytest

from diffuse_core.errors import InputError

h5py = pytest.importorskip("h5py")
foreign = pytest.importorskip("diffuse_core.io.foreign")


def values_at(hkl):
    """A different value for every voxel."""
    return 1000.0 + hkl @ np.array([100.0, 10.0, 1.0])


def check(v, n, frame="hkl"):
    assert v.frame == frame
    assert len(v) == n
    assert v.intensity == pytest.approx(values_at(v.centres), rel=1e-6)


def hkl_grid(axes):
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


AXES = (np.arange(-6, 7) / 3, np.arange(-4, 5) / 2, np.arange(-3, 6) * 1.0)
HKL = hkl_grid(AXES)
COUNT = HKL.size // 3


def write_mdx2(path, name, kind, columns, attributes=()):
    """As mdx2.io.saveobj with nexusformat: /entry/NAME with the class as attribute."""
    with h5py.File(path, "w") as h5:
        h5.attrs["mdx2_version"] = "1.0.1"
        h5.create_group("entry").attrs["NX_class"] = "NXentry"
        group = h5["entry"].create_group(name)
        group.attrs["mdx2_class"] = kind
        group.attrs["mdx2_module"] = "mdx2.data"
        for key, value in dict(attributes).items():
            group.attrs[key] = value
        for key, value in columns.items():
            group[key] = value


def test_mdx2_table(tmp_path):
    path = tmp_path / "merged.nxs"
    hkl = HKL.reshape(-1, 3)
    intensity = values_at(hkl).astype(np.float32)
    intensity[5] = np.nan
    columns = {
        **dict(zip("hkl", hkl.T, strict=True)),
        "ndiv": [3, 2, 1],
        "intensity": intensity,
        "intensity_error": np.full(COUNT, 2.0, np.float32),
        "count": np.full(COUNT, 4, np.int32),
    }
    write_mdx2(path, "hkl_table", "HKLTable", columns)
    v = foreign.read_voxels(path)
    check(v, COUNT - 1)
    assert v.steps == pytest.approx([1 / 3, 1 / 2, 1])
    assert v.sigma == pytest.approx(np.full(COUNT - 1, 2.0))
    assert v.observations == pytest.approx(np.full(COUNT - 1, 4.0))
    with h5py.File(path, "r+") as h5:
        del h5["entry/hkl_table/ndiv"]
        h5["entry/crystal/unit_cell"] = [30.0, 40, 50, 90, 90, 120]
    again = foreign.read_voxels(path)
    assert again.steps == pytest.approx(v.steps)
    assert again.unit_cell == (30.0, 40.0, 50.0, 90.0, 90.0, 120.0)


def test_mdx2_map(tmp_path):
    path = tmp_path / "map.nxs"
    data = values_at(HKL)
    data[0, 0] = np.nan
    columns = {**dict(zip("hkl", AXES, strict=True)), "signal": data}
    attributes = {"signal": "signal", "axes": ["h", "k", "l"], "NX_class": "NXdata"}
    write_mdx2(path, "intensity", "GridData", columns, attributes)
    check(foreign.read_voxels(path), COUNT - len(AXES[2]))


def test_mdx2_files_that_hold_no_map(tmp_path):
    path = tmp_path / "corrected.nxs"
    write_mdx2(path, "hkl_table", "HKLTable", {"h": [1.0], "k": [1.0], "l": [1.0]})
    with pytest.raises(InputError, match=r"corrected.nxs has no column intensity"):
        foreign.read_voxels(path)
    attributes = {"signal": "x", "axes": ["phi", "iy", "ix"]}
    write_mdx2(path, "binned", "GridData", {"x": np.ones((1, 1, 1))}, attributes)
    with pytest.raises(InputError, match="has the axes phi, iy, ix"):
        foreign.read_voxels(path)
    write_mdx2(path, "mask", "Other", {})
    with pytest.raises(InputError, match="no merged table and no map"):
        foreign.read_voxels(path)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("word", "IQ")
def test_lunus_lattice(tmp_path, order, word):
    """Counts and bounds, then voxels with x fastest; 0 and -32768: not measured."""
    cell = (40.0, 50.0, 60.0)
    shape, origin = (9, 7, 11), (4, 3, 5)
    hkl = hkl_grid([np.arange(n) - o for n, o in zip(shape, origin, strict=True)])
    values = values_at(hkl)
    values[0, 0, 0], values[1, 2, 3] = 0.0, -32768.0
    bounds = []
    for n, o, a in zip(shape, origin, cell, strict=True):
        bounds += [-o / a, (n - 1 - o) / a]
    data = struct.pack(f"{order}3{word}6f", *shape, *bounds)
    data += values.astype(order + "f4").tobytes(order="F")
    path = tmp_path / "a.lat"
    path.write_bytes(data)
    v = foreign.read_voxels(path)
    check(v, values.size - 2)
    assert v.unit_cell == pytest.approx((*cell, 90, 90, 90), rel=1e-5)
    packed = tmp_path / "a.lat.bz2"
    packed.write_bytes(bz2.compress(data))
    assert len(foreign.read_voxels(packed)) == len(v)


def test_lunus_lattice_with_two_voxels_an_index(tmp_path):
    shape, cell = (4, 5, 6), (20.0, 25.0, 30.0)
    bounds = []
    for n, a in zip(shape, cell, strict=True):
        bounds += [0.0, (n - 1) / (2 * a)]
    path = tmp_path / "a.lat"
    hkl = hkl_grid([np.arange(n) / 2 for n in shape])
    values = values_at(hkl).astype("<f4").tobytes(order="F")
    path.write_bytes(struct.pack("<3I6f", *shape, *bounds) + values)
    v = foreign.read_voxels(path, (*cell, 90, 90, 90))
    check(v, 120)
    assert v.steps == pytest.approx([0.5, 0.5, 0.5])
    with pytest.raises(InputError, match=r"a.lat divide the Miller .* unit cell"):
        foreign.read_voxels(path, (20.0, 25.0, 34.0, 90, 90, 90))


def test_published_lattice(data_dir):
    path = data_dir / "snase" / "reference" / "snc.wmpn.lat.bz2"
    v = foreign.read_voxels(path)
    assert len(v) == 64**3 - 197809
    assert v.unit_cell[:3] == pytest.approx((48.458, 48.458, 63.398), abs=1e-3)
    assert v.index.min(axis=0).min() >= -31
    assert v.index.max(axis=0).max() <= 32


def mrc_header(shape, start, intervals, cell, mapcrs=(1, 2, 3), mode=2, order="<"):
    """56 words and 800 characters of the MRC2014 header."""
    words = [0] * 56
    words[0:3] = shape
    words[3] = mode
    words[4:7] = start
    words[7:10] = intervals
    words[16:19] = mapcrs
    header = bytearray(struct.pack(f"{order}56i", *words))
    header[40:64] = struct.pack(f"{order}6f", *cell)
    header[208:212] = b"MAP "
    return bytes(header) + b" " * 800


@pytest.mark.parametrize("mapcrs", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (3, 1, 2)])
@pytest.mark.parametrize("order", "<>")
def test_ccp4_on_axes_of_hkl(tmp_path, mapcrs, order):
    """Columns, rows and sections may be any of x, y, z; columns are fastest."""
    array = values_at(HKL)
    start = [round(axis[0] / (axis[1] - axis[0])) for axis in AXES]
    intervals = [3, 2, 1]
    which = [axis - 1 for axis in mapcrs]
    columns_first = array.transpose(which)
    header = mrc_header(
        columns_first.shape,
        [start[i] for i in which],
        intervals,
        (1, 1, 1, 90, 90, 90),
        mapcrs,
        order=order,
    )
    path = tmp_path / "a.mrc"
    path.write_bytes(header + columns_first.astype(order + "f4").tobytes(order="F"))
    v = foreign.read_voxels(path, ccp4_frame="hkl")
    check(v, COUNT)


def test_rs_mapper(tmp_path):
    """Points that DIALS itself sorts into its grid, written as its command does."""
    ccp4_map = pytest.importorskip("iotbx.ccp4_map")
    rs_mapper = pytest.importorskip("dials.algorithms.rs_mapper")
    from cctbx import sgtbx, uctbx
    from scitbx.array_family import flex

    n, d_min = 24, 2.0
    points = np.array([[0.3, -0.2, 0.1], [-0.45, 0.01, 0.33], [0.0, 0.0, 0.0]])
    image = flex.int(np.array([[10, 20, 30]], np.int32))
    grid = flex.double(flex.grid(n, n, n), 0)
    counts = flex.int(flex.grid(n, n, n), 0)
    pixels = flex.vec2_double([(x, 0) for x in range(3)])
    rs_mapper.fill_voxels(
        image, grid, counts, flex.vec3_double(points), pixels, 1 / d_min
    )
    rs_mapper.normalize_voxels(grid, counts)
    path = tmp_path / "rs_mapper_output.mrc"
    box = 100 * 2.0 / d_min
    ccp4_map.write_ccp4_map(
        str(path),
        uctbx.unit_cell((box, box, box, 90, 90, 90)),
        sgtbx.space_group("P1"),
        (0, 0, 0),
        grid.all(),
        grid,
        flex.std_string(["cctbx.miller.fft_map"]),
    )
    v = foreign.read_voxels(path)
    assert v.frame == "lab"
    assert v.steps == pytest.approx([2 / d_min / n] * 3)
    assert sorted(v.intensity) == [10, 20, 30]
    nearest = v.centres[np.argsort(v.intensity)]
    assert np.abs(nearest - points).max() <= 0.5 * v.steps[0] + 1e-6


def test_npz_with_axes(tmp_path):
    path = tmp_path / "map.npz"
    data = values_at(HKL)
    data[2, 2, 2] = np.nan
    np.savez(
        path,
        **dict(zip("hkl", AXES, strict=True)),
        data=data,
        sigma=np.full(data.shape, 3.0),
        unit_cell=(30, 40, 50, 90, 90, 90),
    )
    v = foreign.read_voxels(path)
    check(v, COUNT - 1)
    assert (v.sigma == 3).all()
    assert v.unit_cell == (30, 40, 50, 90, 90, 90)


def test_npz_with_a_list(tmp_path):
    path = tmp_path / "list.npz"
    hkl = HKL.reshape(-1, 3)
    columns = dict(zip("hkl", hkl.T, strict=True))
    np.savez(path, **columns, intensity=values_at(hkl))
    check(foreign.read_voxels(path), COUNT)


@pytest.mark.parametrize("separator", [" ", ", "])
@pytest.mark.parametrize("with_sigma", [True, False])
def test_text(tmp_path, separator, with_sigma):
    path = tmp_path / "table.hkl"
    lines = ["# a comment", separator.join(["h", "k", "l", "I"])]
    for h, k, m in HKL.reshape(-1, 3):
        row = [f"{h:.3f}", f"{k:.2f}", f"{m:g}", f"{values_at(np.array([h, k, m]))}"]
        lines.append(separator.join(row + ["2.5"] * with_sigma))
    path.write_text("\n".join(lines))
    v = foreign.read_voxels(path)
    check(v, COUNT)
    assert v.steps == pytest.approx([1 / 3, 1 / 2, 1])
    assert (v.sigma is not None) == with_sigma


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.foo", b"", "format of .*a.foo is not recognised"),
        ("a.nxs", b"no HDF5", "a.nxs can't be read as HDF5"),
        ("a.lat", b"12345678" * 9, "a.lat is not a Lunus lattice"),
        ("a.lat.bz2", b"BZh9 no", "a.lat.bz2 can't be read"),
        ("a.mrc", b"x" * 2000, "a.mrc is not a map in the CCP4/MRC format"),
        ("a.npz", b"x" * 200, "a.npz can't be read as .npz"),
        ("a.txt", b"h k l I\n1 2 3 x", "a.txt is not a table of numbers"),
        ("a.txt", b"1 2 3", "a.txt must have the columns"),
        ("a.txt", b"", "a.txt must have the columns"),
    ],
)
def test_files_that_are_not_what_they_seem(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        foreign.read_voxels(path)
    assert str(caught.value).endswith(".")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="nothing.nxs does not exist"):
        foreign.read_voxels(tmp_path / "nothing.nxs")


def test_maps_that_are_cut_short(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_header((4, 4, 4), (0, 0, 0), (4, 4, 4), (1, 1, 1, 90, 90, 90)))
    with pytest.raises(InputError, match="shorter than its header"):
        foreign.read_voxels(path)
    path.write_bytes(
        mrc_header((1, 1, 1), (0, 0, 0), (1, 1, 1), (1, 1, 1, 90, 90, 90), mode=4)
    )
    with pytest.raises(InputError, match="mode 4"):
        foreign.read_voxels(path)


def test_npz_without_what_is_needed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, h=np.arange(3), l=np.arange(3), intensity=np.ones(3))
    with pytest.raises(InputError, match="a.npz lacks k"):
        foreign.read_voxels(path)
    np.savez(path, **{n: np.arange(3) for n in "hkl"})
    with pytest.raises(InputError, match="lacks an array called intensity"):
        foreign.read_voxels(path)
    np.savez(path, **{n: np.arange(3) for n in "hkl"}, I=np.ones(4))
    with pytest.raises(InputError, match="differ in shape"):
        foreign.read_voxels(path)

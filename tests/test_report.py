"""The figures, tables, plots and the HTML page of a report."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cctbx import sgtbx

from diffuse_core import boundary
from diffuse_core.estimator import voxel_sums
from diffuse_core.grid import Grid, keys_of
from diffuse_core.merge import finish
from diffuse_core.report import html, summary
from diffuse_core.report.figures import merging_figures
from diffuse_core.report.items import stage_items
from diffuse_core.report_item import ReportItem
from diffuse_core.rows import Source
from diffuse_core.scale_model import Curve, FittedComponent, ScaleModel

CELL = (40.0, 40.0, 60.0, 90.0, 90.0, 90.0)
GRID = Grid("hkl", (1 / 3, 1 / 3, 1 / 3))
GROUP = sgtbx.space_group_info("P 41 21 2").group()


@pytest.fixture(scope="module")
def merged():
    """Nine tenths of the unique voxels between 30 and 3 A, with known figures."""
    rng = np.random.default_rng(20240715)
    axis = np.arange(0, 62)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    s = GRID.s_norm(index, CELL)
    use = (index[:, 0] >= index[:, 1]) & (s < 1 / 3) & (s > 1 / 30)
    use &= rng.random(len(s)) < 0.9
    key = np.sort(keys_of(index[use]))
    seen = rng.integers(1, 9, len(key))
    truth = 2.0 + 0.8 * np.clip(rng.normal(size=len(key)), -2.0, 2.0)
    truth = np.repeat(truth, seen)
    n = len(truth)
    exposure = rng.uniform(2.0, 10.0, n)
    scale = 1.0 + 0.1 * rng.normal(size=n)
    counts = rng.poisson(exposure * truth * scale + 0.2 * exposure)
    raw = (counts, exposure, 0.2 * exposure, np.zeros(n), np.ones(n))
    halves = {k: rng.integers(0, 2, n).astype(np.int8) for k in ("random", "block")}
    sums = voxel_sums(np.concatenate([[0], np.cumsum(seen)]), raw, None, halves)
    return finish(key, sums, GRID, unit_cell=CELL, space_group="P 1", symmetry="laue")


@pytest.fixture(scope="module")
def figures(merged):
    return {
        "integration": {
            **dict.fromkeys(("experiments", "blocks", "reused"), 1),
            **dict.fromkeys(("images", "pixels", "used", "counts", "read"), 1000),
            "observations": 5,
            "seconds": 2.0,
        },
        "merging": merging_figures(merged, boundary.laue_operators(GROUP)),
        "provenance": {"program": "p 1", "inputs": [{"path": "<a>.expt"}]},
    }


def test_figures_of_a_merged_table(merged, figures):
    found = figures["merging"]
    overall = found["overall"]
    assert overall["voxels"] == len(merged)
    assert overall["completeness"] == pytest.approx(0.9, abs=0.01)
    between = overall["completeness_between_lattice_points"]
    assert between == pytest.approx(0.9, abs=0.01)
    assert overall["multiplicity"] == pytest.approx(4.5, abs=0.1)
    assert overall["observations"] == merged.observations.sum()
    assert overall["counts"] == merged.counts.sum()
    for name in ("voxels", "unique_voxels", "observations"):
        assert sum(shell[name] for shell in found["shells"]) == overall[name]
    low, high = overall["reduced_chi_squared_bounds"]
    assert 1.0 < low < overall["reduced_chi_squared"] < high < 1.5
    low, high = found["error_model"]["relative_bounds"]
    assert high - low < 0.02 and abs(0.5 * (low + high) - 0.1) < 2 * (high - low)
    assert found["signal_limit"]["reaches"] == "edge"
    for subset in ("all", "between"):
        halves = overall["halves"][subset]["random"]
        assert halves["cc_half"] == pytest.approx(
            halves["cc_half_anisotropic"], abs=0.01
        )
        low, high = halves["cc_half_bounds"]
        assert low < halves["cc_half"] < high
    json.dumps(found, allow_nan=False)


def test_the_table_in_the_log(figures):
    text = summary.shell_table(figures["merging"])
    assert "between lattice points" in text and "alternating blocks" in text
    assert "stays above 0.3 to the edge of the data" in text
    assert "% of the intensity beyond counting" in text
    assert len(summary.shell_rows(figures["merging"])) == 12


def test_a_table_without_halves_has_shells_all_the_same(merged):
    names = [name for name in merged.sums if not name.startswith("half_")]
    bare = type(merged)(
        **{**vars(merged), "sums": {name: merged.sums[name] for name in names}}
    )
    found = merging_figures(bare, None)
    assert "CC1/2" in summary.shell_table(found)
    assert found["signal_limit"] is None
    nothing = type(merged)(**{**vars(merged), "sums": {}})
    assert merging_figures(nothing, None)["error_model"] is None


def test_each_item_holds_what_json_and_plotly_take(figures):
    items = stage_items(figures)
    titles = [item.title for item in items]
    assert len(set(titles)) == len(titles)
    assert "Agreement by resolution" in titles
    assert not [item.title for item in items if "failed" in str(item.content)]
    for item in items:
        json.dumps(item.content, allow_nan=False)
        if item.kind != "plot":
            continue
        layout = item.content["layout"]
        for axis in ("xaxis", "yaxis"):
            assert layout[axis]["title"]["text"], item.title
        for line in item.content["data"]:
            assert line["name"] and len(line["x"]) == len(line["y"])


def test_plotly_itself_takes_the_plots(figures):
    graph = pytest.importorskip("plotly.graph_objects")
    for item in stage_items(figures):
        if item.kind == "plot":
            graph.Figure(item.content["data"], item.content["layout"])


def test_the_curves_are_the_figures(figures):
    plot = {i.title: i.content for i in stage_items(figures)}["Agreement by resolution"]
    line = plot["data"][0]
    shells = figures["merging"]["shells"]
    found = [s["halves"]["between"]["random"]["cc_half_anisotropic"] for s in shells]
    assert line["y"] == found
    bounds = shells[3]["halves"]["between"]["random"]["cc_half_anisotropic_bounds"]
    assert line["y"][3] + line["error_y"]["array"][3] == pytest.approx(bounds[1])
    assert line["y"][3] - line["error_y"]["arrayminus"][3] == pytest.approx(bounds[0])
    ticks = plot["layout"]["xaxis"]
    assert float(ticks["ticktext"][2]) == pytest.approx(
        1 / ticks["tickvals"][2], abs=0.01
    )


def test_a_piece_that_fails_becomes_a_text(figures):
    broken = {**figures, "integration": {"used": 1}}
    items = stage_items(broken)
    item = next(item for item in items if item.title == "Integration")
    assert item.kind == "text"
    assert "This part of the report failed: KeyError" in item.content
    assert len(items) == len(stage_items(figures))


class Page(HTMLParser):
    """Collects tags, ids, texts and what a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.fetched, self.open = [], [], [], []
        self.images = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs["src"])
        elif "src" in attrs or tag == "link":
            self.fetched.append(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone(tmp_path, figures, monkeypatch):
    """Well-formed, all its anchors there, nothing fetched from anywhere."""
    monkeypatch.setattr(html, "_library", lambda: "/* plotly */")
    picture = tmp_path / "section_hk0.png"
    picture.write_bytes(b"\x89PNG picture")
    figures = {**figures, "merging": {**figures["merging"], "pictures": [str(picture)]}}
    path = tmp_path / "folder" / "report.html"
    html.write_html(path, "a < b", "1 & 2", stage_items(figures))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and page.fetched == []
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    data = page.images[0].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == b"\x89PNG picture"
    assert "a &lt; b" in text and "&lt;a&gt;.expt" in text
    plots = json.loads(re.search(r"const PLOTS=(\{.*?\});\n", text, re.S)[1])
    assert set(plots) <= set(page.ids) and len(plots) == 5
    assert not list(path.parent.glob(".*"))


def test_items_that_cannot_be_shown_become_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "_library", lambda: "")
    items = [
        ReportItem("Lost", "picture", str(tmp_path / "none.png")),
        ReportItem("Wrong", "plot", {"layout": {}}),
        ReportItem("Endless", "plot", {"data": [{"y": [float("nan")]}]}),
        ReportItem("Good", "text", "</script><b>"),
    ]
    html.write_html(tmp_path / "r.html", "t", "", items)
    text = (tmp_path / "r.html").read_text()
    assert text.count("This part of the report failed") == 3
    assert "&lt;/script&gt;&lt;b&gt;" in text


def test_without_plotly_the_page_says_so(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(html, "_library", lambda: None)
    html.write_html(tmp_path / "r.html", "t", "", stage_items(figures))
    text = (tmp_path / "r.html").read_text()
    assert html.NO_PLOTLY in text and "<script>" not in text


def test_plotly_is_put_into_the_page(tmp_path, figures):
    pytest.importorskip("plotly")
    html.write_html(tmp_path / "r.html", "t", "", stage_items(figures))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert len(text) > 1_000_000 and "plotly.js v" in text[:40_000]
    assert text.count("</script>") == 2


class Straight:
    """A basis: constant and slope in the first column, or only a constant."""

    def __init__(self, n):
        self.n = n

    def basis(self, points):
        return np.column_stack([points[:, 0] ** i for i in range(self.n)])


def component(role, columns, parameters):
    return FittedComponent(
        name="-".join(columns),
        role=role,
        columns=columns,
        exponential=False,
        used=(0, 1),
        basis=Straight(len(parameters)),
        parameters=np.array(parameters),
        smoothness=0.1,
    )


def test_scales_are_drawn_as_functions_of_what_they_depend_on():
    model = ScaleModel(
        sources=(
            Source("a", "f", 0, False, (0.0, 90.0)),
            Source("b", "f", 1, False, (10.0, 50.0)),
        ),
        components=(
            component("crystal", ("phi",), [1.0, 0.01]),
            component("crystal", ("source",), [1.0, 2.0]),
            component("offset", ("s", "phi"), [0.0, 3.0]),
            component("path", ("x", "y", "phi"), [1.0]),
        ),
        pedestal=Curve(np.array([0.1, 0.9]), np.zeros(2)),
        expected=Curve(np.array([0.1, 0.9]), np.ones(2)),
        gauge=("mean B = 1",),
        figures={
            "converged": True,
            "chi_squared": {"without scales": 2.0, "with scales": 1.01},
            "outliers": {"high": 3, "low": 2},
            "components": [
                {
                    "name": "phi",
                    "smoothness": 0.1,
                    "held_out": {"0.3": 1.25, "0.1": 1.0, "0.03": 1.5},
                }
            ],
        },
    )
    items = {i.title: i for i in stage_items({}, model)}
    table = items["Scaling: components"].content
    assert [row[0] for row in table[1:]] == [c.name for c in model.components]
    assert ["converged", "True"] in items["Scaling: fit"].content
    assert ["outliers: high", "3"] in items["Scaling: fit"].content
    choice = items["Scaling: choice of smoothness"].content["data"][0]
    assert (choice["x"], choice["y"]) == ([0.03, 0.1, 0.3], [0.5, 0.0, 0.25])
    lines = items["Scaling: phi"].content["data"]
    for line, (low, high) in zip(lines, [(0.0, 90.0), (10.0, 50.0)], strict=True):
        assert (line["x"][0], line["x"][-1]) == (low, high)
        assert line["y"] == pytest.approx(1.0 + 0.01 * np.array(line["x"]))
    assert items["Scaling: source"].content["data"][0]["y"] == [1.0, 3.0]
    surface = items["Scaling: s-phi"].content["data"][0]
    assert surface["z"][-1][0] == pytest.approx(2.7)
    assert np.shape(surface["z"]) == (len(surface["y"]), len(surface["x"]))
    assert "Scaling: x-y-phi" not in items

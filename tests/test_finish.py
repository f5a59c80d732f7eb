"""The end of a run: JSON always, a report unless turned off, and never a crash."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from diffuse_core.command_line.finish import finish
from diffuse_core.report_item import ReportItem
from diffuse_core.scale_model import Curve, ScaleModel

FIGURES = {"provenance": {"program": "dials.diffuse 1", "dials": "DIALS 3"}}


class Plugins:
    """Offers one item, as plug-ins do."""

    def report_sections(self, run):
        assert "sections" not in run
        return [ReportItem("From a plug-in", "text", "hello")]


def options(folder, html="report.html", scales=None):
    output = SimpleNamespace(
        json=str(folder / "figures.json"), html=html and str(folder / html)
    )
    params = SimpleNamespace(output=output, merging=SimpleNamespace(scales=scales))
    return SimpleNamespace(registry=Plugins(), params=params)


def test_sections_of_plugins_are_in_both(tmp_path):
    finish(options(tmp_path), "a title", dict(FIGURES))
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["sections"] == [
        {"title": "From a plug-in", "kind": "text", "content": "hello"}
    ]
    page = (tmp_path / "report.html").read_text()
    assert "a title" in page and "dials.diffuse 1, DIALS 3" in page and "hello" in page


def test_the_report_can_be_turned_off(tmp_path):
    finish(options(tmp_path, html=None), "t", dict(FIGURES))
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("fault", ["folder", "scales"])
def test_a_report_that_fails_is_a_warning(tmp_path, caplog, fault):
    given = options(tmp_path)
    if fault == "folder":
        (tmp_path / "file").write_text("")
        given.params.output.html = str(tmp_path / "file" / "report.html")
    else:
        given.params.merging.scales = str(tmp_path / "none.json")
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        finish(given, "t", dict(FIGURES))
    assert "There is no report" in caplog.text
    assert (tmp_path / "figures.json").exists()


def test_scales_that_were_used_are_shown(tmp_path):
    flat = Curve(np.array([0.0, 1.0]), np.ones(2))
    path = tmp_path / "scales.json"
    ScaleModel((), (), flat, flat, gauge=("a convention",)).write(path)
    finish(options(tmp_path, scales=str(path)), "t", dict(FIGURES))
    assert "a convention" in (tmp_path / "report.html").read_text()

"""docs/models.md: a table that is up to date, a section for every model."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from diffuse_core import config
from diffuse_core.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
TEXT = PAGE.read_text(encoding="utf-8")
CHAPTERS = {
    "mask": "Masks",
    "correction": "Corrections",
    "background": "Background",
    "mapping": "Mapping",
}


@pytest.fixture(scope="module")
def tool():
    path = ROOT / "tools" / "models_table.py"
    spec = importlib.util.spec_from_file_location("models_table", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chapter(kind):
    (text,) = re.findall(rf"^## {CHAPTERS[kind]}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    return text


def sections(kind):
    found = re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", chapter(kind), re.M | re.S)
    return dict(found)


def test_table_is_up_to_date(tool):
    assert tool.updated(TEXT) == TEXT, "run python tools/models_table.py"


def test_check_tells_an_old_page(tool, tmp_path, monkeypatch, capsys):
    page = tmp_path / "models.md"
    page.write_text(TEXT.replace("| **[bragg]", "| **[brag]"))
    monkeypatch.setattr(tool, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["models_table.py", "--check"])
    assert tool.main() == 1
    assert "not up to date" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["models_table.py"])
    assert tool.main() == 0
    assert page.read_text() == TEXT


@pytest.mark.parametrize("kind", config.INTEGRATE_KINDS)
def test_every_model_has_a_section_and_every_section_a_model(kind):
    names = {m.plugin.name for m in Registry.discover({}).models(kind)}
    assert set(sections(kind)) == names


def test_every_link_of_the_table_has_its_heading():
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    for name in re.findall(r"\]\(#([\w-]+)\)", TEXT):
        base, _, number = name.partition("-")
        assert headings.count(base) > int(number or 0)


@pytest.mark.parametrize("kind", ["mask", "mapping"])
def test_every_parameter_is_described(kind):
    """The parameters of DIALS' own scopes are described as a whole."""
    registry = Registry.discover({})
    for plugin, scope in registry.scopes(kind):
        text = sections(kind)[plugin.name]
        for definition in scope.all_definitions():
            path = definition.path.split(".")
            if plugin.name == "untrusted" or "ice_rings" in path:
                continue
            assert path[-1] in text, f"{kind}.{plugin.name}: {definition.path}"

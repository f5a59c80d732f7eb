"""docs/models.md: a table that is up to date, a section for every model."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    "scaling": "Scaling",
}
PICTURES = PAGE.parent / "pictures"
LARGEST = 40_000
WIDEST = 660


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


@pytest.mark.parametrize("kind", CHAPTERS)
def test_every_model_has_a_section(kind):
    missing = {m.plugin.name for m in Registry.discover({}).models(kind)}
    missing -= set(sections(kind))
    assert not missing, (
        f"docs/models.md, {CHAPTERS[kind]}: add a section with a formula, and a "
        "picture of tools/model_pictures.py"
    )


@pytest.mark.parametrize("kind", config.INTEGRATE_KINDS)
def test_every_section_has_a_model(kind):
    names = {m.plugin.name for m in Registry.discover({}).models(kind)}
    assert set(sections(kind)) <= names


def test_every_link_of_the_table_has_its_heading():
    headings = re.findall(r"^#+ (.*)$", TEXT, re.M)
    for name in re.findall(r"\]\(#([\w-]+)\)", TEXT):
        base, _, number = name.partition("-")
        assert headings.count(base) > int(number or 0)


@pytest.mark.parametrize("kind", config.INTEGRATE_KINDS)
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


# ------------------------------------------------------------------- examples


@pytest.fixture(scope="module")
def registry():
    return Registry.discover({})


def chosen(registry, text):
    """Names of the models that a PHIL text selects; its parameters are checked."""
    scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
    params = config.extract(scope, text)
    return {
        kind: {m.plugin.name for m in config.selected(registry, params, kind)}
        for kind in config.INTEGRATE_KINDS
    }


def test_the_example_of_a_file_and_of_a_command_are_the_same_but_for_a_limit(registry):
    (command,) = re.findall(r"^    dials\.diffuse refined\.expt (.*)$", TEXT, re.M)
    file, *others = re.findall(r"```phil\n(.*?)```", TEXT, re.S)
    for other in others:
        assert chosen(registry, other)
    given = chosen(registry, "\n".join(command.split()))
    assert given == chosen(registry, file)
    assert given["mask"] > {"bragg", "shadow"}
    assert given["background"] == {"constant"}


def test_every_selection_on_the_page_can_be_made(registry):
    kinds = "|".join(config.INTEGRATE_KINDS)
    found = re.findall(rf"((?:{kinds})\.models?)=(\"[^\"]+\"|[\w+]+)", TEXT)
    assert len(found) > 10
    for selector, names in found:
        chosen(registry, f"{selector} = {names}")


def test_every_parameter_that_is_named_in_full_exists(registry):
    scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
    paths = [definition.path for definition in scope.all_definitions()]
    models = {
        f"{kind}.{model.plugin.name}"
        for kind in config.INTEGRATE_KINDS
        for model in registry.models(kind)
    }
    named = re.findall(r"\b([a-z]+\.[a-z_]+)((?:\.[a-z_]+)+)\b", TEXT)
    named = [model + rest for model, rest in named if model in models]
    assert named
    for name in named:
        assert any(f"{path}.".startswith(f"{name}.") for path in paths), name


# -------------------------------------------------------- formulas and pictures


@pytest.mark.parametrize("kind", CHAPTERS)
def test_every_section_has_a_formula(kind):
    for name, text in sections(kind).items():
        assert re.search(r"^    \S", text, re.M), f"{kind}.{name} has no formula"


@pytest.mark.parametrize("kind", CHAPTERS)
def test_every_section_has_its_picture(kind):
    for name, text in sections(kind).items():
        path = PICTURES / f"{kind}_{name}.png"
        assert re.search(rf"^!\[[^\]]+\]\(pictures/{path.name}\)$", text, re.M), name
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert picture.mode == "P"
            assert picture.width <= WIDEST, path
        assert path.stat().st_size < LARGEST, path


def test_every_picture_that_the_page_shows_is_there_and_no_other():
    shown = re.findall(r"\]\(pictures/([\w.]+)\)", TEXT)
    assert sorted(shown) == sorted(path.name for path in PICTURES.iterdir())
    for name in re.findall(r"^!\[[^\]]+\]\(([^)]+)\)", TEXT, re.M):
        assert (PAGE.parent / name).is_file()


@pytest.mark.slow
def test_pictures_show_what_the_models_do_now(tmp_path):
    """Drawn again, three of them look as those in the repository (fonts may differ)."""
    names = ["mask_resolution", "correction_sensor", "background_compton"]
    tool = ROOT / "tools" / "model_pictures.py"
    command = [sys.executable, str(tool), "--folder", str(tmp_path), *names]
    subprocess.run(command, check=True, timeout=300)
    for name in names:
        pair = []
        for folder in (tmp_path, PICTURES):
            with Image.open(folder / f"{name}.png") as picture:
                small = picture.convert("RGB").resize((64, 36), Image.Resampling.BOX)
                pair.append(np.asarray(small, float))
        assert np.abs(pair[0] - pair[1]).mean() < 5.0, name

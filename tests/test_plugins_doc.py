"""docs/plugins.md: what it shows works, and what there is, it shows."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from diffuse_core import hookspecs, models
from diffuse_core.command_line import diffuse_plugins
from diffuse_core.descriptors import KINDS, ModelPlugin
from diffuse_core.registry import Registry
from diffuse_core.testing import check_plugin, make_geometry, make_image

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def block(language: str, start: str) -> str:
    """The one code block of a language that begins like this."""
    found = re.findall(rf"```{language}\n({re.escape(start)}.*?)```", TEXT, re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture
def film(tmp_path, monkeypatch) -> Path:
    """The file of the first chapter, named in the environment."""
    path = tmp_path / "my_film.py"
    path.write_text(block("python", '"""Absorption in a plastic film'))
    monkeypatch.setenv("DIALS_DIFFUSE_PLUGINS", str(path))
    monkeypatch.delenv("DIALS_DIFFUSE_DISABLE", raising=False)
    return path


def test_the_plugin_in_one_file_works(film, capsys):
    diffuse_plugins.run(["-v"])
    text = capsys.readouterr().out
    assert "Absorption in a plastic film across the beam." in text
    assert "thickness = 0.1" in text
    model = Registry.discover().get("correction", "my_film").factory()(0.05)
    geometry = make_geometry()
    expected = np.exp(-0.05 / np.cos(np.radians(geometry.two_theta)))
    np.testing.assert_allclose(model.panel_response(geometry), expected, rtol=1e-6)


def test_the_test_works(film, monkeypatch):
    monkeypatch.syspath_prepend(str(film.parent))
    space: dict = {}
    exec(block("python", "from diffuse_core.testing"), space)
    space["test_models_keep_their_contracts"]()
    assert space["check_plugin"] is check_plugin


def test_a_mask_a_background_and_a_mapping_do_what_they_say(tmp_path, monkeypatch):
    text = block("python", '"""A mask, a background and a mapping')
    (tmp_path / "few_lines.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    mask, background, mapper = check_plugin(importlib.import_module("few_lines"))
    geometry = make_geometry()
    assert 0.02 < mask.panel_mask(geometry).mean() < 0.98
    assert background.panel_background(geometry, None) == (0.01 * 1.25, 0.0)
    image = make_image()
    found = geometry.s.astype(float) @ mapper.affine(image)[:, :3].T
    h = geometry.s.astype(float) @ image.to_hkl[0]
    np.testing.assert_allclose(found[..., 0], 4 * h)
    assert not found[..., 1:].any()


def test_every_hook_is_documented_with_its_arguments():
    hooks = [name for name in vars(hookspecs) if name.startswith("diffuse_")]
    for name in hooks:
        arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
        assert f"| `{name}({arguments})` |" in TEXT
    assert set(re.findall(r"\bdiffuse_\w+(?=\()", TEXT)) == set(hooks)


def test_every_kind_and_field_is_documented():
    for kind in KINDS.values():
        assert f"| {kind.name} | `{kind.name}.{kind.selector}` |" in TEXT
        assert f"`{kind.contract}`" in TEXT
    for field in fields(ModelPlugin):
        assert f"| `{field.name}` |" in TEXT


def test_every_method_of_the_contracts_is_documented_with_its_arguments():
    contracts = [
        value
        for value in vars(models).values()
        if inspect.isclass(value) and issubclass(value, (models.Model, models.Basis))
    ]
    assert len(contracts) == 8
    for contract in contracts:
        for name, method in vars(contract).items():
            if name.startswith("_") or not callable(getattr(contract, name)):
                continue
            method = getattr(contract, name)
            arguments = [a for a in inspect.signature(method).parameters if a != "self"]
            assert f"{name}({', '.join(arguments)})" in TEXT

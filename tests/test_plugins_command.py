"""The command dials.diffuse_plugins."""

from __future__ import annotations

import json

import pytest

from libtbx.utils import Sorry

from diffuse_core import __version__, plugins
from diffuse_core.command_line import diffuse_plugins
from diffuse_core.descriptors import KINDS
from diffuse_core.registry import Registry

PLUGIN = """
from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = '''
thickness = 0.25
  .type = float(value_min=0)
  .help = "Thickness of the window, mm."
'''

@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="my_window",
        factory="diffuse_core.models:CorrectionModel",
        summary="Absorption by my window.",
        phil=PHIL,
    )
"""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in ("DIALS_DIFFUSE_PLUGINS", "DIALS_DIFFUSE_DISABLE"):
        monkeypatch.delenv(name, raising=False)


def test_every_built_in_model_is_listed(capsys):
    diffuse_plugins.run([])
    text = capsys.readouterr().out
    registry = Registry.discover({})
    for kind in KINDS.values():
        assert f"{kind.name}.{kind.selector}" in text
        for model in registry.models(kind.name):
            (line,) = (
                row
                for row in text.splitlines()
                if row.lstrip("* ").startswith(f"{model.plugin.name} ")
                and model.plugin.summary in row
            )
            assert line.startswith("*") == model.plugin.default
            assert line.endswith(f"dials-diffuse {__version__}")


def test_columns_are_aligned(capsys):
    diffuse_plugins.run([])
    rows = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.endswith(f"dials-diffuse {__version__}")
    ]
    assert len(rows) >= len(plugins.BUILTIN)
    assert len({row.index(" dials-diffuse") for row in rows}) == 1


def test_an_installed_model_is_listed_with_its_parameters(
    fake_distribution, monkeypatch, capsys, tmp_path
):
    folder = fake_distribution("my-plugin", PLUGIN, version="0.7")
    monkeypatch.syspath_prepend(str(folder))
    diffuse_plugins.run([])
    text = capsys.readouterr().out
    (line,) = (row for row in text.splitlines() if "my_window" in row)
    assert line.split(maxsplit=1)[0] == "my_window"
    assert "Absorption by my window." in line
    assert line.endswith("my-plugin 0.7")
    assert "thickness" not in text
    assert not list(tmp_path.glob("*.json"))

    diffuse_plugins.run(["-v"])
    text = capsys.readouterr().out
    assert "thickness = 0.25" in text
    assert "Thickness of the window, mm." in text


def test_json(fake_distribution, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(fake_distribution("my-plugin", PLUGIN)))
    diffuse_plugins.run([f"json={tmp_path / 'plugins.json'}"])
    record = json.loads((tmp_path / "plugins.json").read_text())
    assert record["failures"] == []
    (model,) = (m for m in record["models"] if m["name"] == "my_window")
    assert model.pop("phil").strip().startswith("thickness = 0.25")
    assert model == {
        "kind": "correction",
        "name": "my_window",
        "summary": "Absorption by my window.",
        "default": False,
        "module": "my_plugin",
        "distribution": "my-plugin",
        "version": "1.0",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        (PLUGIN.replace("thickness = 0.25", "thickness = x"), "can't be used"),
        (PLUGIN.replace("thickness = 0.25", "include scope no.such"), "can't be used"),
        (PLUGIN.replace("models:Corr", "none_such:Corr"), "can't be imported"),
        (PLUGIN.replace(":CorrectionModel", ":MaskModel"), "must be a subclass"),
    ],
)
def test_a_broken_plugin_is_named_and_the_status_is_1(
    text, reason, fake_distribution, monkeypatch, capsys, tmp_path
):
    folder = fake_distribution("broken-one", text, version="0.3")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(SystemExit) as caught:
        diffuse_plugins.run(["json=" + str(tmp_path / "plugins.json")])
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "  broken-one 0.3 (broken_one)\n" in out
    assert reason in out
    (failure,) = json.loads((tmp_path / "plugins.json").read_text())["failures"]
    assert failure["distribution"] == "broken-one"
    assert reason in failure["reason"]


def test_two_models_of_one_name_are_an_error(fake_distribution, monkeypatch):
    fake_distribution("one", PLUGIN)
    monkeypatch.syspath_prepend(str(fake_distribution("two", PLUGIN)))
    with pytest.raises(Sorry, match="offered by both one 1.0 .one. and two 1.0"):
        diffuse_plugins.run([])


def test_arguments_that_mean_nothing_are_refused():
    with pytest.raises(Sorry, match="can't use 'models.expt'"):
        diffuse_plugins.run(["models.expt"])


def test_console_script(run_command, fake_distribution, tmp_path):
    folder = fake_distribution("broken", "1 / 0")
    done = run_command("dials.diffuse_plugins", "-h", cwd=tmp_path)
    assert "dials.diffuse_plugins [-v] [json=FILE]" in done.stdout
    done = run_command(
        "dials.diffuse_plugins",
        cwd=tmp_path,
        env={"PYTHONPATH": str(folder)},
        status=1,
    )
    assert "ZeroDivisionError: division by zero" in done.stdout

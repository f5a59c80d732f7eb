"""Discovery of plug-ins, and what the registry says when something is wrong."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from diffuse_core import hookspecs, plugins
from diffuse_core.descriptors import KINDS, MODEL_API, ModelPlugin, ReportItem
from diffuse_core.errors import ConfigError, PluginError
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, MaskModel
from diffuse_core.registry import Registry, Source, fingerprint

ROOT = Path(__file__).resolve().parents[1]
HOOKS = [name for name in vars(hookspecs) if name.startswith("diffuse_")]

PLUGIN = """
from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(name="{name}", factory="nowhere:Model", summary="A test.")
"""


def plugin(name: str = "window", **values) -> ModelPlugin:
    return ModelPlugin(
        **{"name": name, "factory": "nowhere:Model", "summary": "A test.", **values}
    )


def offering(kind: str, *models: ModelPlugin) -> object:
    """A plug-in object whose hook of this kind returns these models."""
    function = hookimpl(lambda self: list(models))
    return type("Offering", (), {KINDS[kind].hook: function})()


def source(name: str = "my-plugin") -> Source:
    return Source(name.replace("-", "_"), name, "1.0")


def registry_with(kind: str, *models: ModelPlugin) -> Registry:
    registry = Registry()
    registry.add(offering(kind, *models), source())
    return registry


@pytest.fixture
def discover(monkeypatch):
    """Registry.discover with a folder on sys.path, and without the user's settings."""

    def run(folder: Path, **environ: str) -> Registry:
        monkeypatch.syspath_prepend(str(folder))
        return Registry.discover(environ)

    return run


def names(registry: Registry, kind: str = "correction") -> list[str]:
    return [model.plugin.name for model in registry.models(kind)]


# The hooks, one test each: see test_every_hook_has_a_test.


def check_models_hook(kind: str) -> None:
    registry = registry_with(kind, plugin("window"), plugin("air"))
    assert names(registry, kind) == ["air", "window"]
    model = registry.get(kind, "window")
    assert (model.kind, model.source) == (kind, source())
    assert [names(registry, other) for other in KINDS if other != kind] == [[]] * 4


def test_diffuse_mask_models():
    check_models_hook("mask")


def test_diffuse_correction_models():
    check_models_hook("correction")


def test_diffuse_background_models():
    check_models_hook("background")


def test_diffuse_mapping_models():
    check_models_hook("mapping")


def test_diffuse_scaling_components():
    check_models_hook("scaling")


class Reporting:
    def __init__(self, function):
        self.function = function

    @hookimpl
    def diffuse_report_sections(self, run):
        return self.function(run)


def test_diffuse_report_sections():
    registry = Registry()
    registry.add(
        Reporting(lambda run: [ReportItem("Images", "text", str(run["images"]))]),
        source(),
    )
    assert [vars(item) for item in registry.report_sections({"images": 7})] == [
        {"title": "Images", "kind": "text", "content": "7"}
    ]


def test_a_report_that_fails_becomes_a_text():
    def spoil(run):
        run.clear()
        yield "not an item"

    def divide(run):
        return [ReportItem("Ratio", "text", f"{1 / run['zero']}")]

    registry = Registry()
    registry.add(Reporting(spoil), source("spoiling"))
    registry.add(Reporting(divide), source("dividing"))
    registry.add(Reporting(lambda run: [ReportItem("Set", "table", {1})]), source("c"))
    registry.add(Reporting(lambda run: [ReportItem("Sum", "plot", {})]), source("d"))
    items = registry.report_sections({"zero": 0})
    assert [item.title for item in items] == [
        "Report of spoiling 1.0 (spoiling)",
        "Report of dividing 1.0 (dividing)",
        "Report of c 1.0 (c)",
        "Sum",
    ]
    assert "must yield ReportItem objects, not str" in items[0].content
    assert "ZeroDivisionError" in items[1].content
    assert "JSON" in items[2].content


def test_every_hook_has_a_test():
    functions = {
        node.name
        for path in (ROOT / "tests").glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert HOOKS
    assert [name for name in HOOKS if f"test_{name}" not in functions] == []
    assert {kind.hook for kind in KINDS.values()} < set(HOOKS)


# Discovery.


def test_built_in_models_need_no_installation():
    registry = Registry.discover({})
    assert len(plugins.BUILTIN) == len(set(plugins.BUILTIN))
    found = {model.source.module for kind in KINDS for model in registry.models(kind)}
    assert found == set(plugins.BUILTIN)
    assert {model.source.distribution for model in registry.models("mask")} <= {
        "dials-diffuse"
    }


def test_a_broken_built_in_raises(monkeypatch):
    monkeypatch.setattr(plugins, "BUILTIN", ("diffuse_core.plugins.none_such",))
    with pytest.raises(ModuleNotFoundError):
        Registry.discover({})


def test_installed_plugins_come_by_name_whatever_the_path(fake_distribution, discover):
    report = """
from diffuse_core.descriptors import ReportItem
from diffuse_core.hookspecs import hookimpl

@hookimpl
def diffuse_report_sections():
    return [ReportItem(__name__)]
"""
    fake_distribution("third", report, entry="b")
    fake_distribution("first", report, entry="c")
    folder = fake_distribution("second", report, entry="a")
    registry = discover(folder)
    assert registry.failures == []
    titles = [item.title for item in registry.report_sections({})]
    assert titles == ["second", "third", "first"]


def test_the_source_of_an_installed_model_is_its_distribution(
    fake_distribution, discover
):
    folder = fake_distribution("my-plugin", PLUGIN.format(name="mine"), version="2.3")
    model = discover(folder).get("correction", "mine")
    assert model.source == Source("my_plugin", "my-plugin", "2.3")
    assert str(model.source) == "my-plugin 2.3 (my_plugin)"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:", "SyntaxError: "),
        ("import none_such", "ModuleNotFoundError: No module named 'none_such'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (PLUGIN.replace("yield ", "raise KeyError('x')\n    yield "), "KeyError: 'x'"),
        (PLUGIN.format(name="Bad Name"), "The model name 'Bad Name' must be lower-c"),
        (PLUGIN.replace("summary", "api=99, summary"), "was written for model API 99"),
        (PLUGIN.replace("mod", "moedl"), "diffuse_correction_moedlels"),
        (PLUGIN.replace("@hookimpl", ""), "isn't marked with @hookimpl"),
        ("", "no function that is marked with @hookimpl"),
        (PLUGIN.replace("yield", "_ ="), "must yield, or return a list of"),
        (PLUGIN.replace("yield", "return"), "must yield, or return a list of"),
        (PLUGIN.replace("yield ", "yield 1, "), "ModelPlugin objects, not tuple"),
        (PLUGIN.replace("models()", "models(run)"), "Argument(s) {'run'}"),
        (PLUGIN.replace("models()", "models(a=1)"), "argument with a default"),
        (PLUGIN.replace('."', '.", phil="a = {"'), "can't be used (Missing value"),
        (PLUGIN.replace('."', '.", phil="}\\nb {"'), "improper definition name"),
        (
            PLUGIN.replace('."', '.", phil="a = x\\n.type=float"'),
            'Error interpreting a="x" as a numeric expression',
        ),
    ],
)
def test_a_broken_plugin_is_recorded_with_its_reason(
    text, reason, fake_distribution, discover
):
    fake_distribution("good", PLUGIN.format(name="good_one"))
    folder = fake_distribution("broken", text.replace("{name}", "broken_one"))
    registry = discover(folder)
    assert "good_one" in names(registry)
    assert "broken_one" not in names(registry)
    (failure,) = registry.failures
    assert failure.source == Source("broken", "broken", "1.0")
    assert reason in failure.reason
    assert "\n" not in failure.reason
    with pytest.raises(ConfigError, match="failed to load: broken 1.0"):
        registry.get("correction", "broken_one")


def test_a_broken_plugin_leaves_none_of_its_models(fake_distribution, discover):
    text = PLUGIN.format(name="one") + PLUGIN.format(name="Two").replace(
        "correction", "mask"
    )
    registry = discover(fake_distribution("broken", text))
    assert "one" not in names(registry)
    assert len(registry.failures) == 1


def test_damaged_metadata_is_not_fatal(fake_distribution, discover):
    folder = fake_distribution("damaged", PLUGIN.format(name="mine"))
    (folder / "damaged-1.0.dist-info" / "METADATA").unlink()
    assert "mine" in names(discover(folder))


def test_a_value_that_names_no_module_is_a_failure(fake_distribution, discover):
    folder = fake_distribution("odd", PLUGIN.format(name="mine"), value="not a module")
    (failure,) = discover(folder).failures
    assert failure.source.module == "not a module"


def test_two_plugins_with_one_name_are_an_error(fake_distribution, discover):
    fake_distribution("one", PLUGIN.format(name="window"))
    folder = fake_distribution("two", PLUGIN.format(name="window"), version="0.2")
    with pytest.raises(PluginError) as caught:
        discover(folder)
    text = str(caught.value)
    assert "'window' is offered by both one 1.0 (one) and two 0.2 (two)" in text
    assert "DIALS_DIFFUSE_DISABLE" in text


@pytest.mark.parametrize("disabled", ["one", " first ,none-such"])
def test_disabled_plugins_are_left_out(disabled, fake_distribution, discover):
    fake_distribution("one", PLUGIN.format(name="window"), entry="first")
    folder = fake_distribution("two", PLUGIN.format(name="window"), entry="second")
    registry = discover(folder, DIALS_DIFFUSE_DISABLE=disabled)
    assert registry.get("correction", "window").source.distribution == "two"
    assert registry.failures == []


def test_two_distributions_may_share_the_name_of_their_entry_point(
    fake_distribution, discover
):
    fake_distribution("one", PLUGIN.format(name="first"), entry="window")
    folder = fake_distribution("two", PLUGIN.format(name="second"), entry="window")
    assert {"first", "second"} <= set(names(discover(folder)))


def test_named_module_and_file(tmp_path, discover, monkeypatch):
    (tmp_path / "by_name.py").write_text(PLUGIN.format(name="by_name"))
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "by-file.py"
    path.write_text(PLUGIN.format(name="by_file"))
    monkeypatch.chdir(tmp_path)
    registry = discover(
        tmp_path,
        DIALS_DIFFUSE_PLUGINS="by_name, elsewhere/by-file.py,none.py,none_such",
    )
    assert {"by_name", "by_file"} <= set(names(registry))
    assert str(registry.get("correction", "by_file").source) == (
        "DIALS_DIFFUSE_PLUGINS (elsewhere/by-file.py)"
    )
    assert [(f.source.module, f.reason.split(":")[0]) for f in registry.failures] == [
        ("none.py", "FileNotFoundError"),
        ("none_such", "ModuleNotFoundError"),
    ]


def test_a_model_of_a_file_is_the_same_class_each_time(tmp_path, discover):
    path = tmp_path / "film.py"
    path.write_text(
        textwrap.dedent(
            """
            from diffuse_core.descriptors import ModelPlugin
            from diffuse_core.hookspecs import hookimpl
            from diffuse_core.models import CorrectionModel

            class Film(CorrectionModel):
                @classmethod
                def from_params(cls, params, run):
                    return cls()

            @hookimpl
            def diffuse_correction_models():
                yield ModelPlugin("film", Film, "A film.")
            """
        )
    )
    models = [
        discover(tmp_path, DIALS_DIFFUSE_PLUGINS=str(path)).get("correction", "film")
        for _ in range(2)
    ]
    assert models[0].factory() is models[1].factory()
    assert isinstance(models[0].build(None, None), CorrectionModel)
    assert fingerprint(models[:1]) == fingerprint(models[1:])
    assert fingerprint(models[:1])[0][4] != fingerprint([])


def test_a_plugin_that_is_found_twice_counts_once(fake_distribution, discover):
    folder = fake_distribution("mine", PLUGIN.format(name="mine"))
    registry = discover(folder, DIALS_DIFFUSE_PLUGINS="mine,mine")
    assert registry.get("correction", "mine").source.distribution == "mine"
    assert registry.failures == []


def test_discovery_is_light(fake_distribution):
    """No physics, no DIALS, and well under 100 ms with 20 plug-ins installed."""
    for i in range(20):
        folder = fake_distribution(
            f"plugin-{i}",
            PLUGIN.format(name=f"model_{i}").replace(
                '."', '.", phil="a = 1\\n.type = float(value_min=0)\\n.help = mm"'
            ),
        )
    script = textwrap.dedent(
        """
        import json, sys, time
        from diffuse_core.registry import Registry
        Registry.discover()
        times = []
        for _ in range(5):
            start = time.process_time()
            registry = Registry.discover()
            times.append(time.process_time() - start)
        names = [model.plugin.name for model in registry.models("correction")]
        json.dump([min(times), names, sorted(sys.modules)], sys.stdout)
        """
    )
    environ = {k: v for k, v in os.environ.items() if "DIALS_DIFFUSE" not in k}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, found, modules = json.loads(done.stdout)
    assert {f"model_{i}" for i in range(20)} <= set(found)
    heavy = {
        "dials",
        "dxtbx",
        "numba",
        "scipy",
        "h5py",
        "matplotlib",
        "diffuse_core.io",
    }
    assert not heavy & set(modules)
    assert seconds < 0.1


# The registry.


def test_the_user_is_told_what_there_is():
    registry = registry_with("mask", plugin("bragg"), plugin("ice_rings"))
    assert registry.unknown("mask", "brag") == (
        "There is no mask model 'brag' (did you mean 'bragg'?): available are bragg, "
        "ice_rings."
    )
    assert registry.unknown("mask", "xyz") == (
        "There is no mask model 'xyz': available are bragg, ice_rings."
    )
    assert registry.unknown("scaling", "xyz").endswith("available are none.")
    with pytest.raises(ConfigError, match="did you mean 'ice_rings'"):
        registry.get("mask", "ice_ring")


def test_kinds_have_names_of_their_own():
    class Both:
        @hookimpl
        def diffuse_mask_models(self):
            yield plugin("grid")

        @hookimpl
        def diffuse_mapping_models(self):
            yield plugin("grid")

    registry = Registry()
    registry.add(Both(), source())
    assert names(registry, "mask") == names(registry, "mapping") == ["grid"]


def test_one_plugin_offers_a_name_once():
    with pytest.raises(PluginError, match="'window' of my-plugin .* offered twice"):
        registry_with("mask", plugin("window"), plugin("window"))


def test_only_one_mapping_is_the_default():
    registry = registry_with("mapping", plugin("first", default=True))
    registry.add(offering("mapping", plugin("other")), source("other"))
    with pytest.raises(PluginError, match="can't be the default: 'first' of my-plugin"):
        registry.add(offering("mapping", plugin("second", default=True)), source("b"))
    assert names(registry, "mapping") == ["first", "other"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Window"}, "lower-case letters"),
        ({"name": "1st"}, "lower-case letters"),
        ({"name": 5}, "lower-case letters"),
        ({"name": "models"}, "has a meaning of its own"),
        ({"name": "none"}, "has a meaning of its own"),
        ({"name": "default"}, "has a meaning of its own"),
        ({"factory": "package.module.Class"}, "'package.module:Class'"),
        ({"factory": None}, "must be a class"),
        ({"summary": " "}, "needs a summary"),
        ({"phil": None}, "must be text, not NoneType"),
        ({"api": MODEL_API + 1}, "install matching versions"),
    ],
)
def test_a_descriptor_checks_itself(values, message):
    with pytest.raises(PluginError, match=re.escape(message)):
        plugin(**values)


def test_a_report_item_checks_itself():
    with pytest.raises(PluginError, match="'text', 'table' or 'plot'"):
        ReportItem("Picture", "image")


class Window(CorrectionModel):
    @classmethod
    def from_params(cls, params, run):
        return params(cls)


class Shadow(MaskModel):
    from_params = Window.from_params


def build(factory, params):
    registry = registry_with("correction", plugin(factory=factory))
    return registry.get("correction", "window").build(params, None)


def test_a_model_is_built_from_its_class_or_path():
    assert isinstance(build(Window, lambda cls: cls()), Window)
    path = "diffuse_core.models:CorrectionModel"
    assert (
        registry_with("correction", plugin(factory=path))
        .get("correction", "window")
        .factory()
        is CorrectionModel
    )


@pytest.mark.parametrize(
    ("factory", "params", "message"),
    [
        (Shadow, None, "must be a subclass of diffuse_core.models.CorrectionModel"),
        ("json:dumps", None, "must be a subclass"),
        ("json:none_such", None, "can't be imported from 'json:none_such' (Attribute"),
        ("none_such:Model", None, "can't be imported from 'none_such:Model' (Module"),
        (Window, lambda cls: 1 / 0, "can't be built (ZeroDivisionError: division by"),
        (Window, lambda cls: None, "must return an instance of"),
    ],
)
def test_a_model_that_cant_be_built_is_named(factory, params, message):
    with pytest.raises(PluginError, match=re.escape(message)) as caught:
        build(factory, params)
    assert "'window'" in str(caught.value)


def test_a_models_own_message_reaches_the_user():
    def refuse(cls):
        raise ConfigError("correction.window.thickness must be above 0.")

    with pytest.raises(ConfigError, match=r"^correction.window.thickness must be ab"):
        build(Window, refuse)


def test_the_fingerprint_tells_version_and_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(version: str, text: str):
        (tmp_path / "finger.py").write_text(text + "\nclass Model: pass\n")
        sys.modules.pop("finger", None)
        registry = Registry()
        registry.add(
            offering("mask", plugin("one", factory="finger:Model"), plugin("two")),
            Source("finger", "finger", version),
        )
        return fingerprint([registry.get("mask", "one")])

    first = made("1.0", "a = 1")
    assert first[0][:4] == ("mask", "one", "finger", "1.0")
    assert made("1.0", "a = 1") == first
    assert made("1.1", "a = 1") != first
    assert made("1.0", "a = 2") != first
    sys.modules.pop("finger")


def test_the_fingerprint_is_that_of_the_code_that_runs(tmp_path, monkeypatch):
    """A worker that lives on while a plug-in is edited still runs the old one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "edited.py").write_text("class Model: pass\n")
    registry = Registry()
    registry.add(
        offering("mask", plugin("one", factory="edited:Model")),
        Source("edited", "edited", "1.0"),
    )
    before = fingerprint([registry.get("mask", "one")])
    (tmp_path / "edited.py").write_text("class Model: a = 1\n")
    assert fingerprint([registry.get("mask", "one")]) == before
    sys.modules.pop("edited")

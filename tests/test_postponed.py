"""Packages that modules of others import at their top are loaded when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diffuse_core.postponed import postponed

HEAVY = {"early/__init__.py": "LOADED = True\n", "early/part.py": "def f(): return 5\n"}
USER = "import early.part\nimport early as alias\ndef f(): return early.part.f()\n"


@pytest.fixture
def heavy(tmp_path, monkeypatch):
    """A package `early` and a module `user` that imports it; both new each time."""
    (tmp_path / "early").mkdir()
    for name, text in {**HEAVY, "user.py": USER}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("early", "early.part", "user"):
        sys.modules.pop(name, None)


def test_loaded_at_first_use(heavy):
    with postponed("early", "part"):
        import user
    assert "early" not in sys.modules
    assert "early.part" not in sys.modules
    assert user.f() == 5
    assert sys.modules["early"].LOADED
    assert user.alias.LOADED


def test_who_imports_it_afterwards_gets_the_package(heavy):
    with postponed("early", "part"):
        import user
    import early.part

    assert early.__file__.endswith("__init__.py")
    assert user.early is not early
    assert user.early.part.f is early.part.f


def test_use_while_others_are_imported(heavy, tmp_path):
    """A submodule that wasn't foretold: the package is loaded."""
    (tmp_path / "user.py").write_text("from early.part import f\nimport early\n")
    with postponed("early"):
        import user
    assert user.f() == 5
    assert user.early is sys.modules["early"]


def test_a_look_at_all_modules_is_no_use(heavy, tmp_path):
    """`libtbx.load_env` walks through the stack, and so through all modules."""
    (tmp_path / "user.py").write_text(f"import inspect\n{USER}inspect.stack()\n")
    with postponed("early", "part"):
        import user
    assert "early" not in sys.modules
    assert user.f() == 5


def test_loaded_before(heavy):
    import early

    with postponed("early", "part"):
        import user
    assert user.early is early
    assert user.alias is early


def test_not_installed(tmp_path, monkeypatch):
    """What is optional stays optional."""
    monkeypatch.syspath_prepend(tmp_path)
    with postponed("no_such_package"), pytest.raises(ImportError):
        import no_such_package  # noqa: F401
    assert "no_such_package" not in sys.modules


def test_an_error_inside(heavy):
    with pytest.raises(ZeroDivisionError), postponed("early"):
        1 / 0  # noqa: B018
    assert "early" not in sys.modules


PROGRAM = """
import sys
{module}
assert not {{"sklearn", "pandas"}} & set(sys.modules), "loaded"
from dxtbx.model import Detector, Panel
from dxtbx.model.detector_helpers import get_detector_projection_2d_axes as axes
detector = Detector()
for x in (0.0, 20.0, 40.0):
    panel = Panel()
    panel.set_image_size((10, 10))
    panel.set_pixel_size((1.0, 1.0))
    panel.set_frame((1, 0, 0), (0, -1, 0), (x, 0, 100))
    detector.add_panel(panel)
print(axes(detector))
"""


@pytest.mark.parametrize(
    "module",
    [
        "from diffuse_core import run",
        "from diffuse_core import boundary",
        "from diffuse_core.command_line import diffuse_integrate",
    ],
)
def test_dials_without_what_it_needs_seldom(module):
    """The function of dxtbx that needs scikit-learn gives what it gives without us."""
    plain, ours = (
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(module=text)],
            capture_output=True,
            text=True,
        )
        for text in ("", module)
    )
    assert ours.returncode == 0, ours.stderr
    assert plain.stdout == ours.stdout != ""


HELP = """
import contextlib, importlib, io, sys
for name in ("diffuse", "diffuse_integrate", "diffuse_scale", "diffuse_merge"):
    command = importlib.import_module(f"diffuse_core.command_line.{name}")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            command.run(["--help"])
        except SystemExit as ended:
            assert not ended.code
    assert f"dials.{name}" in said.getvalue()
print({"h5py", "matplotlib", "numba", "pandas", "scipy", "sklearn"} & set(sys.modules))
"""


def test_help_waits_for_no_heavy_package():
    done = subprocess.run(
        [sys.executable, "-c", HELP], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"

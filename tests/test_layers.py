"""The rules of who may import what, read from the sources without importing them.

Layer 1 is numerics, 2 the boundary to dxtbx and cctbx, 3 plug-ins and PHIL, 4 the
commands. A module imports from its own layer and those below.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = "diffuse_core"
PLUGINS = "diffuse_core.plugins"
FUTURE = "__future__.annotations"
LARGEST_MODULE = 15 * 1024

# The longest entry that a module's name begins with counts; packages count as a whole.
LAYERS = {
    "absolute": 1,
    "agreement": 1,
    "ambiguity": 1,
    "ambiguity_stage": 2,
    "blas_threads": 1,
    "block_rows": 1,
    "chunk": 1,
    "collection": 1,
    "checks": 1,
    "compare": 1,
    "compiled": 1,
    "completeness": 1,
    "error_model": 1,
    "directions": 1,
    "errors": 1,
    "fused_kernel": 1,
    "fused_path": 1,
    "fused_rows": 1,
    "fused_tile": 1,
    "general_path": 1,
    "estimator": 1,
    "fault_loops": 1,
    "faults": 1,
    "geometry": 1,
    "grid": 1,
    "group_effects": 1,
    "half_sets": 1,
    "harmonics": 1,
    "integrate": 1,
    "kernels": 1,
    "leave_out": 1,
    "memory": 1,
    "merge": 1,
    "merged_statistics": 1,
    "merging": 1,
    "models": 1,
    "local_keys": 1,
    "near_blocks": 1,
    "near_regions": 1,
    "numba_threads": 1,
    "observations": 1,
    "one_of": 1,
    "outliers": 1,
    "panels": 1,
    "pixel_loops": 1,
    "poisson": 1,
    "postponed": 1,
    "quick_tests": 1,
    "rays": 1,
    "read_ahead": 1,
    "raw_images.routing": 1,
    "region_kernels": 1,
    "regions": 1,
    "regrid": 1,
    "report_item": 1,
    "robust": 1,
    "ring_sums": 1,
    "row_order": 1,
    "rows": 1,
    "scale_stage": 3,
    "scale_model": 1,
    "scaling": 1,
    "scaling_curvature": 1,
    "scaling_problem": 1,
    "scaling_smoothness": 1,
    "scaling_terms": 1,
    "scaling_solver": 1,
    "scan": 1,
    "scan_component": 1,
    "scan_points": 1,
    "shell_statistics": 1,
    "show": 1,
    "signal_limit": 1,
    "simulate.image_kernels": 1,
    "simulate.planted": 1,
    "simulate.truth": 1,
    "simulate.truth_kernels": 1,
    "smooth": 1,
    "smooth_basis": 1,
    "sorted_runs": 1,
    "source_code": 1,
    "spot_shapes": 1,
    "spots": 1,
    "statistics": 1,
    "surroundings": 1,
    "squares": 1,
    "stays": 1,
    "symmetry": 1,
    "usable": 1,
    "vector_loops": 1,
    "vectors": 1,
    "volume": 1,
    "windows": 1,
    "voxel_list": 1,
    "voxels": 1,
    "boundary": 2,
    "bragg_agreement": 1,
    "bragg_ambiguity": 3,
    "combine": 2,
    "compat": 2,
    "executors": 2,
    "folder_lock": 2,
    "inputs": 2,
    "kept_experiments": 2,
    "lattice": 2,
    "io": 2,
    "materials": 2,
    "matching": 2,
    "mount": 2,
    "parallel": 2,
    "plan": 2,
    "raw_images.headers": 2,
    "raw_images.sources": 2,
    "reduction": 2,
    "report": 2,
    "simulate.detectors": 2,
    "simulate.nexus": 2,
    "truth_voxels": 2,
    "config": 3,
    "descriptors": 3,
    "discovery": 3,
    "effects_stage": 3,
    "hookspecs": 3,
    "merge_stage": 3,
    "model_phil": 3,
    "orchestrator": 3,
    "raw_images": 3,
    "registry": 3,
    "run": 3,
    "simulate": 3,
    "testing": 3,
    "command_line": 4,
    "warm_up": 4,
}
# Columns of the observations table: words of the core before any plug-in's.
COLUMNS = ("exposure", "background", "images", "offset", "detector")
NUMERIC = {"llvmlite", "numba", "numpy", "scipy"}
PHIL = ("libtbx", "iotbx.phil")
COMMAND = ("dials.util.options", "dials.util.log", "dials.util.Sorry")

# Third-party packages that have one place each.
OWNERS = {
    "pluggy": ("registry", "hookspecs", "config"),
    "h5py": ("observations", "io", "simulate.nexus"),
    "matplotlib": ("report",),
    "threadpoolctl": ("blas_threads",),
}


def module_name(path: Path) -> str:
    """The name under which a source file is installed."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] in {"plugins", "phil"}:
        parts.insert(0, CORE)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def sources(*folders: str) -> list[Path]:
    """Every Python file of these folders of the checkout."""
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def parsed(folder: str) -> dict[str, ast.Module]:
    """Module name -> syntax tree, for every file of a folder of the checkout."""
    return {
        module_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sources(folder)
    }


def within(name: str, prefix: str) -> bool:
    """Whether ``name`` is ``prefix`` or something inside it."""
    return name == prefix or name.startswith(prefix + ".")


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports anywhere; ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def owner(name: str) -> str | None:
    """The entry of LAYERS for a name inside diffuse_core, None for the package."""
    inside = name.removeprefix(CORE).removeprefix(".")
    found = [entry for entry in LAYERS if within(inside, entry)]
    return max(found, key=len, default=None)


def core_violations(name: str, tree: ast.Module) -> list[str]:
    """What a module of the core imports against the rules, one sentence each."""
    if name == CORE:
        return [f"{name} imports {other}" for other in imports(tree) if other != FUTURE]
    here = owner(name)
    if here is None:
        return [f"{name} has no layer: add it to LAYERS"]
    layer = LAYERS[here]
    found = []
    for other in imports(tree):
        top = other.split(".")[0]
        if top == CORE:
            target = owner(other)
            allowed = target is None or LAYERS[target] <= layer
            if within(other, PLUGINS):
                allowed = other in {PLUGINS, f"{PLUGINS}.BUILTIN"} and layer >= 3
        elif top in OWNERS:
            allowed = here in OWNERS[top]
        elif layer == 1:
            allowed = top in NUMERIC or top in sys.stdlib_module_names
        else:
            allowed = layer >= 3 or not any(within(other, phil) for phil in PHIL)
            allowed &= layer == 4 or not any(within(other, part) for part in COMMAND)
        if not allowed:
            found.append(f"{name} (layer {layer}) imports {other}")
    return found


def plugin_violations(name: str, tree: ast.Module) -> list[str]:
    """What a built-in plug-in imports against the rules, one sentence each.

    A plug-in is diffuse_core.plugins.KIND.NAME, with everything inside it.
    """
    unit = ".".join(name.split(".")[:4])
    found = []
    for other in imports(tree):
        neighbour = within(other, PLUGINS) and not within(other, unit)
        command = within(other, f"{CORE}.command_line")
        if neighbour or command or within(other, f"{CORE}.orchestrator"):
            found.append(f"{name} imports {other}")
    return found


def plugin_names(tree: ast.Module) -> Iterator[str]:
    """The names that a plug-in module gives to its ModelPlugin descriptors."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if getattr(function, "id", getattr(function, "attr", "")) != "ModelPlugin":
            continue
        values = [key.value for key in node.keywords if key.arg == "name"]
        yield from (
            value.value
            for value in [*values, *node.args[:1]]
            if isinstance(value, ast.Constant)
        )


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and value of every string constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_core_keeps_its_layers():
    found = [
        text
        for name, tree in parsed("diffuse_core").items()
        for text in core_violations(name, tree)
    ]
    assert found == []


def test_plugins_stand_alone():
    found = [
        text
        for name, tree in parsed("plugins").items()
        for text in plugin_violations(name, tree)
    ]
    assert found == []


def test_core_names_no_plugin():
    names = {name for tree in parsed("plugins").values() for name in plugin_names(tree)}
    assert names
    found = [
        f"{module}, line {line}: {value!r}"
        for module, tree in parsed("diffuse_core").items()
        for line, value in strings(tree)
        if value in names - set(COLUMNS) or within(value, PLUGINS) and value != PLUGINS
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("diffuse_core.grid", "import dxtbx"),
        ("diffuse_core.grid", "from diffuse_core import boundary"),
        ("diffuse_core.grid", "def f():\n    from diffuse_core.plan import Plan"),
        ("diffuse_core.merge", "import h5py"),
        ("diffuse_core.plan", "import pluggy"),
        ("diffuse_core.plan", "from iotbx.phil import parse"),
        ("diffuse_core.plan", "from iotbx import phil"),
        ("diffuse_core.plan", "from diffuse_core.registry import Registry"),
        ("diffuse_core.io.nexus", "from diffuse_core.command_line import diffuse"),
        ("diffuse_core.simulate.truth", "from diffuse_core.simulate import phil"),
        ("diffuse_core.registry", "from diffuse_core.plugins.masking import bragg"),
        ("diffuse_core.config", "from dials.util.options import ArgumentParser"),
        ("diffuse_core.newcomer", "import numpy"),
    ],
)
def test_a_breach_of_the_core_is_seen(name, source):
    assert len(core_violations(name, ast.parse(source))) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("diffuse_core.grid", "import numpy.linalg, math, scipy.sparse"),
        ("diffuse_core.merge", "from diffuse_core import observations, __version__"),
        ("diffuse_core.observations", "import h5py"),
        ("diffuse_core.boundary", "from cctbx import sgtbx\nimport dxtbx.model"),
        ("diffuse_core.registry", "from diffuse_core.plugins import BUILTIN"),
        ("diffuse_core.command_line.diffuse", "from dials.util import Sorry"),
    ],
)
def test_what_the_core_may_import(name, source):
    assert core_violations(name, ast.parse(source)) == []


def test_a_breach_of_a_plugin_is_seen():
    name = f"{PLUGINS}.masking.ice"
    assert plugin_violations(name, ast.parse(f"import {PLUGINS}.masking.bragg"))
    assert plugin_violations(name, ast.parse(f"from {PLUGINS}.scaling import decay"))
    assert not plugin_violations(name, ast.parse("from diffuse_core import models"))
    call = 'yield ModelPlugin(name="ice", factory="a:B", summary="")'
    assert list(plugin_names(ast.parse(call))) == ["ice"]


@pytest.mark.parametrize("folder", ["diffuse_core", "plugins", "phil", "tests"])
def test_every_module_postpones_annotations(folder):
    missing = [
        str(path.relative_to(ROOT))
        for path in sources(folder)
        if FUTURE not in imports(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert missing == []


@pytest.mark.parametrize("folder", ["diffuse_core", "plugins", "phil"])
def test_no_module_is_too_large(folder):
    large = [
        f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes"
        for path in sources(folder)
        if path.stat().st_size > LARGEST_MODULE
    ]
    assert large == []

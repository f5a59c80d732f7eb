"""The plug-in as dials.diffuse sees it."""

from __future__ import annotations

from dials_diffuse_example import plugin

from diffuse_core.registry import Registry
from diffuse_core.testing import check_plugin


def test_models_keep_their_contracts():
    check_plugin(plugin)


def test_other_parameters_work_too():
    check_plugin(
        plugin,
        phil={
            "diamond_window": "thickness = 1.5\nnormal = 0.1 0 1",
            "cell_opening": "half_angle = 25\naxis = 0 0.1 -1",
            "turning_window": "normal = 0.2 0 -1",
        },
    )


def test_the_entry_point_is_installed():
    registry = Registry.discover({})
    assert registry.failures == []
    for kind, name in (
        ("correction", "diamond_window"),
        ("mask", "cell_opening"),
        ("scaling", "turning_window"),
    ):
        source = registry.get(kind, name).source
        assert source.distribution == "dials-diffuse-example"

"""The constant background."""

from __future__ import annotations

from types import SimpleNamespace

from diffuse_core.plugins.background.constant import Constant


def test_rate_is_per_pixel_and_second_whatever_the_response():
    model = Constant.from_params(SimpleNamespace(rate=0.3, variance=0.01), None)
    assert model.panel_background(None, None) == (0.3, 0.01)
    assert Constant(0.3).panel_background(None, None) == (0.3, 0.0)
    assert model.image_background(None, None, None) == (0.0, 0.0)

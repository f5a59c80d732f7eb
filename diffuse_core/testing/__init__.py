"""For the tests of plug-ins: a conformance check, and a small synthetic run.

    from diffuse_core.testing import check_plugin
    import my_package.plugin

    def test_models_keep_their_contracts():
        check_plugin(my_package.plugin)

The check makes each model from its default parameters and reads what it returns for
small panels and images: shapes, dtypes, ranges, pickling, equal results of equal calls,
inputs left alone. It says nothing about physics: that is for tests of your own, for
which `make_geometry` and `make_image` give inputs with known numbers.
"""

from __future__ import annotations

from diffuse_core.testing.conformance import check_model, check_plugin
from diffuse_core.testing.synthetic import (
    make_experiments,
    make_geometry,
    make_image,
    make_run,
)

__all__ = [
    "check_model",
    "check_plugin",
    "make_experiments",
    "make_geometry",
    "make_image",
    "make_run",
]

"""The hooks of dials.diffuse, in the order in which they are called.

Each hook is called once, while the plan is made (reports: once, at the end), and
returns an iterable of typed descriptors. No hook runs per image or per pixel.
A plug-in module implements the hooks that it needs:

    from diffuse_core.descriptors import ModelPlugin
    from diffuse_core.hookspecs import hookimpl

    @hookimpl
    def diffuse_correction_models():
        yield ModelPlugin(
            name="my_window",
            factory="my_package.window:Window",
            summary="Absorption by my window.",
            phil="thickness = 0.1\\n  .type = float(value_min=0)\\n  .help = mm",
        )

and its distribution names the module in the entry-point group `dials.diffuse`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from diffuse_core.descriptors import ModelPlugin, ReportItem

PROJECT = "dials.diffuse"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def diffuse_mask_models() -> Iterable[ModelPlugin]:
    """Models of kind mask (`diffuse_core.models.MaskModel`): which pixels count."""


@hookspec
def diffuse_correction_models() -> Iterable[ModelPlugin]:
    """Models of kind correction (`CorrectionModel`): responses that multiply."""


@hookspec
def diffuse_background_models() -> Iterable[ModelPlugin]:
    """Models of kind background (`BackgroundModel`): expected counts that add."""


@hookspec
def diffuse_mapping_models() -> Iterable[ModelPlugin]:
    """Models of kind mapping (`Mapper`): the voxel of a pixel."""


@hookspec
def diffuse_scaling_components() -> Iterable[ModelPlugin]:
    """Components of the scaling model (`ScalingComponent`), composed in order."""


@hookspec
def diffuse_report_sections(run: dict[str, Any]) -> Iterable[ReportItem]:
    """Further items for the report of a finished run.

    Args:
        run: The figures of the run as they go into `dials.diffuse.json`.
    """
